"""What every attachment is: a Link."""

from __future__ import annotations

from errno import EINVAL, EOPNOTSUPP, EPERM

from pybpf import abi, kernel
from pybpf.errors import LinkError, SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from pybpf.links.info import LinkInfo
    from pybpf.program import Program

# What a kernel answers that does not know the thing asked for.
UNSUPPORTED = frozenset((EINVAL, EOPNOTSUPP, abi.ENOTSUPP))


class Attempt:
    """A mechanism that was tried; ``error`` is None if it was taken."""

    __slots__ = ("error", "mechanism")

    def __init__(self, mechanism: str, error: SyscallError | None = None) -> None:
        self.mechanism = mechanism
        self.error = error

    def __str__(self) -> str:
        return f"{self.mechanism}: {'taken' if self.error is None else self.error}"

    def __repr__(self) -> str:
        return f"<Attempt {self}>"


class Link:
    """An attached program; closing it detaches. ``name`` says what is attached where.

    ``attempts`` tells which mechanisms were tried to attach it, the last one
    with success. The descriptors belong to the link; ``bpf_link`` says whether the
    first is a bpf link, which can be pinned, updated and asked for its info, and
    which stays attached while it is pinned or open elsewhere.
    """

    __slots__ = ("_fds", "attempts", "bpf_link", "name")

    def __init__(self, name: str, *fds: kernel.Fd, mechanism: str = "bpf link", bpf_link: bool = True) -> None:
        self.name = name
        self.bpf_link = bpf_link
        self.attempts: tuple[Attempt, ...] = (Attempt(mechanism),)
        self._fds = fds

    @property
    def mechanism(self) -> str:
        """The one that was taken, as ``attempts`` has it last."""
        return self.attempts[-1].mechanism

    @property
    def fd(self) -> int:
        """Descriptor of the bpf link (of the perf event before 5.15); -1 once closed, or if there is none."""
        return self._fds[0].fd if self._fds else -1

    def close(self) -> None:
        """Close the descriptors, which detaches unless the link is pinned or open elsewhere; may be repeated."""
        for fd in self._fds:
            fd.close()

    def detach(self) -> None:
        """Detach now, whoever else holds the link (BPF_LINK_DETACH, 5.9), and close it; may be repeated."""
        if self.bpf_link and self.fd >= 0:
            from pybpf.commands import link_detach

            try:
                link_detach(self.fd, self.name)
            except LinkError as error:
                # Tracing and perf links know no other way than to be closed.
                if error.errno not in UNSUPPORTED:
                    raise
        self.close()

    def info(self) -> LinkInfo:
        """What the kernel knows of the link (5.8). Raises LinkError."""
        from pybpf.links.info import LinkInfo

        return LinkInfo(self._link_fd("asked for its info"), self.name)

    def update(self, program: Program, old: Program | None = None) -> None:
        """Run ``program`` instead from now on, with no gap; with ``old`` only if that is what runs now.

        Control group, netns, XDP, tcx, netkit, sockmap and iterator links can. Raises LinkError.
        """
        from pybpf.commands import link_update

        fd = self._link_fd("updated")
        flags, old_fd = (abi.F_REPLACE, old.fd) if old is not None else (0, 0)
        try:
            link_update(fd, program.fd, flags=flags, old_fd=old_fd, what=self.name)
        except LinkError as error:
            if error.errno == EPERM and old is not None:
                raise LinkError(f"{self.name}: it does not run {old.name!r} any more", EPERM) from None
            if error.errno in UNSUPPORTED:
                line = f"{self.name}: this kind of link cannot change its program, or not to {program.name!r}"
                raise LinkError(f"{line}: attach that, then close this", error.errno, str(error)) from None
            raise

    def pin(self, path: str) -> None:
        """Keep it attached, beyond this process, as ``path`` of a mounted bpf file system. Raises SyscallError."""
        from pybpf.commands import obj_pin

        obj_pin(path, self._link_fd("pinned"), self.name)

    def _link_fd(self, verb: str) -> int:
        if self.fd < 0 or not self.bpf_link:
            reason = "closed" if self.bpf_link else f"no bpf link ({self.mechanism})"
            raise LinkError(f"{self.name}: it is {reason} and cannot be {verb}", EINVAL)
        return self.fd

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} by {self.mechanism}>"


def described(program: Program, where: str = "") -> str:
    """How messages call a program: its name, and its section or where it goes."""
    return f"program {program.name!r} ({where or program.section})"
