"""Removes code that can never run: branches decided by CO-RE, by frozen configuration, by externs.

The verifier ignores a dead branch for most purposes, but refuses, dead or not,
an opcode or kfunc that it does not know and a map that could not be made
(kernel/bpf/verifier.c, resolve_pseudo_ldimm64, check_cfg and add_kfunc_call run
before any branch is followed). ``fold`` finds what constants decide, by sparse
conditional constant propagation over the registers, and deletes what is then
proven unreachable. Whatever it does not know, it takes to be anything at all.

No object is made for an instruction: code is seen through typed views, the
state of a block's entry is one list of registers.
"""

from __future__ import annotations

import sys
from struct import pack_into

from pybpf.object.spec import RELOC_DATA, RELOC_KSYM, ProgramSpec, Reloc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# A register holds None (anything), 0..2^64-1 (a constant), _NONZERO (an address), or
# SECTION * (number + 1) + offset: a pointer into a section of constants.
_U64 = 0xFFFFFFFFFFFFFFFF
_U32 = 0xFFFFFFFF
_SIGN64, _SIGN32 = 1 << 63, 1 << 31
_NONZERO = -1
_SECTION = 1 << 80
_REACH = 1 << 31  # how far a pointer may be from its section's start

_LITTLE = sys.byteorder == "little"
_FIELD_BYTE_OFFSET = 0  # the one CO-RE kind that decides no branch

_UNKNOWN, _MOV, _MOV_REG, _MOV32, _ALU, _LOAD, _STORE, _ATOMIC = range(8)
_CALL, _EXIT, _JUMP, _LONG, _COND, _MAYBE, _WIDE, _LEGACY = range(8, 16)


def _kinds() -> bytes:
    """What each opcode is (RFC 9669, 3 to 5; may_goto and load-acquire as in the kernel)."""
    table = bytearray(256)
    for operation in range(0x00, 0xE0, 0x10):
        for code in (4, 7, 12, 15):
            table[operation | code] = _ALU
    for operation in (0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xA0, 0xB0, 0xC0, 0xD0):
        for code in (5, 6, 13, 14):
            table[operation | code] = _COND
    for size in (0x00, 0x08, 0x10, 0x18):
        table[0x61 | size] = table[0x81 | size] = _LOAD
        table[0x62 | size] = table[0x63 | size] = _STORE
        table[0xC3 | size] = _ATOMIC
        table[0x20 | size] = table[0x40 | size] = _LEGACY
    table[0xB7], table[0xBF], table[0xB4] = _MOV, _MOV_REG, _MOV32
    table[0x85] = table[0x8D] = _CALL
    table[0x95], table[0x05], table[0x06], table[0xE5], table[0x18] = _EXIT, _JUMP, _LONG, _MAYBE, _WIDE
    return bytes(table)


_KINDS = _kinds()
_SIZES = {0x61: 4, 0x69: 2, 0x71: 1, 0x79: 8}


def worth_folding(function: ProgramSpec, constants: Mapping[str, bytes]) -> bool:
    """Whether anything that is known only at load time can decide a branch of ``function``."""
    for relo in function.core_relos:
        if relo[3] != _FIELD_BYTE_OFFSET:
            return True
    for reloc in function.relocs:
        if reloc.kind == RELOC_KSYM or (reloc.kind == RELOC_DATA and reloc.target in constants):
            return True
    return False


def fold(
    function: ProgramSpec,
    code: bytes,
    constants: Mapping[str, bytes],
    symbols: Mapping[str, bool],
    byteorder: str,
) -> ProgramSpec | None:
    """``function`` without its dead code, or None if none is proven dead.

    ``code`` is its code with CO-RE applied, in ``byteorder``, which must be the
    machine's; references to symbols are not yet filled in. ``constants`` holds the contents of
    the data sections that nobody can write, ``symbols`` whether a .ksyms extern
    exists. All indexes of the result count its own slots. Code that is
    malformed, or has an unknown instruction where it can run, is left alone.
    """
    if byteorder != sys.byteorder or len(code) % 8 or not worth_folding(function, constants):
        return None
    try:
        flow = _Flow(function, code, constants, symbols)
        flow.run()
        return _rebuild(function, code, flow) if flow.removable() else None
    except (_GiveUp, IndexError):
        return None


class _GiveUp(Exception):
    """The code cannot be followed."""


