"""What only the running kernel can supply: its functions (kfuncs), its variables, its configuration.

Plain declarations, made at module level. The object names them in ``.ksyms`` and
``.kconfig``; the loader, or libbpf, finds them and compares their types.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any

from pybpf.errors import CompileError
from pybpf.lang.surface import Compiled
from pybpf.lang.types import ArrayType, Scalar, StructType, Type, as_type, bool_, char


class Kfunc(Compiled):
    """A function of the kernel's that programs may call, declared with the types of its parameters and result."""

    what = "kernel function"


def kfunc(function: FunctionType) -> Kfunc:
    """Declare a kernel function: ``def bpf_task_from_pid(pid: i32) -> Ptr[task_struct]: ...``.

    ``exists(f)`` makes a program load where the kernel has no such function; else its absence is an error.
    """
    return Kfunc(function)


class Extern:
    """Base of the kernel's variables and settings; ``type`` is None where only the address counts."""

    section = ""

    def __init__(self, type: Type | None, name: str | None) -> None:
        self.type = type
        self._name = name
        self._home: dict[str, Any] = sys._getframe(2).f_globals

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self._name or ''}".rstrip()

    @property
    def name(self) -> str:
        """What the kernel calls it: the module-level variable that holds it, unless ``name=`` says otherwise."""
        if self._name is None:
            self._name = next((name for name, value in self._home.items() if value is self), None)
        if self._name is None:
            raise CompileError(f"a {type(self).__name__} has no name: assign it to a module-level variable")
        return self._name


class KSym(Extern):
    """``runqueues = KSym(rq)``: a variable of the kernel's; ``KSym()``: the address of any of its symbols."""

    section = ".ksyms"

    def __init__(self, type: Any = None, *, name: str | None = None) -> None:
        super().__init__(None if type is None else as_type(type), name)
        if isinstance(self.type, StructType) and not self.type.kernel:
            raise CompileError(f"KSym({self.type}): declare a structure of the kernel's as a KStruct")


class KConfig(Extern):
    """``CONFIG_HZ = KConfig(u32)``: a setting the kernel was built with; also ``LINUX_KERNEL_VERSION``."""

    section = ".kconfig"

    def __init__(self, type: Any, *, name: str | None = None) -> None:
        super().__init__(as_type(type), name)
        found = self.type
        text = isinstance(found, ArrayType) and found.element is char
        number = isinstance(found, Scalar) and not found.big
        if not text and not number and found is not bool_:
            raise CompileError(f"KConfig({found}): a setting is a bool, a number or a char[N]")
