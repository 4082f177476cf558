"""Attaching programs: what a section names, made with the oldest system call that does it."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOENT, ENOTSUP, EOPNOTSUPP, EPERM

from pybpf import abi, kernel
from pybpf.errors import LinkError
from pybpf.sections import parse_section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from pybpf.program import Program

_TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


class Link:
    """An attached program; closing it detaches. ``name`` says what is attached where."""

    __slots__ = ("_fds", "name")

    def __init__(self, name: str, *fds: kernel.Fd) -> None:
        self.name = name
        self._fds = fds

    @property
    def fd(self) -> int:
        """Descriptor of the bpf link (of the perf event before 5.15); -1 once closed."""
        return self._fds[0].fd

    def close(self) -> None:
        """Detach; a second call does nothing."""
        for fd in self._fds:
            fd.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Link {self.name}>"


def attach(program: Program, section: str | None = None) -> Link:
    """Attach ``program`` to the hook that ``section`` (default: its own) names.

    ``tp_btf``, ``fentry``, ``fexit``, ``fmod_ret`` and ``lsm`` programs know
    their hook since they were loaded; ``raw_tp/NAME`` and ``tp/CATEGORY/NAME``
    can be attached anywhere, and more than once. Raises LinkError, or ObjectError
    for a section that is none.
    """
    parsed = parse_section(section if section is not None else program.section)
    what = f"program {program.name!r} ({parsed.name})"
    if parsed.kind == "tp":
        return _attach_tracepoint(program, parsed.target, what)
    if parsed.kind == "raw_tp":
        if not parsed.target:
            raise LinkError(f"{what}: the section must name a tracepoint, as in raw_tp/NAME", EINVAL)
        try:
            return Link(what, kernel.raw_tracepoint_open(parsed.target, program.fd, what))
        except LinkError as error:
            if error.errno != ENOENT:
                raise
            raise LinkError(
                f"{what}: this kernel has no raw tracepoint {parsed.target!r}", ENOENT, str(error)
            ) from None
    if parsed.btf is not None:
        # BPF_LINK_CREATE does the same, but only since 5.19.
        return Link(what, kernel.raw_tracepoint_open("", program.fd, what))
    raise LinkError(f"{what}: programs of this kind cannot be attached by their section", EINVAL)


def tracefs() -> str:
    """Where tracefs is mounted. Raises LinkError that says how to mount it."""
    from os.path import isdir

    for path in _TRACEFS:
        if isdir(path + "/events"):
            return path
    raise LinkError("tracefs is not mounted (or needs root): mount -t tracefs tracefs /sys/kernel/tracing", ENOENT)


def tracepoint_id(category: str, name: str) -> int:
    """The number of tracepoint ``category/name``, as perf_event_open wants it. Raises LinkError."""
    path = f"{tracefs()}/events/{category}/{name}/id"
    try:
        with open(path) as file:
            return int(file.read())
    except OSError as error:
        if error.errno in (EACCES, EPERM):
            raise kernel.failure(LinkError, "open", path, EPERM) from None
        raise LinkError(f"this kernel has no tracepoint {category}/{name}", error.errno or ENOENT, path) from None
    except ValueError:
        raise LinkError(f"{path} holds no number", EINVAL) from None


def _attach_tracepoint(program: Program, target: str, what: str) -> Link:
    category, _, name = target.partition("/")
    if not category or not name or "/" in name or ".." in target:
        raise LinkError(f"{what}: the section must name a tracepoint, as in tp/CATEGORY/NAME", EINVAL)
    # One CPU stands for all: the program runs before perf looks at the event's CPU (kernel/events/core.c).
    event = kernel.perf_event_open(abi.PERF_TYPE_TRACEPOINT, tracepoint_id(category, name), -1, 0, what)
    fds = [event]
    try:
        try:
            fds.insert(0, kernel.link_create(program.fd, event.fd, abi.PERF_EVENT, what))
        except LinkError as error:
            # Before 5.15 perf events have no links: an unknown attach type.
            if error.errno not in (EINVAL, ENOTSUP, EOPNOTSUPP, abi.ENOTSUPP):
                raise
            kernel.perf_event_set_bpf(event.fd, program.fd, what)
        kernel.perf_event_enable(event.fd, what)
    except BaseException:
        for fd in fds:
            fd.close()
        raise
    return Link(what, *fds)
