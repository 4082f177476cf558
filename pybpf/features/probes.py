"""Probes: whether this kernel has a feature, found out by using it; versions are claims to explain with.

Every probe makes what it is about, and closes it again. It returns for a feature that is there,
and raises SyscallError with the kernel's answer for one that is not. What only
privileges, locks or memory stand against is unknown, not missing.
"""

from __future__ import annotations

import os
from errno import EAGAIN, EBADF, EINVAL, ENOMEM, EPERM, ESRCH
from struct import pack
from sys import byteorder

from pybpf import abi, attrs, commands, kernel, syscalls
from pybpf.errors import Error, LoadError, NotSupported, SyscallError
from pybpf.privilege import kernel_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

YES, NO, UNKNOWN = "yes", "no", "unknown"


class Finding:
    """``state`` of ``name``: YES, NO or UNKNOWN; ``since`` the Linux version that it came with, as claimed.

    ``reason`` says what was observed, empty for YES; ``remedy`` what to do about it, where there is something.
    """

    __slots__ = ("name", "reason", "remedy", "since", "state")

    def __init__(self, name: str, state: str, since: str = "", reason: str = "", remedy: str = "") -> None:
        self.name = name
        self.state = state
        self.since = since
        self.reason = reason
        self.remedy = remedy

    def as_dict(self) -> dict[str, str]:
        """All of it, for JSON."""
        return {name: getattr(self, name) for name in ("name", "state", "since", "reason", "remedy")}

    def __repr__(self) -> str:
        return f"<Finding {self.name} {self.state} {self.reason}>"


class Feature:
    """Something to probe: ``options`` are what it takes of the kernel's configuration, without CONFIG_."""

    __slots__ = ("name", "options", "probe", "since")

    def __init__(self, name: str, since: str, probe: Callable[[], object], options: tuple[str, ...] = ()) -> None:
        self.name = name
        self.since = since
        self.probe = probe
        self.options = options


def version(text: str) -> tuple[int, ...]:
    """``(5, 10)`` for ``"5.10"``."""
    return tuple([int(part) for part in text.split(".")])


def find(feature: Feature) -> Finding:
    """Probe one feature."""
    try:
        feature.probe()
    except SyscallError as error:
        return _missing(feature, error)
    except Error as error:  # no BTF, no such type in it
        return Finding(feature.name, NO, feature.since, str(error), _remedy(feature))
    return Finding(feature.name, YES, feature.since)


def _missing(feature: Feature, error: SyscallError) -> Finding:
    if error.errno in (EPERM, ENOMEM, EAGAIN) and not isinstance(error, NotSupported):
        remedy = "" if error.errno == ENOMEM else "see what `system` says of privileges and locks"
        return Finding(feature.name, UNKNOWN, feature.since, str(error), remedy)
    return Finding(feature.name, NO, feature.since, _why(feature, error), _remedy(feature))


def _why(feature: Feature, error: SyscallError) -> str:
    off = options_off(feature.options)
    if off:
        return f"CONFIG_{off[0]} is not set"
    if version(feature.since) > kernel_version():
        return f"came with Linux {feature.since}, this is {os.uname().release}"
    return str(error)


def _remedy(feature: Feature) -> str:
    off = options_off(feature.options)
    if off:
        return f"a kernel built with CONFIG_{off[0]}"
    return f"Linux {feature.since} or newer" if version(feature.since) > kernel_version() else ""


_settings: dict[str, str] | None = None


def settings() -> dict[str, str] | None:
    """The kernel's configuration as far as features depend on it, ``{"BPF_JIT": "y"}``; None if it cannot be read."""
    global _settings
    if _settings is None:
        from pybpf.externs import config_lines

        wanted = {f"CONFIG_{name}" for name in every_option()}
        try:
            _settings = {name[7:]: value for name, value in config_lines(wanted).items()}
        except NotSupported:
            return None
    return _settings


def every_option() -> list[str]:
    """All options that some feature takes, sorted."""
    from pybpf.features import tables

    return sorted({option for feature in tables.everything() for option in feature.options} | set(tables.GENERAL))


