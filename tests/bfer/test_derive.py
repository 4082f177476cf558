"""Events that user space works out, on kernels made up byte by byte and on real files."""

from __future__ import annotations

import json
import os
import sys
from struct import pack
from typing import Any

import pytest

from bfer import expr
from bfer.catalogue import Event
from bfer.derive import SETTLED, STARTED, Derivation, fields, prepare
from bfer.derive.ftrace import Ftrace, parse
from bfer.derive.kernel import Kernel, Layout
from bfer.derive.memory_dump import MemoryDump
from bfer.derive.modules import Modules
from bfer.derive.objects import Kept, Objects
from bfer.derive.seq_ops import SeqOps
from bfer.derive.source import Once
from bfer.derive.syscall_table import SyscallTable
from bfer.memory import fields as parts_of
from bfer.output.json import Json
from bfer.output.table import Table
from bfer.pushdown import Plan, push_down
from bfer.records import BLOCK, Block
from btf.errors import Error
from tests.bfer.fake_records import CATALOGUE, EVENTS, NAMES, record

TEXT = (0xFFFF_8000_0000_0000, 0xFFFF_8000_0100_0000)
LAYOUT = Layout((8, 24, 192, 0, 16, 0, 64, 1, 8, 8, 384, 392))


class FakeKernel(Kernel):
    """Memory in pieces by address; symbols; owners of code by address."""

    def __init__(self) -> None:
        self.memory: dict[int, bytes] = {}
        self.names: dict[str, int] = {"_stext": TEXT[0], "_etext": TEXT[1]}
        self.code: dict[int, tuple[str, str]] = {}
        self.starts = 0
        self.size = 512 * 8
        self._layout = LAYOUT
        self._text = None

    def read(self, address: int, size: int) -> bytes:
        for start, data in self.memory.items():
            if start <= address and address + size <= start + len(data):
                return data[address - start :][:size]
        return b""

    def write(self, address: int, *words: int) -> None:
        self.memory[address] = pack(f"={len(words)}Q", *words)

    def symbols(self, names: tuple[str, ...]) -> dict[str, int]:
        return {name: self.names[name] for name in names if name in self.names}

    def owners(self, addresses: object) -> dict[int, tuple[str, str]]:
        return {address: self.code.get(address, ("", "hidden")) for address in addresses}  # type: ignore[attr-defined]

    def extent(self, address: int) -> int:
        return self.size

    def started(self) -> None:
        self.starts += 1


def event(name: str) -> Event:
    return CATALOGUE.events[name]


def texts(data: bytes) -> list[bytes]:
    return [piece[0][1] for _, piece in sorted(parts_of(data).items())]


# --- the table of system calls ------------------------------------------------------------


def table(kernel: FakeKernel, **entries: int) -> SyscallTable:
    kernel.names["sys_call_table"] = 0x1000
    words = [TEXT[0] + 16 * n for n in range(512)]
    for name, address in entries.items():
        words[event(name).number] = address
    kernel.write(0x1000, *words)
    return SyscallTable([event("hooked_syscall"), event("hooked_syscalls")], kernel, Plan())


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_hooked_entries_of_the_table_are_told_once() -> None:
    kernel = FakeKernel()
    source = table(kernel)
    assert source.look() == []
    source = table(kernel, kill=0xC000, getdents64=0xD000)
    kernel.code[0xC000] = ("evil_kill", "evil")
    told = source.look()
    assert [one.name for one, _ in told] == ["hooked_syscalls", "hooked_syscall", "hooked_syscall"]
    assert texts(told[0][1]) == [b"\0".join([b"", b"kill", b"evil", b"", b"getdents64", b"hidden"])]
    assert [texts(data) for _, data in told[1:]] == [
        [b"kill", b"c000", b"evil_kill", b"evil"],
        [b"getdents64", b"d000", b"", b"hidden"],
    ]
    assert source.look() == []
    # It is gone, and comes again.
    clean = [TEXT[0]] * 512
    hooked = kernel.memory[0x1000]
    kernel.write(0x1000, *clean)
    assert source.look() == []
    kernel.memory[0x1000] = hooked
    assert len(source.look()) == 3


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_what_follows_the_table_is_none_of_it() -> None:
    kernel = FakeKernel()
    kernel.size = 8 * event("openat2").number
    source = table(kernel, kill=0xC000, openat2=0xD000, fchmodat2=0xD000)
    assert [texts(data)[0] for one, data in source.look() if one.name == "hooked_syscall"] == [b"kill"]


def test_a_kernel_without_the_table_says_so() -> None:
    with pytest.raises(Error, match="no symbol sys_call_table"):
        SyscallTable([event("hooked_syscall")], FakeKernel(), Plan())


