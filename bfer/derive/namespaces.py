"""init_namespaces: the namespaces that the system's first process lives in."""

from __future__ import annotations

import os

from bfer.derive import fields
from bfer.derive.source import Source
from btf.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from bfer.catalogue import Event
    from bfer.derive.kernel import Kernel
    from bfer.pushdown import Plan

_FOLDER = "/proc/1/ns"


class Namespaces(Source):
    @classmethod
    def refused(cls, symbols: Container[str]) -> str:
        try:
            os.stat(f"{_FOLDER}/mnt")
        except OSError as error:
            return f"{_FOLDER}/mnt: {error.strerror}"
        return ""

    def __init__(self, events: list[Event], kernel: Kernel, plan: Plan) -> None:
        super().__init__(events, kernel, plan)
        self._told = False
        why = self.refused(())
        if why:
            raise Error(why)

    def look(self) -> list[tuple[Event, bytes]]:
        if self._told:
            return []
        self._told = True
        return [
            (event, b"".join([fields.number(arg.slot, _inode(arg.name)) for arg in event.args]))
            for event in self.events.values()
        ]


def _inode(name: str) -> int:
    """The number of a namespace, 0 if this kernel has none of the kind."""
    try:
        return os.stat(f"{_FOLDER}/{name}").st_ino
    except OSError:
        return 0


SOURCE = Namespaces
