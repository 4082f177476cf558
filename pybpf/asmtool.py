"""What the ``asm`` and ``disasm`` commands of ``python -m pybpf`` do.

They stand outside ``pybpf.asm`` because ELF objects belong to a higher layer.
"""

from __future__ import annotations

import sys

from pybpf.asm import source
from pybpf.asm.disasm import exact, place_name, text
from pybpf.asm.forms import LLVM, MNEMONIC
from pybpf.asm.insn import Insn, Word, decode_any
from pybpf.errors import AsmError, ObjectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from btf.builder import Builder
    from pybpf.object.elf import Elf
    from pybpf.object.unit import CodeUnit

_RESERVED = ("license", "version", "maps")  # what loaders read from these is not code
_STATIC, _GLOBAL = 0, 1  # linkage of BTF functions


def read_input(path: str) -> bytes:
    """The bytes of a file that a command line names; ``-`` is standard input. Raises OSError."""
    if path == "-":
        return sys.stdin.buffer.read()
    with open(path, "rb") as file:
        return file.read()


# --- asm ---


def run_asm(options: Namespace) -> int:
    """Assemble a file. Returns the exit status."""
    name = "<stdin>" if options.file == "-" else options.file
    data = read_input(options.file)
    try:
        program = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise AsmError(f"{name}:{line}:{column}: byte {data[error.start]:#04x} is not UTF-8 text") from None
    if options.elf:
        code = assemble_object(program, options.dialect, options.byteorder, name, options.long_jumps)
    else:
        code = source.assemble(program, options.dialect, options.byteorder, name, options.long_jumps)
    if options.output == "-":
        if sys.stdout.isatty():
            raise AsmError("machine code is nothing for a terminal: name a file with -o, or redirect the output")
        rest = memoryview(code)
        while rest:
            # Unbuffered (PYTHONUNBUFFERED), a pipe may take less than it is given.
            rest = rest[sys.stdout.buffer.write(rest) :]
    else:
        with open(options.output, "wb") as file:
            file.write(code)
    return 0


def assemble_object(
    program: str, dialect: str = LLVM, byteorder: str = "little", file: str = "<asm>", long_jumps: bool = False
) -> bytes:
    """The ELF object of an assembly text: its functions, maps and license, with BTF and line records.

    A function gets its own verification (global linkage) when nothing in the
    text calls it and its section is not ``.text``. Raises AsmError with
    ``file:line:column``.
    """
    from btf.builder import Builder
    from pybpf.object.image import assemble

    parsed = source.Source(program, dialect, file)
    codes = parsed.assemble(long_jumps, relocatable=True)
    for code in codes:
        if code.name in _RESERVED or (code.name.startswith(".") and code.name != ".text"):
            line = code.lines[0][1] if code.lines else 1
            raise parsed.place.error(line, 1, f"section {code.name!r} is not for code")
    called = {reference.name for code in codes for reference in code.references}
    builder = Builder(byteorder)
    lines = program.split("\n")
    units = [unit for code in codes for unit in _units(parsed, code, file, lines, byteorder)]
    result = builder.int("int", 4, signed=True)
    proto = builder.func_proto(result, [("ctx", builder.ptr(0))])
    functions = {}
    for unit in units:
        _check_identifier(parsed, unit.name)
        inner = unit.section == ".text" or unit.name in called
        functions[unit.name] = builder.func(unit.name, proto, _STATIC if inner else _GLOBAL)
    maps = [(name, *_map_definition(builder, parsed, line)) for name, line in parsed.maps.items()]
    license = parsed.license or "GPL"
    return assemble(units, functions, maps, {}, license, builder, byteorder)


def _check_identifier(parsed: source.Source, name: str) -> None:
    # btf_name_valid_identifier() of kernel/bpf/btf.c.
    if "$" in name or "." in name:
        raise parsed.error_at_label(name, f"{name!r} cannot name a function: BTF takes letters, digits and _ only")