def test_bytes_of_named_symbols() -> None:
    kernel = FakeKernel()
    kernel.names.update(one=0x5000, two=0x6000)
    kernel.memory[0x5000] = bytes(range(200))
    kernel.memory[0x6000] = b"\xcc" * 200
    expressions = ("print_mem_dump.symbol_name=one,two", "print_mem_dump.length=4")
    plan = push_down(expr.parse(expressions, CATALOGUE))
    source = MemoryDump(plan.derived, kernel, plan)
    first, second = [parts_of(data) for _, data in source.look()]
    assert [first[slot][0][1] for slot in (0, 5, 6)] == [b"\0\1\2\3", b"one", b"system"]
    assert [int.from_bytes(second[slot][0][1], sys.byteorder) for slot in (1, 2, 3)] == [0x6000, 4, 0]
    assert second[0][0][1] == b"\xcc" * 4
    assert int.from_bytes(parts_of(source.look()[0][1])[3][0][1], sys.byteorder) == 1


@pytest.mark.parametrize("expressions", [("event=print_mem_dump",), ("print_mem_dump.symbol_name=one*",)])
def test_a_dump_needs_names(expressions: tuple[str, ...]) -> None:
    plan = push_down(expr.parse(expressions, CATALOGUE))
    with pytest.raises(Error, match="whole names of symbols"):
        MemoryDump(plan.derived, FakeKernel(), plan)


def test_functions_that_list_sockets() -> None:
    kernel = FakeKernel()
    kernel.names.update(tcp4_seq_ops=0x2000, udp_seq_ops=0x3000)
    kernel.write(0x2000, TEXT[0], TEXT[0], TEXT[0], 0xC000)
    kernel.write(0x3000, TEXT[0], TEXT[0], TEXT[0], TEXT[0])
    kernel.code[0xC000] = ("evil_show", "evil")
    source = SeqOps([event("hooked_seq_ops")], kernel, Plan())
    ((one, data),) = source.look()
    assert (one.name, texts(data)) == ("hooked_seq_ops", [b"tcp4_seq_ops_show\0evil_show\0evil"])
    assert source.look() == []


# --- modules ---------------------------------------------------------------------------------


class FakeModules:
    """Three modules in the list, in sysfs and in the tree, or not in one of them."""

    HEAD, SET, KSET, TREE = 0x100, 0x200, 0x300, 0x400

    def __init__(self, *, listed: str = "abc", in_sysfs: str = "abc", in_tree: str = "abc", dying: str = "") -> None:
        self.kernel = kernel = FakeKernel()
        kernel.names.update(modules=self.HEAD, module_kset=self.SET, mod_tree=self.TREE)
        kernel.write(self.SET, self.KSET)
        self.chain(self.HEAD, [self.module(name) + 8 for name in listed])
        # An entry of what is built in has no module.
        self.chain(self.KSET, [*[self.kobject(name) + 16 for name in in_sysfs], 0x9010])
        kernel.write(0x9000 + 64, 0)
        for name in in_sysfs:
            kernel.write(self.kobject(name) + 64, self.module(name))
        nodes = [self.node(name) for name in in_tree]
        kernel.write(self.TREE + 8, nodes[0] if nodes else 0)
        for name, node, right in zip(in_tree, nodes, [*nodes[1:], 0]):
            kernel.write(node - 8, self.module(name), 1, right, 0)  # mod; struct rb_node: parent, right, left
        for name in "abc":
            kernel.memory[self.module(name)] = pack("=I", 2 if name in dying else 0)
            kernel.memory[self.module(name) + 24] = f"mod_{name}".encode().ljust(128, b"\0")
            kernel.write(self.module(name) + 192, 0x7000)
        kernel.memory[0x7000] = b"SRC".ljust(128, b"\0")

    @staticmethod
    def module(name: str) -> int:
        return 0x10000 + 0x1000 * ord(name)

    @staticmethod
    def kobject(name: str) -> int:
        return 0x200000 + 0x1000 * ord(name)

    @staticmethod
    def node(name: str) -> int:
        return 0x400000 + 0x1000 * ord(name)

    def chain(self, head: int, elements: list[int]) -> None:
        for at, following in zip([head, *elements], [*elements, head]):
            self.kernel.write(at, following)

    def told(self) -> list[list[bytes]]:
        source = Modules([event("hidden_kernel_module")], self.kernel, Plan())
        told = [texts(data) for _, data in source.look()]
        assert source.look() == []
        return told


