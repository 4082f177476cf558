"""Register allocation: graph colouring with iterated coalescing (George and Appel).

Ten registers, r0 to r9. Calls write r0 to r5, so what lives across a call gets
r6 to r9 by interference alone. What finds no register is ``spill``'s to deal with.
"""

from __future__ import annotations

from heapq import heappop, heappush

from pybpf.asm.opcodes import BPF_REG_FP
from pybpf.lang.mir import (
    ALLOCATABLE,
    CALLS,
    EXCHANGES,
    FIRST_VIRTUAL,
    MOVE,
    READS_DST,
    READS_SRC,
    WRITES_DST,
    WRITES_SRC,
    MBlock,
    MFunction,
    MIns,
    MLiveness,
)
from pybpf.lang.spill import constants, join, share_slots, spill

COLOURS = 10
_NEVER = 1e30  # cost of spilling what spilling made


def allocate(func: MFunction) -> None:
    """Replace virtual registers by machine registers, in place; func.frame grows by the spill slots."""
    temporary: set[int] = set()
    while True:
        colouring = _Colouring(func, temporary)
        if not colouring.spilled:
            break
        join(func, colouring.spilled)
        spill(func, list(colouring.spilled), temporary)
    share_slots(func)
    registers = colouring.registers
    for block in func.blocks:
        kept = []
        for ins in block.ins:
            if ins.dst >= FIRST_VIRTUAL:
                ins.dst = registers[ins.dst]
            if ins.src >= FIRST_VIRTUAL:
                ins.src = registers[ins.src]
            if ins.op != MOVE or ins.dst != ins.src:
                kept.append(ins)
        block.ins = kept
        test = block.test
        if test is not None:
            if test.dst >= FIRST_VIRTUAL:
                test.dst = registers[test.dst]
            if test.src >= FIRST_VIRTUAL:
                test.src = registers[test.src]


def _bits(mask: int) -> list[int]:
    """The numbers of the set bits, ascending."""
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def _weight(block: MBlock) -> float:
    """How often a block runs, at a guess."""
    return 10.0 ** min(block.depth, 6)


