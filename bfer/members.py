"""``EVENT.ARG`` and ``EVENT.retval``: filters on what a call was given, and on what it gave."""

from __future__ import annotations

from bfer import values
from bfer.errors import UsageError
from bfer.expr import ALL, EQUAL, pattern_of, values_of
from bfer.policy import EXACT, Choice, EventFilter, Numbers, Pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Arg
    from bfer.expr import Parser

_RESULT_RANGE = (-(1 << 63), (1 << 63) - 1)


def add(parser: Parser, text: str, name: str, op: str, value: str) -> None:
    """Take ``text``, in which ``name`` is EVENT.ARG or EVENT.retval, into the policy. Raises UsageError."""
    event_name, _, member = name.partition(".")
    if ":" in name:
        from bfer.generic import split_member

        event_name, member = split_member(name)
    event = parser.event(event_name)
    kind, dot, rest = member.partition(".")
    if kind == "scope":
        from bfer import scopes

        scopes.add(parser, event, text, name, rest, op, value)
        return
    if dot and kind in ("data", "args"):
        member = rest
    key = f"{event.name}.{member}"
    parser.texts.setdefault(key, []).append(text)
    filter = parser.policy.filters.setdefault(event.name, EventFilter())
    if member == "retval" and not (event.arg(member) and op in EQUAL and not _is_result(value)):
        parser.check_operator(text, name, op, ALL)
        if ":" in event.name and event.returns is None:
            raise UsageError(f"{event.name} has no result: {text!r}")
        if event.program == "plain_enter":
            raise UsageError(f"{event.name} never returns, it has no result: {text!r}")
        result = filter.result = filter.result or Numbers()
        for word in values_of(text, value):
            result.add(op, _result(text, word))
        parser.checks[key] = lambda: result.is_empty(*_RESULT_RANGE)
        return
    arg = event.arg(member)
    if arg is None:
        from bfer.suggest import nearest

        names = [arg.name for arg in event.args] + ["retval"]
        hint = nearest(member, names) or f": it has {', '.join(names)}"
        raise UsageError(f"event {event_name!r} has no argument {member!r}{hint}")
    parser.check_operator(text, name, op, EQUAL if arg.memory else ALL)
    choice = filter.args.setdefault(arg.name, (arg, Choice()))[1]
    fill(choice, op, [_item(parser, text, arg, op, word) for word in values_of(text, value)])
    parser.checks[key] = lambda: choice.is_empty(*_range_of(arg))


def fill(choice: Choice, op: str, items: list[Pattern | int]) -> None:
    """Add what ``op`` says about ``items``."""
    if op in EQUAL:
        (choice.wanted if op == "=" else choice.unwanted).extend(items)
        return
    bounds = choice.bounds = choice.bounds or Numbers()
    for item in items:
        assert not isinstance(item, Pattern)
        bounds.add(op, item)


def _item(parser: Parser, text: str, arg: Arg, op: str, word: str) -> Pattern | int:
    if arg.kind == "sha256":
        raise UsageError(f"{arg.name} is found out when the event is shown, too late for a filter: {text!r}")
    if op in EQUAL:
        pattern = pattern_of(text, word)
        if arg.memory or pattern.kind != EXACT:
            return pattern
    number = values.parse(arg, word, parser.names)
    if number is None:
        raise UsageError(f"{word!r} is no value of {arg.name} ({arg.type}): {text!r}")
    low, high = _range_of(arg)
    # A number may be given with or without its sign, whatever the type has.
    if not -(1 << arg.bits - 1) <= number < 1 << arg.bits:
        raise UsageError(f"{word} does not fit {arg.name} ({arg.type}): {text!r}")
    if number > high:
        return number - (1 << arg.bits)
    return number if number >= low else number + (1 << arg.bits)


def _range_of(arg: Arg) -> tuple[int, int]:
    """The least and the greatest value of a number."""
    if arg.signed:
        return -(1 << arg.bits - 1), (1 << arg.bits - 1) - 1
    return 0, (1 << arg.bits) - 1


def _result(text: str, word: str) -> int:
    number = values.parse_number(word)
    if number is None:
        import errno

        name = word[1:] if word[:1] == "-" else word
        code = getattr(errno, name, None) if name[:1] == "E" else None
        if code is None:
            raise UsageError(f"{word!r} is neither a number nor an error such as -ENOENT: {text!r}")
        if name == word:
            raise UsageError(f"calls fail with negative values, use -{word}: {text!r}")
        number = -code
    if not -(1 << 63) <= number < 1 << 63:
        raise UsageError(f"{word} is too big: {text!r}")
    return number


def _is_result(value: str) -> bool:
    """Is this a number, or an error, and not a text?"""
    return all(values.parse_number(word) is not None or word[:2] == "-E" for word in value.split(","))
