"""What the kernel finds in its own BTF, so that its megabytes need not be walked here.

BPF_PROG_LOAD applies CO-RE relocations itself (5.17, kernel/bpf/btf.c) by the code
that libbpf uses, and helper 167 finds a type by name (5.14). Together they answer in
about 3 ms what the walk of ``btf`` needs 30 for. Neither is ever required.
"""

from __future__ import annotations

import os
from errno import EFAULT, EINVAL
from struct import pack, unpack
from sys import byteorder

from pybpf import abi, kernel, syscalls
from pybpf.errors import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybpf.linker import Linked

# bpf_get_current_task_btf (5.11), which programs call that hang on types of the kernel; such hooks are older (5.5).
# To ask for it costs a hundred microseconds; to have a program refused for it, as much as to load another.
TASK_BTF = 158
_FIND_BY_NAME_KIND = 167
_NAME_MAX = 256  # the stack has 512 bytes
_RECORD_SIZE = 16  # struct bpf_core_relo


def _insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    registers = src << 4 | dst if byteorder == "little" else dst << 4 | src
    return pack("=BBhI", code, registers, off, imm & 0xFFFFFFFF)


_MOV, _EXIT = _insn(0xB7), _insn(0x95)
# The end, unless r0 is positive.
_EXIT_ON_FAILURE = _insn(0x65, 0, off=2) + _MOV + _EXIT


def relocates() -> bool:
    """Whether BPF_PROG_LOAD knows CO-RE relocations; asked by a load that cannot succeed.

    The licence is nowhere: a kernel that understands the attribute says EFAULT, an older
    one has refused it before as too long.
    """
    insns = bytearray(_MOV + _EXIT)
    attr = bytearray(pack("=IIQQ", abi.PROG_TYPE_SOCKET_FILTER, 2, syscalls.address(insns), 0)).ljust(136, b"\0")
    result = syscalls.bpf(abi.PROG_LOAD, attr + pack("=I", _RECORD_SIZE))
    if result >= 0:
        os.close(result)
    return result == -EFAULT


def has_helper(number: int) -> bool:
    """Whether tracing programs may call a helper that takes no arguments; asked by loading one that does."""
    call = _insn(0x85, imm=number) + _MOV + _EXIT
    result = kernel.prog_load(abi.PROG_TYPE_KPROBE, call, "GPL")
    if result >= 0:
        os.close(result)
    return result != -EINVAL


def preempts_raw_tracepoints() -> bool:
    """Whether a task can be preempted inside of a program on a raw tracepoint.

    So where SRCU guards tracepoints, which once needed that their probes were not preempted. A kernel older than
    ``tracepoint_ext`` had this SRCU for the few that fire while a processor idles.
    """
    from btf.format import KIND_STRUCT, KIND_VAR

    if "PREEMPT" not in os.uname().version:
        return False
    return find_ids((("tracepoint_srcu_srcu_data", KIND_VAR), ("tracepoint_ext", KIND_STRUCT))) is not None


def find_ids(wanted: Sequence[tuple[str, int]]) -> list[int] | None:
    """Ids of types of the kernel, each by name and kind; None if one is unknown or this cannot be asked here."""
    if not wanted:
        return []
    # Each once: the kernel looks through all of its types for it, which takes a quarter of a millisecond.
    places = {pair: number for number, pair in enumerate(dict.fromkeys(wanted))}
    code = bytearray(_insn(0xBF, 6, 1))
    for (name, kind), number in places.items():
        raw = name.encode() + b"\0"
        if len(raw) > _NAME_MAX:
            return None
        words = raw.ljust(-(-len(raw) // 8) * 8, b"\0")
        for at in range(0, len(words), 8):
            value = int.from_bytes(words[at : at + 8], byteorder)
            code += _insn(0x18, 1, imm=value) + _insn(0, imm=value >> 32) + _insn(0x7B, 10, 1, at - len(words))
        # Helpers: r1 name, r2 its bytes, NUL included, r3 kind, r4 flags.
        code += _insn(0xBF, 1, 10) + _insn(0x07, 1, imm=-len(words)) + _insn(0xB7, 2, imm=len(raw))
        code += _insn(0xB7, 3, imm=kind) + _insn(0xB7, 4) + _insn(0x85, imm=_FIND_BY_NAME_KIND)
        code += _insn(0x7B, 6, 0, 8 * number) + _EXIT_ON_FAILURE
    result = kernel.prog_load(abi.PROG_TYPE_SYSCALL, bytes(code) + _MOV + _EXIT, "GPL", flags=abi.F_SLEEPABLE)
    if result < 0:
        return None
    context = bytearray(8 * len(places))
    with kernel.Fd(result, "look-up of type names") as program:
        try:
            kernel.prog_test_run(program.fd, ctx=context)
        except SyscallError:
            return None
    found = _own_ids(unpack(f"={len(places)}q", context))
    return None if found is None else [found[places[pair]] for pair in wanted]


def _own_ids(found: Sequence[int]) -> list[int] | None:
    """Ids without those of modules, which come with a descriptor of the module's BTF in the upper half."""
    for value in found:
        if value >> 32 > 0:
            os.close(value >> 32)
    return list(found) if all(0 < value < 1 << 32 for value in found) else None


def records(linked: Linked, strings: Strings) -> bytes | None:
    """The kernel's records of a program's relocations; None if the kernel would not apply them.

    It looks at them only if every function has its func_info (check_btf_info() in
    kernel/bpf/verifier.c): without, the code would be loaded as it stands.
    """
    rows = [
        (8 * (base + index), type_id, strings.offset(access), kind)
        for base, function in linked.parts
        for index, type_id, access, kind in function.core_relos
    ]
    if not rows:
        return b""
    if not linked.func_info() or any(row[2] < 0 for row in rows):
        return None
    # By type: the kernel remembers only some 30 names and which types have them, and looks at all of its types
    # again for a name that another one has displaced (bpf_core_find_cands()).
    rows.sort(key=lambda row: row[1])
    return b"".join([pack("=IIII", *row) for row in rows])


class Strings:
    """Where strings are in an object's BTF, which is small and need not be parsed for this."""

    __slots__ = ("_btf", "_end", "_known", "_start")

    def __init__(self, btf: bytes) -> None:
        self._btf = btf
        self._known: dict[str, int] = {}
        header, _, offset, size = unpack("=IQII", btf[4:24]) if len(btf) >= 24 else (0, 0, 0, 0)
        self._start, self._end = header + offset, header + offset + size

    def offset(self, text: str) -> int:
        """Offset of a string in the string section; -1 if it is not there."""
        found = self._known.get(text)
        if found is None:
            at = self._btf.find(b"\0" + text.encode() + b"\0", self._start, self._end)
            found = self._known[text] = at + 1 - self._start if at >= 0 else -1
        return found
