"""Decorators, program kinds and the names that have a meaning in compiled functions only.

Nothing is compiled here: decorating a function records it, and its body is
never run by Python.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, NoReturn

from pybpf import abi
from pybpf.errors import CompileError
from pybpf.lang.types import StructType, char, i64, u64


class Kind:
    """A kind of program: what its arguments are and how the memory behind them is read.

    ``prefixes`` are the section prefixes, the first one being written.
    ``arguments`` says whether the context is a row of 64-bit arguments, which
    the function then declares after ``ctx``. ``space`` is the pointer space of
    those (``btf``: typed by the verifier, direct loads; ``kern``: plain addresses,
    probe reads). ``typed_task`` chooses between helper 158 and 35 for
    current_task(). ``writable`` says that the context may be written.
    """

    __slots__ = ("arguments", "name", "prefixes", "space", "typed_task", "writable")

    def __init__(
        self, prefixes: tuple[str, ...], space: str, arguments: bool, typed_task: bool, writable: bool = False
    ) -> None:
        self.name = prefixes[0]
        self.prefixes = prefixes
        self.space = space
        self.arguments = arguments
        self.typed_task = typed_task
        self.writable = writable


# One row a kind. fentry, fexit and lsm pass their arguments as tp_btf does.
_KINDS = (
    Kind(("tp_btf",), "btf", True, True),
    Kind(("raw_tp", "raw_tracepoint"), "kern", True, False),
    Kind(("tracepoint", "tp"), "kern", False, False),
    Kind(("fentry",), "btf", True, True),
    Kind(("fexit",), "btf", True, True),
    Kind(("lsm",), "btf", True, True),
    Kind(("syscall",), "kern", False, False, writable=True),
)
KINDS = {prefix: kind for kind in _KINDS for prefix in kind.prefixes}


def kind_of(section: str) -> Kind:
    """The kind of program that a section name stands for. Raises CompileError for an unknown one."""
    kind = KINDS.get(section.split("/")[0])
    if kind is None:
        raise CompileError(f"section {section!r}: unknown program kind (known: {', '.join(k.name for k in _KINDS)})")
    return kind


def _syscall_context(name: str, last: str) -> StructType:
    """Context of a syscalls:sys_{enter,exit}_* tracepoint (kernel/trace/trace_syscalls.c)."""
    layout = StructType(name)
    layout.add("common", char[8])
    layout.add("nr", i64)
    if last == "args":
        layout.add("args", u64[6])
    else:
        layout.add("ret", i64)
    layout.finish()
    return layout


_SYS_ENTER = _syscall_context("sys_enter_context", "args")
_SYS_EXIT = _syscall_context("sys_exit_context", "ret")


def known_context(section: str) -> StructType | None:
    """The context's layout where the section alone says it, else None."""
    parts = section.split("/")
    if parts[0] in ("tracepoint", "tp") and len(parts) == 3 and parts[1] == "syscalls":
        if parts[2].startswith("sys_enter_"):
            return _SYS_ENTER
        if parts[2].startswith("sys_exit_"):
            return _SYS_EXIT
    return None


class Compiled:
    """A function that is compiled: ``function`` is kept for its code's place and its names, not to be called."""

    what = "compiled function"

    def __init__(self, function: FunctionType) -> None:
        if not isinstance(function, FunctionType):
            raise CompileError(f"{function!r} is not a plain function: decorators of the language go on top of 'def'")
        self.function = function
        self.name = function.__name__
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise CompileError(f"{self.name} is a {self.what}: its body is compiled for the kernel and cannot be called")

    def __repr__(self) -> str:
        return f"<{self.what} {self.name}>"


class Inline(Compiled):
    """A function that is compiled anew at each call."""

    what = "inline function"


class Subprog(Compiled):
    """A function of its own in the kernel, called with up to 5 arguments."""

    what = "subprogram"


class Program(Compiled):
    """A program and the sections (hooks) it can be compiled for, the preferred one first."""

    what = "program"

    def __init__(self, function: FunctionType, sections: tuple[str, ...], name: str | None = None) -> None:
        super().__init__(function)
        if name is not None:
            self.name = name
        if not self.name.isidentifier():
            raise CompileError(f"program name {self.name!r} is not an identifier")
        self.sections = sections
        PROGRAMS.setdefault(function.__module__, {})[self.name] = self

    def variants(self) -> list[tuple[str, str, Kind]]:
        """``(name, section, kind)`` for every section; all but the first get the kind's name as suffix."""
        out: list[tuple[str, str, Kind]] = []
        used: dict[str, int] = {}
        for section in self.sections:
            kind = kind_of(section)
            count = used[kind.name] = used.get(kind.name, 0) + 1
            name = f"{self.name}__{kind.name}{count if count > 1 else ''}" if out else self.name
            out.append((name, section, kind))
        return out


PROGRAMS: dict[str, dict[str, Program]] = {}
"""Every program by module and name, in order of definition."""


