"""The filter grammar: ``NAME [OP VALUE,VALUE...]`` expressions become a Policy.

Expressions are ANDed, the values of one ``=`` are ORed, and what is said twice
about one field merges. The grammar is Tracee's; where that one stays silent
about a filter that can never match, this one reports it.
"""

from __future__ import annotations

from os import fsencode

from bfer import values
from bfer.catalogue import WRITES
from bfer.errors import UsageError
from bfer.names import Names
from bfer.policy import CONTAINS, EXACT, PREFIX, SUFFIX, Choice, EventFilter, Numbers, Pattern, Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

    from bfer.catalogue import Arg, Catalogue, Event

FIELDS = ("event", "set", "comm", "uid", "pid", "tree", "follow")
# Those that may be cut short, as in Tracee: `e=open`, `u=0`.
_SHORT = ("event", "set", "uid", "pid", "follow")
_OPERATORS = {
    "event": ("=", "!="),
    "set": ("=",),
    "comm": ("=", "!="),
    "uid": ("=", "!=", "<", ">", "<=", ">="),
    "pid": ("=", "!=", "<", ">", "<=", ">="),
    "tree": ("=", "!="),
}
_COMM_MAX = 15
_U32_MAX = 0xFFFFFFFF


def parse(
    expressions: Iterable[str], catalogue: Catalogue, names: Names | None = None, command: bool = False
) -> Policy:
    """The policy that all ``expressions`` make together; ``command``: for the tree of a command. Raises UsageError."""
    parser = _Parser(catalogue, names or Names(catalogue.machine), command)
    for text in expressions:
        parser.add(text)
    return parser.finish()


def split(text: str) -> tuple[str, str, str]:
    """Name, operator and value of an expression; the latter two are empty where it has none."""
    if not text:
        raise UsageError("empty filter expression")
    at = min((i for i in (text.find(c) for c in "=!<>") if i >= 0), default=-1)
    if at < 0:
        return text, "", ""
    name, rest = text[:at], text[at:]
    op = rest[:2] if rest[:2] in ("!=", "<=", ">=") else rest[:1]
    doubled = rest[len(op) : len(op) + 1] == "="
    if op == "!" or doubled:
        raise UsageError(f"unknown operator {op + '=' * doubled!r} in {text!r}")
    if not name:
        raise UsageError(f"no name before {op!r} in {text!r}")
    return name, op, rest[len(op) :]


