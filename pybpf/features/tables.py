"""All features that can be probed, with the version that each came with and what it takes of the configuration."""

from __future__ import annotations

from functools import partial

from pybpf import abi, attrs
from pybpf.features import probes, types
from pybpf.features.probes import EXIT, ZERO, Feature, insn

# Options that no single feature stands for.
GENERAL = (
    *("BPF", "BPF_SYSCALL", "BPF_JIT", "BPF_JIT_ALWAYS_ON", "DEBUG_INFO_BTF", "DEBUG_INFO_BTF_MODULES"),
    *("FTRACE_SYSCALLS", "FUNCTION_TRACER", "KPROBES", "UPROBES", "SECURITY_LOCKDOWN_LSM", "IKCONFIG_PROC"),
)


def maps() -> list[Feature]:
    """Map types."""
    return [Feature(name, since, partial(probes.make_map, name), on) for name, (since, on) in types.MAPS.items()]


def programs() -> list[Feature]:
    """Program types."""
    return [Feature(name, since, partial(probes.load_type, name), on) for name, (since, on) in types.PROGRAMS.items()]


def _loads(*code: bytes, type: int = abi.PROG_TYPE_SOCKET_FILTER) -> partial[None]:
    return partial(_load, b"".join(code), type)


def _load(code: bytes, type: int) -> None:
    probes.load(code, type).close()


def _knows(command: int, layout: str, **fields: int) -> partial[None]:
    return partial(_known, command, layout, fields)


def _known(command: int, layout: str, fields: dict[str, int]) -> None:
    probes.known_command(command, attrs.build(layout, list(attrs.fields(layout))[-1], **fields))


def _btf(name: str) -> partial[None]:
    return partial(probes.load_btf, _BTF[name])


_BTF = {
    "func": lambda b: b.func("f", b.func_proto(b.int("int", 4), [("a", b.int("int", 4))]), 0),
    "global func": lambda b: b.func("f", b.func_proto(b.int("int", 4), [("a", b.int("int", 4))]), 1),
    "datasec": lambda b: b.datasec(".data", 4, [(b.var("v", b.int("int", 4), 0), 0, 4)]),
    "float": lambda b: b.float_("float", 4),
    "decl_tag": lambda b: b.decl_tag("tag", b.typedef("t", b.int("int", 4))),
    "type_tag": lambda b: b.ptr(b.type_tag("tag", b.int("int", 4))),
    "enum64": lambda b: b.enum64("e", 8, [("A", 1 << 40)]),
}

_R1_STACK = insn(0x7A, 10, off=-8) + insn(0xBF, 1, 10)  # *(u64 *)(r10 - 8) = 0; r1 = r10
# r1 = 10; r1 += -1; if r1 != 0 goto -2
_LOOP = insn(0xB7, 1, imm=10) + insn(0x07, 1, imm=-1) + insn(0x55, 1, off=-2)


def code() -> list[Feature]:
    """Instructions and what the verifier takes."""
    one = insn(0xB7, 1, imm=1)
    return [
        Feature("32-bit jumps (cpu v3)", "5.1", _loads(ZERO, insn(0x16, 0, off=0), EXIT)),
        Feature("more than 4096 instructions", "5.2", _loads(ZERO * 4100, EXIT)),
        Feature("bounded loops", "5.3", _loads(_LOOP, ZERO, EXIT)),
        Feature("atomic operations that fetch", "5.12", _loads(_R1_STACK, ZERO, insn(0xDB, 10, 0, -8, 1), ZERO, EXIT)),
        Feature("sign extension, swaps (cpu v4)", "6.6", _loads(one, insn(0xBF, 0, 1, 8), ZERO, EXIT)),
        Feature("may_goto", "6.9", _loads(insn(0xE5, off=1), ZERO, ZERO, EXIT)),
        Feature("load-acquire, store-release", "6.15", _loads(_R1_STACK, insn(0xDB, 0, 10, -8, 0x100), ZERO, EXIT)),
        Feature("calls of subprograms", "4.16", _loads(insn(0x85, src=1, imm=1), EXIT, ZERO, EXIT)),
        Feature("bpf_loop", "5.17", partial(_helper, 181)),
        Feature("current task by BTF", "5.11", partial(_helper, 158)),
        Feature("strings from user memory", "5.5", partial(_helper, 114)),
        Feature("dynamic pointers", "5.19", partial(_helper, 201)),
        Feature("CO-RE by the kernel", "5.17", probes.relocates),
    ]