def inline(function: FunctionType) -> Inline:
    """Compile the body anew at each call: arguments may be constants, maps, tuples."""
    return Inline(function)


def subprog(function: FunctionType) -> Subprog:
    """Compile to a function of its own; parameters and the result need annotations."""
    return Subprog(function)


def hook(*sections: str, name: str | None = None) -> Callable[[FunctionType], Program]:
    """A program for the first of ``sections`` that the kernel can do, each compiled on its own."""
    if not sections or not all(isinstance(section, str) for section in sections):
        raise CompileError("hook() takes sections: @hook('tp_btf/sys_exit', 'raw_tp/sys_exit')")
    for section in sections:
        kind_of(section)
    return lambda function: Program(function, sections, name)


def tracepoint(event: str, second: str | None = None, *, name: str | None = None) -> Callable[[FunctionType], Program]:
    """A program on a tracepoint: ``@tracepoint("syscalls:sys_enter_openat")`` (4.7)."""
    category, _, rest = f"{event}:{second}".partition(":") if second else event.replace("/", ":").partition(":")
    if not category or not rest:
        raise CompileError(f"tracepoint {event!r}: write category:name")
    return hook(f"tracepoint/{category}/{rest}", name=name)


def raw_tp(event: str, *, name: str | None = None) -> Callable[[FunctionType], Program]:
    """A program on a raw tracepoint; its arguments are plain addresses and numbers (4.17)."""
    return hook(f"raw_tp/{event}", name=name)


def tp_btf(event: str, *, name: str | None = None) -> Callable[[FunctionType], Program]:
    """A program on a raw tracepoint whose arguments the verifier knows the types of (5.5, x86; needs kernel BTF)."""
    return hook(f"tp_btf/{event}", name=name)


class Intrinsic:
    """A function of the language itself; ``name`` is looked up by the compiler."""

    def __init__(self, name: str, doc: str) -> None:
        self.name = name
        self.__doc__ = doc

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise CompileError(f"{self.name}() has a meaning in compiled functions only")

    def __repr__(self) -> str:
        return f"<intrinsic {self.name}>"


INTRINSICS = {
    name: Intrinsic(name, doc)
    for name, doc in (
        ("addr", "addr(place): a pointer to it."),
        ("atomic_add", "atomic_add(place, n): add in one step, as needed where CPUs share a value."),
        ("cast", "cast(Ptr[T], x): the pointer or number x as a pointer to T."),
        ("comm", "comm(place): write the current task's name there."),
        ("container_of", "container_of(p, T, 'field'): a pointer to the T whose member p points to."),
        ("copy", "copy(to, from): copy as many bytes as the smaller place has."),
        ("current_task", "current_task(): the current task."),
        ("exists", "exists(p.field) or exists(T): whether the running kernel has that field or type."),
        ("has", "has(helper): whether the running kernel has that helper function."),
        ("kenum", "kenum('enum_name', 'VALUE'): what that value is in the running kernel (32 bits)."),
        ("kenum_exists", "kenum_exists('enum_name', 'VALUE'): whether the running kernel's enum has it."),
        ("offsetof", "offsetof(T, 'field'): its offset in bytes."),
        ("pid", "pid(): the current process's number in the initial pid namespace (kernel: tgid)."),
        (
            "read_kernel",
            "read_kernel(to, address, size=sizeof(to)): result of the helper; or read_kernel(u64, address).",
        ),
        ("read_kernel_str", "read_kernel_str(to, address, size=sizeof(to)): bytes with the NUL, or negative."),
        ("read_user", "read_user(to, address, size=sizeof(to)): result of the helper; or read_user(u64, address)."),
        ("read_user_str", "read_user_str(to, address, size=sizeof(to)): bytes with the NUL, or negative."),
        ("sizeof", "sizeof(T) or sizeof(place): its size in bytes."),
        ("tail_call", "tail_call(ctx, programs, index): go on with that program; comes back only if there is none."),
        ("tid", "tid(): the current thread's number (kernel: pid)."),
        ("uid", "uid(): the current user's number."),
        ("unroll", "for x in unroll(seq): the body once for each element, which is a constant in it."),
    )
}

CONSTANTS: dict[str, Any] = {
    "BPF_ANY": abi.ANY,
    "BPF_NOEXIST": abi.NOEXIST,
    "BPF_EXIST": abi.EXIST,
    "BPF_F_CURRENT_CPU": 0xFFFFFFFF,
    "BPF_F_USER_STACK": 1 << 8,
    "BPF_RB_NO_WAKEUP": 1 << 0,
    "BPF_RB_FORCE_WAKEUP": 1 << 1,
    "BPF_RB_AVAIL_DATA": 0,
    "BPF_RB_RING_SIZE": 1,
    "BPF_RB_CONS_POS": 2,
    "BPF_RB_PROD_POS": 3,
}
