"""Events and arguments as the rest of bfer knows them, for what the user named."""

from __future__ import annotations

from bfer.catalogue import Arg, Event
from bfer.errors import UsageError
from bfer.records import ARGS, HOOKS, PIECES
from programs import GENERIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bfer.names import Names
    from pybpf.links import Link
    from pybpf.object.spec import ObjectSpec
    from pybpf.program import Program

FIRST_NUMBER = HOOKS + 256
FIRST_ID = 6000

VIEW = "view"
"""The kind of an argument whose fields ``decode`` makes a value of."""


class GenericArg(Arg):
    """An argument of which types say what it is. ``pieces`` is what the program reads for it."""

    __slots__ = ("decode", "pieces")

    def __init__(self, name: str, type: str, slot: int) -> None:
        super().__init__(f"unsigned long {name}", slot)
        self.type = type
        self.pieces: list[bytes] = []
        # Form and bytes of the argument's fields, and the names of numbers, to a value of bfer.memory.
        self.decode: Callable[[list[tuple[int, bytes]], Names], object] | None = None

    @property
    def is_number(self) -> bool:
        """Is it all in the record's head?"""
        return not self.memory and self.kind != VIEW and self.slot < ARGS


class GenericEvent(Event):
    """An event that is no part of the catalogue; ``hooks`` is the kind of the program that makes it.

    ``section`` names the hook as libbpf would, ``options`` say what it cannot. ``result`` are the pieces of the return
    value, whose type ``returns`` tells. ``twins`` are further places of the same event; of those that came from the
    pattern ``group`` one program may make all.
    """

    __slots__ = ("group", "options", "result", "section", "twins")

    def __init__(self, name: str, number: int, base: str, section: str, args: Sequence[GenericArg]) -> None:
        super().__init__(name, FIRST_ID + number, FIRST_NUMBER + number, (), "", base, GENERIC)
        self.args = tuple(args)
        self.options: dict[str, object] = {}
        self.section = section
        self.result: list[bytes] = []
        self.twins: list[GenericEvent] = []
        self.group = ""
        self.program = "plain" if all(arg.is_number for arg in args) else "generic"

    def places(self) -> list[list[list[str]]]:
        if self.hooks == "tp":
            return [[["generic"]]]
        ways = [[f"generic__{self.hooks}"]]
        if self.hooks in ("fentry", "lsm", "tp_btf"):
            # The first of them has the plain name.
            ways.append(["generic_old" if self.hooks == "tp_btf" else f"generic_old__{self.hooks}"])
        return [ways]

    def both(self) -> list[Event]:
        return [self, *self.twins]

    def pieces(self) -> list[bytes]:
        """Numbers first: they may be the sizes of others."""
        found = [*self.result]
        for arg in sorted(self.args, key=lambda arg: arg.memory != 0):
            assert isinstance(arg, GenericArg)
            found += arg.pieces
        return found

    def prepare(self, spec: ObjectSpec, program: str) -> None:
        """Make the program of ``spec`` that of this event."""
        found = self.pieces()
        if len(found) > PIECES:
            raise UsageError(f"event {self.name!r} has too many arguments")
        spec.programs[program].section = self.section
        spec.set("generic_event", self.number)
        spec.set("generic_count", len(found))
        spec.set("generic_pieces", b"".join(found))

    def attach(self, program: Program) -> Link:
        from bfer.returning import attach_all

        return attach_all(program, **self.options)
