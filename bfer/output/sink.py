"""Where events go: a renderer and a file descriptor, opened from ``--output`` values."""

from __future__ import annotations

import os

from bfer.catalogue import EXECUTABLE, STACKS, STRUCTURES
from bfer.errors import OutputClosed, OutputError, UsageError
from bfer.writer import STDOUT, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Event
    from bfer.names import Names
    from bfer.output.lines import Lines

FORMATS = ("table", "table-verbose", "json", "xml", "csv", "template")
OPTIONS = (
    *("parse-arguments", "parse-arguments-fds", "structures", "exec-env", "exec-hash", "stack-addresses"),
    *("executable", "resolve-paths", "detect-syscall", "sort-events", "relative-time"),
)

CONTAINERS = "containers"
"""Not for users: containers are filtered, so that tables show them."""

_FOR_PEOPLE = ("table", "table-verbose")
_TEMPLATE = "template="
_GO = "gotemplate="
_TEMPLATE_MAX = 1 << 16


class Outputs:
    """The ``--output`` values together: ``targets`` is (format, path or "" for standard output).

    A template is the format ``template=TEXT``. ``errors`` is the file for messages, "" for standard error.
    """

    __slots__ = ("errors", "options", "targets")

    @property
    def wants(self) -> set[str]:
        """The options that say what must be in the records: those given, and what they and the formats imply."""
        shown = any(name in _FOR_PEOPLE or name.startswith(_TEMPLATE) for name, _ in self.targets)
        return self.options | {STRUCTURES} if shown or "parse-arguments" in self.options else self.options

    def __init__(self, words: list[str]) -> None:
        self.options: set[str] = set()
        self.targets: list[tuple[str, str]] = []
        self.errors = ""
        formats: list[str] = []
        file = ""
        none = False
        for word in words:
            head, colon, rest = word.partition(":")
            if word.startswith((_TEMPLATE, _GO)):
                formats.append(_format(word))
                continue
            if colon and not rest:
                raise UsageError(f"--output {word}: nothing follows the colon")
            if head == "option" and colon:
                if rest not in OPTIONS:
                    from bfer.suggest import nearest

                    hint = nearest(rest, OPTIONS) or f": there are {', '.join(OPTIONS)}"
                    raise UsageError(f"invalid output option: {rest}{hint}")
                self.options.add(rest)
                if rest == "parse-arguments-fds":  # as in Tracee: alone it would say little
                    self.options.add("parse-arguments")
            elif head == "out-file" and colon:
                if file and file != rest:
                    raise UsageError("--output out-file: can be given only once")
                file = rest
            elif head == "err-file" and colon:
                if self.errors and self.errors != rest:
                    raise UsageError("--output err-file: can be given only once")
                self.errors = rest
            elif word == "none":
                none = True
            elif head == "format" and colon:
                formats.append(_format(rest))
            elif head == "template" and colon:
                formats.append(_TEMPLATE + _template(rest))
            elif colon:
                self.targets.append((_format(head), "" if rest == "-" else rest))
            else:
                formats.append(_format(word))
        if not formats and not none and (file or not self.targets):
            formats.append("table")
        if none and (formats or file or self.targets):
            raise UsageError("--output none: stands alone")
        self.targets[:0] = [(name, file) for name in formats]
        paths = [path for _, path in self.targets]
        for path in paths:
            if paths.count(path) > 1:
                where = repr(path) if path else "standard output"
                raise UsageError(f"only one output can go to {where}: give the other a file, such as json:FILE")


def _format(word: str) -> str:
    if word.startswith(_TEMPLATE):
        if word == _TEMPLATE:
            raise UsageError("--output template=: nothing follows the =")
        return word
    if word == "template":
        raise UsageError("--output template: which? Give template=TEXT or template:FILE")
    if word.startswith(_GO):
        from bfer.output.gotemplate import translate

        return _TEMPLATE + translate(_template(word[len(_GO) :]))
    if word == "gob":
        raise UsageError("unrecognized output format: gob: that is Go's own encoding; json has the same members")
    if word not in FORMATS:
        from bfer.suggest import nearest

        valid = ", ".join(FORMATS[:-1])
        hint = nearest(word, FORMATS) or (
            f": valid are {valid}, FORMAT:FILE, template=TEXT, template:FILE, none, "
            "out-file:FILE, err-file:FILE, option:NAME"
        )
        raise UsageError(f"unrecognized output format: {word}{hint}")
    return word