class _Parser:
    def __init__(self, catalogue: Catalogue, names: Names, command: bool) -> None:
        self.catalogue = catalogue
        self.command = command
        self.names = names
        self.policy = Policy()
        self.named: dict[str, Event] = {}
        self.members: dict[str, Event] = {}
        self.excluded: set[str] = set()
        self.sets_given = False
        self.in_other_sets: set[str] = set()

    def add(self, text: str) -> None:
        name, op, value = split(text)
        field = self.field(name)
        if field == "follow":
            if op:
                raise UsageError(f"'follow' takes no value: {text!r}")
            self.policy.follow = True
            return
        if not field and "." in name:
            self.add_event_filter(text, name, op, value)
            return
        if not field:
            self.unknown_field(name)
        self.check_operator(text, field, op, _OPERATORS[field])
        getattr(self, f"add_{field}")(text, op, _values(text, value))

    def field(self, name: str) -> str:
        if name in FIELDS:
            return name
        return next((field for field in _SHORT if field.startswith(name)), "")

    def unknown_field(self, name: str) -> NoReturn:
        from bfer.suggest import nearest

        hint = nearest(name, FIELDS) or f": there are {', '.join(FIELDS)}, EVENT.ARG, EVENT.retval"
        if self.catalogue.event(name) is not None or self.catalogue.is_absent(name):
            hint = f": did you mean 'event={name}'?"
        raise UsageError(f"unknown filter {name!r}{hint}")

    def check_operator(self, text: str, field: str, op: str, allowed: tuple[str, ...]) -> None:
        if not op:
            raise UsageError(f"{field!r} needs an operator ({' '.join(allowed)}) and a value")
        if op not in allowed:
            raise UsageError(f"{field!r} knows no operator {op!r}, only {' '.join(allowed)}: {text!r}")

    # --- events ---------------------------------------------------------------

    def event(self, name: str) -> Event:
        event = self.catalogue.event(name)
        if event is None:
            if self.catalogue.is_absent(name):
                raise UsageError(f"event {name!r} does not exist on {self.catalogue.machine}")
            from bfer.suggest import nearest

            hint = nearest(name, self.catalogue.events) or ": see `bfer list`"
            raise UsageError(f"unknown event {name!r}{hint}")
        return event

    def matching(self, word: str) -> list[Event]:
        """The events that ``word`` names, a trailing ``*`` being a wildcard."""
        if not word.endswith("*"):
            return [self.event(word)]
        start = word[:-1]
        found = self.catalogue.starting(start)
        if "*" in start or not found:
            raise UsageError(f"no event matches {word!r}: see `bfer list`")
        return found

    def add_event(self, text: str, op: str, words: list[str]) -> None:
        self.policy.spelled.update(words)
        for word in words:
            for event in self.matching(word):
                if op == "=":
                    self.named[event.name] = event
                else:
                    self.excluded.add(event.name)

    def add_set(self, text: str, op: str, words: list[str]) -> None:
        self.sets_given = True
        for word in words:
            names = self.catalogue.sets.get(word)
            if names is None:
                from bfer.suggest import nearest

                sets = sorted(self.catalogue.sets)
                raise UsageError(f"unknown set {word!r}{nearest(word, sets) or ': there are ' + ', '.join(sets)}")
            for name in names:
                self.members[name] = self.catalogue.events[name]
            if word != "default":
                self.in_other_sets.update(names)

    # --- who --------------------------------------------------------------------

    def add_uid(self, text: str, op: str, words: list[str]) -> None:
        self.policy.uid = self.policy.uid or Numbers()
        for word in words:
            _add_number(self.policy.uid, op, _user(text, word))

    def add_pid(self, text: str, op: str, words: list[str]) -> None:
        if "new" in words:
            if len(words) > 1 or op not in ("=", "!="):
                raise UsageError(f"'new' stands alone, as pid=new or pid!=new: {text!r}")
            new = op == "="
            if self.policy.pid_new not in (None, new):
                raise UsageError("pid=new and pid!=new exclude each other")
            self.policy.pid_new = new
            return
        self.policy.pid = self.policy.pid or Numbers()
        for word in words:
            _add_number(self.policy.pid, op, _u32(text, word))

    def add_comm(self, text: str, op: str, words: list[str]) -> None:
        for word in words:
            data = fsencode(word)
            if len(data) > _COMM_MAX:
                raise UsageError(f"a comm has at most {_COMM_MAX} bytes, {word!r} has {len(data)}")
            if "*" in word:
                raise UsageError(f"'comm' takes no wildcards: {text!r}")
            self.policy.comms[data] = op == "=" and self.policy.comms.get(data, True)

    def add_tree(self, text: str, op: str, words: list[str]) -> None:
        for word in words:
            pid = _u32(text, word)
            if not pid:
                raise UsageError(f"there is no process 0: {text!r}")
            self.policy.tree[pid] = op == "=" and self.policy.tree.get(pid, True)

    # --- arguments and return values ----------------------------------------------

    def add_event_filter(self, text: str, name: str, op: str, value: str) -> None:
        event_name, _, member = name.partition(".")
        event = self.event(event_name)
        if member == "retval":
            self.check_operator(text, name, op, ("=", "!=", "<", ">", "<=", ">="))
            self.add_result(event, text, op, _values(text, value))
            return
        arg = event.arg(member)
        if arg is None:
            from bfer.suggest import nearest

            names = [arg.name for arg in event.args] + ["retval"]
            hint = nearest(member, names) or f": it has {', '.join(names)}"
            raise UsageError(f"event {event_name!r} has no argument {member!r}{hint}")
        self.check_operator(text, name, op, ("=", "!="))
        words = _values(text, value)
        filter = self.policy.filters.setdefault(event.name, EventFilter())
        choice = filter.args.setdefault(arg.name, (arg, Choice()))[1]
        items = choice.wanted if op == "=" else choice.unwanted
        items.extend(self.item(text, arg, word) for word in words)

    def item(self, text: str, arg: Arg, word: str) -> Pattern | int:
        if arg.kind == "sha256":
            raise UsageError(f"{arg.name} is found out when the event is shown, too late for a filter: {text!r}")
        pattern = _pattern(text, word)
        if arg.memory or pattern.kind != EXACT:
            return pattern
        number = values.parse(arg, word, self.names)
        if number is None:
            raise UsageError(f"{word!r} is no value of {arg.name} ({arg.type}): {text!r}")
        return number

    def add_result(self, event: Event, text: str, op: str, words: list[str]) -> None:
        filter = self.policy.filters.setdefault(event.name, EventFilter())
        filter.result = filter.result or Numbers()
        for word in words:
            _add_number(filter.result, op, _result(text, word))

    # --- all together ---------------------------------------------------------------

    def finish(self) -> Policy:
        filtered = self.policy.filters
        if not self.named and not self.sets_given:
            if filtered and not self.excluded:
                self.note(filtered, "traced alone")
                self.named = {name: self.event(name) for name in filtered}
            elif self.is_narrowed():
                every = self.catalogue.sets["syscalls"]
                self.members = {name: self.catalogue.events[name] for name in (*self.catalogue.sets["default"], *every)}
                self.in_other_sets.update(every)
            else:
                self.members = {name: self.catalogue.events[name] for name in self.catalogue.sets["default"]}
        selected = {name: event for name, event in self.members.items() if name not in self.excluded}
        selected.update(self.named)
        missing = [name for name in filtered if name not in selected]
        if missing:
            self.note(missing, "traced too")
            selected.update((name, self.event(name)) for name in missing)
        if not selected:
            raise UsageError("no event is left to trace: event!= removed them all")
        for name, event in self.named.items():
            if event.is_compat and name in self.policy.spelled:
                self.policy.notes.append(f"on {self.catalogue.machine} only 32-bit processes have {name}")
        self.policy.events = sorted(selected.values(), key=lambda event: event.id)
        self.policy.writes_only = {
            name for name in WRITES if name in selected and not (name in self.named or name in self.in_other_sets)
        } - filtered.keys()
        return self.policy

    def is_narrowed(self) -> bool:
        """Are only some processes traced? Then all that they do is shown, as strace does."""
        policy = self.policy
        return bool(
            self.command or policy.comms or policy.pid or policy.pid_new is not None or policy.tree or policy.follow
        )

    def note(self, names: Iterable[str], how: str) -> None:
        names = list(names)
        if len(names) == 1:
            self.policy.notes.append(f"event {names[0]} is {how}, because a filter names it")
        else:
            self.policy.notes.append(f"events {', '.join(names)} are {how}, because filters name them")


