"""Decorators, program kinds and the names that have a meaning in compiled functions only.

Nothing is compiled here: decorating a function records it, and its body is
never run by Python.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, NoReturn

from pybpf import abi
from pybpf.errors import CompileError, ObjectError
from pybpf.lang.contexts import cgroup_context
from pybpf.sections import parse_section


class Kind:
    """A kind of program: what its arguments are and how the memory behind them is read.

    ``prefixes`` are the section prefixes, the first one being written.
    ``arguments`` says whether the context is a row of 64-bit arguments, which
    the function then declares after ``ctx``. ``space`` is the pointer space of
    those (``btf``: typed by the verifier, direct loads; ``kern``: plain addresses,
    probe reads; ``user``: addresses of the process). ``typed_task`` chooses between helper 158 and 35 for
    current_task(). ``writable`` says that the context may be written, ``sleepable``
    that the program may wait for a page of the process's memory.
    """

    __slots__ = ("arguments", "name", "prefixes", "sleepable", "space", "typed_task", "writable")

    def __init__(
        self, prefixes: tuple[str, ...], space: str, arguments: bool, typed_task: bool, writable: bool = False
    ) -> None:
        self.name = prefixes[0]
        self.sleepable = self.name == "syscall" or self.name.endswith(".s")
        self.prefixes = prefixes
        self.space = space
        self.arguments = arguments
        self.typed_task = typed_task
        self.writable = writable


def _plain(*prefixes: str, writable: bool = True) -> Kind:
    """A kind whose context is a structure that the verifier knows."""
    return Kind(prefixes, "kern", False, False, writable)


# One row a kind. Sleepable ones (".s") may also call helpers that can fault pages in.
_KINDS = (
    Kind(("tp_btf",), "btf", True, True),
    Kind(("raw_tp", "raw_tracepoint", "raw_tp.w", "raw_tracepoint.w"), "kern", True, False),
    Kind(("tracepoint", "tp"), "kern", False, False),
    Kind(("fentry",), "btf", True, True),
    Kind(("fentry.s",), "btf", True, True),
    Kind(("fexit",), "btf", True, True),
    Kind(("fexit.s",), "btf", True, True),
    Kind(("fmod_ret",), "btf", True, True),
    Kind(("fmod_ret.s",), "btf", True, True),
    Kind(("lsm",), "btf", True, True),
    Kind(("lsm.s",), "btf", True, True),
    Kind(("lsm_cgroup",), "btf", True, True),
    Kind(("iter",), "btf", True, True),
    Kind(("iter.s",), "btf", True, True),
    Kind(("kprobe", "kprobe.multi"), "kern", True, False),
    Kind(("kretprobe", "kretprobe.multi"), "kern", False, False),
    Kind(("kprobe.session",), "kern", True, False),
    Kind(("ksyscall",), "user", True, False),
    Kind(("kretsyscall",), "kern", False, False),
    Kind(("uprobe", "uprobe.multi"), "user", True, False),
    Kind(("uprobe.s", "uprobe.multi.s"), "user", True, False),
    Kind(("uretprobe", "uretprobe.multi"), "user", False, False),
    Kind(("uretprobe.s", "uretprobe.multi.s"), "user", False, False),
    Kind(("uprobe.session",), "user", True, False),
    Kind(("uprobe.session.s",), "user", True, False),
    Kind(("usdt",), "user", False, False),
    Kind(("usdt.s",), "user", False, False),
    Kind(("perf_event",), "kern", False, False),
    Kind(("syscall",), "kern", False, False, writable=True),
    Kind(("netfilter",), "btf", True, False),
    _plain("xdp", "xdp.frags"),
    _plain("tc", "classifier", "tcx", "netkit"),
    _plain("action"),
    _plain("socket"),
    _plain("cgroup_skb"),
    _plain("cgroup"),
    _plain("sockops"),
    _plain("sk_msg"),
    _plain("sk_skb"),
    _plain("sk_lookup"),
    _plain("sk_reuseport"),
    _plain("lwt_in"),
    _plain("lwt_out"),
    _plain("lwt_xmit"),
    _plain("lwt_seg6local"),
    _plain("flow_dissector"),
    _plain("lirc_mode2", writable=False),
)
KINDS = {prefix: kind for kind in _KINDS for prefix in kind.prefixes}
# Kinds whose context is the registers at a function's start, or at its return.
# A session's program runs at both; a usdt's gets its arguments from other places than a call's.
_SESSIONS = ("kprobe.session", "uprobe.session", "uprobe.session.s")
AT_ENTRY = frozenset(("kprobe", "ksyscall", "uprobe", "uprobe.s", *_SESSIONS))
AT_RETURN = frozenset(("kretprobe", "kretsyscall", "uretprobe", "uretprobe.s", *_SESSIONS))
WITH_REGISTERS = AT_ENTRY | AT_RETURN | {"usdt", "usdt.s"}


def kind_of(section: str) -> Kind:
    """The kind of program that a section name stands for. Raises CompileError for an unknown one."""
    kind = KINDS.get(section.lstrip("?").split("/")[0])
    if kind is None:
        raise CompileError(f"section {section!r}: unknown program kind (known: {', '.join(k.name for k in _KINDS)})")
    try:
        parse_section(section)
    except ObjectError as error:
        raise CompileError(str(error)) from None
    return kind


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

    def __init__(self, function: FunctionType, verified_alone: bool = False) -> None:
        super().__init__(function)
        self.verified_alone = verified_alone


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
            name = f"{self.name}__{kind.name.replace('.', '_')}{count if count > 1 else ''}" if out else self.name
            out.append((name, section, kind))
        return out


PROGRAMS: dict[str, dict[str, Program]] = {}
"""Every program by module and name, in order of definition."""


def inline(function: FunctionType) -> Inline:
    """Compile the body anew at each call: arguments may be constants, maps, tuples."""
    return Inline(function)


def subprog(function: FunctionType | None = None, *, global_: bool = False) -> Any:
    """Compile to a function of its own; parameters and the result need annotations.

    A global one is verified once and for all, not anew at each call: it may be
    called with any numbers, and pointers that may be None (5.6).
    """
    return Subprog(function, global_) if function is not None else lambda other: Subprog(other, global_)


def hook(*sections: str, name: str | None = None) -> Callable[[FunctionType], Program]:
    """A program for the first of ``sections`` that the kernel can do, each compiled on its own."""
    if not sections or not all(isinstance(section, str) for section in sections):
        raise CompileError("hook() takes sections: @hook('tp_btf/sys_exit', 'raw_tp/sys_exit')")
    for section in sections:
        kind_of(section)
    return lambda function: Program(function, sections, name)


def _named(kind: str, name: object, example: str) -> str:
    """The name that a decorator takes; without brackets it would get the function instead."""
    if not isinstance(name, str) or not name:
        raise CompileError(f"@{kind} takes a name: @{kind}({example!r})")
    return name


def tracepoint(event: str, second: str | None = None, *, name: str | None = None) -> Callable[[FunctionType], Program]:
    """A program on a tracepoint: ``@tracepoint("syscalls:sys_enter_openat")`` (4.7)."""
    _named("tracepoint", event, "syscalls:sys_enter_openat")
    category, _, rest = f"{event}:{second}".partition(":") if second else event.replace("/", ":").partition(":")
    if not category or not rest:
        raise CompileError(f"tracepoint {event!r}: write category:name")
    return hook(f"tracepoint/{category}/{rest}", name=name)


def raw_tp(event: str, *, name: str | None = None) -> Callable[[FunctionType], Program]:
    """A program on a raw tracepoint; its arguments are plain addresses and numbers (4.17)."""
    return hook(f"raw_tp/{_named('raw_tp', event, 'sys_enter')}", name=name)


def tp_btf(event: str, *, name: str | None = None) -> Callable[[FunctionType], Program]:
    """A program on a raw tracepoint whose arguments the verifier knows the types of (5.5, x86; needs kernel BTF)."""
    return hook(f"tp_btf/{_named('tp_btf', event, 'sched_switch')}", name=name)


def _on_function(kind: str, doc: str, example: str = "do_unlinkat") -> Callable[..., Callable[[FunctionType], Program]]:
    def decorate(
        function: str, *, sleepable: bool = False, name: str | None = None
    ) -> Callable[[FunctionType], Program]:
        _named("bpf_iter" if kind == "iter" else kind, function, example)
        return hook(f"{kind}{'.s' if sleepable else ''}/{function}", name=name)

    decorate.__name__ = decorate.__qualname__ = kind
    decorate.__doc__ = doc
    return decorate


fentry = _on_function("fentry", "At a kernel function's start; its arguments are typed (5.5; arm64 6.0).")
fexit = _on_function("fexit", "When a kernel function returns: its arguments, then the result (5.5; arm64 6.0).")
fmod_ret = _on_function("fmod_ret", "In place of an error-injectable function, if the result is not 0 (5.7).")
lsm = _on_function(
    "lsm", "A security hook: its arguments; the result 0 or a negative errno decides (5.7).", "file_open"
)
bpf_iter = _on_function("iter", "Called for each object of a kind (``task``), then with None (5.8).", "task")


def kprobe(function: str, *, multi: bool = False, name: str | None = None) -> Callable[[FunctionType], Program]:
    """At a kernel function's start; up to 6 arguments as parameters or by ``ctx.arg(n)``, counted from 0 (4.1).

    With ``multi`` at all functions that the pattern ``function`` matches (5.18).
    """
    _named("kprobe", function, "do_unlinkat")
    return hook(f"kprobe{'.multi' if multi else ''}/{function}", name=name)


def kretprobe(function: str, *, multi: bool = False, name: str | None = None) -> Callable[[FunctionType], Program]:
    """When a kernel function returns; ``ctx.ret`` is its result (4.1; ``multi`` 5.18)."""
    _named("kretprobe", function, "do_unlinkat")
    return hook(f"kretprobe{'.multi' if multi else ''}/{function}", name=name)


def ksyscall(call: str, *, name: str | None = None) -> Callable[[FunctionType], Program]:
    """At the start of a system call's own function (``openat``): its arguments, pointers being the process's (4.17)."""
    return hook(f"ksyscall/{_named('ksyscall', call, 'openat')}", name=name)


def kretsyscall(call: str, *, name: str | None = None) -> Callable[[FunctionType], Program]:
    """When a system call's own function returns; ``ctx.ret`` is its result (4.17)."""
    return hook(f"kretsyscall/{_named('kretsyscall', call, 'openat')}", name=name)


