"""Where events go: a renderer and a file descriptor, opened from ``--output`` values."""

from __future__ import annotations

import os

from bfer.errors import OutputError, UsageError
from bfer.writer import STDOUT, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.catalogue import Event
    from bfer.names import Names

FORMATS = ("table", "json")
OPTIONS = ("parse-arguments", "relative-time")


class Outputs:
    """The ``--output`` values together: ``targets`` is (format, path or "" for standard output)."""

    __slots__ = ("options", "targets")

    def __init__(self, words: list[str]) -> None:
        self.options: set[str] = set()
        self.targets: list[tuple[str, str]] = []
        formats: list[str] = []
        file = ""
        none = False
        for word in words:
            head, colon, rest = word.partition(":")
            if colon and not rest:
                raise UsageError(f"--output {word}: nothing follows the colon")
            if head == "option" and colon:
                if rest not in OPTIONS:
                    raise UsageError(f"invalid output option: {rest}: there are {', '.join(OPTIONS)}")
                self.options.add(rest)
            elif head == "out-file" and colon:
                if file and file != rest:
                    raise UsageError("--output out-file: can be given only once")
                file = rest
            elif word == "none":
                none = True
            elif head == "format" and colon:
                formats.append(_format(rest))
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
    if word not in FORMATS:
        from bfer.suggest import nearest

        hint = nearest(word, FORMATS) or ": valid are table, json, FORMAT:FILE, none, out-file:FILE, option:NAME"
        raise UsageError(f"unrecognized output format: {word}{hint}")
    return word


class Sink:
    """One output."""

    __slots__ = ("fd", "name", "render", "renderer")

    def __init__(self, format: str, path: str, options: set[str], events: dict[int, Event], names: Names) -> None:
        """Opens (and empties) the file. Raises OutputError."""
        self.fd = STDOUT
        self.name = "standard output"
        if path:
            self.name = path
            try:
                self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOCTTY, 0o644)
            except OSError as error:
                raise OutputError(f"cannot write {path!r}: {error.strerror}") from None
        if format == "json":
            from bfer.output.json import Json

            self.renderer: Json | Table = Json(events, names, "parse-arguments" in options)
        else:
            from bfer.output.table import Table

            self.renderer = Table(events, names, "relative-time" in options)
        self.render = self.renderer.render

    def write(self, data: bytes) -> None:
        """Raises OutputClosed or OutputError."""
        if data:
            write_all(self.fd, data, self.name)

    def close(self) -> None:
        """Raises OutputError: some file systems tell of a full disk only now."""
        if self.fd > STDOUT:
            fd, self.fd = self.fd, -1
            try:
                os.close(fd)
            except OSError as error:
                raise OutputError(f"{self.name}: {error.strerror}") from None


if TYPE_CHECKING:
    from bfer.output.json import Json
    from bfer.output.table import Table