def options_off(options: Iterable[str]) -> list[str]:
    """Those of ``options`` that are known to be off."""
    known = settings()
    return [] if known is None else [name for name in options if name not in known]


# --- maps -----------------------------------------------------------------------


def make_map(name: str) -> None:
    """Make a small map of a type and close it. Raises LoadError."""
    from pybpf.maps.create import create, nested, struct_ops

    if name == "struct_ops":
        struct_ops("tcp_congestion_ops").close()
    elif name.endswith("_of_maps"):
        nested(name, None if name.startswith("array") else "I", "array", None, "I", 1, 1, name="probe").close()
    else:
        create(name, *_MAP_SHAPES.get(name, ("I", "I", 1)), name="probe").close()


_PAGE = 4096
# Key, value, entries where they are not "I", "I", 1; None where the type knows.
_MAP_SHAPES: dict[str, tuple[object, object, int]] = {
    "stack_trace": (None, "127Q", 1),
    "cgroup_storage": ("=QI4x", "Q", 0),
    "percpu_cgroup_storage": ("=QI4x", "Q", 0),
    "lpm_trie": ("II", "I", 1),
    "ringbuf": (None, None, _PAGE),
    "user_ringbuf": (None, None, _PAGE),
    "arena": (None, None, 1),
    "insn_array": (None, "4I", 1),
    **dict.fromkeys(("prog_array", "perf_event_array", "cgroup_array", "xskmap"), (None, None, 1)),
    **dict.fromkeys(("queue", "stack", "bloom_filter"), (None, "I", 1)),
    **dict.fromkeys(("sk_storage", "inode_storage", "task_storage", "cgrp_storage"), (None, "I", 0)),
    **dict.fromkeys(("array", "percpu_array", "devmap", "devmap_hash", "sockmap", "cpumap"), (None, "I", 1)),
    "reuseport_sockarray": (None, "Q", 1),
}


# --- programs -------------------------------------------------------------------


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    """One instruction."""
    registers = src << 4 | dst if byteorder == "little" else dst << 4 | src
    return pack("=BBhi", code, registers, off, imm)


ZERO, EXIT = insn(0xB7), insn(0x95)  # r0 = 0; exit
_EXPECTED = {
    "sk_lookup": abi.SK_LOOKUP,
    "netfilter": abi.NETFILTER,
    "cgroup_sock_addr": abi.CGROUP_INET4_CONNECT,
    "cgroup_sockopt": abi.CGROUP_GETSOCKOPT,
}


def type_number(name: str) -> int:
    """The number of a program type."""
    found: int = getattr(abi, f"PROG_TYPE_{name.upper()}")
    return found


def load(code: bytes, type: int = abi.PROG_TYPE_SOCKET_FILTER, **fields: int) -> kernel.Fd:
    """Load a program. Raises LoadError."""
    result = kernel.prog_load(type, code, "GPL", name="probe", **fields)  # type: ignore[arg-type]
    if result < 0:
        raise kernel.failure(LoadError, "BPF_PROG_LOAD", "a probe", -result)
    return kernel.Fd(result, "probe")


def hook_id(name: str, kind: int) -> int:
    """The BTF id of something that programs can be attached to. Raises BtfError."""
    from pybpf import inkernel

    found = inkernel.find_ids([(name, kind)])
    if found is not None:
        return found[0]
    from btf.reader import Btf

    with Btf.kernel() as btf:
        return btf.find_id(name, kind)


def load_type(name: str) -> None:
    """Load the smallest program of a type. Raises LoadError, and BtfError where the kernel has no BTF for it."""
    from btf.format import KIND_FUNC, KIND_TYPEDEF

    type = type_number(name)
    if name == "tracing":
        id = hook_id("btf_trace_sched_switch", KIND_TYPEDEF)
        load(ZERO + EXIT, type, expected_attach_type=abi.TRACE_RAW_TP, attach_btf_id=id).close()
    elif name == "lsm":
        id = hook_id("bpf_lsm_file_open", KIND_FUNC)
        load(ZERO + EXIT, type, expected_attach_type=abi.LSM_MAC, attach_btf_id=id).close()
    elif name in ("ext", "struct_ops"):
        _refused_by_verifier(type)
    else:
        flags = abi.F_SLEEPABLE if name == "syscall" else 0
        load(ZERO + EXIT, type, flags=flags, expected_attach_type=_EXPECTED.get(name, 0)).close()