def uprobe(
    binary: str, symbol: str, *, sleepable: bool = False, multi: bool = False, name: str | None = None
) -> Callable[[FunctionType], Program]:
    """At the start of a function in a program or library; as kprobe, pointers being the process's (4.3; multi 6.6)."""
    return hook(f"uprobe{'.multi' if multi else ''}{'.s' if sleepable else ''}/{binary}:{symbol}", name=name)


def uretprobe(
    binary: str, symbol: str, *, sleepable: bool = False, multi: bool = False, name: str | None = None
) -> Callable[[FunctionType], Program]:
    """When a function in a program or library returns; ``ctx.ret`` is its result (4.3; multi 6.6)."""
    return hook(f"uretprobe{'.multi' if multi else ''}{'.s' if sleepable else ''}/{binary}:{symbol}", name=name)


def sk_skb(which: str, *, name: str | None = None) -> Callable[[FunctionType], Program]:
    """On data that arrives at a SockMap's sockets: ``verdict`` (5.13), ``stream_verdict``, ``stream_parser`` (4.14)."""
    return hook(f"sk_skb/{_named('sk_skb', which, 'verdict')}", name=name)


def cgroup(which: str, *, name: str | None = None) -> Callable[[FunctionType], Program]:
    """For the processes of a control group: ``skb/egress``, ``sock_create``, ``connect4``, ``dev``, ``sysctl``."""
    _named("cgroup", which, "skb/egress")
    which = {"inet_sock_create": "sock_create", "inet_sock_release": "sock_release"}.get(which, which)
    parts = which.split("/")
    if parts[0] == "skb" and len(parts) == 2 and parts[1] in ("ingress", "egress"):
        return hook(f"cgroup_skb/{parts[1]}", name=name)
    if len(parts) > 1 or cgroup_context(which) is None:
        raise CompileError(f"cgroup hook {which!r} is not known: skb/ingress, sock_create, connect4, sysctl, dev ...")
    return hook(f"cgroup/{which}", name=name)


