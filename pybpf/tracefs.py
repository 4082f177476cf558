"""tracefs: where it is, numbers and formats of trace events, functions that can be traced."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOENT, EPERM

from pybpf import kernel
from pybpf.errors import LinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# debugfs mounts the same file system inside itself: where a 5.10 firmware has it.
_PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


def root() -> str:
    """Where tracefs is mounted. Raises LinkError that says how to mount it."""
    from os.path import isdir

    for path in _PLACES:
        if isdir(path + "/events"):
            return path
    raise LinkError("tracefs is not mounted (or needs root): mount -t tracefs tracefs /sys/kernel/tracing", ENOENT)


def event_id(category: str, name: str) -> int:
    """The number of event ``category/name``, as perf_event_open wants it. Raises LinkError."""
    path = f"{root()}/events/{category}/{name}/id"
    try:
        with open(path) as file:
            return int(file.read())
    except OSError as error:
        if error.errno in (EACCES, EPERM):
            raise kernel.failure(LinkError, "open", path, EPERM) from None
        raise LinkError(f"this kernel has no tracepoint {category}/{name}", error.errno or ENOENT, path) from None
    except ValueError:
        raise LinkError(f"{path} holds no number", EINVAL) from None


class Field:
    """A field of an event's record: ``size`` bytes at ``offset``; ``type`` as C declares it.

    ``dynamic`` fields (``__data_loc``) hold the place of the data inside the record:
    its offset in the low 16 bits, its length in the high ones. That of ``relative`` ones
    (``__rel_loc``, 5.17) counts from behind the field.
    """

    __slots__ = ("dynamic", "name", "offset", "relative", "signed", "size", "type")

    def __init__(self, declaration: str, offset: int, size: int, signed: bool) -> None:
        words = declaration.replace("*", "* ").split()
        self.relative = words[0] == "__rel_loc"
        self.dynamic = self.relative or words[0] == "__data_loc"
        # "char comm[16]", but "__data_loc char[] msg".
        self.name, bracket, bounds = words[-1].partition("[")
        self.type = " ".join(words[int(self.dynamic) : -1]) + bracket + bounds
        self.offset = offset
        self.size = size
        self.signed = signed

    def __repr__(self) -> str:
        return f"<Field {self.type} {self.name} at {self.offset}, {self.size} bytes>"


def event_format(category: str, name: str) -> list[Field]:
    """The fields of an event's record, in order, the common ones first. Raises LinkError."""
    event_id(category, name)  # says what is wrong, if something is
    fields = []
    with open(f"{root()}/events/{category}/{name}/format") as file:
        for line in file:
            if line.startswith("\tfield:"):
                parts = dict(part.strip().split(":", 1) for part in line.split(";") if ":" in part)
                fields.append(
                    Field(parts["field"], int(parts["offset"]), int(parts["size"]), parts.get("signed") == "1")
                )
    return fields


def event_printed(category: str, name: str) -> str:
    """How the kernel prints an event: its ``print fmt``, a format and expressions in C. Raises LinkError."""
    event_id(category, name)
    with open(f"{root()}/events/{category}/{name}/format") as file:
        text = file.read().partition("\nprint fmt: ")[2]
    return text.rstrip("\n")


def event_names(category: str, name: str) -> Iterator[tuple[str, str]]:
    """Category and name of the tracepoints whose names match these (``*``, ``?``), sorted. Raises LinkError."""
    from fnmatch import fnmatchcase
    from os import listdir
    from os.path import exists

    top = f"{root()}/events"
    try:
        for home in sorted(one for one in listdir(top) if fnmatchcase(one, category)):
            # Files stand beside the folders; what has no number (ftrace's own) is no tracepoint.
            found = listdir(f"{top}/{home}") if exists(f"{top}/{home}/filter") else []
            for one in sorted(found):
                if fnmatchcase(one, name) and exists(f"{top}/{home}/{one}/id"):
                    yield home, one
    except OSError as error:
        raise kernel.failure(LinkError, "listdir", top, error.errno or ENOENT) from None


def functions(pattern: str) -> Iterator[str]:
    """Names of functions that ftrace can trace and that match ``pattern`` (``*``, ``?``): what kprobe.multi takes.

    Read line by line: there are 60,000. Raises LinkError.
    """
    from fnmatch import fnmatchcase

    path = root() + "/available_filter_functions"
    head = pattern.split("*", 1)[0].split("?", 1)[0].split("[", 1)[0]
    try:
        with open(path, errors="replace") as file:
            for line in file:
                if line.startswith(head):
                    name = line.split(None, 1)[0]
                    if fnmatchcase(name, pattern):
                        yield name
    except OSError as error:
        if error.errno in (EACCES, EPERM):
            raise kernel.failure(LinkError, "open", path, EPERM) from None
        raise LinkError(
            f"{path} cannot be read ({error.strerror}): patterns of functions need ftrace (CONFIG_DYNAMIC_FTRACE)",
            error.errno or ENOENT,
        ) from None