def _template(path: str) -> str:
    """The text of a template in a file. Raises UsageError."""
    try:
        with open(path, "rb") as file:
            data = file.read(_TEMPLATE_MAX + 1)
        text = data.decode()
    except OSError as error:
        raise UsageError(f"cannot read the template {path!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"the template {path!r} is not UTF-8 at byte {error.start}") from None
    if not 0 < len(data) <= _TEMPLATE_MAX:
        raise UsageError(f"the template {path!r} is {'too long' if data else 'empty'}")
    return text


def create(path: str) -> int:
    """A descriptor of the file, which is made with the folders above it, and emptied. Raises OutputError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOCTTY
    try:
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            if path.endswith("/"):
                raise
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            return os.open(path, flags, 0o644)
    except OSError as error:
        raise OutputError(f"cannot write {path!r}: {error.strerror}") from None


def renderer(format: str, options: set[str], events: dict[int, Event], names: Names) -> Lines:
    """What makes lines of records. Raises UsageError for a template that is none."""
    texts, relative = "parse-arguments" in options, "relative-time" in options
    if format == "json":
        from bfer.output.json import Json

        return Json(events, names, texts)
    if format == "xml":
        from bfer.output.xml import Xml

        return Xml(events, names, texts)
    if format == "csv":
        from bfer.output.csv import Csv

        return Csv(events, names, texts)
    if format == "table-verbose":
        from bfer.output import verbose

        made = verbose.ContainerVerbose if CONTAINERS in options else verbose.Verbose
        return made(events, names, relative)
    if format.startswith(_TEMPLATE):
        from bfer.output.template import Template

        return Template(events, names, format[len(_TEMPLATE) :], relative)
    from bfer.output import table

    return (table.ContainerTable if CONTAINERS in options else table.Table)(events, names, relative)


class Sink:
    """One output."""

    __slots__ = ("_whole", "fd", "lines", "name", "renderer")

    def __init__(self, format: str, path: str, options: set[str], events: dict[int, Event], names: Names) -> None:
        """Opens (and empties) the file. Raises OutputError, or UsageError before it touches anything."""
        self.renderer = renderer(format, options, events, names)
        self.renderer.env = "exec-env" in options
        if STACKS in options:
            self.renderer.show_stacks()
        if EXECUTABLE in options:
            self.renderer.show_executables()
        if "parse-arguments-fds" in options:
            from bfer.descriptors import Descriptors

            self.renderer.descriptors = Descriptors()
        self.lines = self.renderer.lines
        self._whole = False  # has begun, and wants its end
        self.fd = STDOUT
        self.name = "standard output"
        if path:
            self.name = path
            self.fd = create(path)

    def begin(self, quiet: bool) -> None:
        """Write what comes before the first event; ``quiet``: only what must. Raises as write does."""
        self._whole = True
        self.write(self.renderer.opening)
        if not quiet:
            self.write(self.renderer.header)

    def write(self, data: bytes) -> None:
        """Raises OutputClosed or OutputError."""
        if not data:
            return
        try:
            write_all(self.fd, data, self.name)
        except BaseException as error:  # a signal may have come in the middle of a line
            self._whole = False
            if isinstance(error, OutputError):
                error.written //= self.renderer.lines_per_event
            raise

    def close(self) -> None:
        """End what was begun, however the run ended. Raises OutputError: some tell of a full disk only now."""
        try:
            if self._whole:
                self._whole = False
                self.write(self.renderer.closing)
        except OutputClosed:
            pass
        finally:
            if self.fd > STDOUT:
                fd, self.fd = self.fd, -1
                try:
                    os.close(fd)
                except OSError as error:
                    raise OutputError(f"{self.name}: {error.strerror}") from None
