"""What a section's name says about its program: type, attach type, hook (libbpf's spelling, its section_defs)."""

from __future__ import annotations

from pybpf import abi
from pybpf.errors import ObjectError

# How the hook's name becomes a BTF type of the kernel: a prefix, and whether it is a typedef (else a function).
_TRACEPOINT_BTF = ("btf_trace_", True)
_FUNCTION_BTF = ("", False)
_LSM_BTF = ("bpf_lsm_", False)
_ITER_BTF = ("bpf_iter_", False)


class Section:
    """A program section's meaning.

    ``type`` and ``attach_type`` are the kernel's numbers, ``flags`` load flags,
    ``kind`` the canonical first part without ``.s`` and ``.frags`` (``tp`` for
    ``tracepoint``, ``cgroup`` for ``cgroup_skb``), ``target`` what
    follows it, ``btf`` how to look ``target`` up in the kernel's BTF or None.
    """

    __slots__ = ("attach_type", "btf", "flags", "kind", "name", "target", "type")

    def __init__(
        self, name: str, kind: str, type: int, attach_type: int, flags: int, btf: tuple[str, bool] | None, target: str
    ) -> None:
        self.name = name
        self.kind = kind
        self.type = type
        self.attach_type = attach_type
        self.flags = flags
        self.btf = btf
        self.target = target

    @property
    def sleepable(self) -> bool:
        """Whether the program may sleep, and so fault pages in (5.10; system call programs 5.14)."""
        return bool(self.flags & abi.F_SLEEPABLE)


# Sections with a hook behind the first part: program type, expected attach type, BTF lookup of the hook.
_HOOKED: dict[str, tuple[int, int, tuple[str, bool] | None]] = {
    "tp_btf": (abi.PROG_TYPE_TRACING, abi.TRACE_RAW_TP, _TRACEPOINT_BTF),
    "fentry": (abi.PROG_TYPE_TRACING, abi.TRACE_FENTRY, _FUNCTION_BTF),
    "fexit": (abi.PROG_TYPE_TRACING, abi.TRACE_FEXIT, _FUNCTION_BTF),
    "fmod_ret": (abi.PROG_TYPE_TRACING, abi.MODIFY_RETURN, _FUNCTION_BTF),
    "iter": (abi.PROG_TYPE_TRACING, abi.TRACE_ITER, _ITER_BTF),
    "lsm": (abi.PROG_TYPE_LSM, abi.LSM_MAC, _LSM_BTF),
    "lsm_cgroup": (abi.PROG_TYPE_LSM, abi.LSM_CGROUP, _LSM_BTF),
    # The function that it replaces belongs to another program, which the caller has to name.
    "freplace": (abi.PROG_TYPE_EXT, 0, None),
    "raw_tp": (abi.PROG_TYPE_RAW_TRACEPOINT, 0, None),
    "raw_tp.w": (abi.PROG_TYPE_RAW_TRACEPOINT_WRITABLE, 0, None),
    "tp": (abi.PROG_TYPE_TRACEPOINT, 0, None),
    "kprobe": (abi.PROG_TYPE_KPROBE, 0, None),
    "kretprobe": (abi.PROG_TYPE_KPROBE, 0, None),
    "ksyscall": (abi.PROG_TYPE_KPROBE, 0, None),
    "kretsyscall": (abi.PROG_TYPE_KPROBE, 0, None),
    "uprobe": (abi.PROG_TYPE_KPROBE, 0, None),
    "uretprobe": (abi.PROG_TYPE_KPROBE, 0, None),
    "usdt": (abi.PROG_TYPE_KPROBE, 0, None),
    "kprobe.multi": (abi.PROG_TYPE_KPROBE, abi.TRACE_KPROBE_MULTI, None),
    "kretprobe.multi": (abi.PROG_TYPE_KPROBE, abi.TRACE_KPROBE_MULTI, None),
    "kprobe.session": (abi.PROG_TYPE_KPROBE, abi.TRACE_KPROBE_SESSION, None),
    "uprobe.multi": (abi.PROG_TYPE_KPROBE, abi.TRACE_UPROBE_MULTI, None),
    "uretprobe.multi": (abi.PROG_TYPE_KPROBE, abi.TRACE_UPROBE_MULTI, None),
    "uprobe.session": (abi.PROG_TYPE_KPROBE, abi.TRACE_UPROBE_SESSION, None),
}
# First parts of these that may end in ".s": sleepable programs.
_MAY_SLEEP = frozenset(
    (
        *("fentry", "fexit", "fmod_ret", "iter", "lsm", "uprobe", "uretprobe", "usdt"),
        *("uprobe.multi", "uretprobe.multi", "uprobe.session"),
    )
)
_ALIASES = {"tracepoint": "tp", "raw_tracepoint": "raw_tp", "raw_tracepoint.w": "raw_tp.w"}


def parse_section(name: str) -> Section:
    """The meaning of section ``name`` such as ``tp_btf/sys_exit``; a leading ``?`` (optional program) is allowed.

    Raises ObjectError for a section that is not known or lacks its hook.
    """
    bare = name.lstrip("?")
    first, _, target = bare.partition("/")
    kind = _ALIASES.get(first, first)
    flags = 0
    if kind[-2:] == ".s" and kind[:-2] in _MAY_SLEEP:
        kind, flags = kind[:-2], abi.F_SLEEPABLE
    hooked = _HOOKED.get(kind)
    if hooked is not None:
        type, attach_type, btf = hooked
        if btf is not None and not target:
            raise ObjectError(f"section {name!r} must name its hook, as in {first}/NAME")
        return Section(name, kind, type, attach_type, flags, btf, target)
    if first == "xdp.frags":
        bare, flags = "xdp" + bare[9:], abi.F_XDP_HAS_FRAGS
    from pybpf.wholesections import ALIASES, SECTIONS

    bare = ALIASES.get(bare, bare)
    whole = SECTIONS.get(bare)
    if whole is None:
        raise ObjectError(f"section {name!r} {_why_unknown(first, kind)}")
    kind, _, target = bare.partition("/")
    if kind == "syscall":
        flags = abi.F_SLEEPABLE
    return Section(name, "cgroup" if kind == "cgroup_skb" else kind, *whole, flags, None, target)


def known_sections() -> tuple[list[str], list[str]]:
    """First parts that take a hook's name behind a ``/``, and sections that are whole as they stand."""
    from pybpf.wholesections import ALIASES, SECTIONS

    sleeping = [f"{kind}.s" for kind in _MAY_SLEEP]
    frags = ["xdp.frags" + name[3:] for name in SECTIONS if name.partition("/")[0] == "xdp"]
    return sorted([*_HOOKED, *_ALIASES, *sleeping]), sorted([*SECTIONS, *ALIASES, *frags])


def _why_unknown(first: str, kind: str) -> str:
    if first in ("struct_ops", "struct_ops.s", "struct_ops.link"):
        return "is not supported: struct_ops replaces a table of the kernel's functions as a whole"
    if kind[:-2] in _HOOKED and kind[-2:] == ".s":
        return f"is no known kind of program: {kind[:-2]} programs cannot sleep"
    alike = sorted({name for name in known_sections()[1] if name.partition("/")[0] == first})
    if alike:
        return f"is no known kind of program; of {first} there are: {', '.join(alike)}"
    hooked, whole = known_sections()
    kinds = sorted({*hooked, *[name.partition("/")[0] for name in whole]})
    return f"is no known kind of program; known are: {', '.join(kinds)}"
