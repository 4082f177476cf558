"""How many significant bits values have: what is true of them, and what an old verifier finds out by itself.

The two differ. A mask that is redundant by the compiler's reasoning may be what
proves an access safe to a verifier that reasons less, so whoever drops one must
ask which of the two holds for the value at hand (``Widths.of``).
"""

from __future__ import annotations

from pybpf.lang import ir
from pybpf.lang.cfg import has_loops
from pybpf.lang.fold import MASK64
from pybpf.lang.ir import Function, Imm, Ins

_NARROW = ir.BINARY | {ir.BSWAP, ir.MOV, ir.ZEXT, ir.SEXT}
# Of these by a register of unknown value Linux 5.10 keeps no bounds (adjust_scalar_min_max_vals in
# kernel/bpf/verifier.c); newer ones follow OR and XOR, then MUL, but not shifts. Of the others it never does.
_FORGOTTEN = frozenset((ir.MUL, ir.OR, ir.XOR, ir.LSH, ir.RSH, ir.ARSH))
_UNFOLLOWED = frozenset((ir.BSWAP, ir.DIV, ir.MOD))
_UNSURE = _FORGOTTEN | _UNFOLLOWED


class Widths:
    """Upper bounds for the significant bits of each register's values.

    They are worked out when the first is asked for that is computed from others (most are not: what was loaded,
    what a call gave), so ``func`` must stay as it is for as long as questions come. ``only`` is what
    only_definitions() gives of it.
    """

    def __init__(self, func: Function, only: dict[int, Ins]) -> None:
        self._func = func
        self._only = only
        self._true: list[int] | None = None

    def of(self, vreg: int) -> int:
        """What may be relied on: of values that accesses depend on only what the verifier of Linux 5.10 sees too."""
        maker = self._only.get(vreg)
        if maker is not None and maker.op not in _NARROW:
            return _made_width(maker)
        if self._true is None:
            self._true = self._work_out()
        return self._proved[vreg] if vreg in self._sensitive else self._true[vreg]

    def _work_out(self) -> list[int]:
        func = self._func
        loops = has_loops(func)
        true = self._proved = _solve(func, loops, False)
        forgotten = forgotten_results(func)
        self._sensitive = bounded(func) if forgotten else set()
        # What a sensitive value is made of is sensitive itself, so else the two agree on all that matter.
        if not self._sensitive.isdisjoint(forgotten):
            self._proved = _solve(func, loops, True)
        return true


def true_widths(func: Function) -> list[int]:
    """The same for every register, whatever a verifier sees."""
    return _solve(func, has_loops(func), False)


def bounded(func: Function) -> set[int]:
    """The registers whose bounds prove accesses safe: in addresses and calls, and what those are made of."""
    found: set[int] = set()
    feeds: dict[int, list[int]] = {}
    for block in func.blocks:
        for ins in block.ins:
            if ins.op in ir.CALLS:
                found.update(ins.reads)
            elif ins.dst is not None and ins.op != ir.LOAD and ins.reads:
                if func.vregs[ins.dst] == ir.POINTER:
                    found.update(ins.reads)
                feeds.setdefault(ins.dst, []).extend(ins.reads)
    work = list(found)
    while work:
        for vreg in feeds.get(work.pop(), ()):
            if vreg not in found:
                found.add(vreg)
                work.append(vreg)
    return found


def forgotten_results(func: Function) -> list[int | None]:
    """The registers with results that are forgotten."""
    return [ins.dst for block in func.blocks for ins in block.ins if ins.op in _UNSURE and is_forgotten(ins)]


def is_forgotten(ins: Ins) -> bool:
    """Whether there are verifiers that know nothing of the result's bounds."""
    return (ins.op in _FORGOTTEN and type(ins.b) is int) or ins.op in _UNFOLLOWED


def _solve(func: Function, loops: bool, forgetting: bool) -> list[int]:
    widths = [0] * len(func.vregs)
    # In reverse post-order what is written before it is read is also seen before.
    for turn in range(8):
        changed = False
        for block in func.blocks:
            for ins in block.ins:
                dst = ins.dst
                if dst is None or widths[dst] == 64:
                    continue
                if ins.op not in _NARROW:
                    width = _made_width(ins)
                elif forgetting and is_forgotten(ins):
                    width = ins.size * 8 if ins.op != ir.BSWAP else 64
                else:
                    width = _width(ins, widths)
                if width > widths[dst]:
                    # What still grows after some turns grows around a loop.
                    widths[dst] = width if turn < 4 else 64
                    changed = True
        if not changed or not loops:
            break
    else:
        return [64] * len(func.vregs)
    return widths


def _made_width(ins: Ins) -> int:
    """The width of what does not depend on a register's width."""
    if ins.op == ir.CONST:
        return (ins.imm & MASK64).bit_length()
    return ins.size * 8 if ins.op == ir.LOAD and not ins.imm else 64


def _width(ins: Ins, widths: list[int]) -> int:
    op = ins.op
    if op == ir.BSWAP:
        return ins.size * 8
    a = widths[ins.a] if type(ins.a) is int else 64
    if op == ir.MOV:
        return a
    if op == ir.ZEXT:
        return min(a, ins.size * 8)
    if op == ir.SEXT:
        return a if a < ins.size * 8 else 64
    limit = ins.size * 8
    if isinstance(ins.b, Imm):
        value = ins.b.value & (1 << limit) - 1
        b = value.bit_length()
        if op == ir.RSH:
            return min(limit, max(0, min(a, limit) - (value & limit - 1)))
        if op == ir.LSH:
            return min(limit, a + (value & limit - 1))
        if op == ir.MOD and value:
            return min(a, limit, (value - 1).bit_length())
        if op == ir.DIV and value:
            return (((1 << min(a, limit)) - 1) // value).bit_length()
    else:
        b = widths[ins.b] if type(ins.b) is int else 64
    if op == ir.AND:
        return min(a, b, limit)
    if op in (ir.OR, ir.XOR):
        return min(max(a, b), limit)
    if op == ir.ADD:
        return min(max(a, b) + 1, limit)
    if op == ir.MUL and a <= 32 and b <= 32:
        return min(a + b, limit)
    if op in (ir.RSH, ir.DIV, ir.MOD):  # x / 0 is 0, and x % 0 is x
        return min(a, limit)
    if op == ir.ARSH:
        return min(a, limit) if a < limit else limit
    return limit
