"""The one root of every exception that this project raises on purpose."""

from __future__ import annotations


class Error(Exception):
    """Root exception of btf, pybpf and bfer.

    ``str(error)`` is one line: what is wrong, where, and what to do.
    ``details`` holds what follows it for those who ask (a verifier log, a list
    of candidates), or the empty string.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class BtfError(Error):
    """BTF data is malformed, or does not hold what was asked for."""


class BtfNotFound(BtfError):
    """A name or type id is not in this BTF (or the system has no BTF at all)."""


class CoreError(BtfError):
    """A CO-RE relocation cannot be applied to this target."""