def _values(text: str, value: str) -> list[str]:
    words = value.split(",")
    if "" in words:
        raise UsageError(f"empty value in {text!r}")
    return words


def _u32(text: str, word: str) -> int:
    number = values.parse_number(word)
    if number is None or number < 0:
        raise UsageError(f"{word!r} is not a number: {text!r}")
    if number > _U32_MAX:
        raise UsageError(f"{word} is too big: {text!r}")
    return number


def _user(text: str, word: str) -> int:
    """A user, by number or name."""
    if not word[:1].isalpha() and word[:1] != "_":
        return _u32(text, word)
    try:
        from pwd import getpwnam

        return getpwnam(word).pw_uid
    except (ImportError, KeyError):
        raise UsageError(f"there is no user {word!r}: {text!r}") from None


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


def _add_number(numbers: Numbers, op: str, value: int) -> None:
    if op == "<=":
        numbers.add("<", value + 1)
    elif op == ">=":
        numbers.add(">", value - 1)
    else:
        numbers.add(op, value)


def _pattern(text: str, word: str) -> Pattern:
    start, end = word.startswith("*"), word.endswith("*")
    middle = word[start : len(word) - end] if len(word) > 1 else "" if start else word
    if "*" in middle:
        raise UsageError(f"'*' is a wildcard only at the start and the end of a value: {text!r}")
    data = fsencode(middle)
    if not start and not end:
        return Pattern(EXACT, data)
    if not data or not start:
        return Pattern(PREFIX, data)
    return Pattern(CONTAINS if end else SUFFIX, data)
