"""``bfer list``: events with their arguments, and sets."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Catalogue


def listing(catalogue: Catalogue) -> str:
    lines = [f"{'EVENT':<10} {'SETS':<36} ARGUMENTS"]
    for event in catalogue.events.values():
        args = ", ".join(f"{arg.name} {arg.type}" for arg in event.args)
        lines.append(f"{event.name:<10} {' '.join(event.sets):<36} {args}")
    if catalogue.absent:
        lines += ["", f"Not on {catalogue.machine}: {', '.join(catalogue.absent)}"]
    return "\n".join(lines) + "\n"
