"""Attachments that the kernel does not tie to a descriptor: they stay until somebody undoes them."""

from __future__ import annotations

import os

from pybpf.links.base import Link
from pybpf.links.janitor import Janitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybpf import kernel


class Attachment(Link):
    """Closing it undoes it, once, and only in the process that made it: a forked one has copies of its objects.

    ``watch`` has another process undo it if this one is killed.
    """

    __slots__ = ("_janitor", "_owner")

    def __init__(self, name: str, *fds: kernel.Fd, mechanism: str) -> None:
        super().__init__(name, *fds, mechanism=mechanism, bpf_link=False)
        self._owner = os.getpid()
        self._janitor: Janitor | None = None

    def _undo(self) -> None:
        """Detach; what is gone already is no error. Raises LinkError."""
        raise NotImplementedError

    def _watch(self) -> None:
        """Have it undone whatever happens; called before it is made, so that there is no moment without."""
        self._janitor = Janitor(self._undo, tuple(fd.fd for fd in self._fds))

    def _forget(self) -> None:
        """It was not made after all."""
        self._owner = 0
        self.close()

    def close(self) -> None:
        owner, self._owner = self._owner, 0
        try:
            if owner == os.getpid():
                self._undo()
        finally:
            if self._janitor is not None:
                self._janitor.dismiss()
            super().close()