def _helper(number: int) -> None:
    """A helper that tracing programs may call if the kernel has it."""
    from pybpf.errors import NotSupported

    if not probes.helpers("kprobe", {number: "it"}):
        raise NotSupported(f"kprobe programs may not call helper {number}", 22)


def btf() -> list[Feature]:
    """What BTF of programs may hold, and the kernel's own."""
    since = {
        "func": "5.0",
        "datasec": "5.2",
        "global func": "5.6",
        "float": "5.13",
        "decl_tag": "5.16",
        "type_tag": "5.17",
        "enum64": "6.0",
    }
    kernels = Feature(
        "BTF of the kernel", "5.4", partial(probes.file_exists, "/sys/kernel/btf/vmlinux"), ("DEBUG_INFO_BTF",)
    )
    return [kernels, *[Feature(f"BTF kind {name}", since[name], _btf(name)) for name in since]]


def calls() -> list[Feature]:
    """Commands and what they can do."""
    bad = 0xFFFFFFFF
    return [
        Feature("map batches", "5.6", probes.batches),
        Feature("look up and delete in hashes", "5.14", probes.take_from_hash),
        Feature("frozen maps", "5.2", probes.freeze),
        Feature("mapped arrays", "5.5", probes.mapped_array),
        Feature("run-time statistics", "5.8", _statistics),
        Feature("maps bound to programs", "5.10", _knows(abi.PROG_BIND_MAP, "prog_bind_map", prog_fd=bad, map_fd=bad)),
        Feature("test runs of raw tracepoints", "5.10", probes.test_run_raw_tp, ("BPF_EVENTS",)),
        Feature("streams of programs", "6.17", _knows(abi.PROG_STREAM_READ_BY_FD, "prog_stream_read", prog_fd=bad)),
    ]


def _statistics() -> None:
    from pybpf.commands import enable_stats

    enable_stats().close()


def hooks() -> list[Feature]:
    """Ways to attach."""
    bus = "/sys/bus/event_source/devices"
    bad = 0xFFFFFFFF
    return [
        Feature("kprobe (perf event)", "4.17", partial(probes.file_exists, f"{bus}/kprobe"), ("KPROBE_EVENTS",)),
        Feature("uprobe (perf event)", "4.17", partial(probes.file_exists, f"{bus}/uprobe"), ("UPROBE_EVENTS",)),
        Feature("kprobe.multi", "5.18", probes.attach_kprobe_multi, ("FPROBE",)),
        Feature("uprobe.multi", "6.6", probes.attach_uprobe_multi, ("UPROBE_EVENTS",)),
        Feature("tp_btf", "5.5", partial(probes.load_type, "tracing"), ("BPF_EVENTS", "DEBUG_INFO_BTF")),
        Feature("fentry, fexit", "5.5", probes.attach_fentry, ("DEBUG_INFO_BTF", "BPF_JIT", "DYNAMIC_FTRACE")),
        Feature("LSM", "5.7", probes.attach_lsm, ("BPF_LSM", "DEBUG_INFO_BTF")),
        Feature("perf event links", "5.15", probes.perf_link, ("PERF_EVENTS",)),
        Feature("tcx links", "6.6", probes.tcx_link, ("NET_XGRESS",)),
        Feature("iterators", "5.8", _knows(abi.ITER_CREATE, "iter_create", link_fd=bad)),
    ]


GROUPS = {
    "map types": maps,
    "program types": programs,
    "hooks": hooks,
    "code": code,
    "BTF": btf,
    "commands": calls,
}


def everything() -> list[Feature]:
    """All features of all groups."""
    return [feature for group in GROUPS.values() for feature in group()]
