"""``bfer``, also as ``python -m bfer``."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.cli import Options


def main(argv: list[str] | None = None) -> int:
    """Run bfer with these arguments (default: the process's own); returns the exit status."""
    try:
        return _main(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return 130


def _main(words: list[str]) -> int:
    from bfer import cli
    from bfer.errors import CommandError, OutputClosed, UsageError
    from bfer.writer import say
    from btf.errors import Error

    _occupy_standard_fds()
    debug = "--debug" in words
    try:
        if words[:1] == ["archive"]:
            from bfer import archive

            return archive.main(words[1:])
        if words[:1] == ["doctor"]:
            from bfer import doctor

            return doctor.main(words[1:])
        if words[:1] == ["list"]:
            from bfer import listing

            return listing.main(words[1:])
        if words[:1] == ["explain"]:
            from bfer import about

            return about.main(words[1:])
        status = _act(cli.parse(words))
    except OutputClosed:
        return 0
    except Error as error:
        say(one_line(str(error)))
        if debug and error.details:
            say(f"debug: {error.details}")
        if isinstance(error, CommandError):
            return error.status
        return 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        say(f"{name}{error.strerror or error}")
        return 1
    if status < 0:  # as the command did
        from bfer.signals import die_of

        return die_of(-status)
    return status


def one_line(text: str) -> str:
    """``text``, in which a user's words may hold line ends and the like, with those escaped."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() or "\udc80" <= char <= "\udcff" else repr(char)[1:-1] for char in text])


def _act(options: Options) -> int:
    if options.action == "trace":
        import gc

        gc.disable()  # until all is attached: a start leaves hardly any garbage, and looking for it takes 3 ms of 50
        try:
            from bfer.trace import trace

            return trace(options)
        finally:
            gc.enable()
    if options.action == "list":
        from bfer import listing

        return listing.main([])
    from bfer.writer import STDOUT, write_all

    write_all(STDOUT, _text(options).encode(), "standard output")
    return 0


def _text(options: Options) -> str:
    if options.action == "version":
        from bfer import __version__

        return f"bfer {__version__}\n"
    from bfer.help import HELP, section

    return section(options.topic) if options.topic else HELP


def _occupy_standard_fds() -> None:
    """A descriptor 0, 1 or 2 that is closed would be given to the next file, and then be written into.

    What takes its place cannot be used either: an output that goes nowhere is an error, as it is without us.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if fd else os.O_WRONLY)


def forget_runpy() -> None:
    """Let go of what ``python -m`` imported to find this file: half a megabyte with Python 3.11 and older.

    Whoever wants one of these modules imports it anew.
    """
    import gc
    import importlib

    for name in ("importlib.util", "contextlib", "collections", "functools", "operator", "keyword", "reprlib"):
        sys.modules.pop(name, None)
    vars(importlib).pop("util", None)
    gc.collect()


if __name__ == "__main__":
    forget_runpy()
    sys.exit(main())
