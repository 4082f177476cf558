"""``bfer list``: events with their arguments, and sets."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Arg, Catalogue


def listing(catalogue: Catalogue) -> str:
    lines = [f"{'EVENT':<24} {'SETS':<40} ARGUMENTS"]
    for event in catalogue.events.values():
        args = ", ".join(f"{arg.type} {arg.name}{_only(arg)}" for arg in event.args)
        lines.append(f"{event.name:<24} {' '.join(event.sets):<40} {args}".rstrip())
    if catalogue.absent:
        lines += ["", f"Not on {catalogue.machine}: {', '.join(catalogue.absent)}"]
    return "\n".join(lines) + "\n"


def _only(arg: Arg) -> str:
    return f" (option:{arg.option})" if arg.option else ""
