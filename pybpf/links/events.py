"""Programs on perf events: probes, tracepoints, samples."""

from __future__ import annotations

from errno import EINVAL

from pybpf import abi, commands, kernel
from pybpf.errors import LinkError
from pybpf.links.base import UNSUPPORTED, Attempt, Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pybpf.program import Program

_DEVICES = "/sys/bus/event_source/devices"


class EventLink(Link):
    """A program on a perf event: by a bpf link (5.15), before that by ioctl. ``after`` runs once it is closed."""

    __slots__ = ("_after",)

    def __init__(
        self, name: str, *fds: kernel.Fd, mechanism: str, bpf_link: bool, after: Callable[[], None] | None = None
    ) -> None:
        super().__init__(name, *fds, mechanism=mechanism, bpf_link=bpf_link)
        self._after = after

    def close(self) -> None:
        super().close()
        after, self._after = self._after, None
        if after is not None:
            after()


def attach_event(
    program: Program,
    event: kernel.Fd,
    what: str,
    cookie: int = 0,
    mechanism: str = "perf_event",
    after: Callable[[], None] | None = None,
) -> EventLink:
    """Put ``program`` on ``event``, which belongs to the link from now on, in any case. Raises LinkError.

    ``cookie`` is what the program gets from bpf_get_attach_cookie; it needs 5.15.
    """
    fds = [event]
    attempts = []
    try:
        try:
            fds.insert(0, _link(program.fd, event.fd, cookie, what))
            attempts.append(Attempt(f"{mechanism}, bpf link"))
        except LinkError as error:
            # Before 5.15 perf events have no links: an unknown attach type.
            if error.errno not in UNSUPPORTED:
                raise
            if cookie:
                raise LinkError(
                    f"{what}: cookies of perf events need Linux 5.15, which this kernel is older than", error.errno
                ) from None
            attempts.append(Attempt(f"{mechanism}, bpf link", error))
            commands.perf_event_set_bpf(event.fd, program.fd, what)
            attempts.append(Attempt(f"{mechanism}, ioctl"))
        commands.perf_event_enable(event.fd, what)
    except BaseException:
        for fd in fds:
            fd.close()
        if after is not None:
            after()
        raise
    link = EventLink(what, *fds, mechanism=mechanism, bpf_link=len(fds) > 1, after=after)
    link.attempts = tuple(attempts)
    return link


def _link(prog_fd: int, event_fd: int, cookie: int, what: str) -> kernel.Fd:
    if not cookie:
        return kernel.link_create(prog_fd, event_fd, abi.PERF_EVENT, what)
    return commands.link_create(prog_fd, event_fd, abi.PERF_EVENT, 0, "perf_event", what, bpf_cookie=cookie)


class Device:
    """A perf event source of the kernel's own: ``kprobe`` or ``uprobe`` (4.17).

    ``retprobe`` is the bit of an event's config that asks for the function's
    return; ``reference`` the shift of a semaphore's offset (4.20; -1 if the kernel has none).
    """

    __slots__ = ("reference", "retprobe", "type")

    def __init__(self, name: str) -> None:
        """Raises LinkError if there is no such source."""
        folder = f"{_DEVICES}/{name}"
        self.type = int(_read(f"{folder}/type", f"this kernel has no {name}s (CONFIG_{name.upper()}_EVENTS)"))
        self.retprobe = 1 << _low_bit(_read(f"{folder}/format/retprobe", f"{name} events have no return probes"))
        try:
            self.reference = _low_bit(_read(f"{folder}/format/ref_ctr_offset", ""))
        except LinkError:
            self.reference = -1


def _read(path: str, reason: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError as error:
        raise LinkError(f"{reason}: {path}: {error.strerror}", error.errno or EINVAL) from None


def _low_bit(text: str) -> int:
    """32 of ``config:32-63``."""
    field, _, bits = text.partition(":")
    low = bits.partition("-")[0]
    if field != "config" or not low.isdigit():
        raise LinkError(f"{_DEVICES}: {text!r} is no place in an event's config", EINVAL)
    return int(low)
