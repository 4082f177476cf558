"""``bfer explain EVENT``: its arguments and their values by name, where it hooks on this system, example filters."""

from __future__ import annotations

from bfer.descriptions import RETURNING, description
from bfer.errors import UsageError
from bfer.listing import catalogue, wrapped
from bfer.names import Names
from bfer.records import ARGS, HOOKS, KIND_STRING
from bfer.writer import STDOUT, write_all
from btf.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Arg, Catalogue, Event
    from bfer.names import Kind

_BUFFER = 64 << 10
_INDENT = "    "
_WORDS_MAX = 64


def main(words: list[str]) -> int:
    """Raises UsageError."""
    if not words:
        raise UsageError("explain needs an event: bfer explain EVENT")
    if len(words) > 1:
        raise UsageError(f"explain takes one event, not also {words[1]!r}: bfer explain EVENT")
    known = catalogue()
    if ":" in words[0]:
        from bfer.generic import describe

        lines = describe.explained(words[0], known.machine)
    else:
        lines = explained(words[0], known)
    write_all(STDOUT, ("\n".join(lines) + "\n").encode(), "standard output")
    return 0


def explained(name: str, known: Catalogue) -> list[str]:
    """All lines on one event. Raises UsageError."""
    from bfer.expr import find_event, parse

    # Functions and tracepoints by their name are in no catalogue.
    event = find_event(name, known) if ":" not in name else parse([f"event={name}"], known).events[0]
    names = Names(known.machine)
    sets = wrapped("sets:", list(event.sets)) if event.sets else []
    lines = [_title(event), *sets, "arguments:" if event.args else "no arguments"]
    for arg in event.args:
        lines += argument_lines(arg, names, bool(event.derive))
    return [*lines, _result(event), "here:", *[_INDENT + line for line in hooks(event)], *examples(event, names)]


def _title(event: Event) -> str:
    about = description(event.name)
    if event.hooks:
        return f"{event.name}: {about}" if about else f"{event.name}: seen where the kernel does it"
    number = f"system call {event.number}" if event.number < HOOKS // 2 else "system call of 32-bit processes"
    compat = f" ({event.compat.number - HOOKS // 2} of 32-bit processes)" if event.compat is not None else ""
    when = "when it begins" if event.program == "plain_enter" else "when it returns"
    return f"{event.name}: {about}\n{number}{compat}, seen {when}"


def _result(event: Event) -> str:
    if event.program == "plain_enter":
        return "result: none, it does not return"
    if event.returns is not None:
        return f"result: {event.returns.type}"
    if event.hooks and event.name not in RETURNING:
        return "result: always 0"
    return "result: a number, or an error: -ENOENT; negative for all errors"


def argument_lines(arg: Arg, names: Names, derived: bool = False) -> list[str]:
    """Type, name and meaning of an argument, and the words for its values."""
    lines = [f"{_INDENT}{arg.type} {arg.name}{_meaning(arg, derived)}"]
    words = value_names(arg, names.kind(arg.kind))
    return lines + wrapped(2 * _INDENT + words[0], words[1:], 2 * _INDENT) if words else lines


def _meaning(arg: Arg, derived: bool) -> str:
    if arg.kind == "sha256":
        return ": found out when the event is shown, no filter"
    if arg.memory == KIND_STRING:
        return ": text" if derived else ": text; exact, beginnings and endings are compared in the kernel"
    if arg.memory:
        return ": compared as it is printed"
    if arg.type in ("uid_t", "gid_t"):
        return ": a number or a name"
    if arg.kind == "dirfd":
        return ": a number or AT_FDCWD"
    if arg.kind in ("mode", "inode_mode"):
        return ": octal, 0644"
    return ": true or false" if arg.type == "bool" else ""


def value_names(arg: Arg, kind: Kind | None) -> list[str]:
    """The words for values of an argument that is a number."""
    words = list(dict.fromkeys(kind.words())) if kind is not None and not arg.memory else []
    return words if len(words) <= _WORDS_MAX else [*words[:_WORDS_MAX], f"... ({len(words)} in all)"]


def hooks(event: Event) -> list[str]:
    """How the event is attached on this system, found out by doing it; it selects no process meanwhile."""
    import os

    from bfer.explain import table
    from bfer.session import Session

    session = Session([f"event={event.name}", f"pid={os.getpid()}"], set(), buffer=_BUFFER)
    try:
        session.load()
        session.attach()
        return table(session.tracer)
    except Error as error:
        return ["cannot be traced:", *[_INDENT + line for line in (error.details or str(error)).splitlines()]]
    finally:
        session.close()


def examples(event: Event, names: Names) -> list[str]:
    """Filters on the event that make sense; each one is valid."""
    expressions = [f"event={event.name}"]
    for arg in event.args:
        words = value_names(arg, names.kind(arg.kind))
        if arg.memory == KIND_STRING and arg.kind != "sha256":
            folder = "/etc/*" if "path" in arg.name else "a*"
            expressions.append(f"{event.name}.{arg.name}={folder}")
        elif words:
            expressions.append(f"{event.name}.{arg.name}={words[min(1, len(words) - 1)]}")
        elif arg.type == "bool":
            expressions.append(f"{event.name}.{arg.name}=true")
        elif (
            not arg.memory
            and not arg.type.endswith("*")
            and arg.kind not in ("ptr", "dirfd", "sha256")
            and arg.slot < ARGS
        ):
            expressions.append(f"{event.name}.{arg.name}>=3")
    if event.program != "plain_enter" and (event.returns is not None or not event.hooks):
        expressions.append(f"{event.name}.retval<0")
    return ["examples:", *[f"{_INDENT}bfer trace '{text}'" for text in expressions[:5]]]
