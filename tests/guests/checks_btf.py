"""Checks of BTF in each kernel: what it takes, and that what it refuses is replaced."""

from __future__ import annotations

import subprocess
import sys

from btf.core_spec import ENUMVAL_VALUE, FIELD_BYTE_OFFSET
from tests.guests.checks import check, equal, figure
from tests.guests.checks_core import kernel_btf

# What each ability came with; a distribution may have it earlier, never later.
SINCE = {
    "func": "5.0",
    "datasec": "5.2",
    "func_global": "5.6",
    "float": "5.13",
    "decl_tag": "5.16",
    "type_tag": "5.17",
    "enum64": "6.0",
    "question_mark": "6.9",
    "attributes": "6.15",
    "layout": "7.1",
    "long_vlen": "7.2",
}


def parsed(version):
    return tuple(int(part) for part in version.split("."))


@check
def check_abilities():
    """No ability is missing from a kernel that is said to have it."""
    from btf.sanitise import EVERYTHING
    from pybpf import loadbtf
    from pybpf.privilege import kernel_version

    equal(set(SINCE), set(EVERYTHING))
    accepted = loadbtf.accepted()
    version = tuple(kernel_version()[:2])
    figure("btf", " ".join(sorted(accepted)))
    expected = {name for name, since in SINCE.items() if parsed(since) <= version}
    equal(expected - accepted, set())


@check
def check_newest_kinds_load():
    """An object with every kind loads, be it as it is or with replacements."""
    from btf.builder import Builder
    from pybpf.target import Target

    b = Builder(sys.byteorder)
    int_ = b.int("int", 4, signed=True)
    b.enum64("wide", 8, [("WIDE", 1 << 40)])
    b.enum("sign", 4, [("MINUS", -1)], signed=True)
    b.float_("double", 8)
    node = b.struct("node", 8, [("next", b.ptr(0), 0)])
    b.ptr(b.type_tag("user", node))
    b.ptr(b.type_tag("any", node, attribute=True))
    var = b.var("counter", int_, 1)
    b.datasec("?.data", 4, [(var, 0, 4)])
    b.decl_tag("tag", var)
    b.decl_tag("any", node, 0, attribute=True)
    b.func("f", b.func_proto(int_, [("a", int_)]), 1)
    target = Target(b.to_bytes())
    try:
        target.loaded()
    finally:
        target.close()


@check
def check_own_btf_is_written_as_read():
    """The kernel's BTF and that of its modules, through reader and writer."""
    import os

    from btf.files import SYSFS, close_table, open_table
    from btf.writer import write

    kernel_btf().close()
    names = sorted(os.listdir(SYSFS), key=lambda name: (name != "vmlinux", name))[:6]
    for name in names:
        table = open_table(os.path.join(SYSFS, name))
        try:
            equal(write(table) == table.data, True)
        finally:
            close_table(table)
    figure("modules with BTF", str(len(os.listdir(SYSFS)) - 1))


# A process of its own: where the module search path is (an archive, in a guest), and an object's side as literals.
_QUERY = """
import sys
sys.path[:0] = {path!r}
local, relos = {local!r}, {relos!r}
def peak():
    with open("/proc/self/status") as file:
        return [int(line.split()[1]) for line in file if line[:6] == "VmHWM:"][0]
bare = peak()
from btf.core import Relocator
from btf.reader import Btf
kernel = Btf.kernel()
relocator = Relocator(Btf(local), kernel)
answers = [relocator.resolve(*relo).new for relo in relos]
answers += [kernel.find_id("vfs_read", 12), kernel.find_enumerator("BPF_NOEXIST")]
print(bare, peak(), *answers)
"""


def query_set():
    """A small tracer's questions, as local BTF and relocations: nine fields and an enumerator."""
    from btf.builder import Builder

    b = Builder(sys.byteorder)
    u16, u32, u64 = b.int("unsigned short", 2), b.int("unsigned int", 4), b.int("unsigned long", 8)
    ptr = b.ptr(0)
    path = b.struct("path", 16, [("mnt", ptr, 0), ("dentry", ptr, 64)])
    fields = {
        "task_struct": [("pid", u32), ("tgid", u32), ("real_parent", ptr), ("start_time", u64)],
        "file": [("f_path", path), ("f_inode", ptr)],
        "sock_common": [("skc_daddr", u32), ("skc_dport", u16)],
        "mm_struct": [("exe_file", ptr)],
    }
    relos = []
    for name, members in fields.items():
        id = b.struct(name, 16 * len(members), [(field, type, 128 * i) for i, (field, type) in enumerate(members)])
        relos += [(id, f"0:{i}", FIELD_BYTE_OFFSET) for i in range(len(members))]
    relos.append((b.enum("pid_type", 4, [("PIDTYPE_TGID", 0)]), "0", ENUMVAL_VALUE))
    return b.to_bytes(), relos


@check(timeout=60.0)
def check_query_set():
    """What a small tracer asks of the kernel's types is answered in little memory."""
    kernel_btf().close()
    local, relos = query_set()
    code = _QUERY.format(path=sys.path, local=local, relos=relos)
    done = subprocess.run([sys.executable, "-S", "-E", "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-300:]
    bare, peak, *answers = [int(word) for word in done.stdout.split()]
    equal(len(answers), 12)
    equal(answers[-1], 1)
    figure("query set: peak over bare, kB", f"{peak} - {bare}")
    assert peak - bare < 3 << 10, f"{peak - bare} kB over the interpreter"
