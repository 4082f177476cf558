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
from bfer.policy import (
    CONTAINS,
    EXACT,
    NUMBERS,
    PREFIX,
    SUFFIX,
    Choice,
    Containers,
    Numbers,
    Pattern,
    Policy,
)
from bfer.records import PATH_KEY_SIZE, SUFFIX_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

    from bfer.catalogue import Catalogue, Event
    from bfer.generic import Generic

EQUAL, ALL = ("=", "!="), ("=", "!=", "<", ">", "<=", ">=")

FIELDS = {
    "event": EQUAL,
    "events": EQUAL[:1],
    "set": EQUAL[:1],
    "comm": EQUAL,
    "binary": EQUAL,
    **dict.fromkeys(NUMBERS, ALL),
    "uts": EQUAL,
    "container": EQUAL,
    "tree": EQUAL,
    "follow": (),
}
"""Names of filters, with their operators."""

SYNONYMS = {"tag": "set", "executable": "binary", "exec": "binary", "bin": "binary", "not-container": "!container"}
# Those that may be cut short, as in Tracee: `e=open`, `u=0`.
_SHORT = ("event", "set", "uid", "pid", "follow", "container")

_COMM_MAX = 15
_NODE_MAX = 64
_U32_MAX = 0xFFFFFFFF
_RESULT_RANGE = (-(1 << 63), (1 << 63) - 1)
# Events that are made of packets; those are not traced yet.
_PACKETS = ("net_packet", "net_flow", "net_tcp", "dns_request", "dns_response", "network_events", "packets", "flows")


def parse(
    expressions: Iterable[str],
    catalogue: Catalogue,
    names: Names | None = None,
    command: bool = False,
    btf: str = "",
) -> Policy:
    """The policy that all ``expressions`` make together; ``command``: for the tree of a command.

    ``btf`` is a file with the kernel's types. Raises UsageError, or Error where the kernel does not tell of an event
    what it is.
    """
    parser = Parser(catalogue, names or Names(catalogue.machine), command, btf)
    try:
        for text in expressions:
            parser.add(text)
        return parser.finish()
    finally:
        parser.close()


def split(text: str) -> tuple[str, str, str]:
    """Name, operator and value of an expression; the latter two are empty where it has none."""
    if not text:
        raise UsageError("empty filter expression")
    start = int(text[0] == "!" and text[1:2].isalpha())  # !container
    at = min((i for i in (text.find(c, start) for c in "=!<>") if i >= 0), default=-1)
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


def find_event(name: str, catalogue: Catalogue) -> Event:
    """Raises UsageError, with what may have been meant."""
    event = catalogue.event(name)
    if event is None:
        if catalogue.is_absent(name):
            raise UsageError(f"event {name!r} does not exist on {catalogue.machine}")
        if name.startswith(_PACKETS):
            raise UsageError(f"packets are not traced yet, leave out {name!r}: `bfer list` tells what there is")
        from bfer.suggest import nearest

        hint = nearest(name, catalogue.events) or ": see `bfer list`"
        raise UsageError(f"unknown event {name!r}{hint}")
    return event


