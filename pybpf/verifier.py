"""From a verifier log to one line: what was wrong and where. Used only after a rejection."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Statistics at the end of every log (kernel/bpf/verifier.c, print_verification_stats).
_TRAILERS = ("processed ", "verification time ", "stack depth ", "mark_read ", "peak_states ")

# The call that takes the place of an instruction whose CO-RE relocation failed: helper 0xbad2310.
_POISON = "invalid func unknown#195896080"


class Digest:
    """``reason`` is the last meaningful line, ``index`` the instruction it is about (-1: unknown),
    ``source`` its ``file:line`` (may be empty), ``omitted`` how many lines the log has beside it,
    ``poisoned`` whether the program ran into a failed CO-RE relocation."""

    __slots__ = ("index", "omitted", "poisoned", "reason", "source")

    def __init__(self, reason: str, index: int, source: str, omitted: int, poisoned: bool) -> None:
        self.reason = reason
        self.index = index
        self.source = source
        self.omitted = omitted
        self.poisoned = poisoned


def _instruction(line: str) -> int:
    """Index of a line such as ``12: (79) r1 = ...``; -1 for any other line."""
    number, colon, rest = line.partition(":")
    return int(number) if colon and number.isdecimal() and rest.startswith(" (") else -1


def _comment(line: str) -> str:
    """``file:line`` of a source comment ``; text @ file:line`` (since 6.8), or the empty string."""
    if not line.startswith("; "):
        return ""
    where = line.rpartition(" @ ")[2]
    file, colon, number = where.rpartition(":")
    return where if colon and file and number.isdecimal() and where != line else ""


def digest(log: str, locate: Callable[[int], str] | None = None) -> Digest:
    """Read a log. ``locate`` maps an instruction's index to ``file:line`` (kernels before 6.8 don't print it)."""
    lines = [line.rstrip() for line in log.split("\n")]
    lines = [line for line in lines if line]
    total = len(lines)
    while lines and lines[-1].startswith(_TRAILERS):
        lines.pop()
    if not lines:
        return Digest("the log says nothing", -1, "", total, False)
    index, source = -1, ""
    for line in reversed(lines):
        if index < 0:
            index = _instruction(line)
        source = source or _comment(line)
        if index >= 0 and source:
            break
    if index >= 0 and locate is not None:
        source = locate(index) or source
    reason = lines[-1].strip()
    used = 1
    if len(lines) > 1 and _needs_context(lines[-1]):
        reason = f"{lines[-2].strip()}: {reason}"
        used = 2
    return Digest(reason, index, source, total - used, _POISON in reason)


def _needs_context(line: str) -> bool:
    """True for a line that means little without the one before: an indented one, a register's or context's fault."""
    register = line[:1] == "R" and line[1:2].isdecimal()
    return line.startswith(("\t", "invalid bpf_context access")) or register


def message(name: str, log: str, locate: Callable[[int], str] | None, field: Callable[[int], str] | None) -> str:
    """The one line for a rejected program. ``field`` names the CO-RE relocation of an instruction."""
    found = digest(log, locate)
    reason = found.reason
    if found.poisoned:
        missing = field(found.index) if field is not None else ""
        core = "" if missing.startswith("kfunc ") else " (CO-RE)"
        reason = f"it needs {missing or 'a field or type'}, which this kernel does not have{core}"
    notes = [found.source] if found.source else []
    if found.omitted:
        notes.append(f"{found.omitted} line{'s' if found.omitted > 1 else ''} omitted")
    note = f" ({'; '.join(notes)})" if notes else ""
    return f"verifier rejected program {name!r}: {reason}{note}"
