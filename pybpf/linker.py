"""Puts a program and the subprograms that it calls into one piece of code; pure bytes, no system calls.

The kernel wants a program's subprograms behind it, calls relative, and
func_info and line_info in the order of the code.
"""

from __future__ import annotations

from struct import pack, pack_into

from pybpf import abi
from pybpf.errors import ObjectError
from pybpf.object.spec import RELOC_CALL, RELOC_DATA, RELOC_FUNC, RELOC_KFUNC, RELOC_KSYM, RELOC_MAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pybpf.object.spec import ObjectSpec, ProgramSpec, Reloc

_LD_IMM64 = 0x18
_CALL = 0x85

# The helper that a call of a missing weak kfunc becomes, as with a failed CO-RE
# relocation (btf.core.POISON_HELPER): the verifier removes it if it is dead.
_POISON = 0xBAD2310


class Symbol:
    """What a .ksyms extern comes to in this kernel.

    ``kind`` is ``"missing"`` (a weak one that does not exist), ``"address"``
    (``value`` is one) or ``"btf"``: ``value`` is the id of a FUNC or VAR in the BTF
    with descriptor ``fd``, 0 for the kernel's own. ``index`` is that
    descriptor's place in the load's ``fd_array``, 0 for the kernel's own.
    """

    __slots__ = ("fd", "index", "kind", "value")

    def __init__(self, kind: str, value: int = 0, fd: int = 0, index: int = 0) -> None:
        self.kind = kind
        self.value = value
        self.fd = fd
        self.index = index


def functions_of(spec: ObjectSpec, name: str, replaced: Mapping[str, ProgramSpec] | None = None) -> list[ProgramSpec]:
    """The program ``name`` and, behind it, every subprogram it reaches. Raises ObjectError.

    Functions in ``replaced`` stand in for those of the same name.
    """
    programs = {**spec.programs, **replaced} if replaced else spec.programs
    main = programs.get(name)
    if main is None:
        raise ObjectError(f"object has no program {name!r}; it has: {', '.join(sorted(spec.programs)) or 'none'}")
    found = [main]
    names = {name}
    for function in found:  # grows while it is walked
        for reloc in function.relocs:
            if reloc.kind not in (RELOC_CALL, RELOC_FUNC) or reloc.target in names:
                continue
            callee = programs.get(reloc.target)
            if callee is None:
                raise ObjectError(f"{function.name!r} calls {reloc.target!r}, which the object does not define")
            names.add(reloc.target)
            found.append(callee)
    return found


def maps_of(functions: list[ProgramSpec]) -> set[str]:
    """Names of the maps and data sections that the functions refer to."""
    return {r.target for f in functions for r in f.relocs if r.kind in (RELOC_MAP, RELOC_DATA)}


def externs_of(functions: list[ProgramSpec]) -> set[str]:
    """Names of the .ksyms externs that the functions refer to."""
    return {r.target for f in functions for r in f.relocs if r.kind in (RELOC_KSYM, RELOC_KFUNC)}


