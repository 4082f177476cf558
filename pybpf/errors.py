"""Exceptions of the toolkit; all of them are ``btf.errors.Error``."""

from __future__ import annotations

from btf.errors import Error

__all__ = [
    "AsmError",
    "CompileError",
    "Error",
    "LinkError",
    "LoadError",
    "MapError",
    "NotSupported",
    "ObjectError",
    "SyscallError",
    "VerifierError",
]


class AsmError(Error):
    """An instruction cannot be encoded or decoded."""


class CompileError(Error):
    """A DSL program is wrong; the message starts with ``file:line:column``."""


class ObjectError(Error):
    """An ELF object is malformed or uses something that is not supported."""


class SyscallError(Error):
    """A system call failed; ``errno`` says how."""

    def __init__(self, message: str, errno: int, details: str = "") -> None:
        super().__init__(message, details)
        self.errno = errno


class NotSupported(SyscallError):
    """The running kernel lacks a feature."""


class LoadError(SyscallError):
    """A program, map or BTF was refused by the kernel."""


class VerifierError(LoadError):
    """The verifier rejected a program; ``details`` is its whole log."""


class MapError(SyscallError):
    """A map operation failed."""


class LinkError(SyscallError):
    """A program could not be attached."""