@pytest.mark.parametrize("place", ["listed", "in_sysfs", "in_tree"])
def test_a_module_that_hides_anywhere_is_found(place: str) -> None:
    address = hex(FakeModules.module("b")).encode()
    assert FakeModules(**{place: "ac"}).told() == [[address, b"mod_b", b"SRC"]]  # type: ignore[arg-type]


def test_modules_that_come_and_go_are_not_hidden() -> None:
    assert FakeModules().told() == []
    assert FakeModules(listed="ac", dying="b").told() == []


def test_a_list_that_leads_nowhere_ends() -> None:
    modules = FakeModules()
    modules.kernel.write(modules.HEAD, 0x5000)
    modules.kernel.write(0x5000, 0x5000)
    assert {text[1] for text in modules.told()} >= {b"mod_a", b"mod_b", b"mod_c"}


# --- ftrace -----------------------------------------------------------------------------------

ENABLED = """\
proc_create (1) R I     \ttramp: 0xffffffffc0201000 (kprobe_ftrace_handler+0x0/0x1d0) ->ftrace_regs_caller_op_ptr+0x0/8
schedule (2) R   \t->ftrace_ops_list_func+0x0/0x230
do_init_module (1) R   D   M \ttramp: ftrace_regs_caller+0x0/0x65 (call_direct_funcs+0x0/0x20)
\tdirect-->bpf_trampoline_6442494999+0x0/0x7f
vfs_read (1)           O  \tops: global_ops+0x0/0x1c0 (function_trace_call+0x0/0x1b8)
__x64_sys_kill (1)           \ttramp: 0xffffffffc0000000 (evil_hook+0x10/0x20 [evil]) ->evil_hook+0x10/0x20 [evil]
nothing to see here
"""


def test_lines_of_enabled_functions() -> None:
    found = parse(ENABLED.splitlines(keepends=True))
    assert [(one.symbol, one.count, one.callback, one.offset, one.owner) for one in found] == [
        ("proc_create", 1, "kprobe_ftrace_handler", 0, ""),
        ("schedule", 2, "ftrace_ops_list_func", 0, ""),
        ("do_init_module", 1, "call_direct_funcs", 0, ""),
        ("vfs_read", 1, "function_trace_call", 0, ""),
        ("__x64_sys_kill", 1, "evil_hook", 16, "evil"),
    ]
    assert [one.flags for one in found] == ["RI", "R", "RDM", "O", ""]
    assert found[0].trampoline == "0xffffffffc0201000"


def test_what_the_run_hangs_up_itself_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["open (1) R \t->cb+0x0/0x10 [evil]\n"]
    monkeypatch.setattr("bfer.derive.ftrace.read", lambda: lines)
    source = Ftrace([event("ftrace_hook")], FakeKernel(), Plan())
    lines.append("close (1) D \t->call_direct_funcs+0x0/0x10\n")
    assert [texts(data)[0] for _, data in source.look()] == [b"open"]
    assert source.look() == []
    lines += ["kill (1) R \t->cb+0x0/0x10 [evil]\n"]
    lines[1] = "close (2) R \t->ftrace_ops_list_func+0x0/0x10\n"
    assert [texts(data)[0] for _, data in source.look()] == [b"close", b"kill"]


# --- how it works together ----------------------------------------------------------------------


def raw(number: int, data: bytes = b"", comm: bytes = b"insmod", args: tuple[int, ...] = (0,) * 6) -> tuple[Any, ...]:
    block = BLOCK.pack(1, 2, os.getpid(), 4, 5, os.getpid(), 4, 5, 0, 6, 7, 0, 8, 9, comm, 0, *args, number, 0)
    return 5, block, data


def derivation(*expressions: str) -> tuple[Derivation, FakeKernel, Plan]:
    plan = push_down(expr.parse([*expressions], CATALOGUE))
    prepare(plan)
    kernel = FakeKernel()
    kernel.names["sys_call_table"] = 0x1000
    kernel.write(0x1000, *[0xC000] * 512)
    return Derivation(plan, kernel), kernel, plan


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_records_of_others_pass_and_triggers_become_events() -> None:
    made, kernel, plan = derivation("event=hooked_syscalls,openat", "hooked_syscalls.hooked_syscalls=*kill*")
    assert {event.number for event in plan.hooks} >= {SETTLED}
    assert list(plan.residual) == [event("hooked_syscalls").number]
    made.begin()
    assert kernel.starts == 1
    assert made.due() is None
    other = raw(event("openat").number)
    assert made.feed([*other, *other]) == [*other, *other]
    kept = made.feed([*other, *raw(STARTED, comm=b"bfer"), *other])
    assert [tuple(kept[:3]), tuple(kept[6:])] == [other, other]
    block = Block(kept[4])
    assert (block.comm, block.host_pid, block.event) == (b"bfer", os.getpid(), event("hooked_syscalls").number)
    assert made.feed([*raw(SETTLED)]) == []  # nothing new


