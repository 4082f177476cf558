"""What ends a run early; ``main`` turns each into one line and an exit status."""

from __future__ import annotations

from btf.errors import Error


class UsageError(Error):
    """The command line is wrong: exit status 2."""


class OutputError(Error):
    """An output cannot be opened or written: exit status 1.

    ``written`` is how many whole lines of the last write got out.
    """

    def __init__(self, message: str, written: int = 0) -> None:
        super().__init__(message)
        self.written = written


class OutputClosed(Error):
    """Whoever reads the output has gone: a quiet end."""


class CommandError(Error):
    """The command to trace cannot be run; ``status`` is the shell's for that: 126 or 127."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