def _bare(section: str, doc: str) -> Callable[..., Any]:
    def decorate(function: FunctionType | None = None, *, name: str | None = None) -> Any:
        return Program(function, (section,), name) if function is not None else hook(section, name=name)

    decorate.__name__ = decorate.__qualname__ = section
    decorate.__doc__ = doc
    return decorate


xdp = _bare("xdp", "On every packet that a network device receives, before the kernel's stack (4.8).")
tc = _bare("tc", "Traffic control: on packets that come or go through a qdisc (4.1).")
socket_filter = _bare("socket", "On packets that reach a socket; the result says how many bytes to keep (3.19).")
syscall = _bare("syscall", "Run by user space with BPF_PROG_TEST_RUN; may sleep and make bpf() calls (5.14).")
netfilter = _bare(
    "netfilter", "On packets at a netfilter hook: ``state`` and ``skb``; returns NF_DROP or NF_ACCEPT (6.4)."
)
flow_dissector = _bare("flow_dissector", "In place of the kernel's own dissection of packets' headers (4.20).")
perf_event = _bare("perf_event", "When a perf event counts over, as for sampling (4.9).")
sockops = _bare("sockops", "On a TCP connection's events (4.13).")
sk_lookup = _bare("sk_lookup", "Choose the socket for an incoming connection (5.9).")
sk_msg = _bare("sk_msg", "On messages that sockets of a map send (4.17).")
sk_reuseport = _bare("sk_reuseport", "Choose among sockets that share a port (4.19).")


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
        ("atomic_and", "atomic_and(place, n): keep n's bits, in one step."),
        (
            "atomic_cmpxchg",
            "atomic_cmpxchg(place, expected, new): write new if expected is there; the old value (5.12).",
        ),
        ("atomic_fetch_add", "atomic_fetch_add(place, n): atomic_add() that gives the old value (5.12)."),
        ("atomic_fetch_and", "atomic_fetch_and(place, n): atomic_and() that gives the old value (5.12)."),
        ("atomic_fetch_or", "atomic_fetch_or(place, n): atomic_or() that gives the old value (5.12)."),
        ("atomic_fetch_xor", "atomic_fetch_xor(place, n): atomic_xor() that gives the old value (5.12)."),
        ("atomic_or", "atomic_or(place, n): set n's bits, in one step."),
        ("atomic_xchg", "atomic_xchg(place, n): write n; the old value (5.12)."),
        ("atomic_xor", "atomic_xor(place, n): flip n's bits, in one step."),
        ("atmost", "while atmost(n) and x: at most n passes."),
        ("cast", "cast(Ptr[T], x): the pointer or number x as a pointer to T."),
        ("comm", "comm(place): write the current task's name there."),
        ("container_of", "container_of(p, T, 'field'): a pointer to the T whose member p points to."),
        ("context", "context(): the program's context, for inline functions."),
        ("copy", "copy(to, from): copy as many bytes as the smaller place has."),
        ("current_task", "current_task(): the current task."),
        ("endswith", "endswith(place, text, n): whether the n bytes of a string end with that constant."),
        ("exists", "exists(p.field) or exists(T): whether the running kernel has that field or type."),
        ("find_vma", "find_vma(task, address, fn, args...): fn(task, vma, args...) for the memory area there (5.17)."),
        ("has", "has(helper): whether the running kernel has that helper function."),
        ("is_typed", "is_typed(p): whether reading what p points to is a plain load here, known when compiling."),
        ("kenum", "kenum('enum_name', 'VALUE'): what that value is in the running kernel (32 bits)."),
        ("kenum64", "kenum64('enum_name', 'VALUE'): the same of an enum of 64-bit values (6.0)."),
        ("kenum_exists", "kenum_exists('enum_name', 'VALUE'): whether the running kernel's enum has it."),
        ("loop", "loop(n, fn, args...): fn(i, args...) for i from 0, until it gives a true value; the passes made."),
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
        (
            "startswith",
            "startswith(place, text): whether a string starts with that constant or setting, or any in a trie.",
        ),
        ("tail_call", "tail_call(ctx, programs, index): go on with that program; comes back only if there is none."),
        ("timer_set_callback", "timer_set_callback(v.timer, m, fn): fn(key, value) when the time is up (5.15)."),
        ("tid", "tid(): the current thread's number (kernel: pid)."),
        ("try_read", "ok, value = try_read(p.field): a number or pointer and whether it could be read."),
        ("uid", "uid(): the current user's number."),
        ("user", "user(T, address): a pointer to a T in the process's memory."),
        ("unroll", "for x in unroll(seq): the body once for each element, which is a constant in it."),
    )
}