def _refused_by_verifier(type: int) -> None:
    """Programs that need more than a probe has: the verifier's own words show that it knows the type."""
    log = bytearray(4096)
    result = kernel.prog_load(type, ZERO + EXIT, "GPL", attach_btf_id=1, log_level=1, log=log)
    if result >= 0:
        os.close(result)
    elif result != -abi.ENOTSUPP and not log[0]:
        raise kernel.failure(LoadError, "BPF_PROG_LOAD", "a probe", -result)


# --- helpers --------------------------------------------------------------------

_UNKNOWN_HELPER = (b"unknown func", b"invalid func", b"program of this type cannot use helper")


def helpers(type: str, names: dict[int, str]) -> list[str]:
    """Those helpers of ``names`` (by number) that programs of a type may call. Raises Error if none can be loaded."""
    load_type(type)
    fields: dict[str, int] = {"expected_attach_type": _EXPECTED.get(type, 0)}
    if type == "tracing":
        from btf.format import KIND_TYPEDEF

        id = hook_id("btf_trace_sched_switch", KIND_TYPEDEF)
        fields = {"expected_attach_type": abi.TRACE_RAW_TP, "attach_btf_id": id}
    elif type == "syscall":
        fields["flags"] = abi.F_SLEEPABLE
    number = type_number(type)
    found = []
    log = bytearray(512)
    for id, name in names.items():
        log[:] = bytes(512)
        code = insn(0x85, imm=id) + ZERO + EXIT
        result = kernel.prog_load(number, code, "GPL", log_level=1, log=log, **fields)  # type: ignore[arg-type]
        if result >= 0:
            os.close(result)
        # A log that is cut short (ENOSPC) has its end since 6.4, its beginning before: the words stand in both.
        if result >= 0 or not any(words in log for words in _UNKNOWN_HELPER):
            found.append(name)
    return found


def helper_names() -> dict[int, str]:
    """Helpers by number: this kernel's own, from its BTF; without BTF those that the compiler knows."""
    from btf.errors import Error as BtfError
    from btf.format import KIND_ENUM
    from btf.reader import Btf

    try:
        with Btf.kernel() as btf:
            # The enumerators of bpf_func_id; the enum itself has that name in C and in BTF.
            values = btf.enumerators(btf.find_id("bpf_func_id", KIND_ENUM))
        return {number: name[9:] for name, number in values if name.startswith("BPF_FUNC_") and 0 < number < 1 << 16}
    except (BtfError, OSError):
        try:
            from pybpf.lang import helpers as known
        except ImportError:  # a copy without the compiler, which has the names
            return {}

        return {helper.number: name for name, helper in known.HELPERS.items()}


# --- single features ------------------------------------------------------------


def known_command(command: int, attr: bytearray) -> None:
    """A command with a descriptor that is none: a kernel that knows it says EBADF."""
    result = syscalls.bpf(command, attr)
    if result >= 0:
        os.close(result)
    elif result != -EBADF:
        raise kernel.failure(SyscallError, abi.COMMAND_NAMES[command], "a probe", -result)


def file_exists(path: str) -> None:
    """Raises NotSupported if there is no such file."""
    if not os.path.exists(path):
        raise NotSupported(f"there is no {path}", EINVAL)


def load_btf(build: Callable[..., object]) -> None:
    """Load BTF that ``build`` puts into a builder. Raises LoadError."""
    from btf.builder import Builder

    builder = Builder(byteorder)
    build(builder)
    kernel.btf_load(builder.to_bytes()).close()


def attach_fentry() -> None:
    """Trace the beginning of a function by a trampoline."""
    from btf.format import KIND_FUNC

    id = hook_id("vfs_read", KIND_FUNC)
    with load(ZERO + EXIT, abi.PROG_TYPE_TRACING, expected_attach_type=abi.TRACE_FENTRY, attach_btf_id=id) as program:
        kernel.raw_tracepoint_open("", program.fd).close()


