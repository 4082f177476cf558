"""pybpf's language: eBPF programs as decorated Python functions.

``from pybpf.lang import *`` brings everything a program needs: types, map
kinds, decorators, intrinsics and the kernel's helpers. The module level of a
program file is ordinary Python, run when it is compiled; bodies of decorated
functions are compiled and never run. A device that only loads objects does
not import this package.
"""

from __future__ import annotations

from pybpf.lang.compile import compile_functions, compile_modules
from pybpf.lang.helpers import HELPERS
from pybpf.lang.maps import Array, Hash, LpmTrie, LruHash, PerCpuArray, PerCpuHash, ProgArray, RingBuf
from pybpf.lang.surface import (
    CONSTANTS,
    INTRINSICS,
    bpf_iter,
    cgroup,
    fentry,
    fexit,
    fmod_ret,
    hook,
    inline,
    kprobe,
    kretprobe,
    lsm,
    perf_event,
    raw_tp,
    sk_lookup,
    sk_msg,
    sk_reuseport,
    socket_filter,
    sockops,
    subprog,
    tc,
    tp_btf,
    tracepoint,
    uprobe,
    uretprobe,
    xdp,
)
from pybpf.lang.types import (
    Anon,
    Bits,
    ConfigBase,
    KStruct,
    KUnion,
    Ptr,
    Struct,
    Union,
    be16,
    be32,
    be64,
    char,
    i8,
    i16,
    i32,
    i64,
    u8,
    u16,
    u32,
    u64,
)

globals().update(CONSTANTS)
globals().update(INTRINSICS)
globals().update(HELPERS)

__all__ = [
    "Anon",
    "Array",
    "Bits",
    "ConfigBase",
    "Hash",
    "KStruct",
    "KUnion",
    "LpmTrie",
    "LruHash",
    "PerCpuArray",
    "PerCpuHash",
    "ProgArray",
    "Ptr",
    "RingBuf",
    "Struct",
    "Union",
    "be16",
    "be32",
    "be64",
    "bpf_iter",
    "cgroup",
    "char",
    "compile_functions",
    "compile_modules",
    "fentry",
    "fexit",
    "fmod_ret",
    "hook",
    "i8",
    "i16",
    "i32",
    "i64",
    "inline",
    "kprobe",
    "kretprobe",
    "lsm",
    "perf_event",
    "raw_tp",
    "sk_lookup",
    "sk_msg",
    "sk_reuseport",
    "socket_filter",
    "sockops",
    "subprog",
    "tc",
    "tp_btf",
    "tracepoint",
    "u8",
    "u16",
    "u32",
    "u64",
    "uprobe",
    "uretprobe",
    "xdp",
]
for _names in (CONSTANTS, INTRINSICS, HELPERS):
    __all__.extend(_names)
