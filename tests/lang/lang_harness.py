"""Compiles DSL text and runs it: in the IR interpreter with a small model of maps and memory, or in the kernel."""

from __future__ import annotations

import importlib.util
import itertools
import struct
import sys
import types

from ir_interp import IrMachine

from pybpf.lang.compile import Compilation, compile_functions
from pybpf.lang.surface import PROGRAMS, Program

PRELUDE = "from __future__ import annotations\nfrom pybpf.lang import *\n"
PRELUDE_LINES = 2

_numbers = itertools.count()


def make_module(tmp_path, text: str) -> types.ModuleType:
    """Execute DSL text (after ``from pybpf.lang import *``) as a module of its own."""
    name = f"dsl_case_{next(_numbers)}"
    path = tmp_path / f"{name}.py"
    path.write_text(PRELUDE + text)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        PROGRAMS.pop(name, None)
        raise
    return module


def programs_of(module) -> list[Program]:
    return list(PROGRAMS[module.__name__].values())


def lower(tmp_path, text: str) -> Compilation:
    """The IR of every program in ``text``."""
    unit = Compilation()
    for program in programs_of(make_module(tmp_path, text)):
        unit.add(program)
    return unit


def ir_of(tmp_path, text: str) -> str:
    """The IR of the only program, as text."""
    return lower(tmp_path, text).functions[-1].dump()


def object_of(tmp_path, text: str) -> bytes:
    return compile_functions(programs_of(make_module(tmp_path, text)))


CTX, KERNEL, RODATA, VALUES = 0x1000_0000, 0x2000_0000, 0x3000_0000, 0x4000_0000


class World:
    """The kernel as programs see it: maps, readable memory, a ring buffer, a few helpers."""

    def __init__(self, unit: Compilation, context: bytes = b"", core=None) -> None:
        self.unit = unit
        self.context = context
        self.core = core
        self.maps = {map.name: {} for map in unit.sorted_maps()}  # name -> key -> address of the value
        self.handles = {name: 0x5000_0000 + i for i, name in enumerate(self.maps)}
        self.next_value = VALUES
        self.records: list[bytes] = []
        self.reserved: dict[int, int] = {}
        self.full = False
        self.readable: dict[int, bytes] = {}
        self.results: dict[int, int] = {}
        self.log: list[tuple[int, tuple[int, ...]]] = []

    def run(self, function=None) -> int:
        """Run a function (the last one compiled, if none is given); its result as a signed number."""
        function = function or self.unit.functions[-1]
        self.machine = IrMachine(function, (CTX,), self.helper, self.symbol, self.core_value, fuel=200000)
        self.write(CTX, self.context)
        for name, (contents, _) in self.unit.data_sections().items():
            assert name == ".rodata"
            self.write(RODATA, contents)
        for map in self.unit.sorted_maps():
            if map.kind in ("Array", "PerCpuArray"):
                for i in range(min(map.max_entries, 64)):
                    key = struct.pack("<I", i)
                    if key not in self.maps[map.name]:
                        self.put(map.name, key, bytes(map.value.size))
        for name in self.preset:
            for key, value in self.preset[name].items():
                self.put(name, key, value)
        value = self.machine.run()
        return value - (1 << 64) if value >> 63 else value

    preset: dict[str, dict[bytes, bytes]] = {}

    def core_value(self, ref) -> int:
        if self.core is None and ref.kind == 10:
            return 0  # no helper is there unless a test says so
        if self.core is None:
            raise AssertionError(f"unexpected relocation {ref}")
        return self.core(ref)

    def symbol(self, kind: str, name: str) -> int:
        return self.handles[name] if kind == "map" else RODATA

    def write(self, address: int, data: bytes) -> None:
        for i, byte in enumerate(data):
            self.machine.memory[address + i] = byte

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.machine.memory[address + i] for i in range(size))

    def put(self, name: str, key: bytes, value: bytes) -> None:
        address = self.maps[name].get(key)
        if address is None:
            address = self.maps[name][key] = self.next_value
            self.next_value += -(-len(value) // 8) * 8 + 64
        self.write(address, value)

    def value(self, name: str, key: bytes) -> bytes | None:
        address = self.maps[name].get(key)
        return None if address is None else self.read(address, self.map(name).value.size)

    def map(self, handle):
        name = handle if isinstance(handle, str) else next(n for n, h in self.handles.items() if h == handle)
        return next(m for m in self.unit.sorted_maps() if m.name == name)

    def fetch(self, address: int, size: int) -> bytes | None:
        for start, data in self.readable.items():
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        return None

    def helper(self, number: int, args: tuple[int, ...]) -> int:
        self.log.append((number, args))
        if number in self.results:
            return self.results[number]
        method = getattr(self, f"helper_{number}", None)
        if method is None:
            raise AssertionError(f"no model of helper {number}{args}")
        return method(*args)

    def helper_1(self, map_, key):
        map = self.map(map_)
        return self.maps[map.name].get(self.read(key, map.key.size), 0)

    def helper_2(self, map_, key, value, flags):
        map = self.map(map_)
        raw = self.read(key, map.key.size)
        if flags == 1 and raw in self.maps[map.name]:
            return -17
        self.put(map.name, raw, self.read(value, map.value.size))
        return 0

    def helper_3(self, map_, key):
        map = self.map(map_)
        return 0 if self.maps[map.name].pop(self.read(key, map.key.size), None) is not None else -2

    def helper_12(self, ctx, map_, index):
        return -2

    def helper_16(self, to, size):
        self.write(to, b"python3".ljust(size, b"\0"))
        return 0

    def _probe(self, to, size, address):
        data = self.fetch(address, size)
        self.write(to, data if data is not None else bytes(size))
        return 0 if data is not None else -14

    helper_112 = helper_113 = helper_148 = _probe

    def _probe_str(self, to, size, address):
        for start, data in self.readable.items():
            if start <= address < start + len(data):
                text = data[address - start :].split(b"\0")[0][: size - 1] + b"\0"
                self.write(to, text)
                return len(text)
        return -14

    helper_114 = helper_115 = _probe_str

    def helper_130(self, map_, data, size, flags):
        self.records.append(self.read(data, size))
        return -11 if self.full else 0

    def helper_131(self, map_, size, flags):
        if self.full:
            return 0
        address = self.next_value
        self.next_value += size + 64
        self.write(address, b"\xaa" * size)
        self.reserved[address] = size
        return address

    def helper_132(self, address, flags):
        self.records.append(self.read(address, self.reserved.pop(address)))
        return 0

    def helper_133(self, address, flags):
        del self.reserved[address]
        return 0


HEAD = """
class C(Struct):
    a: i64
    b: i64
    c: u64
    d: u64
    x: u32
    y: i32
    z: u8
"""


def context(a=0, b=0, c=0, d=0, x=0, y=0, z=0) -> bytes:
    m = (1 << 64) - 1
    return struct.pack("<QQQQIiB7x", a & m, b & m, c & m, d & m, x, y, z)


def function_text(body: str, more: str = "") -> str:
    lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
    return f"{HEAD}{more}\n@hook('syscall')\ndef f(ctx: Ptr[C]):\n{lines}\n"


def evaluate(tmp_path, body: str, more: str = "", **fields) -> int:
    """The result of a program's body whose context has the fields of HEAD."""
    return world(tmp_path, body, more, **fields).run()


def world(tmp_path, body: str, more: str = "", **fields) -> World:
    return World(lower(tmp_path, function_text(body, more)), context(**fields))
