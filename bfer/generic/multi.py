"""Kprobes at many functions by one program and one link (kprobe.multi, 5.18), where the kernel has such."""

from __future__ import annotations

from bfer.generic.event import GenericEvent
from bfer.records import TABLE, TABLE_PIECES
from btf.errors import Error
from pybpf.errors import LinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Event
    from pybpf.links import Link
    from pybpf.object.spec import ObjectSpec
    from pybpf.program import Program


class Group(GenericEvent):
    """Several events that one program makes; ``name`` is the pattern that they come from."""

    __slots__ = ("_members",)

    def __init__(self, members: list[GenericEvent]) -> None:
        first = members[0]
        super().__init__(first.group, first.number, "kprobe", "", [])
        self._members = members

    @property
    def members(self) -> list[Event]:
        return [*self._members]

    def places(self) -> list[list[list[str]]]:
        return [[["generic_multi"]]]

    def prepare(self, spec: ObjectSpec, program: str) -> None:
        kind = self._members[0].section.partition("/")[0]
        spec.programs[program].section = f"{kind}.multi/{len(self._members)}"
        tables = bytearray()
        for event in self._members:
            pieces = event.pieces()
            tables += TABLE.pack(event.number, len(pieces), b"".join(pieces))
        spec.maps["generic_tables"].contents = tables

    def attach(self, program: Program) -> Link:
        """At all functions that the kernel lets be probed. Raises LinkError where that is none."""
        from pybpf.links.ways import LinkGroup

        links = self._attach(program, [*range(len(self._members))])
        return links[0] if len(links) == 1 else LinkGroup(links[0].name, links)

    def _attach(self, program: Program, places: list[int]) -> list[Link]:
        """By one link, or where a function among them is refused, by links at the halves."""
        from pybpf.links.kprobes import attach_kprobe_multi

        functions = [self._members[place].section.partition("/")[2] for place in places]
        returns = self._members[0].section.startswith("kretprobe")
        try:
            return [attach_kprobe_multi(program, functions, returns=returns, cookies=places, order=("kprobe.multi",))]
        except LinkError as error:
            if len(places) == 1:
                raise
            refused: Error = error
        links: list[Link] = []
        for half in (places[: len(places) // 2], places[len(places) // 2 :]):
            try:
                links += self._attach(program, half)
            except LinkError as error:
                refused = error
        if not links:
            raise refused
        return links


def group(events: list[GenericEvent], pattern: str) -> None:
    """Let those of ``events`` be made by one program that can be."""
    from pybpf.links.kprobes import has_kprobe_multi

    able = [event for event in events if len(event.pieces()) <= TABLE_PIECES]
    if len(able) > 1 and has_kprobe_multi():
        for event in able:
            event.group = pattern


def combined(events: list[Event]) -> list[Event]:
    """``events`` with a Group in the place of those that belong to one."""
    groups: dict[str, list[GenericEvent]] = {}
    rest: list[Event] = []
    for event in events:
        if isinstance(event, GenericEvent) and event.group:
            groups.setdefault(event.group, []).append(event)
        else:
            rest.append(event)
    for members in groups.values():
        rest += [Group(members)] if len(members) > 1 else members
    return rest