def test_what_cannot_be_derived_is_missing_with_its_reason() -> None:
    made, _, _ = derivation("event=hooked_seq_ops,openat")
    assert list(made.missing) == ["hooked_seq_ops"]
    assert "tcp4_seq_ops" in made.missing["hooked_seq_ops"]


def test_bounded_memories() -> None:
    once = Once(2)
    assert [once.is_new(key) for key in (1, 1, 2, 3, 1)] == [True, False, True, True, True]
    kept = Kept(2)
    for key in (1, 2, 1, 3):
        kept.keep(key, key)
    assert (kept.find(2), kept.find(1), kept.find(3)) == (None, 1, 3)


HOOKED = {"SymbolName": "kill", "ModuleOwner": "evil"}


@pytest.mark.parametrize(
    ("name", "data", "value", "text"),
    [
        (
            "hooked_syscalls",
            fields.hooks(0, [("", "kill", "evil")]),
            [HOOKED],
            b"[{SymbolName: kill, ModuleOwner: evil}]",
        ),
        ("hooked_seq_ops", fields.hooks(0, [("at", "kill", "evil")]), {"at": HOOKED}, b"{at: {SymbolName: kill, "),
        (
            "net_tcp_connect",
            fields.raw(0, bytes([10, 0, 0, 1])),
            "10.0.0.1",
            b"dst: 10.0.0.1, dst_port: 0, dst_dns: []",
        ),
        ("net_tcp_connect", fields.raw(0, bytes(15) + b"\1"), "::1", b"dst: ::1,"),
        ("init_namespaces", fields.number(0, 4026531835), 4026531835, b"cgroup: 4026531835, ipc: 0,"),
    ],
)
def test_what_outputs_show(name: str, data: bytes, value: object, text: bytes) -> None:
    one = record(name, scalars=(), fields=data)
    (line,) = Json(EVENTS, NAMES).render([one], 0).splitlines()
    event = json.loads(line)
    assert (event["args"][0]["value"], event["argsNum"]) == (value, len(event["args"]))
    assert text in Table(EVENTS, NAMES).render([one], 0)


# --- shared objects --------------------------------------------------------------------------------


def library(name: str) -> str:
    """A shared library that this process has mapped."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if name in line:
                return line.split(None, 5)[5].strip()
    pytest.skip(f"no {name} is mapped here")


def objects(*expressions: str) -> tuple[Objects, Plan]:
    plan = push_down(expr.parse([*expressions], CATALOGUE))
    return Objects(plan.derived, FakeKernel(), plan), plan


def mapped(name: str, path: str) -> tuple[bytes, bytes]:
    status = os.stat(path)
    args = (0, 0, status.st_dev, status.st_ino, status.st_ctime_ns, 77)
    return raw(event(name).number, fields.text(0, path), args=args)[1:]


def test_symbols_that_are_asked_for() -> None:
    libc = library("/libc.so")
    source, plan = objects("symbols_loaded.symbols=fopen,getenv*,no_such_symbol")
    assert plan.residual == {}
    ((_, data),) = source.convert(*mapped("symbols_loaded", libc))
    parts = parts_of(data)
    assert parts[0][0][1].decode() == libc
    names = {data for _, data in parts[1]}
    assert {b"fopen", b"getenv"} <= names
    assert all(name == b"fopen" or name.startswith(b"getenv") for name in names)


def test_a_file_that_is_no_library_has_no_symbols() -> None:
    source, _ = objects("event=symbols_loaded,symbols_collision")
    assert source.convert(*mapped("symbols_loaded", __file__)) == []
    assert source.convert(*mapped("symbols_collision", __file__)) == []
    block, data = mapped("symbols_loaded", __file__)
    assert source.convert(block, data.replace(b"test_derive", b"test_nothin")) == []


def test_two_libraries_that_define_the_same(tmp_path) -> None:
    libc = library("/libc.so")
    copy = tmp_path / "copy.so"
    with open(libc, "rb") as file:
        copy.write_bytes(file.read())
    source, _ = objects("event=symbols_collision", "symbols_collision.symbols=fopen,puts")
    assert source.convert(*mapped("symbols_collision", libc)) == []
    ((block, data),) = source.convert(*mapped("symbols_collision", str(copy)))
    parts = parts_of(data)
    assert [parts[0][0][1].decode(), parts[1][0][1].decode()] == [str(copy), libc]
    assert [data for _, data in parts[2]] == [b"fopen", b"puts"]
    # Numbers that the program passed on are none of the event's.
    assert not any(Block(block).args)
