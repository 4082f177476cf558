"""``bfer trace --explain``: which hook each program tried, and what came of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.tracer import Tracer

_HEAD = ("PROGRAM", "HOOK", "RESULT")


def table(tracer: Tracer, missing: dict[str, str] | None = None) -> list[str]:
    """Lines of a table: what was refused, what was attached and how, and which events come by tail calls.

    ``missing``: why events that user space makes cannot be had.
    """
    rows = [_HEAD, *tracer.refused]
    for link in tracer.links:
        for attempt in link.attempts:
            rows.append((_program(link.name), _hook(link.name), _result(attempt)))
    for hook in tracer.hooks.hooks if tracer.hooks is not None else ():
        rows += [(hook.event.name, attempt.program, attempt.outcome) for attempt in hook.tried]
        if hook.links:
            del rows[-1]
            rows += [(hook.event.name, _hook(link.name), _result(link.attempts[-1])) for link in hook.links]
    rows += [(name, "made by bfer", why) for name, why in (missing or {}).items()]
    events = sorted({tracer.plan.names[number] for number in tracer.plan.calls})
    if events:
        rows.append((f"{len(events)} event{'s' if len(events) != 1 else ''}", "tail call", ", ".join(events)))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}" for row in rows]


def _program(name: str) -> str:
    """``sys_exit`` of ``program 'sys_exit' (tp_btf/sys_exit)``."""
    return name.split("'")[1] if name.count("'") > 1 else name


def _hook(name: str) -> str:
    return name.partition("(")[2].rstrip(")")


def _result(attempt: object) -> str:
    mechanism, _, outcome = str(attempt).partition(": ")
    return f"attached by {mechanism}" if outcome == "taken" else f"{mechanism}: {outcome}"
