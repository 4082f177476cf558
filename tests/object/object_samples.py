"""Stand-ins for the compiler's output, so that the tests do not need the compiler; and a sample object."""

from __future__ import annotations

from btf.builder import Builder
from pybpf.object.image import assemble
from pybpf.object.spec import RELOC_CALL, RELOC_DATA, RELOC_MAP, Reloc


class Core:
    """As pybpf.lang.ir.Core."""

    def __init__(self, kind: int, type_id: int, access: str) -> None:
        self.kind = kind
        self.type_id = type_id
        self.access = access


class Loc:
    """As pybpf.lang.ir.Loc."""

    def __init__(self, path: str, line: int, col: int, text: str) -> None:
        self.path = path
        self.line = line
        self.col = col
        self.text = text


class CodeUnit:
    """As pybpf.object.unit.CodeUnit."""

    def __init__(self, name: str, section: str, code: bytes, stack: int) -> None:
        self.name = name
        self.section = section
        self.code = code
        self.stack = stack
        self.relocs: list[Reloc] = []
        self.cores: list[tuple[int, Core]] = []
        self.lines: list[tuple[int, Loc]] = []


MAP_TYPE_ARRAY = 2


def slot(op: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return bytes((op, src << 4 | dst)) + off.to_bytes(2, "little", signed=True) + imm.to_bytes(4, "little", signed=True)


def wide(dst: int) -> bytes:
    # A back end may leave anything in the source register and imm of a relocated instruction.
    return slot(0x18, dst, 2, 0, 77) + slot(0, 0, 0, 0, 99)


MOV_R0, EXIT = slot(0xB7, 0, 0, 0, 0), slot(0x95)
CALL = slot(0x85, 0, 1, 0, 1234)


def sample_units() -> list[CodeUnit]:
    """Two programs in one section, one in another, and a subprogram: every kind of relocation."""
    one = CodeUnit("one", "raw_tp/sched_switch", wide(1) + wide(2) + slot(0x61, 0, 2) + CALL + EXIT, 0)
    one.relocs = [Reloc(0, RELOC_MAP, "table"), Reloc(2, RELOC_DATA, ".rodata", 4), Reloc(5, RELOC_CALL, "triple")]
    one.lines = [(0, Loc("dir/prog.py", 10, 5, "def one(ctx):")), (4, Loc("dir/prog.py", 11, 9, "return triple(x)"))]
    two = CodeUnit("two", "raw_tp/sched_switch", wide(1) + slot(0x79, 0, 1) + slot(0xB7, 3) + MOV_R0 + EXIT, 0)
    two.relocs = [Reloc(0, RELOC_DATA, ".bss", 8)]
    two.lines = [(3, Loc("dir/prog.py", 20, 9, "return counter"))]
    two.cores = [(3, Core(8, 1, "0"))]
    three = CodeUnit("three", "raw_tp/sys_enter", wide(3) + wide(2) + MOV_R0 + EXIT, 0)
    three.relocs = [Reloc(0, RELOC_MAP, "second"), Reloc(2, RELOC_DATA, ".data", 0)]
    three.lines = [(0, Loc("dir/prog.py", 30, 5, "def three(ctx):"))]
    triple = CodeUnit("triple", ".text", slot(0xB7, 0, 0, 0, 3) + EXIT, 0)
    triple.lines = [(0, Loc("dir/prog.py", 40, 5, "def triple(x):"))]
    return [one, two, triple, three]


def sample_object(byteorder: str = "little", units: list[CodeUnit] | None = None) -> bytes:
    builder = Builder(byteorder)
    int_ = builder.int("int", 4, signed=True)
    u64 = builder.int("unsigned long long", 8)
    context = builder.ptr(0)
    units = sample_units() if units is None else units
    program = builder.func_proto(int_, [("ctx", context)])
    sub = builder.func_proto(int_, [])
    funcs = {
        u.name: builder.func(u.name, sub if u.section == ".text" else program, u.section != ".text") for u in units
    }

    def number(value: int) -> int:
        return builder.ptr(builder.array(int_, value))

    table = builder.struct(
        "",
        32,
        [
            ("type", number(MAP_TYPE_ARRAY), 0),
            ("max_entries", number(3), 64),
            ("key", builder.ptr(int_), 128),
            ("value", builder.ptr(u64), 192),
        ],
    )
    maps = [("table", builder.var("table", table, 1), 32), ("second", builder.var("second", table, 1), 32)]
    limit, flag = builder.var("limit", builder.const(u64), 1), builder.var("flag", builder.const(int_), 1)
    start, counter, total = (builder.var(name, u64, 1) for name in ("start", "counter", "total"))
    data = {
        ".rodata": (b"\1\0\0\0" + bytes(range(8)), [("limit", limit, 4, 8), ("flag", flag, 0, 4)]),
        ".data": (b"\7" + bytes(7), [("start", start, 0, 8)]),
        ".bss": (bytes(16), [("counter", counter, 8, 8), ("total", total, 0, 8)]),
    }
    return assemble(units, funcs, maps, data, "Dual MIT/GPL", builder, byteorder)
