"""Checks of BTF in each kernel: what it takes, and that what it refuses is replaced."""

from __future__ import annotations

from tests.guests.checks import check, equal, figure

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
    from pybpf import loadbtf

    b = Builder()
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
    loadbtf.load(b.to_bytes()).close()


@check
def check_own_btf_is_written_as_read():
    """The kernel's BTF and that of its modules, through reader and writer."""
    import os

    from btf.files import SYSFS, close_table, open_table
    from btf.writer import write

    names = sorted(os.listdir(SYSFS), key=lambda name: (name != "vmlinux", name))[:6]
    for name in names:
        table = open_table(os.path.join(SYSFS, name))
        try:
            equal(write(table) == table.data, True)
        finally:
            close_table(table)
    figure("modules with BTF", str(len(os.listdir(SYSFS)) - 1))