class Parser:
    def __init__(self, catalogue: Catalogue, names: Names, command: bool, btf: str = "") -> None:
        self.catalogue = catalogue
        self.command = command
        self.names = names
        self.policy = Policy()
        self.named: dict[str, Event] = {}
        self.members: dict[str, Event] = {}
        self.spelled: set[str] = set()  # of those that are wanted, the ones named in full
        self.excluded: dict[str, str] = {}  # with the word that excludes it
        self.excluded_patterns: dict[str, str] = {}
        self.sets_given = False
        self.btf = btf
        self.generic: Generic | None = None
        self.in_other_sets: set[str] = set()
        self.texts: dict[str, list[str]] = {}  # expressions by what they are about
        # Can nothing match? Asked when all are known.
        self.checks: dict[str, Callable[[], bool]] = {}

    def close(self) -> None:
        if self.generic is not None:
            self.generic.close()

    def add(self, text: str) -> None:
        name, op, value = split(text)
        field = self.field(name)
        if not field and "." in name:
            from bfer.members import add

            add(self, text, name, op, value)
            return
        if not field:
            self.unknown_field(text, name)
        self.texts.setdefault(field.lstrip("!"), []).append(text)
        if field == "follow":
            if op:
                raise UsageError(f"'follow' takes no value: {text!r}")
            self.policy.follow = True
        elif field == "!container" or (field == "container" and not op):
            if op:
                raise UsageError(f"{name!r} takes no value: {text!r}")
            self.add_inside(field == "container")
        else:
            self.check_operator(text, field, op, FIELDS[field])
            words = values_of(text, value, "(" in value and field in ("event", "events"))
            if field in NUMBERS:
                self.add_number(field, text, op, words)
            else:
                getattr(self, f"add_{field}")(text, op, words)

    def field(self, name: str) -> str:
        if name in FIELDS:
            return name
        if name in SYNONYMS:
            return SYNONYMS[name]
        if name[:1] == "!":
            return "!container" if len(name) > 1 and "container".startswith(name[1:]) else ""
        return next((field for field in _SHORT if field.startswith(name)), "")

    def unknown_field(self, text: str, name: str) -> NoReturn:
        from bfer.suggest import nearest

        if name.startswith("net") and (name == "net" or text != name):
            raise UsageError(f"packets are not traced yet, leave out {text!r}: `bfer list` tells what there is")
        if ":" in name or self.catalogue.event(name) is not None or self.catalogue.is_absent(name):
            raise UsageError(f"unknown filter {name!r}: did you mean 'event={name}'?")
        hint = nearest(name, (*FIELDS, *SYNONYMS)) or f": there are {', '.join(FIELDS)}, EVENT.ARG, EVENT.retval"
        raise UsageError(f"unknown filter {name!r}{hint}")

    def check_operator(self, text: str, field: str, op: str, allowed: tuple[str, ...]) -> None:
        if not op:
            raise UsageError(f"{field!r} needs an operator ({' '.join(allowed)}) and a value")
        if op not in allowed:
            raise UsageError(f"{field!r} knows no operator {op!r}, only {' '.join(allowed)}: {text!r}")

    def never(self, about: str) -> NoReturn:
        raise UsageError(f"nothing can ever match {' and '.join(map(repr, dict.fromkeys(self.texts[about])))}")

    # --- events ---------------------------------------------------------------

    def event(self, name: str) -> Event:
        if ":" in name:
            return self.hook_events().event(name)
        return find_event(name, self.catalogue)

    def hook_events(self) -> Generic:
        """Those that are named by their hook, as in ``kprobe:vfs_unlink``."""
        if self.generic is None:
            from bfer.generic import Generic

            self.generic = Generic(self.catalogue.machine, self.names, self.btf, self.catalogue.options)
        return self.generic

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
            if ":" in word and set(word.partition("(")[0]) & set("*?"):
                self.add_pattern(text, op, word)
                continue
            for event in self.matching(word):
                if op == "=":
                    self.named[event.name] = event
                    if not word.endswith("*"):
                        self.spelled.add(word)
                else:
                    self.excluded[event.name] = text

    def add_events(self, text: str, op: str, words: list[str]) -> None:
        """As in ``--events NAME,NAME*,SET,-NAME``."""
        for word in words:
            if word[:1] == "-":
                self.add_event(word, "!=", [word[1:]])
            elif self.catalogue.event(word) is None and word in self.catalogue.sets:
                self.add_set(text, op, [word])
            else:
                self.add_event(word, "=", [word])

    def add_pattern(self, text: str, op: str, word: str) -> None:
        """All hooks that a pattern stands for; as with a set, some may be taken away again."""
        if op == "=":
            self.sets_given = True
            self.members.update((event.name, event) for event in self.hook_events().matching(word))
        else:
            self.excluded_patterns[word] = text

    def add_set(self, text: str, op: str, words: list[str]) -> None:
        self.sets_given = True
        for word in words:
            events = self.catalogue.members(word)
            if not events:
                if word.startswith(_PACKETS):
                    raise UsageError(f"packets are not traced yet, leave out {text!r}: `bfer list` tells what there is")
                from bfer.suggest import nearest

                sets = sorted(self.catalogue.sets)
                raise UsageError(f"unknown set {word!r}{nearest(word, sets) or ': there are ' + ', '.join(sets)}")
            self.members.update((event.name, event) for event in events)
            if word != "default":
                self.in_other_sets.update([event.name for event in events])

    # --- who --------------------------------------------------------------------

    def add_number(self, field: str, text: str, op: str, words: list[str]) -> None:
        if field == "pid" and "new" in words:
            if len(words) > 1 or op not in ("=", "!="):
                raise UsageError(f"'new' stands alone, as pid=new or pid!=new: {text!r}")
            new = op == "="
            if self.policy.pid_new not in (None, new):
                raise UsageError("pid=new and pid!=new exclude each other")
            self.policy.pid_new = new
            return
        numbers = self.policy.numbers.setdefault(field, Numbers())
        for word in words:
            numbers.add(op, user_of(text, word) if field == "uid" else _u32(text, word))
        self.checks[field] = lambda: numbers.is_empty(0, _U32_MAX)

    def add_comm(self, text: str, op: str, words: list[str]) -> None:
        self.add_names("comm", self.policy.comms, _COMM_MAX, text, op, words)

    def add_uts(self, text: str, op: str, words: list[str]) -> None:
        self.add_names("uts", self.policy.nodes, _NODE_MAX, text, op, words)

    def add_names(
        self, field: str, verdicts: dict[bytes, bool], size: int, text: str, op: str, words: list[str]
    ) -> None:
        for word in words:
            data = fsencode(word)
            if len(data) > size:
                what = "a comm" if field == "comm" else "a host name"
                raise UsageError(f"{what} has at most {size} bytes, {word!r} has {len(data)}")
            if "*" in word:
                raise UsageError(f"{field!r} takes no wildcards: {text!r}")
            verdicts[data] = op == "=" and verdicts.get(data, True)
        self.check_wanted(field, verdicts)

    def check_wanted(self, field: str, verdicts: dict[bytes, bool] | dict[int, bool]) -> None:
        """Were values wanted, and each of them is also unwanted?"""
        texts = self.texts[field]
        self.checks[field] = lambda: not any(verdicts.values()) and any(split(text)[1] == "=" for text in texts)

    def add_tree(self, text: str, op: str, words: list[str]) -> None:
        for word in words:
            pid = _u32(text, word)
            if not pid:
                raise UsageError(f"there is no process 0: {text!r}")
            self.policy.tree[pid] = op == "=" and self.policy.tree.get(pid, True)
        self.check_wanted("tree", self.policy.tree)

    def add_binary(self, text: str, op: str, words: list[str]) -> None:
        choice = self.policy.binary = self.policy.binary or Choice()
        for word in words:
            pattern = pattern_of(text, word)
            if pattern.kind == CONTAINS:
                raise UsageError(f"'binary' takes PATH, PATH* and *PATH, not {word!r}")
            if pattern.kind in (EXACT, PREFIX) and pattern.data[:1] not in (b"/", b""):
                raise UsageError(f"{word!r} is no absolute path: give /..., or */{word}: {text!r}")
            if len(pattern.data) >= PATH_KEY_SIZE or (pattern.kind == SUFFIX and len(pattern.data) > SUFFIX_SIZE):
                limit = SUFFIX_SIZE if pattern.kind == SUFFIX else PATH_KEY_SIZE - 1
                raise UsageError(f"'binary' compares at most {limit} bytes, {word!r} has {len(pattern.data)}")
            (choice.wanted if op == "=" else choice.unwanted).append(pattern)
        self.checks["binary"] = lambda: bool(choice.wanted) and choice.is_empty(0, -1)

    def containers(self) -> Containers:
        if self.policy.container is None:
            self.policy.container = Containers()
            self.checks["container"] = self.policy.container.is_empty
        return self.policy.container

    def add_inside(self, inside: bool) -> None:
        containers = self.containers()
        if containers.inside is (not inside):
            self.never("container")
        containers.inside = inside

    def add_container(self, text: str, op: str, words: list[str]) -> None:
        containers = self.containers()
        if "new" in words:
            if len(words) > 1:
                raise UsageError(f"'new' stands alone, as container=new or container!=new: {text!r}")
            if containers.new is (op != "="):
                self.never("container")
            containers.new = op == "="
        else:
            for word in words:
                containers.ids[word] = op == "=" and containers.ids.get(word, True)

    # --- all together ---------------------------------------------------------------

    def finish(self) -> Policy:
        for about, is_empty in self.checks.items():
            if is_empty():
                texts = dict.fromkeys(self.texts[about])
                raise UsageError(f"nothing can ever match {' and '.join(map(repr, texts))}")
        filtered = self.policy.filters
        if not self.named and not self.sets_given:
            if filtered and not self.excluded:
                self.note(filtered, "traced alone")
                self.named = {name: self.event(name) for name in filtered}
            elif self.is_narrowed():
                self.members = {event.name: event for event in self.catalogue.members("default")}
                self.members.update((event.name, event) for event in self.catalogue.members("syscalls"))
                self.in_other_sets.update(self.members)
            else:
                self.members = {event.name: event for event in self.catalogue.members("default")}
        if self.excluded_patterns:
            from fnmatch import fnmatchcase

            for pattern, text in self.excluded_patterns.items():
                found = (*self.members, *self.named)
                self.excluded.update((name, text) for name in found if fnmatchcase(name, pattern))
        selected = {**self.members, **self.named}
        for name in self.excluded:
            if selected.pop(name, None) is not None and name in self.spelled:
                self.policy.notes.append(f"event {name} is both named and excluded: it is not traced")
        for name in filtered:
            if name in self.excluded:
                about = next(texts[0] for key, texts in self.texts.items() if key.startswith(name + "."))
                raise UsageError(f"{self.excluded[name]!r} excludes {name}, so {about!r} can never match")
        missing = [name for name in filtered if name not in selected]
        if missing:
            self.note(missing, "traced too")
            selected.update((name, self.event(name)) for name in missing)
        if not selected:
            raise UsageError("no event is left to trace: event!= removed them all")
        for name, event in self.named.items():
            if event.is_compat and name in self.policy.spelled:
                self.policy.notes.append(f"on {self.catalogue.machine} only 32-bit processes have {name}")
        if self.generic is not None:
            self.policy.notes += self.generic.notes
        self.policy.events = sorted(selected.values(), key=lambda event: event.id)
        self.policy.writes_only = {
            name for name in WRITES if name in selected and not (name in self.named or name in self.in_other_sets)
        } - filtered.keys()
        return self.policy

    def is_narrowed(self) -> bool:
        """Are only some processes traced? Then all that they do is shown, as strace does."""
        policy = self.policy
        return (
            bool(self.command or policy.comms or policy.binary or policy.tree or policy.follow)
            or policy.pid_new is not None
            or "pid" in policy.numbers
            or "tid" in policy.numbers
        )

    def note(self, names: Iterable[str], how: str) -> None:
        names = list(names)
        if len(names) == 1:
            self.policy.notes.append(f"event {names[0]} is {how}, because a filter names it")
        else:
            self.policy.notes.append(f"events {', '.join(names)} are {how}, because filters name them")


def values_of(text: str, value: str, brackets: bool = False) -> list[str]:
    """The values between commas; ``brackets``: a comma within round brackets is part of one."""
    words = value.split(",")
    if brackets:
        from bfer.generic import joined

        words = joined(words)
    if "" in words:
        raise UsageError(f"empty value in {text!r}")
    return words


def number_of(text: str, word: str) -> int:
    number = values.parse_number(word)
    if number is None or number < 0:
        raise UsageError(f"{word!r} is not a number: {text!r}")
    return number


def _u32(text: str, word: str) -> int:
    number = number_of(text, word)
    if number > _U32_MAX:
        raise UsageError(f"{word} is too big: {text!r}")
    return number


def user_of(text: str, word: str) -> int:
    """A user, by number or name."""
    if not word[:1].isalpha() and word[:1] != "_":
        return _u32(text, word)
    uid = values.account(word)
    if uid is None:
        raise UsageError(f"there is no user {word!r}: {text!r}")
    return uid


def pattern_of(text: str, word: str) -> Pattern:
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