def _map_definition(builder: Builder, parsed: source.Source, line: source.MapLine) -> tuple[int, int]:
    """VAR id and size of the structure that defines a map, as libbpf reads it from ``.maps``."""
    from pybpf import abi

    number = int(line.type) if line.type.isdigit() else getattr(abi, f"MAP_TYPE_{line.type.upper()}", 0)
    if not number:
        raise parsed.place.error(line.line, line.column, f"unknown map type {line.type!r}: its number will do as well")
    if "." in line.name or "$" in line.name:
        raise parsed.place.error(line.line, line.column, f"{line.name!r} cannot name a map: letters, digits and _ only")
    members: list[tuple[str, int, int]] = []
    count = builder.int("int", 4, signed=True)
    for name, value in (
        ("type", number),
        ("key_size", line.key_size),
        ("value_size", line.value_size),
        ("max_entries", line.max_entries),
        ("map_flags", line.flags),
    ):
        # Numbers are array lengths behind a pointer: __uint() of bpf_helpers.h.
        if value:
            members.append((name, builder.ptr(builder.array(count, value)), len(members) * 64))
    layout = builder.struct("", len(members) * 8, members)
    return builder.var(line.name, layout, _GLOBAL), len(members) * 8


def _units(parsed: source.Source, code: source.Code, file: str, lines: list[str], byteorder: str) -> Iterator[CodeUnit]:
    """The functions of one section."""
    from pybpf.object.spec import Reloc
    from pybpf.object.unit import CodeUnit, Loc

    raw = b"".join([_little(insn, byteorder) for insn in code.insns])
    starts = sorted((slot, name) for name, slot in code.functions.items())
    if not starts or starts[0][0]:
        starts.insert(0, (0, _name_of(code.name)))
    for (start, name), (end, _) in zip(starts, [*starts[1:], (len(raw) // 8, "")]):
        if start == end:
            raise parsed.error_at_label(name, f"function {name!r} starts where another one does")
        unit = CodeUnit(name, code.name, raw[start * 8 : end * 8], 0)
        for reference in code.references:
            if start <= reference.slot < end:
                unit.relocs.append(Reloc(reference.slot - start, reference.kind, reference.name, reference.addend))
        for slot, line in code.lines:
            if start <= slot < end:
                unit.lines.append((slot - start, Loc(file, line, 1, lines[line - 1].strip())))
        _check_jumps(parsed, code, name, start, end)
        yield unit


def _little(insn: Insn, byteorder: str) -> bytes:
    """The instruction in the object writer's form, which turns slots around by their fields."""
    if not isinstance(insn, Word) or byteorder == "little":
        return insn.encode()
    raw = insn.encode(byteorder)
    return bytes((raw[0], raw[1] >> 4 | (raw[1] & 15) << 4)) + raw[3:1:-1] + raw[7:3:-1]


def _name_of(section: str) -> str:
    name = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in section.lstrip("."))
    return f"_{name}" if name[:1].isdigit() else name or "code"


def _check_jumps(parsed: source.Source, code: source.Code, name: str, start: int, end: int) -> None:
    slot = 0
    lines = dict(code.lines)
    for insn in code.insns:
        if start <= slot < end and insn.is_jump and not insn.is_gotox and not isinstance(insn, Word):
            target = slot + 1 + (insn.imm if insn.is_gotol else insn.off)
            if not start <= target < end and slot in lines:
                raise parsed.place.error(lines[slot], 1, f"jump leaves function {name!r}: call the other one")
        slot += insn.slots


# --- disasm ---


def run_disasm(options: Namespace) -> int:
    """Print an object or bare code as text. Returns the exit status."""
    data = read_input(options.file)
    name = "<stdin>" if options.file == "-" else options.file
    try:
        if data[:4] == b"\x7fELF":
            lines = disassemble_object(data, options.dialect, name)
        else:
            lines = disassemble_raw(data, options.dialect, options.byteorder)
        for line in lines:
            sys.stdout.write(f"{line}\n")
    except (AsmError, ObjectError) as error:
        raise type(error)(f"{name}: {error}") from error
    return 0


def disassemble_raw(data: bytes, dialect: str = LLVM, byteorder: str = "little") -> Iterator[str]:
    """Bare code, one line per instruction, each with its slot in front: text that the assembler takes.

    Raises AsmError when the length is no multiple of 8.
    """
    slot = 0
    for insn in decode_any(data, byteorder):
        yield f"{slot:8d}:\t{exact(insn, dialect, byteorder)}"
        slot += insn.slots


def disassemble_object(data: bytes, dialect: str = LLVM, name: str = "") -> Iterator[str]:
    """The code sections of an ELF object, laid out as ``llvm-objdump -d -r --no-show-raw-insn --mcpu=v4`` does.

    Raises ObjectError for a malformed file.
    """
    from pybpf.object import elf

    file = elf.Elf(data)
    yield ""
    yield f"{name}:\tfile format elf64-bpf"
    for section in file.sections:
        if section.type != elf.SHT_PROGBITS or not section.flags & elf.SHF_EXECINSTR or not section.size:
            continue
        yield ""
        yield f"Disassembly of section {section.name}:"
        symbols = _symbols(file, section.index, section.name)
        relocations = _relocations(file, section.index)
        try:
            insns = decode_any(file.bytes(section), file.byteorder)
        except AsmError as error:
            raise ObjectError(f"section {section.name!r}: {error}") from None
        yield from _section_lines(insns, dialect, file.byteorder, symbols, relocations)


def _section_lines(
    insns: list[Insn],
    dialect: str,
    byteorder: str,
    symbols: list[tuple[int, str]],
    relocations: dict[int, list[str]],
) -> Iterator[str]:
    from bisect import bisect_right

    addresses = [address for address, _ in symbols]

    def nearest(slot: int) -> str:
        index = bisect_right(addresses, slot * 8) - 1
        if index < 0:
            return place_name(symbols[0][1], slot * 8)
        return place_name(symbols[index][1], slot * 8 - addresses[index])

    names = dict(symbols)
    slot = 0
    for insn in insns:
        if slot * 8 in names:
            yield ""
            yield f"{slot * 8:016x} <{names[slot * 8]}>:"
        shown = text(insn, slot, nearest) if dialect == LLVM else _mnemonic(insn, slot, byteorder, nearest)
        yield f"{slot:8d}:\t{shown}"
        for at in range(slot * 8, (slot + insn.slots) * 8):
            for relocation in relocations.get(at, ()):
                yield f"\t\t{at:016x}:  {relocation}"
        slot += insn.slots


def _mnemonic(insn: Insn, slot: int, byteorder: str, nearest: Callable[[int], str]) -> str:
    shown = exact(insn, MNEMONIC, byteorder)
    if insn.is_jump and not insn.is_gotox and not isinstance(insn, Word):
        shown += f" <{nearest(slot + 1 + (insn.imm if insn.is_gotol else insn.off))}>"
    return shown


def _symbols(file: Elf, index: int, section: str) -> list[tuple[int, str]]:
    """Address and name of what to show in a section: of several at one place the last that has a type."""
    from pybpf.object import elf

    found: dict[int, tuple[bool, str]] = {}
    for number, (_, info, _, shndx, value, _) in enumerate(file.symbols):
        if shndx == index and info & 15 != elf.STT_SECTION:
            candidate = (info & 15 != elf.STT_NOTYPE, file.symbol_name(number))
            if candidate[1]:
                found[value] = max(found.get(value, (False, "")), candidate)
    found.setdefault(0, (False, section))
    return [(address, name) for address, (_, name) in sorted(found.items())]


def _relocations(file: Elf, index: int) -> dict[int, list[str]]:
    """The relocations of a section as text, by offset."""
    from pybpf.object import elf

    names = {
        0: "R_BPF_NONE",
        elf.R_BPF_64_64: "R_BPF_64_64",
        2: "R_BPF_64_ABS64",
        3: "R_BPF_64_ABS32",
        4: "R_BPF_64_NODYLD32",
        elf.R_BPF_64_32: "R_BPF_64_32",
    }
    found: dict[int, list[str]] = {}
    for section in file.sections:
        if section.type == elf.SHT_REL and section.info == index:
            for offset, symbol, kind in file.relocations(section):
                shown = f"{names.get(kind, f'type {kind}')}\t{file.symbol_name(symbol)}"
                found.setdefault(offset, []).append(shown)
    return found
