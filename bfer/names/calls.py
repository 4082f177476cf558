"""Numbers of system calls by name, of one machine; those of 32-bit callers have COMPAT added, and compat_ before."""

from __future__ import annotations

from bfer.names import CHOICE, Kind


def kind(machine: str) -> Kind:
    from bfer.catalogue import Catalogue
    from bfer.records import CALLS

    table = []
    for named in Catalogue(machine).events.values():
        for event in named.both():
            if event.number < CALLS:
                table.append((f"compat_{event.name}" if event.is_compat else event.name, event.number))
    names = {number: name for name, number in reversed(table)}
    return Kind(CHOICE, table, lambda value: names.get(value & 0xFFFFFFFF, str(value)))