class _Flow:
    """Which blocks can run, and which way each conditional jump can go.

    ``leaders[slot]`` is 1 where a block starts, ``states[slot]`` holds the
    registers at a reachable block's start, ``decided[slot]`` what the
    conditional jump there always does, as far as is known.
    """

    def __init__(
        self,
        function: ProgramSpec,
        code: bytes,
        constants: Mapping[str, bytes],
        symbols: Mapping[str, bool],
    ) -> None:
        self.count = len(code) // 8
        self.ops = code[::8]
        self.kinds = self.ops.translate(_KINDS)
        self.registers = code[1::8]
        self.offsets = memoryview(code).cast("h")
        self.imms = memoryview(code).cast("i")
        self.sections: list[bytes] = []
        # What 64-bit loads with a reference load.
        self.values: dict[int, int | None] = {}
        numbers: dict[str, int] = {}
        for reloc in function.relocs:
            value: int | None = None
            if reloc.kind == RELOC_DATA and reloc.target in constants:
                if reloc.target not in numbers:
                    numbers[reloc.target] = len(self.sections) + 1
                    self.sections.append(constants[reloc.target])
                value = _SECTION * numbers[reloc.target] + reloc.addend
            elif reloc.kind == RELOC_KSYM and reloc.target in symbols:
                value = _NONZERO if symbols[reloc.target] else 0
            self.values[reloc.index] = value
        self.leaders = bytearray(self.count + 1)
        self.states: dict[int, list[int | None]] = {}
        self.decided: dict[int, bool | None] = {}
        self._find_leaders()

    def target(self, at: int) -> int:
        """Where the jump in slot ``at`` goes."""
        kind = self.kinds[at]
        to = at + 1 + (self.imms[at * 2 + 1] if kind == _LONG else self.offsets[at * 4 + 1])
        if not 0 <= to < self.count:
            raise _GiveUp
        return to

    def _find_leaders(self) -> None:
        kinds, leaders = self.kinds, self.leaders
        leaders[0] = leaders[self.count] = 1
        for kind in (_JUMP, _LONG, _COND, _MAYBE):
            at = kinds.find(kind)
            while at >= 0:
                leaders[at + 1] = leaders[self.target(at)] = 1
                at = kinds.find(kind, at + 1)
        at = kinds.find(_EXIT)
        while at >= 0:
            leaders[at + 1] = 1
            at = kinds.find(_EXIT, at + 1)
        # The second half of a 64-bit load is no instruction.
        at = kinds.find(_WIDE)
        while at >= 0:
            if self.ops[at + 1] or leaders[at + 1]:
                raise _GiveUp
            at = kinds.find(_WIDE, at + 2)

    def run(self) -> None:
        """Follow everything that can run until no register's state changes any more."""
        pending = bytearray(self.count)
        self._reach(pending, 0, [None] * 16)
        at = pending.find(1)
        while at >= 0:
            pending[at] = 0
            self._block(pending, at)
            at = pending.find(1)

    def _reach(self, pending: bytearray, to: int, state: list[int | None]) -> None:
        old = self.states.get(to)
        if old is None:
            self.states[to] = state.copy()
            pending[to] = 1
        elif old != state:
            new = [a if a == b else None for a, b in zip(old, state)]
            if new != old:
                self.states[to] = new
                pending[to] = 1

    def _block(self, pending: bytearray, at: int) -> None:
        kinds, leaders, imms, offsets, registers = self.kinds, self.leaders, self.imms, self.offsets, self.registers
        low = _LITTLE
        state = self.states[at].copy()
        while True:
            kind = kinds[at]
            pair = registers[at]
            dst, src = (pair & 15, pair >> 4) if low else (pair >> 4, pair & 15)
            if kind == _MOV:
                state[dst] = imms[at * 2 + 1] & _U64
            elif kind == _LOAD:
                state[dst] = self._load(at, state[src])
            elif kind == _MOV_REG:
                # An offset makes it a sign extension or a cast between address spaces.
                state[dst] = None if offsets[at * 4 + 1] else state[src]
            elif kind == _ALU:
                op = self.ops[at]
                operand: int | None = imms[at * 2 + 1] & _U64
                if op & 8:
                    operand = state[src]
                state[dst] = _calculate(op, state[dst], operand, offsets[at * 4 + 1])
            elif kind == _COND:
                op = self.ops[at]
                taken = _decide(op, state[dst], state[src] if op & 8 else imms[at * 2 + 1] & _U64)
                self.decided[at] = taken
                if taken is not False:
                    self._reach(pending, self.target(at), state)
                if taken is True:
                    return
            elif kind == _CALL:
                state[:6] = (None, None, None, None, None, None)
            elif kind == _MOV32:
                state[dst] = imms[at * 2 + 1] & _U32
            elif kind == _WIDE:
                if at in self.values:
                    state[dst] = self.values[at]
                elif src:
                    state[dst] = None
                else:
                    state[dst] = imms[at * 2 + 1] & _U32 | (imms[at * 2 + 3] & _U32) << 32
                at += 1
            elif kind == _EXIT:
                return
            elif kind in (_JUMP, _LONG):
                self._reach(pending, self.target(at), state)
                return
            elif kind == _MAYBE:
                self._reach(pending, self.target(at), state)
            elif kind == _ATOMIC:
                # Fetches write the source, compare-and-exchange r0, a load-acquire the destination.
                state[dst] = state[src] = state[0] = None
            elif kind == _LEGACY:
                state[:6] = (None, None, None, None, None, None)
            elif kind == _UNKNOWN:
                raise _GiveUp
            at += 1
            if leaders[at]:
                if at >= self.count:
                    raise _GiveUp
                self._reach(pending, at, state)
                return

    def _load(self, at: int, pointer: int | None) -> int | None:
        size = _SIZES.get(self.ops[at])
        if pointer is None or pointer <= _U64 or size is None:
            return None
        number, offset = divmod(pointer + _REACH, _SECTION)
        offset += self.offsets[at * 4 + 1] - _REACH
        section = self.sections[number - 1]
        if not 0 <= offset <= len(section) - size:
            return None
        return int.from_bytes(section[offset : offset + size], sys.byteorder)

    def unused(self, at: int, keep: bytearray) -> bool:
        """Whether nothing that is kept reads what the 64-bit load in slot ``at`` loads."""
        kinds, registers = self.kinds, self.registers
        register = registers[at] & 15 if _LITTLE else registers[at] >> 4
        seen = bytearray(self.count)
        todo = [at + 2]
        while todo:
            at = todo.pop()
            while not seen[at]:
                seen[at] = 1
                kind = kinds[at]
                if kind == _EXIT:
                    if register == 0:
                        return False
                    break
                if kind in (_JUMP, _LONG) or self.decided.get(at):
                    at = self.target(at)
                    continue
                if kind in (_CALL, _LEGACY):
                    if 1 <= register <= 6:
                        return False
                    if not register:
                        break
                elif kind == _MAYBE:
                    todo.append(self.target(at))
                elif keep[at]:
                    pair = registers[at]
                    dst, src = (pair & 15, pair >> 4) if _LITTLE else (pair >> 4, pair & 15)
                    if kind in (_MOV, _MOV32, _WIDE):
                        src = -1
                    if src == register or (kind == _ATOMIC and not register):
                        return False
                    if dst == register:
                        if kind in (_MOV, _MOV32, _WIDE, _MOV_REG, _LOAD):
                            break
                        return False
                    if kind == _COND:
                        todo.append(self.target(at))
                at += 2 if kind == _WIDE else 1
        return True

    def removable(self) -> bool:
        """Whether a branch that can run is decided; all else that might go was dead as it was written."""
        return True in self.decided.values() or False in self.decided.values()


