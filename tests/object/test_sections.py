"""What sections mean: compared with libbpf, and with the numbers in the running kernel's BTF."""

from __future__ import annotations

import ctypes
import ctypes.util
import re

import pytest

from pybpf import abi
from pybpf.errors import ObjectError
from pybpf.sections import known_sections, parse_section


def every_section() -> list[str]:
    hooked, whole = known_sections()
    return [*(f"{first}/hook" for first in hooked), *whole]


def libbpf() -> ctypes.CDLL:
    path = ctypes.util.find_library("bpf")
    if path is None:
        pytest.skip("libbpf.so is not installed")
    return ctypes.CDLL(path)


def libbpf_knows(library: ctypes.CDLL) -> set[str]:
    """Sections that this libbpf has, as it spells them: '+' stands for a hook."""
    with open("/proc/self/maps") as file:
        path = next(line.split()[-1] for line in file if "/libbpf.so" in line)
    with open(path, "rb") as binary:
        words = re.findall(rb"[a-z_0-9.]+(?:/[a-z_0-9.]+)?\+?(?=\0)", binary.read())
    return {word.decode() for word in words}


def test_libbpf_says_the_same():
    """Every section that this libbpf knows is ours, with its type and attach type."""
    library = libbpf()
    program, attach = ctypes.c_int(), ctypes.c_int()
    # It prints the list of all it knows for a name that it does not.
    library.libbpf_set_print(None)
    compared = set()
    for name in every_section():
        done = library.libbpf_prog_type_by_name(name.encode(), ctypes.byref(program), ctypes.byref(attach))
        if done:
            continue  # newer than this libbpf
        ours = parse_section(name)
        assert (ours.type, ours.attach_type) == (program.value, attach.value), name
        compared.add(name)
    assert len(compared) >= 75
    # Nothing that libbpf knows is missing here.
    for word in libbpf_knows(library):
        name = word.replace("+", "/hook")
        if library.libbpf_prog_type_by_name(name.encode(), ctypes.byref(program), ctypes.byref(attach)):
            continue
        if name.startswith("struct_ops"):
            with pytest.raises(ObjectError, match="struct_ops"):
                parse_section(name)
        elif "/" in name or name in compared:
            assert parse_section(name).type == program.value, name


@pytest.mark.native
def test_numbers_are_the_kernels():
    """Program and attach types by the names that the kernel gives them."""
    from btf.format import KIND_ENUM
    from btf.reader import Btf

    with Btf.kernel() as btf:
        types = dict(btf.enumerators(btf.find("bpf_prog_type", (KIND_ENUM,))[0]))
        attach = dict(btf.enumerators(btf.find("bpf_attach_type", (KIND_ENUM,))[0]))
    ours = {name: value for name, value in vars(abi).items() if isinstance(value, int)}
    seen = 0
    for name, value in types.items():
        if name.startswith("BPF_PROG_TYPE_") and name.removeprefix("BPF_") in ours:
            assert ours[name.removeprefix("BPF_")] == value, name
            seen += 1
    used = {parse_section(name).attach_type for name in every_section()}
    for name, value in attach.items():
        if not name.startswith("_"):
            assert ours[name.removeprefix("BPF_")] == value, name
            seen += 1
            # Only tables of functions have none.
            assert value in used or name in ("BPF_STRUCT_OPS", "BPF_PERF_EVENT")
    assert seen > 80


@pytest.mark.parametrize(
    ("name", "kind", "target", "flags"),
    [
        ("uprobe.s//bin/sh:main", "uprobe", "/bin/sh:main", abi.F_SLEEPABLE),
        ("uprobe.multi.s//bin/sh:m*", "uprobe.multi", "/bin/sh:m*", abi.F_SLEEPABLE),
        ("iter.s/task", "iter", "task", abi.F_SLEEPABLE),
        ("xdp.frags/cpumap", "xdp", "cpumap", abi.F_XDP_HAS_FRAGS),
        ("cgroup_skb/egress", "cgroup", "egress", 0),
        ("cgroup/connect_unix", "cgroup", "connect_unix", 0),
        ("tc/ingress", "tcx", "ingress", 0),
        ("?raw_tracepoint/sys_enter", "raw_tp", "sys_enter", 0),
        ("kprobe", "kprobe", "", 0),
        ("syscall", "syscall", "", abi.F_SLEEPABLE),
    ],
)
def test_parts(name, kind, target, flags):
    section = parse_section(name)
    assert (section.kind, section.target, section.flags) == (kind, target, flags)
    assert section.sleepable == (flags == abi.F_SLEEPABLE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("struct_ops/init", "section 'struct_ops/init' is not supported: struct_ops"),
        ("kprobe.s/x", "kprobe programs cannot sleep"),
        ("cgroup/bind", "of cgroup there are: cgroup/bind4, cgroup/bind6"),
        ("xdp/eth0", "of xdp there are: xdp, xdp/cpumap, xdp/devmap"),
        ("iter", "must name its hook, as in iter/NAME"),
        ("freplace.s/x", "freplace programs cannot sleep"),
        ("x", "known are: action, cgroup, cgroup_skb, classifier, "),
    ],
)
def test_unknown(name, message):
    with pytest.raises(ObjectError, match=re.escape(message)):
        parse_section(name)
