"""Checks of a program's form, all that the kernel makes before it follows any path (kernel/bpf/verifier.c)."""

from __future__ import annotations

from pybpf.asm import disasm
from pybpf.asm.insn import Insn
from pybpf.asm.opcodes import (
    BPF_ABS,
    BPF_ADD,
    BPF_ADDR_SPACE_CAST,
    BPF_ALU,
    BPF_ALU64,
    BPF_AND,
    BPF_ARSH,
    BPF_ATOMIC,
    BPF_CALL,
    BPF_CMPXCHG,
    BPF_DIV,
    BPF_DW,
    BPF_END,
    BPF_EXIT,
    BPF_FETCH,
    BPF_IND,
    BPF_JA,
    BPF_JCOND,
    BPF_JMP,
    BPF_JSLE,
    BPF_LD,
    BPF_LDX,
    BPF_LOAD_ACQ,
    BPF_LSH,
    BPF_MAY_GOTO,
    BPF_MEM,
    BPF_MEMSX,
    BPF_MOD,
    BPF_MOV,
    BPF_NEG,
    BPF_OR,
    BPF_PSEUDO_BTF_ID,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_KFUNC_CALL,
    BPF_PSEUDO_MAP_IDX_VALUE,
    BPF_REG_FP,
    BPF_RSH,
    BPF_ST,
    BPF_STORE_REL,
    BPF_STX,
    BPF_W,
    BPF_X,
    BPF_XCHG,
    BPF_XOR,
    LD_IMM64,
)
from pybpf.vm.errors import VmError

UNKNOWN = "unknown opcode"
_RESERVED = "a field that this instruction does not use is not 0"
_READ_ONLY = "r10 is read-only"
_ATOMIC = frozenset((BPF_ADD, BPF_OR, BPF_AND, BPF_XOR))
_ATOMICS = _ATOMIC | {code | BPF_FETCH for code in _ATOMIC} | {BPF_XCHG, BPF_CMPXCHG}


def wrong(insn: Insn) -> str:
    """What is wrong with one instruction by itself; the empty string for a valid one."""
    kind = insn.op & 0x07
    if kind in (BPF_ALU, BPF_ALU64):
        return _wrong_alu(insn, kind == BPF_ALU64)
    if kind == BPF_LD:
        return _wrong_ld(insn)
    if kind in (BPF_LDX, BPF_ST, BPF_STX):
        return _wrong_memory(insn, kind)
    return _wrong_jump(insn, kind == BPF_JMP)


def _wrong_alu(insn: Insn, wide: bool) -> str:
    code, by_register = insn.op & 0xF0, bool(insn.op & BPF_X)
    if code > BPF_END:
        return UNKNOWN
    if insn.dst == BPF_REG_FP:
        return _READ_ONLY
    if code == BPF_END:
        if (wide and by_register) or insn.imm not in (16, 32, 64):
            return UNKNOWN
        return _RESERVED if insn.off or insn.src else ""
    if code == BPF_NEG:
        if by_register:
            return UNKNOWN
        return _RESERVED if insn.off or insn.src or insn.imm else ""
    if code == BPF_MOV and by_register and insn.off:
        if wide and insn.off == BPF_ADDR_SPACE_CAST:
            return "addr_space_cast is not modelled: there are no arenas here"
        if insn.off not in (8, 16, 32) or (insn.off == 32 and not wide):
            return UNKNOWN
    elif insn.off and not (code in (BPF_DIV, BPF_MOD) and insn.off == 1):
        return _RESERVED
    if by_register:
        return _RESERVED if insn.imm else ""
    if insn.src:
        return _RESERVED
    if code in (BPF_DIV, BPF_MOD) and not insn.imm:
        return "division by the constant 0"
    if code in (BPF_LSH, BPF_RSH, BPF_ARSH) and not 0 <= insn.imm < (64 if wide else 32):
        return f"shift by {insn.imm} of a {64 if wide else 32}-bit number"
    return ""