def attach_lsm() -> None:
    """A security hook, where `bpf` is among the active modules: elsewhere such programs never run."""
    from pybpf.links.tracing import check_lsm

    load_type("lsm")
    check_lsm("BPF LSM")


def attach_kprobe_multi() -> None:
    """One link for many functions."""
    name = bytearray(b"vfs_read\0")
    where = bytearray(pack("=Q", syscalls.address(name)))
    with load(ZERO + EXIT, abi.PROG_TYPE_KPROBE, expected_attach_type=abi.TRACE_KPROBE_MULTI) as program:
        commands.link_create(program.fd, 0, abi.TRACE_KPROBE_MULTI, 0, "kprobe_multi", cnt=1, syms=where).close()


def attach_uprobe_multi() -> None:
    """One link for many places of a file; ``/`` is no file, which is what a kernel that knows such links says."""
    path, offsets = bytearray(b"/\0"), bytearray(8)
    with load(ZERO + EXIT, abi.PROG_TYPE_KPROBE, expected_attach_type=abi.TRACE_UPROBE_MULTI) as program:
        try:
            commands.link_create(
                *(program.fd, 0, abi.TRACE_UPROBE_MULTI, 0, "uprobe_multi"), path=path, offsets=offsets, cnt=1
            ).close()
        except SyscallError as error:
            if error.errno not in (EBADF, ESRCH):
                raise


def perf_link() -> None:
    """A link to a perf event: here one that is none."""
    with load(ZERO + EXIT, abi.PROG_TYPE_TRACEPOINT) as program:
        attr = attrs.build("link_create", "flags", prog_fd=program.fd, target_fd=0xFFFFFFFF, attach_type=abi.PERF_EVENT)
        known_command(abi.LINK_CREATE, attr)


def tcx_link() -> None:
    """A link to a device's traffic control: here a device that there cannot be."""
    with load(ZERO + EXIT, abi.PROG_TYPE_SCHED_CLS) as program:
        try:
            commands.link_create(program.fd, 0x7FFFFFFF, abi.TCX_INGRESS, 0, "tcx").close()
        except SyscallError as error:
            if error.errno != 19:  # ENODEV
                raise


def test_run_raw_tp() -> None:
    """BPF_PROG_TEST_RUN of a raw tracepoint."""
    with load(ZERO + EXIT, abi.PROG_TYPE_RAW_TRACEPOINT) as program:
        kernel.prog_test_run(program.fd, ctx=bytearray(16))


def batches() -> None:
    """BPF_MAP_UPDATE_BATCH."""
    with kernel.map_create(abi.MAP_TYPE_HASH, 4, 4, 1, name="probe") as fd:
        error, _ = commands.map_batch(abi.MAP_UPDATE_BATCH, fd.fd, 1, keys=bytearray(4), values=bytearray(4))
        if error:
            raise kernel.failure(SyscallError, "BPF_MAP_UPDATE_BATCH", "a probe", error)


def take_from_hash() -> None:
    """BPF_MAP_LOOKUP_AND_DELETE_ELEM of a hash."""
    with kernel.map_create(abi.MAP_TYPE_HASH, 4, 4, 1, name="probe") as fd:
        commands.map_lookup_and_delete(fd.fd, bytes(4), bytearray(4))


def freeze() -> None:
    """BPF_MAP_FREEZE."""
    with kernel.map_create(abi.MAP_TYPE_ARRAY, 4, 4, 1, name="probe") as fd:
        kernel.map_freeze(fd.fd)


def mapped_array() -> None:
    """An array that can be mapped."""
    kernel.map_create(abi.MAP_TYPE_ARRAY, 4, 4, 1, name="probe", flags=abi.F_MMAPABLE).close()


def relocates() -> None:
    """CO-RE relocations applied by BPF_PROG_LOAD."""
    from pybpf import inkernel

    if not inkernel.relocates():
        raise NotSupported("BPF_PROG_LOAD takes no CO-RE relocations", EINVAL)