def _calculate(op: int, a: int | None, b: int | None, offset: int) -> int | None:
    """The result of an arithmetic instruction, None unless it is certain."""
    operation, wide = op & 0xF0, op & 7 == 7
    if operation == 0xB0:
        a = 0
    if a is None or b is None or a < 0 or b < 0:
        return None
    if a > _U64:
        if operation or not wide or b > _U64:
            return None
        moved = a + (b ^ _SIGN64) - _SIGN64
        return moved if -_REACH <= (moved + _SECTION // 2) % _SECTION - _SECTION // 2 < _REACH else None
    if b > _U64:
        return None
    if not wide:
        a &= _U32
        b &= _U32
    mask = _U64 if wide else _U32
    if operation == 0x50:
        return a & b
    if operation == 0x40:
        return a | b
    if operation == 0x00:
        return a + b & mask
    if operation == 0x10:
        return a - b & mask
    if operation == 0x20:
        return a * b & mask
    if operation == 0x60:
        return a << (b & (63 if wide else 31)) & mask
    if operation == 0x70:
        return a >> (b & (63 if wide else 31))
    if operation == 0xA0:
        return a ^ b
    if operation == 0x80:
        return -a & mask
    if operation == 0xC0:
        sign = _SIGN64 if wide else _SIGN32
        return ((a ^ sign) - sign >> (b & (63 if wide else 31))) & mask
    if offset:
        return None
    if operation == 0xB0:
        return b
    if operation == 0x30:
        return a // b if b else 0
    if operation == 0x90:
        return a % b if b else a
    return None


def _decide(op: int, a: int | None, b: int | None) -> bool | None:
    """Whether a conditional jump is taken, None unless it is certain."""
    if a is None or b is None:
        return None
    operation = op & 0xF0
    wide = op & 7 == 5
    if not 0 <= a <= _U64 or not 0 <= b <= _U64:
        # An address: all that is known is that it is not 0.
        if wide and b == 0:
            return False if operation == 0x10 else True if operation == 0x50 else None
        return None
    if not wide:
        a &= _U32
        b &= _U32
    if operation == 0x10:
        return a == b
    if operation == 0x50:
        return a != b
    if operation == 0x20:
        return a > b
    if operation == 0x30:
        return a >= b
    if operation == 0xA0:
        return a < b
    if operation == 0xB0:
        return a <= b
    if operation == 0x40:
        return a & b != 0
    # Signed order is unsigned order with the sign bit turned over.
    sign = _SIGN64 if wide else _SIGN32
    a ^= sign
    b ^= sign
    if operation == 0x60:
        return a > b
    if operation == 0x70:
        return a >= b
    if operation == 0xC0:
        return a < b
    return a <= b


def _rebuild(function: ProgramSpec, code: bytes, flow: _Flow) -> ProgramSpec:
    """``function`` with only the code that ``flow`` reached, all its indexes and jumps moved."""
    count, kinds, decided = flow.count, flow.kinds, flow.decided
    if min([r.index for r in function.relocs] + [r[0] for r in function.line_info], default=0) < 0:
        raise _GiveUp
    keep = bytearray(count)
    starts = [at for at in range(count + 1) if flow.leaders[at]]
    for start, end in zip(starts, starts[1:]):
        if start in flow.states:
            keep[start:end] = b"\1" * (end - start)
    always = []
    for at, taken in decided.items():
        if taken is False:
            keep[at] = 0
        elif taken:
            always.append(at)
    # An address that only decided branches asked for: kernels before 6.4 refuse a kfunc's, dead or
    # not, and those without CONFIG_KALLSYMS_ALL a variable's.
    for reloc in function.relocs:
        if reloc.kind == RELOC_KSYM and keep[reloc.index] and flow.unused(reloc.index, keep):
            keep[reloc.index : reloc.index + 2] = b"\0\0"
    always += [at for at in range(count) if keep[at] and kinds[at] == _JUMP]
    # A jump over nothing goes too; from the last to the first, so that one may fall with the other.
    for at in sorted(always, reverse=True):
        to = flow.target(at)
        if to > at and not keep.find(1, at + 1, to) >= 0:
            keep[at] = 0
    places = []
    place = 0
    for kept in keep:
        places.append(place)
        place += kept
    places.append(place)
    raw = bytearray().join([code[at * 8 : at * 8 + 8] for at in range(count) if keep[at]])
    for kind in (_JUMP, _LONG, _COND, _MAYBE):
        at = kinds.find(kind)
        while at >= 0:
            if keep[at]:
                new = places[at]
                distance = places[flow.target(at)] - new - 1
                if kind == _LONG:
                    pack_into("=i", raw, new * 8 + 4, distance)
                elif kind == _COND and decided.get(at):
                    pack_into("=BBhi", raw, new * 8, 0x05, 0, distance, 0)
                else:
                    pack_into("=h", raw, new * 8 + 2, distance)
            at = kinds.find(kind, at + 1)
    result = ProgramSpec(function.name, function.section, bytes(raw))
    result.relocs = [Reloc(places[r.index], r.kind, r.target, r.addend) for r in function.relocs if keep[r.index]]
    result.core_relos = [(places[r[0]], *r[1:]) for r in function.core_relos if keep[r[0]]]
    result.func_info = [(places[index], type_id) for index, type_id in function.func_info]
    # A record speaks for all instructions up to the next: it lives on if any of them does.
    lines = sorted(function.line_info)
    ends = [*[line[0] for line in lines[1:]], count]
    result.line_info = [(places[line[0]], *line[1:]) for line, end in zip(lines, ends) if places[line[0]] < places[end]]
    return result