def _wrong_ld(insn: Insn) -> str:
    if insn.op == LD_IMM64:
        if insn.dst == BPF_REG_FP:
            return _READ_ONLY
        if insn.src == BPF_PSEUDO_BTF_ID:
            return "loads the address of a kernel variable, which is not modelled"
        if insn.src > BPF_PSEUDO_MAP_IDX_VALUE:
            return "unknown kind of 64-bit immediate"
        return _RESERVED if insn.off else ""
    mode = insn.op & 0xE0
    if mode not in (BPF_ABS, BPF_IND) or insn.op & 0x18 == BPF_DW:
        return UNKNOWN
    return _RESERVED if insn.dst or insn.off or (mode == BPF_ABS and insn.src) else ""


def _wrong_memory(insn: Insn, kind: int) -> str:
    mode, size = insn.op & 0xE0, insn.op & 0x18
    if kind == BPF_LDX:
        if mode != BPF_MEM and (mode != BPF_MEMSX or size == BPF_DW):
            return UNKNOWN
        return _READ_ONLY if insn.dst == BPF_REG_FP else _RESERVED if insn.imm else ""
    if mode == BPF_MEM:
        return _RESERVED if (insn.src if kind == BPF_ST else insn.imm) else ""
    if kind != BPF_STX or mode != BPF_ATOMIC:
        return UNKNOWN
    if insn.imm == BPF_LOAD_ACQ:
        return _READ_ONLY if insn.dst == BPF_REG_FP else ""
    if insn.imm == BPF_STORE_REL:
        return ""
    if insn.imm not in _ATOMICS or size not in (BPF_W, BPF_DW):
        return "unknown atomic operation"
    return _READ_ONLY if insn.imm & BPF_FETCH and insn.imm != BPF_CMPXCHG and insn.src == BPF_REG_FP else ""


def _wrong_jump(insn: Insn, wide: bool) -> str:
    code, by_register = insn.op & 0xF0, bool(insn.op & BPF_X)
    if code == BPF_CALL:
        if not wide or by_register or insn.src > BPF_PSEUDO_KFUNC_CALL:
            return UNKNOWN
        return _RESERVED if insn.dst or (insn.off and insn.src != BPF_PSEUDO_KFUNC_CALL) else ""
    if code == BPF_EXIT:
        if not wide or by_register:
            return UNKNOWN
        return _RESERVED if insn.dst or insn.src or insn.off or insn.imm else ""
    if code == BPF_JA:
        if by_register:
            return UNKNOWN
        return _RESERVED if insn.dst or insn.src or (insn.imm if wide else insn.off) else ""
    if code == BPF_JCOND:
        if not wide or by_register or insn.src != BPF_MAY_GOTO:
            return UNKNOWN
        return _RESERVED if insn.dst or insn.imm else ""
    if code > BPF_JSLE:
        return UNKNOWN
    return _RESERVED if (insn.imm if by_register else insn.src) else ""


def jump_distance(insn: Insn) -> int:
    """How many slots, from the next one, a jump goes."""
    return insn.imm if insn.is_gotol else insn.off


def function_reference(insn: Insn) -> int | None:
    """How many slots, from the next one, away the function is that this instruction calls or points to."""
    if insn.op == BPF_JMP | BPF_CALL and insn.src == BPF_PSEUDO_CALL:
        return insn.imm
    if insn.op == LD_IMM64 and insn.src == BPF_PSEUDO_FUNC:
        # The kernel looks at the first half only, but takes no other high half than 0.
        low = insn.imm & 0xFFFF_FFFF
        return low - (1 << 32) if low & 0x8000_0000 else low
    return None