CONSTANTS: dict[str, Any] = {
    "BPF_ANY": abi.ANY,
    "BPF_NOEXIST": abi.NOEXIST,
    "BPF_EXIST": abi.EXIST,
    "BPF_F_CURRENT_CPU": 0xFFFFFFFF,
    "BPF_F_USER_STACK": 1 << 8,
    "CLOCK_REALTIME": 0,
    "CLOCK_MONOTONIC": 1,
    "CLOCK_BOOTTIME": 7,
    "BPF_RB_NO_WAKEUP": 1 << 0,
    "BPF_RB_FORCE_WAKEUP": 1 << 1,
    "BPF_RB_AVAIL_DATA": 0,
    "BPF_RB_RING_SIZE": 1,
    "BPF_RB_CONS_POS": 2,
    "BPF_RB_PROD_POS": 3,
    "XDP_ABORTED": 0,
    "XDP_DROP": 1,
    "XDP_PASS": 2,
    "XDP_TX": 3,
    "XDP_REDIRECT": 4,
    "TC_ACT_UNSPEC": -1,
    "TC_ACT_OK": 0,
    "TC_ACT_SHOT": 2,
    "TC_ACT_REDIRECT": 7,
    "SK_DROP": 0,
    "SK_PASS": 1,
    "NF_DROP": 0,
    "NF_ACCEPT": 1,
}
