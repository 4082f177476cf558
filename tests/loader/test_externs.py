"""Externs in .kconfig and .ksyms: values, types, addresses; clang's objects on the running kernel."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys

import pytest

from btf.errors import BtfNotFound
from btf.reader import Btf
from pybpf import abi, commands, externs, kallsyms, kernel
from pybpf.errors import NotSupported, ObjectError, VerifierError
from pybpf.loader import Collection
from pybpf.object.reader import read_object
from pybpf.object.spec import KCONFIG, KSYMS, Extern

HEAD = """
typedef unsigned int u32; typedef unsigned long long u64;
#define SEC(name) __attribute__((section(name), used))
#define __kconfig __attribute__((section(".kconfig")))
#define __ksym __attribute__((section(".ksyms")))
#define __weak __attribute__((weak))
enum libbpf_tristate { TRI_NO = 0, TRI_YES = 1, TRI_MODULE = 2 };
char _license[] SEC("license") = "GPL";
"""


# --- values -------------------------------------------------------------------------


def setting(kind: str, size: int, signed: bool = False) -> Extern:
    extern = Extern("CONFIG_X", KCONFIG, 1)
    extern.kind, extern.size, extern.signed = kind, size, signed
    return extern


@pytest.mark.parametrize(
    ("kind", "size", "signed", "text", "want"),
    [
        ("bool", 1, False, "y", b"\1"),
        ("bool", 1, False, "n", b"\0"),
        ("tristate", 4, False, "m", b"\2\0\0\0"),
        ("tristate", 4, False, "y", b"\1\0\0\0"),
        ("char", 1, True, "m", b"m"),
        ("char", 1, True, "-5", b"\xfb"),
        ("int", 4, True, "-1", b"\xff\xff\xff\xff"),
        ("int", 2, False, "0x1234", b"\x34\x12"),
        ("int", 8, False, "18446744073709551615", b"\xff" * 8),
        ("int", 8, True, "0xffffffffffffffff", b"\xff" * 8),
        ("string", 8, False, '"(none)"', b"(none)\0\0"),
        ("string", 4, False, '"(none)"', b"(no\0"),
        ("string", 4, False, '""', b"\0\0\0\0"),
    ],
)
def test_encoded_value(kind, size, signed, text, want):
    assert externs.encode_setting(setting(kind, size, signed), text, "little") == want


def test_encoded_value_in_big_endian():
    assert externs.encode_setting(setting("int", 4), "250", "big") == b"\0\0\0\xfa"


@pytest.mark.parametrize(
    ("kind", "size", "text", "message"),
    [
        ("bool", 1, "m", "declared as bool"),
        ("bool", 1, "250", "declared as bool"),
        ("int", 4, "y", "declared as int"),
        ("int", 4, '"text"', "declared as int"),
        ("int", 2, "65536", "does not fit"),
        ("int", 4, "1x", "no value"),
        ("string", 8, "y", "declared as string"),
        ("string", 8, '"', "declared as string"),
        ("char", 1, "300", "does not fit"),
    ],
)
def test_value_of_another_type(kind, size, text, message):
    with pytest.raises(ObjectError, match=message):
        externs.encode_setting(setting(kind, size), text, "little")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("6.1.192-1 (2025)", 0x0601C0),
        ("5.15.131", 0x050F83),
        ("4.9.337-rt", 0x0409FF),
        ("6.18.44-fc", 0x06122C),
        ("5.10.0-26-amd64", 0x050A00),
        ("6.1", 0),
        ("6.1-rc4", 0),
        ("", 0),
        ("x.y.z", 0),
    ],
)
def test_version_code(text, code):
    assert externs.version_code(text) == code


def test_configuration_file_of_the_running_kernel():
    try:
        found = externs.config_lines({"CONFIG_BPF", "CONFIG_NO_SUCH_THING"})
    except NotSupported as error:
        pytest.skip(str(error))
    assert found == {"CONFIG_BPF": "y"}


def test_lines_of_a_configuration_file():
    lines = [b"# CONFIG_B is not set\n", b"CONFIG_A=y\n", b"CONFIG_AA=m\n", b'CONFIG_C="x=y"\n', b"junk\n"]
    assert externs._pick(lines, {"CONFIG_A", "CONFIG_B", "CONFIG_C"}) == {"CONFIG_A": "y", "CONFIG_C": '"x=y"'}


# --- symbols ------------------------------------------------------------------------


def test_addresses_from_kallsyms(tmp_path, monkeypatch):
    path = tmp_path / "kallsyms"
    path.write_text(
        "ffff0010 T one\nffff0020 t two\t[module]\nffff0030 D one_more\nffff0040 t twice\nffff0050 t twice\n"
    )
    for chunk in (3, 16, 1 << 16):
        monkeypatch.setattr(kallsyms, "_CHUNK", chunk)
        got = externs.addresses({"one", "two", "three", "ne"}, path=str(path))
        assert got == {"one": 0xFFFF0010, "two": 0xFFFF0020}
        with pytest.raises(ObjectError, match="several symbols"):
            externs.addresses({"twice"}, path=str(path))


def test_hidden_addresses(tmp_path):
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000000 T one\n")
    with pytest.raises(NotSupported, match="kptr_restrict"):
        externs.addresses({"one"}, path=str(path))
    with pytest.raises(NotSupported, match="cannot be read"):
        externs.addresses({"one"}, path=str(tmp_path / "absent"))


# --- clang's objects ----------------------------------------------------------------


@pytest.fixture(scope="module")
def compile_c(tmp_path_factory):
    compiler = next((path for name in ("clang", "clang-19", "clang-16") if (path := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no clang to make the object with")
    directory = tmp_path_factory.mktemp("externs")

    def compile_c(text: str):
        source = directory / "prog.c"
        source.write_text(HEAD + text)
        target = "bpfel" if sys.byteorder == "little" else "bpfeb"
        command = [
            compiler,
            "-target",
            target,
            "-O2",
            "-g",
            "-mcpu=v3",
            "-Wno-everything",
            "-c",
            str(source),
            "-o",
            "-",
        ]
        return read_object(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)

    return compile_c


def run(spec, words: int, **options) -> list[int]:
    with Collection(spec, ["prog"], **options) as loaded:
        assert loaded.btf_error is None
        return list(struct.unpack(f"={words}Q", loaded.programs["prog"].test_run(ctx=bytes(words * 8)).ctx))


SETTINGS = """
extern int LINUX_KERNEL_VERSION __kconfig;
extern u64 CONFIG_HZ __kconfig __weak;
extern _Bool CONFIG_BPF_SYSCALL __kconfig;
extern _Bool CONFIG_NOT_THERE __kconfig __weak;
extern enum libbpf_tristate CONFIG_NET __kconfig __weak;
extern char CONFIG_DEFAULT_HOSTNAME[16] __kconfig __weak;
extern _Bool LINUX_HAS_BPF_COOKIE __kconfig;
extern _Bool LINUX_HAS_SYSCALL_WRAPPER __kconfig;
struct out { u64 version, hz, syscall, absent, net, host, cookie, wrapper; };
SEC("syscall") int prog(struct out *o)
{
    o->version = LINUX_KERNEL_VERSION; o->hz = CONFIG_HZ; o->syscall = CONFIG_BPF_SYSCALL;
    o->absent = CONFIG_NOT_THERE; o->net = CONFIG_NET; o->host = CONFIG_DEFAULT_HOSTNAME[1];
    o->cookie = LINUX_HAS_BPF_COOKIE; o->wrapper = LINUX_HAS_SYSCALL_WRAPPER;
    return 0;
}
"""


def test_layout_of_settings(compile_c):
    spec = compile_c(SETTINGS)
    assert spec.maps[KCONFIG].frozen
    assert spec.maps[KCONFIG].flags == abi.F_RDONLY_PROG
    places = sorted((e.offset, e.size, e.name) for e in spec.externs.values())
    assert places[0] == (0, 8, "CONFIG_HZ")
    for (offset, size, _), (following, _, _) in zip(places, places[1:]):
        assert offset + size <= following
    assert spec.externs["CONFIG_NET"].kind == "tristate"
    assert spec.externs["CONFIG_NET"].weak
    assert not spec.externs["LINUX_KERNEL_VERSION"].weak
    with Btf(spec.btf) as btf:
        names = [btf.name(member) for member, _, _ in btf.vars(btf.find(KCONFIG, (15,))[0])]
        assert names == [name for _, _, name in places]


@pytest.mark.native
def test_settings_of_this_kernel(compile_c):
    try:
        lines = externs.config_lines({"CONFIG_HZ", "CONFIG_NET", "CONFIG_DEFAULT_HOSTNAME"})
    except NotSupported as error:
        pytest.skip(str(error))
    got = run(compile_c(SETTINGS), 8)
    host = lines.get("CONFIG_DEFAULT_HOSTNAME", '"\0\0"')
    states = {"y": 1, "m": 2}
    want = [externs.kernel_code(), int(lines.get("CONFIG_HZ", "0")), 1, 0, states.get(lines.get("CONFIG_NET", ""), 0)]
    assert got[:6] == [*want, ord(host[2:3] or "\0")]
    assert got[6:] == [1, 1]


@pytest.mark.native
def test_settings_given_by_the_user(compile_c):
    spec = compile_c(SETTINGS)
    spec.set("CONFIG_HZ", 12345)
    spec.set("CONFIG_DEFAULT_HOSTNAME", b"zyx")
    spec.set("LINUX_KERNEL_VERSION", 1)
    before = bytes(spec.maps[KCONFIG].contents)
    got = run(spec, 8)
    assert (got[0], got[1], got[5]) == (1, 12345, ord("y"))
    # Reading the kernel's settings does not change the specification.
    assert bytes(spec.maps[KCONFIG].contents) == before


def test_missing_setting_that_is_needed(compile_c):
    spec = compile_c("""
        extern int CONFIG_NO_SUCH_A __kconfig, CONFIG_NO_SUCH_B __kconfig, LINUX_NO_SUCH __kconfig;
        extern int CONFIG_UNUSED __kconfig;
        SEC("syscall") int prog(void *c) { return CONFIG_NO_SUCH_A + CONFIG_NO_SUCH_B + LINUX_NO_SUCH; }""")
    with pytest.raises(
        ObjectError, match="does not set CONFIG_NO_SUCH_A, CONFIG_NO_SUCH_B, LINUX_NO_SUCH: declare them"
    ):
        Collection(spec, ["prog"])
    assert kernel.open_fds() == []


SYMBOLS = """
extern const void schedule __ksym;
extern const void no_such_symbol __ksym __weak;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern int no_such_kfunc(u64 x, int n) __ksym __weak;
extern const int no_such_variable __ksym __weak;
extern _Bool CONFIG_NOT_THERE __kconfig __weak;
SEC("syscall") int prog(u64 *o)
{
    o[0] = (u64)&schedule; o[1] = (u64)&no_such_symbol; o[2] = 5; o[3] = &no_such_variable != 0;
    if (no_such_kfunc) o[4] = no_such_kfunc(1, 2);
    if (CONFIG_NOT_THERE) o[5] = no_such_kfunc(3, 4);
    if (bpf_rcu_read_lock) { bpf_rcu_read_lock(); o[6] = 7; bpf_rcu_read_unlock(); }
    return 0;
}
"""


def has_kfunc(name: str) -> bool:
    with Btf.kernel() as btf:
        return bool(btf.find(name, (12,)))


@pytest.mark.native
@pytest.mark.parametrize("fold", [None, False, True])
def test_symbols_of_this_kernel(compile_c, fold):
    if not has_kfunc("bpf_rcu_read_lock"):
        pytest.skip("this kernel has no kfunc bpf_rcu_read_lock (6.2)")
    spec = compile_c(SYMBOLS)
    assert {name: extern.is_function for name, extern in spec.externs.items() if extern.section == KSYMS} == {
        "schedule": False,
        "no_such_symbol": False,
        "bpf_rcu_read_lock": True,
        "bpf_rcu_read_unlock": True,
        "no_such_kfunc": True,
        "no_such_variable": False,
    }
    with open("/proc/kallsyms") as file:
        address = next(int(line.split()[0], 16) for line in file if line.split()[2] == "schedule")
    assert run(spec, 7, fold=fold) == [address, 0, 5, 0, 0, 0, 7]
    assert kernel.open_fds() == []


@pytest.mark.native
def test_variable_that_is_asked_for_only(compile_c):
    """Without CONFIG_KALLSYMS_ALL the kernel refuses the address of a variable that its BTF has: folding removes it."""
    with Btf.kernel() as btf:
        if not btf.find("runqueues", (14,)):
            pytest.skip("this kernel's BTF has no variable 'runqueues'")
    spec = compile_c("""
        struct rq { int whatever; };
        extern const struct rq runqueues __ksym __weak;
        SEC("syscall") int prog(u64 *o) { if (&runqueues) o[0] = 1; else o[0] = 2; return 0; }""")
    assert run(spec, 1) == [1]
    assert run(spec, 1, fold=True) == [1]


@pytest.mark.native
def test_variable_of_this_kernel(compile_c):
    with Btf.kernel() as btf, open("/proc/kallsyms") as file:
        if not btf.find("runqueues", (14,)) or not [1 for line in file if line.split()[2] == "runqueues"]:
            pytest.skip("this kernel has no address of 'runqueues' (CONFIG_KALLSYMS_ALL)")
    spec = compile_c("""
        struct rq { int whatever; };
        extern const struct rq runqueues __ksym __weak;
        static void *(*this_cpu)(const void *) = (void *)154;
        SEC("syscall") int prog(u64 *o) { o[0] = this_cpu(&runqueues) != 0; return 0; }""")
    assert run(spec, 1) == [1]


@pytest.mark.native
def test_missing_kfunc_that_runs(compile_c):
    spec = compile_c("""
        extern int no_such_kfunc(u64 x) __ksym __weak;
        SEC("syscall") int prog(u64 *o) { return no_such_kfunc(o[0]); }""")
    with pytest.raises(VerifierError, match="needs kfunc 'no_such_kfunc', which this kernel does not have \\("):
        Collection(spec, ["prog"])


@pytest.mark.parametrize(
    ("declaration", "use"),
    [
        ("extern int no_such_kfunc(void) __ksym;", "no_such_kfunc()"),
        ("extern const int no_such_var __ksym;", "no_such_var"),
    ],
)
def test_missing_symbol_that_is_needed(compile_c, declaration, use):
    spec = compile_c(f'{declaration}\nSEC("syscall") int prog(u64 *o) {{ return {use}; }}')
    with pytest.raises(NotSupported, match=r"this kernel has no no_such_\w+ \(externs in \.ksyms\): declare it __weak"):
        Collection(spec, ["prog"])
    assert kernel.open_fds() == []


def test_kfunc_of_another_type(compile_c):
    if not has_kfunc("bpf_rcu_read_lock"):
        pytest.skip("this kernel has no kfunc bpf_rcu_read_lock (6.2)")
    spec = compile_c("""
        extern void bpf_rcu_read_lock(int number) __ksym;
        SEC("syscall") int prog(u64 *o) { bpf_rcu_read_lock(3); return 0; }""")
    with pytest.raises(ObjectError, match="the object says"):
        Collection(spec, ["prog"])


def test_typed_symbols_without_kernel_btf(compile_c, monkeypatch):
    def absent(path: str = "") -> Btf:
        raise BtfNotFound("this kernel has no BTF")

    monkeypatch.setattr(Btf, "kernel", absent)
    weak = compile_c("""
        extern int no_such_kfunc(u64 x) __ksym __weak;
        SEC("syscall") int prog(u64 *o) { return no_such_kfunc ? no_such_kfunc(o[0]) : 3; }""")
    found = externs.Symbols(lambda: Btf(weak.btf), absent).resolve(list(weak.externs.values()))
    assert found["no_such_kfunc"].kind == "missing"
    strong = compile_c("""
        extern int some_kfunc(u64 x) __ksym;
        SEC("syscall") int prog(u64 *o) { return some_kfunc(o[0]); }""")
    with pytest.raises(BtfNotFound):
        Collection(strong, ["prog"])


def test_symbols_of_a_module(tmp_path, monkeypatch):
    """A kfunc in split BTF: its id counts on from the base, its descriptor goes into fd_array."""
    from btf.builder import Builder

    base_builder = Builder(sys.byteorder)
    base_int = base_builder.int("int", 4, signed=True)
    vmlinux = Btf(base_builder.to_bytes())
    local_builder = Builder(sys.byteorder)
    number = local_builder.int("int", 4, signed=True)
    proto = local_builder.func_proto(number, [("x", number)])
    local = Btf(local_builder.to_bytes())
    # Split BTF by hand: FUNC_PROTO int(int x) and FUNC module_kfunc, strings behind the base's.
    strings = b"x\0module_kfunc\0"
    at = vmlinux.string_size
    first = vmlinux.type_count
    types = struct.pack("=IIIII", 0, 13 << 24 | 1, base_int, at, base_int)
    types += struct.pack("=III", at + 2, 12 << 24, first)
    head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    (tmp_path / "vmlinux").write_bytes(b"")
    (tmp_path / "some_module").write_bytes(head + types + strings)
    monkeypatch.setattr(externs, "_MODULES", str(tmp_path))
    monkeypatch.setattr(externs, "_btf_ids", lambda: iter([5, 6]))
    monkeypatch.setattr(externs, "_btf_name", lambda fd: {5: "other", 6: "some_module"}[labels[fd.fd]])
    labels: dict[int, int] = {}

    def open_id(id: int) -> kernel.Fd:
        fd = kernel.Fd(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), f"BTF id {id}")
        labels[fd.fd] = id
        return fd

    monkeypatch.setattr(commands, "btf_get_fd_by_id", open_id)
    extern = Extern("module_kfunc", KSYMS, proto)
    extern.is_function = True
    absent = Extern("other_kfunc", KSYMS, proto, weak=True)
    absent.is_function = True
    symbols = externs.Symbols(lambda: local, lambda: vmlinux)
    found = symbols.resolve([extern, absent])
    symbol = found["module_kfunc"]
    assert (symbol.kind, symbol.value, symbol.fd, symbol.index) == ("btf", first + 1, symbols.fds[0], 1)
    assert found["other_kfunc"].kind == "missing"
    assert len(kernel.open_fds()) == 1
    symbols.close()
    assert kernel.open_fds() == []
