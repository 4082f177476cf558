"""What the checks of links have in common: counting programs as bytes, own namespaces, a program with USDT probes."""

from __future__ import annotations

import os
import socket
import struct
import sys
import time

from pybpf import abi
from pybpf.maps import Map
from pybpf.object.spec import MapSpec
from pybpf.program import Request
from pybpf.sections import parse_section
from tests.guests.checks import skip

LITTLE = sys.byteorder == "little"
_MAP_LOOKUP, _PID_TGID, _SEQ_WRITE, _COOKIE = 1, 14, 127, 174
_NEWNET = 0x40000000
_UNSHARE = {"x86_64": 272, "aarch64": 97, "riscv64": 97, "s390x": 303, "armv7l": 337, "i686": 310}


def insn(code, dst=0, src=0, off=0, imm=0):
    registers = src << 4 | dst if LITTLE else dst << 4 | src
    return struct.pack("=BBhi", code, registers, off, imm)


def mov(dst, value):
    return insn(0xB7, dst, imm=value)


def movr(dst, src):
    return insn(0xBF, dst, src)


def call(helper):
    return insn(0x85, imm=helper)


EXIT = insn(0x95)


class Counter:
    """A map of three u64: how often the program ran, the last cookie, and a place for what a check wants."""

    def __init__(self):
        self.map = Map.create(MapSpec("count", abi.MAP_TYPE_ARRAY, 4, 24, 1))

    def values(self):
        return struct.unpack("=QQQ", self.map.lookup(bytes(4)))

    @property
    def count(self):
        return self.values()[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.map.close()

    def code(self, result=0, own=True, cookie=False):
        """Count the run (if this process makes it), note the cookie, return ``result``."""
        body = insn(0x7A, 10, off=-8, imm=0)  # key: *(u64 *)(r10 - 8) = 0
        body += movr(2, 10) + insn(0x07, 2, imm=-8) + self.load_map(1) + call(_MAP_LOOKUP)
        after = movr(7, 0) + mov(1, 1) + insn(0xDB, 7, 1, 0)  # *r7 += 1
        if cookie:
            after += movr(1, 6) + call(_COOKIE) + insn(0x7B, 7, 0, 8)
        body += insn(0x15, 0, off=len(after) // 8) + after
        head = movr(6, 1)
        if own:
            head += call(_PID_TGID) + insn(0x77, 0, imm=32) + insn(0x55, 0, off=len(body) // 8, imm=os.getpid())
        return head + body + mov(0, result) + EXIT

    def load_map(self, register):
        return insn(0x18, register, 1, imm=self.map.fd) + insn(0)


def writer():
    """An iterator's program: writes 8 bytes, b"pybpf 1\\n" for each object, to the file that is read."""
    text = struct.unpack("=Q", b"pybpf 1\n")[0]
    low, high = text & 0xFFFFFFFF, text >> 32
    store = insn(0x18, 3, imm=low - (1 << 32) if low >> 31 else low) + insn(0, imm=high)
    code = insn(0x79, 1, 1, 0) + insn(0x79, 1, 1, 0)  # r1 = ctx->meta->seq
    code += store + insn(0x7B, 10, 3, -8) + movr(2, 10) + insn(0x07, 2, imm=-8) + mov(3, 8) + call(_SEQ_WRITE)
    return code + mov(0, 0) + EXIT


def load(code, section, name="check"):
    """The program, or the skip if this kernel has no such kind or hook."""
    from btf.errors import BtfNotFound
    from pybpf.errors import LoadError, VerifierError

    parsed = parse_section(section)
    request = Request(name, parsed, code)
    if parsed.btf is not None:
        prefix, typedef = parsed.btf
        try:
            request.attach_btf_id = _type_id(prefix + parsed.target, typedef)
        except BtfNotFound as error:
            skip(str(error))
    try:
        return request.load()
    except VerifierError as error:
        if "unknown" in str(error):  # a helper that came later
            skip(str(error))
        raise
    except LoadError as error:
        return skip(str(error))


def _type_id(name, typedef):
    from btf.format import KIND_FUNC, KIND_TYPEDEF
    from btf.reader import Btf

    with Btf.kernel() as btf:
        return btf.find_id(name, KIND_TYPEDEF if typedef else KIND_FUNC)


def refused(function, /, *arguments, **options):
    """The error of a call that must fail."""
    from pybpf.errors import SyscallError

    try:
        result = function(*arguments, **options)
    except SyscallError as error:
        return error
    raise AssertionError(f"it was not refused: {result!r}")


def or_skip(function, /, *arguments, **options):
    """Call what attaches; skip where the kernel says that it has no such thing."""
    from errno import EINVAL, ENOENT, EOPNOTSUPP, EPERM

    from pybpf.errors import SyscallError

    try:
        return function(*arguments, **options)
    except SyscallError as error:
        if error.errno in (EINVAL, ENOENT, EOPNOTSUPP, EPERM, abi.ENOTSUPP):
            return skip(str(error))
        raise


def shown(link, counter, act, runs=5, exact=True):
    """The link fires on ``act``, ``runs`` times for each; once closed the count stops."""
    with link:
        before = counter.count
        act()
        now = counter.count - before
        assert (now == runs) if exact else (now >= runs), f"counted {now}, wanted {runs}: {link!r}"
    stopped(counter, act)
    return link


def stopped(counter, act):
    """After detaching: nothing runs any more. What ran just before on another CPU may still be counted."""
    time.sleep(0.01)
    before = counter.count
    act()
    now = counter.count - before
    assert not now, f"counted {now} after it was detached"


def reads(times=5):
    """Calls of read(2), and of vfs_read in the kernel."""
    fd = os.open("/proc/self/comm", os.O_RDONLY)
    try:
        for _ in range(times):
            os.pread(fd, 1, 0)
    finally:
        os.close(fd)


def ppids(times=5):
    """Calls of getppid(2), by libc's function of that name."""
    for _ in range(times):
        os.getppid()


def own_network():
    """Leave the machine's network for an empty one of this process, in which lo is up."""
    import fcntl

    from pybpf import native

    result = native.by_libc()(_UNSHARE[os.uname().machine], _NEWNET, 0, 0)
    if result < 0:
        skip(f"no network namespace of its own: {os.strerror(-result)} (CONFIG_NET_NS)")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        # SIOCSIFFLAGS with IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket.fileno(), 0x8914, struct.pack("=16sh22x", b"lo", 0x41))


def datagrams(times=5):
    """So many packets on lo, each received before the next is sent."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        for _ in range(times):
            client.sendto(b"x", server.getsockname())
            server.recv(10)


# --- a program with USDT probes ------------------------------------------------------


def usdt_program(path):
    """Write a small ELF program with one probe ``demo:hit``, with a semaphore; its exit status is the semaphore.

    The probe's note gives two arguments. x86-64 and arm64; skips elsewhere.
    """
    machine = os.uname().machine
    base, data = 0x400000, 0x600000
    if machine == "x86_64":
        number, arguments = 62, b"8@%rdi -4@$7"
        # movzx edi, word [0x600000+SEMAPHORE]; nop (the probe); mov eax, 60; syscall
        code = bytes.fromhex("0fb73c25") + struct.pack("<I", data + 0x2000) + b"\x90" + bytes.fromhex("b83c0000000f05")
        probe = 8
    elif machine == "aarch64":
        number, arguments = 183, b"8@x0 -4@7"
        # movz x1, #0x60, lsl 16; movk x1, #0x2000; ldrh w0, [x1]; nop (the probe); mov x8, 93; svc 0
        words = (0xD2A00001 | 0x60 << 5, 0xF2800001 | 0x2000 << 5, 0x79400020, 0xD503201F, 0xD2800BA8, 0xD4000001)
        code = struct.pack("<6I", *words)
        probe = 12
    else:
        skip(f"no code for a program with USDT probes on {machine}")
    text_at, semaphore_at = 0x1000, 0x2000
    names = b"\0.text\0.probes\0.note.stapsdt\0.shstrtab\0"
    desc = struct.pack("<QQQ", base + text_at + probe, 0, data + semaphore_at) + b"demo\0hit\0" + arguments + b"\0"
    note = struct.pack("<III", 8, len(desc), 3) + b"stapsdt\0" + desc
    note += bytes(-len(note) % 4)
    note_at = 0x3000
    names_at = note_at + len(note)
    sections_at = names_at + len(names) + 7 & ~7
    sections = [
        (0, 0, 0, 0, 0, 0),
        (1, 1, 6, base + text_at, text_at, len(code)),
        (7, 1, 3, data + semaphore_at, semaphore_at, 2),
        (15, 7, 0, 0, note_at, len(note)),
        (29, 3, 0, 0, names_at, len(names)),
    ]
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, number, 1, base + text_at, 64, sections_at, 0, 64, 56, 2, 64, 5, 4)
    head += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, text_at + len(code), text_at + len(code), 0x1000)
    head += struct.pack("<IIQQQQQQ", 1, 6, semaphore_at, data + semaphore_at, data + semaphore_at, 16, 16, 0x1000)
    image = bytearray(sections_at)
    image[: len(head)] = head
    image[text_at : text_at + len(code)] = code
    image[note_at : note_at + len(note)] = note
    image[names_at : names_at + len(names)] = names
    for name, kind, flags, address, offset, size in sections:
        image += struct.pack("<IIQQQQIIQQ", name, kind, flags, address, offset, size, 0, 0, 4, 0)
    with open(path, "wb") as file:
        file.write(image)
    os.chmod(path, 0o755)


def run(path):
    """Exit status of a program."""
    pid = os.posix_spawn(path, [path], os.environ)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
