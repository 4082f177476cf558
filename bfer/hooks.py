"""Programs of events that are no system calls: each for itself, by the first kind of hook that can be had.

One that cannot be had costs its own event; the rest runs.
"""

from __future__ import annotations

from btf.errors import Error
from pybpf.links import attach
from pybpf.loader import Collection
from pybpf.object.reader import read_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from bfer.catalogue import Event
    from btf.reader import Btf
    from pybpf.links import Link
    from pybpf.maps import Map
    from pybpf.object.spec import ObjectSpec
    from pybpf.program import Program


class Hook:
    """One event's program. ``tried`` tells of each kind of hook what became of it, in words."""

    __slots__ = ("_left", "event", "link", "program", "tried")

    def __init__(self, event: Event) -> None:
        self.event = event
        self._left = event.variants()
        self.program: Program | None = None
        self.link: Link | None = None
        self.tried: list[str] = []


class Hooks:
    """All of a run. ``maps`` holds the maps by name; those that a program brings are added to it."""

    def __init__(self, events: list[Event], maps: dict[str, Map], configure: Callable[[ObjectSpec], None]) -> None:
        self.hooks = [Hook(event) for event in events]
        self._maps = maps
        self._configure = configure
        self._collections: list[Collection] = []

    def load(self, data: bytes, btf: Btf | None) -> None:
        """Load what the kernel takes of each event."""
        for hook in self.hooks:
            self._load_next(hook, data, btf)

    def _load_next(self, hook: Hook, data: bytes, btf: Btf | None) -> None:
        hook.program = None
        while hook._left and hook.program is None:
            name = hook._left.pop(0)
            try:
                spec = read_object(data, [name])
                self._configure(spec)
                collection = Collection(spec, [name], btf=btf, maps=self._shared(spec))
            except Error as error:
                hook.tried.append(f"{name}: {error}")
                continue
            self._collections.append(collection)
            for map_name, map in collection.maps.items():
                self._maps.setdefault(map_name, map)
            hook.program = collection.programs[name]

    def _shared(self, spec: ObjectSpec) -> dict[str, Map]:
        return {name: map for name, map in self._maps.items() if name in spec.maps and not name.startswith(".")}

    def attach(self, load: Callable[[], bytes], btf: Btf | None) -> None:
        for hook in self.hooks:
            while hook.program is not None:
                try:
                    hook.link = attach(hook.program)
                    hook.tried.append(f"{hook.program.name}: attached")
                    break
                except Error as error:
                    hook.tried.append(f"{hook.program.name}: {error}")
                    self._load_next(hook, load(), btf)

    def missing(self) -> list[Hook]:
        """The events that nothing could be attached for."""
        return [hook for hook in self.hooks if hook.link is None]

    def detach(self) -> None:
        for hook in self.hooks:
            if hook.link is not None:
                hook.link.close()

    def close(self) -> None:
        self.detach()
        for collection in self._collections:
            collection.close()
        self._collections = []
