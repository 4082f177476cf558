"""kallsyms, tracefs, control groups and CPUs: compared with a plain reading of the same files."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from pybpf import cgroups, cpus, kallsyms, tracefs
from pybpf.errors import LinkError, NotSupported, SyscallError

SYMBOLS = """\
ffffffff81000000 T _stext
ffffffff81000100 t helper
ffffffff81000100 t helper_alias
ffffffff81000200 T helper_other
ffffffff81000300 d table
ffffffffc0000000 t helper\t[one_module]
ffffffffc0000080 t inside\t[one_module]
"""


@pytest.fixture
def symbols(tmp_path):
    path = tmp_path / "kallsyms"
    path.write_text(SYMBOLS)
    return str(path)


@pytest.mark.parametrize("chunk", [7, 64, 1 << 16])
def test_symbols_by_name(symbols, monkeypatch, chunk):
    monkeypatch.setattr(kallsyms, "_CHUNK", chunk)
    found = kallsyms.find({"helper", "table", "help", "inside", "T", "nothing"}, symbols)
    assert sorted(found) == ["helper", "inside", "table"]
    assert [(s.address, s.module, s.kind) for s in found["helper"]] == [
        (0xFFFFFFFF81000100, "", "t"),
        (0xFFFFFFFFC0000000, "one_module", "t"),
    ]


@pytest.mark.parametrize("chunk", [7, 64, 1 << 16])
def test_symbols_by_address(symbols, monkeypatch, chunk):
    monkeypatch.setattr(kallsyms, "_CHUNK", chunk)
    known = kallsyms.Addresses(symbols)
    assert len(known) == 6
    places = [0xFFFFFFFF81000101, 0xFFFFFFFF810002FF, 0xFFFFFFFFC0000084, 0x1000]
    got = {at: (symbol.name, offset) for at, (symbol, offset) in known.names(places).items()}
    assert got == {places[0]: ("helper", 1), places[1]: ("helper_other", 0xFF), places[2]: ("inside", 4)}


def test_hidden_addresses_are_said(tmp_path):
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000000 T _stext\n0000000000000000 t helper\n")
    with pytest.raises(NotSupported, match="kptr_restrict"):
        kallsyms.Addresses(str(path))


@pytest.mark.native
def test_the_kernels_own_symbols_without_much_memory():
    """Every tenth function of the kernel by name; and no more memory than a few pieces of the file."""
    with open(kallsyms.PATH) as file:
        # Other processes load and unload BPF programs meanwhile, which have symbols too.
        lines = [fields for fields in map(str.split, file) if fields[3:] != ["[bpf]"]]
    sample = {fields[2] for fields in lines[:: len(lines) // 50]}
    wanted = {name: sorted(int(f[0], 16) for f in lines if f[2] == name) for name in sample}
    tracemalloc.start()
    found = kallsyms.find(sample)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    got = {name: sorted(s.address for s in symbols if s.module != "bpf") for name, symbols in found.items()}
    assert got == wanted
    assert peak < 1 << 20, peak


@pytest.mark.native
def test_formats_of_every_event_of_a_category():
    try:
        top = tracefs.root()
    except LinkError as error:
        pytest.skip(str(error))
    names = sorted(os.listdir(f"{top}/events/sched"))
    events = [name for name in names if os.path.exists(f"{top}/events/sched/{name}/format")]
    for name in events:
        fields = tracefs.event_format("sched", name)
        assert [field.name for field in fields[:4]] == [
            "common_type",
            "common_flags",
            "common_preempt_count",
            "common_pid",
        ]
        with open(f"{top}/events/sched/{name}/format") as file:
            assert len(fields) == file.read().count("\tfield:")
        assert all(field.size > 0 and field.name.replace("_", "a").isalnum() for field in fields), fields
    assert len(events) > 3


@pytest.mark.parametrize(
    ("declaration", "wanted"),
    [
        ("char comm[16]", ("char[16]", "comm", False)),
        ("const char * name", ("const char *", "name", False)),
        ("const char *name", ("const char *", "name", False)),
        ("__data_loc char[] msg", ("char[]", "msg", True)),
        ("unsigned long args[6]", ("unsigned long[6]", "args", False)),
    ],
)
def test_field_declarations(declaration, wanted):
    field = tracefs.Field(declaration, 8, 4, False)
    assert (field.type, field.name, field.dynamic) == wanted


MOUNTS = """\
25 1 0:22 / /sys rw shared:7 - sysfs sysfs rw
30 25 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/with\\040blank rw - cgroup cgroup rw,cpu,cpuacct
"""


def test_mounts_of_both_versions(tmp_path):
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    got = [(mount.path, mount.version, mount.controllers) for mount in cgroups.mounts(str(path))]
    assert got == [
        ("/sys/fs/cgroup/unified", 2, ()),
        ("/sys/fs/cgroup/with blank", 1, ("cpu", "cpuacct")),
    ]


@pytest.mark.native
def test_ids_and_paths():
    try:
        top = cgroups.root()
    except SyscallError as error:
        pytest.skip(str(error))
    path = f"{top}/pybpf-test-{os.getpid()}"
    os.mkdir(path)
    try:
        assert cgroups.path_of(cgroups.id_of(path)) == path
        assert cgroups.path_of(cgroups.id_of(top)) == top
        assert cgroups.of_process().startswith(top)
    finally:
        os.rmdir(path)
    assert cgroups.path_of(1 << 62) is None
    with pytest.raises(SyscallError, match="No such file"):
        cgroups.id_of(path)
    with pytest.raises(SyscallError, match="is no control group"):
        cgroups.id_of("/")


def test_processors_that_are_on():
    assert len(cpus.online()) == os.sysconf("SC_NPROCESSORS_ONLN")