class _Colouring:
    """One attempt: ``registers`` maps virtual registers to machine registers unless ``spilled`` is not empty."""

    def __init__(self, func: MFunction, temporary: set[int]) -> None:
        self.func = func
        self.never = set(temporary)  # not to be spilled
        count = func.count
        self.adjacent = [0] * count  # bit sets; never shrink
        self.degree = [0] * count
        self.alias: dict[int, int] = {}
        self.moves: list[tuple[int, int]] = []
        self.moves_of: dict[int, set[int]] = {}
        self.weights: dict[int, float] = {}  # of moves
        self.costs: list[float] | None = None  # of spilling, when that is thought of
        self.present = 0
        self.stack: list[int] = []
        self.on_stack = 0
        self.coalesced = 0
        self.active: set[int] = set()  # moves not ready for coalescing now
        self.spilled: dict[int, list[int]] = {}  # register -> those coalesced with it
        self.constants: dict[int, MIns] | None = None
        self.registers: dict[int, int] = {}
        self._build()
        self._reduce()
        self._select()

    # --- the interference graph ---

    def _build(self) -> None:
        adjacent = self.adjacent
        numbers: dict[tuple[int, int], int] = {}
        liveness = MLiveness(self.func.blocks)
        present = 0
        for block in self.func.blocks:
            live = liveness.at_end[block]
            present |= live
            weight = _weight(block)
            for ins, (reads, writes) in zip(reversed(block.ins), liveness.effects[block]):
                present |= writes
                others = live | writes
                if ins.op == MOVE and ins.src != BPF_REG_FP:
                    others &= ~(1 << ins.src)
                    pair = (ins.dst, ins.src) if ins.dst < ins.src else (ins.src, ins.dst)
                    if pair[0] != pair[1]:
                        number = numbers.setdefault(pair, len(numbers))
                        if number == len(self.moves):
                            self.moves.append(pair)
                            self.weights[number] = 0.0
                        self.weights[number] += weight
                if ins.flags & (CALLS | WRITES_SRC | EXCHANGES):
                    for register in _bits(writes):
                        adjacent[register] |= others & ~(1 << register)
                elif writes:
                    adjacent[ins.dst] |= others & ~writes
                live = live & ~writes | reads
        self.present = present
        # Each the other's neighbour: what was found so far, from the point of view of what was written.
        for register, others in enumerate(list(adjacent)):
            bit = 1 << register
            while others:
                low = others & -others
                adjacent[low.bit_length() - 1] |= bit
                others ^= low
        for register in range(COLOURS):
            adjacent[register] |= ALLOCATABLE & ~(1 << register)
        for number, (a, b) in enumerate(self.moves):
            self.moves_of.setdefault(a, set()).add(number)
            self.moves_of.setdefault(b, set()).add(number)
        for register in range(FIRST_VIRTUAL, len(adjacent)):
            self.degree[register] = bin(adjacent[register]).count("1")

    def _costs(self) -> list[float]:
        """What spilling would cost: how often each register, with those coalesced with it, is read or written."""
        costs = [0.0] * self.func.count
        for block in self.func.blocks:
            weight = _weight(block)
            for ins in block.ins if block.test is None else [*block.ins, block.test]:
                flags = ins.flags
                if flags & (READS_DST | WRITES_DST):
                    costs[ins.dst] += weight * 2 if flags & READS_DST and flags & WRITES_DST else weight
                if flags & (READS_SRC | WRITES_SRC):
                    costs[ins.src] += weight
        for register in self.alias:
            costs[self._find(register)] += costs[register]
        return costs

    def _find(self, register: int) -> int:
        while register in self.alias:
            register = self.alias[register]
        return register

    def _neighbours(self, register: int) -> int:
        return self.adjacent[register] & ~(self.on_stack | self.coalesced)

    def _move_related(self, register: int) -> bool:
        moves = self.moves_of.get(register)
        return moves is not None and not (moves.isdisjoint(self.active) and moves.isdisjoint(self.ready))

    # --- simplify, coalesce, freeze, choose what to spill ---

    def _reduce(self) -> None:
        # Moves between variables first: a variable tied to an argument register early keeps others from joining.
        self.ready: dict[int, None] = {}
        order = sorted(
            range(len(self.moves)),
            key=lambda number: (self.moves[number][0] < COLOURS, -self.weights[number], number),
        )
        self.rank = {number: i for i, number in enumerate(order)}
        self.heap = list(range(len(order)))  # ranks of ready moves, and of some that are not any more
        self.by_rank = order
        for number in order:
            self.ready[number] = None
        self.low: dict[int, None] = {}
        self.frozen: dict[int, None] = {}
        self.high: dict[int, None] = {}
        for register in _bits(self.present >> FIRST_VIRTUAL << FIRST_VIRTUAL):
            if self.degree[register] >= COLOURS:
                self.high[register] = None
            elif register in self.moves_of:
                self.frozen[register] = None
            else:
                self.low[register] = None
        while True:
            if self.low:
                self._simplify(next(iter(self.low)))
            elif self.ready:
                move = self.by_rank[heappop(self.heap)]
                if move in self.ready:
                    self._coalesce(move)
            elif self.frozen:
                self._freeze(min(self.frozen, key=self._freeze_cost))
            elif self.high:
                register = min(self.high, key=self._spill_key)
                del self.high[register]
                self.low[register] = None
                self._freeze_moves(register)
            else:
                return

    def _spill_key(self, register: int) -> tuple[float, int]:
        if register in self.never:
            return _NEVER, register
        if self.costs is None:
            self.costs = self._costs()
        cost = self.costs[register]
        if register in self.func.bounded:
            cost *= 64  # each reload has to show its bounds again
        elif register in self.func.pointer:
            cost *= 2
        if self.constants is None:
            self.constants = constants(self.func)
        if register in self.constants:
            cost /= 4
        return cost / self.degree[register], register

    def _freeze_cost(self, register: int) -> tuple[float, int]:
        return sum(self.weights[move] for move in self.moves_of.get(register, ())), register

    def _simplify(self, register: int) -> None:
        del self.low[register]
        self.stack.append(register)
        self.on_stack |= 1 << register
        degree = self.degree
        for other in _bits(self._neighbours(register) >> FIRST_VIRTUAL << FIRST_VIRTUAL):
            degree[other] -= 1
            if degree[other] == COLOURS - 1:
                self._leave_high(other)

    def _leave_high(self, register: int) -> None:
        if register not in self.high:
            return
        self._enable(register)
        for other in _bits(self._neighbours(register) >> FIRST_VIRTUAL << FIRST_VIRTUAL):
            self._enable(other)
        del self.high[register]
        if self._move_related(register):
            self.frozen[register] = None
        else:
            self.low[register] = None

    def _enable(self, register: int) -> None:
        for move in self.moves_of.get(register, ()):
            if move in self.active:
                self.active.discard(move)
                self.ready[move] = None
                heappush(self.heap, self.rank[move])

    def _coalesce(self, move: int) -> None:
        del self.ready[move]
        a, b = self._find(self.moves[move][0]), self._find(self.moves[move][1])
        keep, drop = (b, a) if b < COLOURS else (a, b)
        if keep == drop:
            self._maybe_low(keep)
        elif drop < COLOURS or self.adjacent[keep] >> drop & 1:
            self._maybe_low(keep)
            self._maybe_low(drop)
        elif self._safe(keep, drop):
            self._combine(keep, drop)
            self._maybe_low(keep)
        else:
            self.active.add(move)

    def _maybe_low(self, register: int) -> None:
        if register >= FIRST_VIRTUAL and register in self.frozen and not self._move_related(register):
            del self.frozen[register]
            self.low[register] = None

    def _safe(self, keep: int, drop: int) -> bool:
        """Whether joining the two cannot turn a colourable graph into one that is not."""
        mine = self._neighbours(drop)
        others = self._neighbours(keep)
        # George: every neighbour of one is harmless or a neighbour of the other already.
        if self._george(mine & ~self.adjacent[keep]):
            return True
        if keep < COLOURS:
            return False
        if self._george(others & ~self.adjacent[drop]):
            return True
        # Briggs: the joined node has fewer than COLOURS neighbours of significant degree.
        both = mine & others
        significant = bin((mine | others) & ALLOCATABLE).count("1")
        for register in _bits((mine | others) >> FIRST_VIRTUAL << FIRST_VIRTUAL):
            degree = self.degree[register] - (both >> register & 1)
            if degree >= COLOURS:
                significant += 1
                if significant >= COLOURS:
                    return False
        return significant < COLOURS

    def _george(self, extra: int) -> bool:
        if extra & ALLOCATABLE:
            return False
        return all(self.degree[register] < COLOURS for register in _bits(extra))

    def _combine(self, keep: int, drop: int) -> None:
        self.frozen.pop(drop, None)
        self.high.pop(drop, None)
        self.low.pop(drop, None)
        neighbours = self._neighbours(drop)
        self.coalesced |= 1 << drop
        self.alias[drop] = keep
        self.moves_of.setdefault(keep, set()).update(self.moves_of.get(drop, ()))
        self._enable(drop)
        if self.costs is not None:
            self.costs[keep] += self.costs[drop]
        if drop not in self.never:
            self.never.discard(keep)
        # Neighbours of both lose one; of the others, those of drop become those of keep.
        adjacent, degree = self.adjacent, self.degree
        both = neighbours & adjacent[keep]
        fresh = neighbours ^ both
        adjacent[keep] |= fresh
        if keep >= FIRST_VIRTUAL:
            degree[keep] += bin(fresh).count("1")
        keep_bit = 1 << keep
        for other in _bits(fresh):
            adjacent[other] |= keep_bit
        for other in _bits(both >> FIRST_VIRTUAL << FIRST_VIRTUAL):
            degree[other] -= 1
            if degree[other] == COLOURS - 1:
                self._leave_high(other)
        if keep >= FIRST_VIRTUAL and self.degree[keep] >= COLOURS and keep in self.frozen:
            del self.frozen[keep]
            self.high[keep] = None

    def _freeze(self, register: int) -> None:
        del self.frozen[register]
        self.low[register] = None
        self._freeze_moves(register)

    def _freeze_moves(self, register: int) -> None:
        for move in sorted(self.moves_of.get(register, ())):
            if move not in self.active and move not in self.ready:
                continue
            self.active.discard(move)
            self.ready.pop(move, None)
            a, b = self._find(self.moves[move][0]), self._find(self.moves[move][1])
            other = b if a == self._find(register) else a
            if other >= FIRST_VIRTUAL and self.degree[other] < COLOURS:
                self._maybe_low(other)

    # --- colours ---

    def _select(self) -> None:
        colours: dict[int, int] = {number: number for number in range(COLOURS)}
        joined: dict[int, int] = {}  # those coalesced with a register, as a bit set
        for register in self.alias:
            into = self._find(register)
            joined[into] = joined.get(into, 0) | 1 << register
        holders = [1 << colour | joined.get(colour, 0) for colour in range(COLOURS)]  # of each colour
        failed: list[int] = []
        for register in reversed(self.stack):
            others = self.adjacent[register]
            free = 0
            for colour, registers in enumerate(holders):
                if not others & registers:
                    free |= 1 << colour
            if not free:
                failed.append(register)
                continue
            colour = colours[register] = self._choose(register, free, colours)
            holders[colour] |= 1 << register | joined.get(register, 0)
        if failed:
            members: dict[int, list[int]] = {}
            for register in self.alias:
                members.setdefault(self._find(register), []).append(register)
            self.spilled = {register: members.get(register, []) for register in failed}
            return
        self.registers = {
            register: colours[self._find(register)]
            for register in _bits(self.present >> FIRST_VIRTUAL << FIRST_VIRTUAL)
        }

    def _choose(self, register: int, free: int, colours: dict[int, int]) -> int:
        """A free colour, preferably one that makes a remaining move disappear."""
        best, best_weight = -1, 0.0
        wishes: dict[int, float] = {}
        for move in self.moves_of.get(register, ()):
            a, b = self._find(self.moves[move][0]), self._find(self.moves[move][1])
            colour = colours.get(b if a == register else a)
            if colour is not None and free >> colour & 1:
                wishes[colour] = wishes.get(colour, 0.0) + self.weights[move]
        for colour in sorted(wishes):
            if wishes[colour] > best_weight:
                best, best_weight = colour, wishes[colour]
        return best if best >= 0 else (free & -free).bit_length() - 1
