"""Frames and what is known about variables at a point of the program.

A frame is one compiled function body, also an inlined one. What is known is a
dictionary: a variable is in it when it certainly has a value, with True if it
is a pointer that may be None; a reservation with True while it is held, None
if that depends on the path.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from pybpf.lang.ir import Block, Slot
from pybpf.lang.operand import Reservation, Value, Var
from pybpf.lang.source import Routine
from pybpf.lang.types import Type

Flow = dict["Var | Reservation", "bool | None"]


class Loop:
    """Where ``continue`` and ``break`` lead, and how many ``with`` blocks are open around the loop."""

    __slots__ = ("again", "depth", "out")

    def __init__(self, again: Block, out: Block, depth: int) -> None:
        self.again = again
        self.out = out
        self.depth = depth


class Arm:
    """One way to reach a join: its value, and the block and knowledge it ends with."""

    __slots__ = ("block", "flow", "node", "value")

    def __init__(self, block: Block, flow: Flow, value: Value, node: ast.AST) -> None:
        self.block = block
        self.flow = flow
        self.value = value
        self.node = node


class Frame:
    """One body being lowered. ``call`` is the node that called it, in ``parent``.

    An inlined body returns either to ``targets`` (then, else), when only the
    truth of its result matters, or by adding to ``arms``. A body without parent
    returns for real, one that is ``called_back`` by way of ``targets``. ``result``
    is the annotated type of the result, if any, and ``nothing`` says that it is
    annotated None.
    """

    __slots__ = (
        *("arms", "call", "called_back", "loops", "nothing", "parent", "result", "routine"),
        *("slots", "targets", "vars", "withs"),
    )

    def __init__(self, routine: Routine, parent: Frame | None = None, call: ast.AST | None = None) -> None:
        self.routine = routine
        self.parent = parent
        self.call = call
        self.vars: dict[str, Var] = {}
        self.loops: list[Loop] = []
        self.withs: list[Reservation] = []
        self.slots: list[tuple[Slot, Var]] = []
        self.arms: list[Arm] = []
        self.targets: tuple[Block, Block] | None = None
        self.result: Type | None = None
        self.nothing = False
        self.called_back = False


def merge(flows: Iterable[Flow]) -> Flow:
    """What is known where several paths meet."""
    first, *others = flows
    out = dict(first)
    for flow in others:
        if flow == first:
            continue
        for key in list(out):
            if isinstance(key, Reservation):
                if flow.get(key, False) != out[key]:
                    out[key] = None
            elif key not in flow:
                del out[key]
            else:
                out[key] = out[key] or flow[key]
        for key in flow:
            if isinstance(key, Reservation) and key not in first:
                out[key] = flow[key] if not flow[key] else None
    return out