class Linked:
    """One program's code, complete but for map descriptors and kernel symbols.

    ``parts`` holds ``(first slot, function)`` in the order of the code.
    """

    __slots__ = ("byteorder", "insns", "name", "parts")

    def __init__(self, functions: list[ProgramSpec], code: Callable[[ProgramSpec], bytes], byteorder: str) -> None:
        self.name = functions[0].name
        self.byteorder = byteorder
        self.insns = bytearray()
        self.parts: list[tuple[int, ProgramSpec]] = []
        for function in functions:
            raw = code(function)
            if not raw or len(raw) % 8:
                raise ObjectError(f"function {function.name!r} has {len(raw)} bytes of code: no multiple of 8")
            self.parts.append((len(self.insns) // 8, function))
            self.insns += raw
        starts = {function.name: base for base, function in self.parts}
        for base, function in self.parts:
            for reloc in function.relocs:
                if reloc.kind == RELOC_CALL:
                    at = self._slot(base, function, reloc, _CALL, abi.PSEUDO_CALL)
                    self._immediate(at, starts[reloc.target] - at - 1)
                elif reloc.kind == RELOC_FUNC:
                    at = self._slot(base, function, reloc, _LD_IMM64, abi.PSEUDO_FUNC)
                    self._immediate(at, starts[reloc.target] - at - 1)
                    self._immediate(at + 1, 0)

    def bind(self, fds: Mapping[str, int], symbols: Mapping[str, Symbol] | None = None) -> None:
        """Fill in the descriptors of maps and data sections, and what .ksyms externs come to."""
        for base, function in self.parts:
            for reloc in function.relocs:
                if reloc.kind == RELOC_MAP:
                    at = self._slot(base, function, reloc, _LD_IMM64, abi.PSEUDO_MAP_FD)
                    self._immediate(at, fds[reloc.target])
                    self._immediate(at + 1, 0)
                elif reloc.kind == RELOC_DATA:
                    at = self._slot(base, function, reloc, _LD_IMM64, abi.PSEUDO_MAP_VALUE)
                    self._immediate(at, fds[reloc.target])
                    self._immediate(at + 1, reloc.addend)
                elif reloc.kind in (RELOC_KSYM, RELOC_KFUNC):
                    symbol = symbols.get(reloc.target) if symbols is not None else None
                    if symbol is None:
                        raise ObjectError(f"function {function.name!r} uses {reloc.target!r}, an unresolved extern")
                    if reloc.kind == RELOC_KSYM:
                        self._bind_address(base, function, reloc, symbol)
                    else:
                        self._bind_kfunc(base, function, reloc, symbol)

    def _bind_address(self, base: int, function: ProgramSpec, reloc: Reloc, symbol: Symbol) -> None:
        by_type = symbol.kind == "btf"
        at = self._slot(base, function, reloc, _LD_IMM64, abi.PSEUDO_BTF_ID if by_type else 0)
        self._immediate(at, symbol.value)
        self._immediate(at + 1, symbol.fd if by_type else symbol.value >> 32)

    def _bind_kfunc(self, base: int, function: ProgramSpec, reloc: Reloc, symbol: Symbol) -> None:
        if symbol.kind == "btf":
            at = self._slot(base, function, reloc, _CALL, abi.PSEUDO_KFUNC_CALL)
            self._immediate(at, symbol.value)
            pack_into("<h" if self.byteorder == "little" else ">h", self.insns, at * 8 + 2, symbol.index)
            return
        at = self._slot(base, function, reloc, _CALL, 0)
        self._immediate(at, _POISON)

    def _slot(self, base: int, function: ProgramSpec, reloc: Reloc, opcode: int, source: int) -> int:
        """Check that the relocated instruction is what its kind needs, set its source register; its slot."""
        at = base + reloc.index
        last = base + len(function.insns) // 8 - (2 if opcode == _LD_IMM64 else 1)
        if not base <= at <= last or self.insns[at * 8] != opcode:
            raise ObjectError(
                f"function {function.name!r}: relocation to {reloc.target!r} at slot {reloc.index} is not at "
                f"{'a 64-bit load' if opcode == _LD_IMM64 else 'a call'}"
            )
        registers = self.insns[at * 8 + 1]
        # Bit fields: the machine's byte order decides which nibble the source register has (RFC 9669, 3.1).
        if self.byteorder == "little":
            self.insns[at * 8 + 1] = registers & 0x0F | source << 4
        else:
            self.insns[at * 8 + 1] = registers & 0xF0 | source
        return at

    def _immediate(self, at: int, value: int) -> None:
        pack_into("<I" if self.byteorder == "little" else ">I", self.insns, at * 8 + 4, value & 0xFFFFFFFF)

    def func_info(self) -> bytes:
        """The kernel's records, or nothing unless every function has one at its first instruction."""
        records = [(base, base + index, type_id) for base, f in self.parts for index, type_id in f.func_info]
        if not {base for base, _ in self.parts} <= {at for _, at, _ in records}:
            return b""
        return b"".join(pack("=II", at, type_id) for _, at, type_id in records)

    def line_info(self) -> bytes:
        """The kernel's records, or nothing unless every function has one at its first instruction."""
        records = [(base + index, *rest) for base, f in self.parts for index, *rest in f.line_info]
        if not {base for base, _ in self.parts} <= {record[0] for record in records}:
            return b""
        return b"".join(pack("=IIII", *record) for record in records)

    def function_at(self, slot: int) -> tuple[ProgramSpec, int]:
        """The function that holds ``slot``, and the slot's index inside it."""
        base, function = next(part for part in reversed(self.parts) if part[0] <= max(slot, 0))
        return function, slot - base