def reads(insn: Insn) -> list[int]:
    """The registers that an instruction reads; of calls none, for that depends on the function."""
    kind, code, by_register = insn.op & 0x07, insn.op & 0xF0, bool(insn.op & BPF_X)
    if kind in (BPF_ALU, BPF_ALU64):
        if code in (BPF_NEG, BPF_END):
            return [insn.dst]
        return [*([] if code == BPF_MOV else [insn.dst]), *([insn.src] if by_register else [])]
    if kind == BPF_LD:
        return [] if insn.op == LD_IMM64 else [6, *([insn.src] if insn.op & 0xE0 == BPF_IND else [])]
    if kind == BPF_LDX:
        return [insn.src]
    if kind == BPF_ST:
        return [insn.dst]
    if kind == BPF_STX:
        if insn.op & 0xE0 == BPF_ATOMIC and insn.imm == BPF_LOAD_ACQ:
            return [insn.src]
        compared = [0] if insn.op & 0xE0 == BPF_ATOMIC and insn.imm == BPF_CMPXCHG else []
        return [*compared, insn.src, insn.dst]
    if code == BPF_EXIT:
        return [0]
    if code in (BPF_CALL, BPF_JA, BPF_JCOND):
        return []
    return [insn.dst, *([insn.src] if by_register else [])]


class Code:
    """The instructions of a program by slot, found to be well-formed.

    ``slots`` has None for the second halves of 64-bit loads. ``entries`` are the
    first slots of its functions, ascending. Raises VmError for everything that is
    wrong in itself: opcodes, fields, registers, jumps that leave their function
    or go into the middle of an instruction, code that cannot be reached, a
    function that does not end with exit or a jump.
    """

    __slots__ = ("entries", "name", "slots")

    def __init__(self, name: str, insns: list[Insn]) -> None:
        self.name = name
        self.slots: list[Insn | None] = []
        for insn in insns:
            self.slots.append(insn)
            if insn.op == LD_IMM64:
                self.slots.append(None)
        if not self.slots:
            raise VmError(f"program {name!r} has no instructions")
        for at, checked in enumerate(self.slots):
            reason = "" if checked is None else wrong(checked)
            if reason:
                raise self.error(at, reason)
        self.entries = self._find_entries()
        for start, end in zip(self.entries, [*self.entries[1:], len(self.slots)]):
            self._check_function(start, end)

    def error(self, at: int, reason: str) -> VmError:
        insn = self.slots[at]
        return VmError(reason).locate(
            self.name, self.name, at, disasm.text(insn) if insn is not None else "second half"
        )

    def _find_entries(self) -> list[int]:
        found = {0}
        for at, insn in enumerate(self.slots):
            distance = None if insn is None else function_reference(insn)
            if insn is not None and distance is not None:
                # Relative to the next slot even where the instruction has two.
                target = at + 1 + distance
                if not 0 <= target < len(self.slots) or self.slots[target] is None:
                    raise self.error(at, f"refers to a function at slot {target}, where no instruction of it begins")
                found.add(target)
        return sorted(found)

    def _check_function(self, start: int, end: int) -> None:
        last = max(at for at in range(start, end) if self.slots[at] is not None)
        if self._falls(last):
            raise self.error(last, "falls off the end: the last instruction of a function is exit or a jump")
        seen: set[int] = set()
        paths = [start]
        while paths:
            at = paths.pop()
            while at not in seen:
                seen.add(at)
                insn = self.slots[at]
                assert insn is not None
                if insn.is_jump:
                    target = at + 1 + jump_distance(insn)
                    if not start <= target < end:
                        where = "program" if not 0 <= target < len(self.slots) else "function"
                        raise self.error(at, f"jumps to slot {target}, out of the {where}")
                    if self.slots[target] is None:
                        raise self.error(at, f"jumps to slot {target}, the middle of a 64-bit load")
                    paths.append(target)
                if not self._falls(at):
                    break
                at += insn.slots
        for at in range(start, end):
            if at not in seen and self.slots[at] is not None:
                raise self.error(at, "unreachable instruction")

    def _falls(self, at: int) -> bool:
        insn = self.slots[at]
        return insn is not None and insn.falls_through

    def leaders(self) -> set[int]:
        """The slots where a run of instructions begins that is entered at its start only."""
        found = set(self.entries)
        for at, insn in enumerate(self.slots):
            if insn is not None and insn.is_jump:
                found.add(at + 1 + jump_distance(insn))
        return found
