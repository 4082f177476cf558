"""Events that are named by their hook: spelling, and from BTF and formats to arguments; no kernel is asked to load."""

from __future__ import annotations

import random
from struct import pack, unpack_from

import pytest

import bfer.records as user
import programs.records as kernel
from bfer import expr, generic
from bfer.catalogue import Catalogue
from bfer.errors import UsageError
from bfer.generic import calls, describe, formats, printed, prototypes
from bfer.generic.arguments import Types
from bfer.generic.event import FIRST_ID, FIRST_NUMBER, GenericArg
from bfer.names import Names
from bfer.records import FORM_BYTES, FORM_NUMBER, FORM_POINTER, FORM_STRING
from bfer.values import Pointer
from btf.builder import Builder
from btf.errors import BtfError
from btf.format import COMPOSITES, KIND_FUNC, KIND_PTR, KIND_STRUCT
from btf.reader import Btf
from pybpf import tracefs
from pybpf.errors import LinkError
from pybpf.lang.types import field_at
from pybpf.tracefs import Field

NONE = 255


def unpacked(raw: bytes) -> tuple[object, ...]:
    kind, slot, steps, length, size, *offsets = user.PIECE.unpack(raw)
    way = offsets[:steps] + offsets[3:] if steps else offsets[:1]
    return kind, slot, tuple(way), size, length


@pytest.fixture(scope="module")
def vmlinux():
    try:
        btf = Btf.kernel()
    except BtfError as error:
        pytest.skip(str(error))
    yield Types(btf, Names("x86_64"))
    btf.close()


# --- layout ---------------------------------------------------------------------------------


def test_pieces_are_what_the_programs_read() -> None:
    layout = kernel.Piece.layout
    assert layout.size == user.PIECE.size == 24
    raw = user.PIECE.pack(1, 2, 3, 4, 5, 6, 7, 8, -9)
    for name, expected in (("kind", 1), ("arg", 2), ("steps", 3), ("length", 4), ("size", 5)):
        offset, type = field_at(layout, name)
        assert int.from_bytes(raw[offset : offset + type.size], "little") == expected
    offset, type = field_at(layout, "offsets")
    assert raw[offset : offset + type.size] == pack("=4i", 6, 7, 8, -9)
    for name in [name for name in vars(user) if name.startswith(("PIECE_", "PIECES", "BYTES_MAX"))]:
        if name != "PIECE_STEPS":
            assert getattr(user, name) == getattr(kernel, name), name


# --- spelling ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kprob:vfs_unlink", "unknown kind of event 'kprob' in 'kprob:vfs_unlink': did you mean 'kprobe'?"),
        ("x:y", "unknown kind of event 'x' in 'x:y': there are kprobe, kretprobe,"),
        ("kprobe:", "'kprobe:' names no hook, as in kprobe:vfs_unlink"),
        ("tracepoint:", "'tracepoint:' names no hook, as in tp:sched:sched_switch"),
        ('uprobe:/tmp/a"b:main', "has letters that an event's name cannot have"),
        ("uprobe:/tmp/a\nb:main", "has letters that an event's name cannot have"),
        ("uprobe:main", "'uprobe:main' must name a file and a function, as in uprobe:/bin/sh:main"),
        ("uprobe:/no/such/file:main", "/no/such/file: there is no such file"),
        ("usdt:/bin/sh:x", "'usdt:/bin/sh:x' must name file, provider and probe"),
        ("uprobe:/bin/sh:0x10q", "neither a function nor an offset"),
        ("uprobe:*:main", "uprobe takes no patterns"),
        ("tp::", "'tp::' must name category and tracepoint, as in tp:sched:sched_switch"),
        ("tp:sched:", "'tp:sched:' must name category and tracepoint"),
        ("tp:../x:y", "must name category and tracepoint"),
    ],
)
def test_what_is_wrong_with_a_name(name: str, message: str) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        expr.parse([f"event={name}"], Catalogue("x86_64"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_filters_are_about_one_event() -> None:
    with pytest.raises(UsageError, match=r"^'kprobe:vfs_\*' is a pattern: a filter is about one event$"):
        expr.parse(["kprobe:vfs_*.file=x"], Catalogue("x86_64"))
    with pytest.raises(UsageError, match=r"did you mean 'event=kprobe:vfs_unlink'\?$"):
        expr.parse(["kprobe:vfs_unlink"], Catalogue("x86_64"))


def test_only_what_returns_has_a_result(libc: str) -> None:
    with pytest.raises(UsageError, match="unlink has no result: "):
        uprobe(f"uprobe:{libc}:unlink", f"uprobe:{libc}:unlink.retval=0")
    _, policy = uprobe(f"uretprobe:{libc}:unlink(int)", f"uretprobe:{libc}:unlink.retval=-1")
    assert policy.filters[f"uretprobe:{libc}:unlink"].result is not None


def test_tracepoints_without_tracefs(vmlinux: Types, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracefs, "_PLACES", ("/no/such/folder",))
    event, policy = uprobe("tp:sched:sched_switch", "tp:sched:sched_switch.next=5")
    assert (event.name, event.section) == ("tp:sched:sched_switch", "raw_tp/sched_switch")
    assert policy.notes == [
        "tp:sched:sched_switch: tracefs is not mounted: the tracepoint's arguments are shown instead of its fields"
    ]
    missing = (
        "tracefs is not mounted .*; the kernel's types have no tracepoint 'sched_swich': did you mean 'sched_switch'"
    )
    with pytest.raises(UsageError, match=missing):
        uprobe("tp:sched:sched_swich")


@pytest.mark.parametrize(
    ("name", "event", "member"),
    [
        ("kprobe:vfs_unlink.dentry", "kprobe:vfs_unlink", "dentry"),
        ("kprobe:vfs_statfs.part.0.isra.0.arg1", "kprobe:vfs_statfs.part.0.isra.0", "arg1"),
        ("uprobe:/usr/lib/libc.so.6:malloc.arg0", "uprobe:/usr/lib/libc.so.6:malloc", "arg0"),
        ("fexit:vfs_read.args.count", "fexit:vfs_read", "args.count"),
        ("tp:sched:sched_switch.scope.pid", "tp:sched:sched_switch", "scope.pid"),
    ],
)
def test_the_event_and_its_argument(name: str, event: str, member: str) -> None:
    assert generic.split_member(name) == (event, member)


def test_commas_of_a_declaration() -> None:
    assert generic.joined(["a", "uprobe:c:f(int x", "char *y)", "b"]) == ["a", "uprobe:c:f(int x,char *y)", "b"]


def uprobe(name: str, *more: str):
    policy = expr.parse([f"event={name}", *more], Catalogue("x86_64"))
    return policy.events[0], policy


@pytest.fixture
def libc() -> str:
    from pybpf.links import libraries

    try:
        return libraries.find("c")
    except LinkError as error:
        pytest.skip(str(error))


def test_declared_arguments(libc: str) -> None:
    event, policy = uprobe(
        f"uprobe:{libc}:fopen(const char *path, unsigned int x, ssize_t, struct file **f, char)",
        f"uprobe:{libc}:fopen.path=/tmp/*",
        f"uprobe:{libc}:fopen.x>4",
    )
    assert (event.name, event.id, event.number) == (f"uprobe:{libc}:fopen", FIRST_ID, FIRST_NUMBER)
    assert [(arg.name, arg.type, arg.bits, arg.signed, arg.memory) for arg in event.args] == [
        ("path", "const char *", 64, False, user.KIND_STRING),
        ("x", "unsigned int", 32, False, 0),
        ("arg2", "ssize_t", 64, True, 0),
        ("f", "struct file **", 64, False, 0),
        ("arg4", "char", 8, True, 0),
    ]
    # rdi, rsi, rdx, rcx, r8
    assert [unpacked(arg.pieces[0])[2] for arg in event.args] == [(112, 0), (104,), (96,), (88,), (72,)]
    assert policy.filters[event.name].args.keys() == {"path", "x"}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("fopen(sizet n)", "'sizet' is no type that is known: did you mean 'size_t'?"),
        ("fopen(int 5x)", "is no declaration"),
        ("fopen(int (*)(int))", "arguments are declared as in"),
        ("fopeno", "no function 'fopeno'"),
    ],
)
def test_wrong_declarations(libc: str, declared: str, message: str) -> None:
    with pytest.raises(UsageError, match=r".") as caught:
        uprobe(f"uprobe:{libc}:{declared}")
    assert message in str(caught.value)


def test_one_event_however_it_is_spelled(libc: str) -> None:
    policy = expr.parse(
        [f"event=uprobe:{libc}:malloc(size_t n),uprobe:{libc}:free", f"uprobe:{libc}:malloc.n=5"], Catalogue("x86_64")
    )
    assert [event.name.rpartition(":")[2] for event in policy.events] == ["malloc", "free"]
    assert [event.id for event in policy.events] == [FIRST_ID, FIRST_ID + 1]
    assert policy.notes == []


# --- types ------------------------------------------------------------------------------------


def made() -> tuple[Types, dict[str, int]]:
    """A kernel of a few types."""
    b = Builder()
    ids: dict[str, int] = {}
    ids["int"] = b.int("int", 4, signed=True)
    ids["u8"] = b.int("unsigned char", 1)
    ids["bool"] = b.int("_Bool", 1, bool_=True)
    ids["ulong"] = b.int("unsigned long", 8)
    ids["size_t"] = b.typedef("size_t", ids["ulong"])
    char = b.int("char", 1, signed=True, char=True)
    ids["text"] = b.ptr(b.const(char))
    ids["buffer"] = b.ptr(char)
    ids["void"] = b.ptr(b.const(0))
    ids["enum"] = b.enum("colour", 4, [("RED", 0), ("BLUE", 7)])
    ids["kuid"] = b.typedef("kuid_t", b.struct("", 4, [("val", ids["int"], 0)]))
    ids["pair"] = b.struct("pair", 16, [("a", ids["ulong"], 0), ("b", ids["ulong"], 64)])
    ids["big"] = b.struct("big", 24, [("a", b.array(ids["ulong"], 3), 0)])
    vfsmount = b.ptr(b.struct("vfsmount", 8, [("x", ids["ulong"], 0)]))
    dentry = b.ptr(b.struct("dentry", 8, [("x", ids["ulong"], 0)]))
    path = b.struct("path", 16, [("mnt", vfsmount, 0), ("dentry", dentry, 64)])
    ids["dentry"] = dentry
    ids["file"] = b.ptr(b.struct("file", 64, [("f_flags", ids["int"], 0), ("f_path", path, 8 * 40)]))
    inner = b.struct("", 8, [("ki_filp", ids["file"], 0)])
    ids["kiocb"] = b.ptr(b.struct("kiocb", 16, [("", inner, 64)]))
    comm = b.array(char, 16)
    task = b.struct("task_struct", 64, [("pid", ids["int"], 64), ("tgid", ids["int"], 96), ("comm", comm, 256)])
    ids["task"] = b.ptr(task)
    ids["sockaddr"] = b.ptr(b.struct("sockaddr", 16, [("x", ids["ulong"], 0)]))
    ids["other"] = b.ptr(b.struct("secret", 8, [("x", ids["ulong"], 0)]))
    ids["fwd"] = b.ptr(b.fwd("task_struct"))
    return Types(Btf(b.to_bytes()), Names("x86_64")), ids


def arguments(*names: str, machine: str = "x86_64") -> list[GenericArg]:
    types, ids = made()
    return prototypes.entry(
        types, [(name.partition("=")[0], ids[name.partition("=")[2] or name]) for name in names], machine
    )


def test_numbers() -> None:
    args = arguments("int", "u8", "bool", "size_t", "enum", "kuid")
    assert [(arg.type, arg.bits, arg.signed, arg.kind) for arg in args] == [
        ("int", 32, True, ""),
        ("unsigned char", 8, False, ""),
        ("_Bool", 8, False, ""),
        ("size_t", 64, False, ""),
        ("enum colour", 32, False, "enum colour"),
        ("kuid_t", 32, True, ""),
    ]
    assert [unpacked(raw) for arg in args for raw in arg.pieces] == [
        (user.PIECE_NUMBER, slot, (register,), size, NONE)
        for slot, register, size in ((0, 112, 4), (1, 104, 1), (2, 96, 1), (3, 88, 8), (4, 72, 4), (5, 64, 4))
    ]
    assert all(arg.is_number for arg in args)


def test_enumerators_have_names() -> None:
    types, ids = made()
    types.argument("c", ids["enum"], 0, [(0,)])
    assert types.names.text("enum colour", 7) == "BLUE"
    assert types.names.parse("enum colour", "RED") == 0


def test_what_pointers_lead_to() -> None:
    file, kiocb, dentry, text, other, fwd = arguments("file", "kiocb", "dentry", "text", "other", "fwd")
    assert unpacked(file.pieces[0])[:3] == (user.PIECE_PATH, 0, (112, 40))
    assert unpacked(kiocb.pieces[0])[:3] == (user.PIECE_PATH, 1, (104, 8, 40))
    assert unpacked(dentry.pieces[0])[:3] == (user.PIECE_DENTRY, 2, (96, 0))
    assert unpacked(text.pieces[0])[:3] == (user.PIECE_STRING, 3, (88, 0))
    assert [arg.memory for arg in (file, kiocb, dentry, text)] == [user.KIND_STRING] * 4
    for arg, register in ((other, 72), (fwd, 64)):
        assert (arg.kind, arg.memory, arg.bits) == ("ptr", 0, 64)
        assert unpacked(arg.pieces[0]) == (user.PIECE_NUMBER, arg.slot, (register,), 8, NONE)


def test_members_of_a_structure() -> None:
    (task,) = arguments("task")
    assert [unpacked(raw)[:4] for raw in task.pieces] == [
        (user.PIECE_KEPT, 0, (112, 8), 4),
        (user.PIECE_KEPT, 0, (112, 12), 4),
        (user.PIECE_STRING, 0, (112, 32), 16),
    ]
    # A filter compares the first member.
    assert (task.memory, task.bits, task.signed, task.is_number) == (0, 32, True, False)
    fields = [(FORM_NUMBER, pack("=Q", 5)), (FORM_NUMBER, pack("=Q", 0xFFFFFFFF)), (FORM_STRING, b"sh")]
    assert task.decode(fields, Names("x86_64")) == {"pid": 5, "tgid": -1, "comm": b"sh"}
    gone = task.decode([(FORM_POINTER, pack("=Q", 0))], Names("x86_64"))
    assert isinstance(gone, Pointer)


def test_buffers_with_a_length() -> None:
    for kind in ("text", "void"):
        types, ids = made()
        buffer, count = prototypes.entry(types, [("buf", ids[kind]), ("count", ids["size_t"])], "x86_64")
        assert unpacked(buffer.pieces[0]) == (user.PIECE_BYTES, 0, (112, 0), 256, 1)
        assert buffer.decode([(FORM_BYTES, b"x\0")], Names("x86_64")) == b"x\0"
        assert count.is_number
    address, _ = arguments("sockaddr", "len=int")
    assert (address.kind, unpacked(address.pieces[0])) == ("sockaddr", (user.PIECE_BYTES, 0, (112, 0), 128, 1))
    out, _ = arguments("buffer", "count=size_t")
    assert out.kind == "ptr"


def test_more_arguments_than_registers() -> None:
    args = arguments(*(f"a{n}=int" for n in range(9)))
    assert [unpacked(arg.pieces[0])[2] for arg in args] == [
        *((112,), (104,), (96,), (88,), (72,), (64,)),
        *((152, 8), (152, 16), (152, 24)),
    ]
    args = arguments(*(f"a{n}=int" for n in range(9)), machine="aarch64")
    assert [unpacked(arg.pieces[0])[2] for arg in args] == [*((8 * n,) for n in range(8)), (248, 0)]


def test_structures_by_value() -> None:
    pair, big, after = arguments("pair", "big", "after=int")
    assert [unpacked(raw)[2] for raw in pair.pieces] == [(112,), (104,)]
    assert unpacked(big.pieces[0])[2:4] == ((152, 8), 24)
    assert unpacked(after.pieces[0])[2] == (96,)
    words = [(FORM_NUMBER, pack("=Q", 1)), (FORM_NUMBER, pack("=Q", 2))]
    assert pair.decode(words, Names("x86_64")) == "0x" + pack("<QQ", 1, 2).hex()
    pair, big, after = arguments("pair", "big", "after=int", machine="aarch64")
    assert [unpacked(raw)[2] for raw in pair.pieces] == [(0,), (8,)]
    assert unpacked(big.pieces[0])[2] == (16, 0)
    assert unpacked(after.pieces[0])[2] == (24,)


def test_results() -> None:
    types, ids = made()
    for name, expected, signed in (
        ("int", (user.PIECE_SIGNED_RESULT, 4), True),
        ("bool", (user.PIECE_RESULT, 1), False),
    ):
        type, pieces, shown = prototypes.returned(types, ids[name], (80,), 2)
        assert (type.signed, shown) == (signed, None)
        assert [(unpacked(raw)[0], unpacked(raw)[3]) for raw in pieces] == [expected]
    type, pieces, shown = prototypes.returned(types, ids["file"], (80,), 2)
    assert (type.kind, shown.name, unpacked(shown.pieces[0])[:3]) == ("ptr", "retval", (user.PIECE_PATH, 2, (80, 40)))
    assert prototypes.returned(types, 0, (80,), 0) == (None, [], None)
    assert prototypes.returned(types, ids["other"], (80,), 0)[2] is None


def test_functions_of_the_kernel(vmlinux: Types) -> None:
    """Hundreds of functions: every parameter becomes an argument that the programs can read."""
    btf = vmlinux.btf
    ids = [id for id in range(1, btf.type_count, 61) if btf.kind(id) == KIND_FUNC]
    assert len(ids) > 300
    kinds = set()
    for id in random.Random(5).sample(ids, min(400, len(ids))):
        name = btf.name(id)
        params, result = prototypes.function(vmlinux, name)
        for machine in ("x86_64", "aarch64"):
            args = prototypes.entry(vmlinux, params, machine)
            assert [arg.slot for arg in args] == list(range(len(params))), name
            assert [arg.name for arg, (param, _) in zip(args, params) if param and arg.name != param] == [], name
            for arg in args:
                assert arg.type == vmlinux.text(params[arg.slot][1])
                assert 0 < len(arg.pieces) <= 3, (name, arg.name)
                kinds.add(unpacked(arg.pieces[0])[0])
                if btf.kind(btf.resolve(params[arg.slot][1])) != KIND_PTR:
                    assert arg.memory != user.KIND_STRING
        prototypes.returned(vmlinux, result, (80,), len(params))
    assert kinds >= {user.PIECE_NUMBER, user.PIECE_KEPT, user.PIECE_STRING, user.PIECE_PATH}


def test_known_functions_of_the_kernel(vmlinux: Types) -> None:
    args = prototypes.entry(vmlinux, prototypes.function(vmlinux, "vfs_unlink")[0], "x86_64")
    shown = {arg.name: (arg.type, arg.memory) for arg in args}
    assert shown["dentry"] == ("struct dentry *", user.KIND_STRING)
    assert shown["dir"] == ("struct inode *", 0)
    switch = prototypes.each(vmlinux, prototypes.tracepoint(vmlinux, "sched_switch"))
    assert [arg.type for arg in switch][1:3] == ["struct task_struct *"] * 2
    assert [unpacked(arg.pieces[0])[2][0] for arg in switch] == [8 * n for n in range(len(switch))]
    assert [arg.name for arg in switch][:3] == ["preempt", "prev", "next"]
    assert prototypes.function(vmlinux, "no_such_function") is None
    assert prototypes.tracepoint(vmlinux, "no_such_tracepoint") is None


KERNELS = ("5.10", "6.1", "6.12", "7.2", "arm64-5.10")


@pytest.fixture(params=KERNELS)
def other(request: pytest.FixtureRequest):
    """The types of a kernel that guests run, and the machine that it is for."""
    from tests.guests.matrix import cache

    image = cache() / "kernels" / request.param / "image"
    if not image.exists():
        pytest.skip(f"{image} has not been fetched (python -m tests.guests --fetch)")
    machine = "aarch64" if request.param.startswith("arm64") else "x86_64"
    blob = find_btf(image.read_bytes())
    if not blob:
        pytest.skip(f"no BTF in {image}: it is packed")
    return Types(Btf(blob), Names(machine)), machine


def find_btf(image: bytes) -> bytes:
    """The kernel's own BTF, by its header; the image has other, small ones."""
    at = image.find(b"\x9f\xeb\x01\0")
    while at >= 0:
        size, types, types_size, strings, strings_size = unpack_from("=5I", image, at + 4)
        if (size, types, strings) == (24, 0, types_size) and types_size > 1 << 20:
            return image[at : at + 24 + strings + strings_size]
        at = image.find(b"\x9f\xeb\x01\0", at + 4)
    return b""


def members(btf: Btf, id: int, at: int = 0):
    """Also those of anonymous members, from there."""
    for name, type, offset, bits in btf.members(id):
        if not name and btf.kind(btf.resolve(type)) in COMPOSITES:
            yield from members(btf, btf.resolve(type), at + offset)
        yield name, type, at + offset, bits


def test_other_kernels(other: tuple[Types, str]) -> None:
    """What the functions and tracepoints of the guests' kernels take; no argument is without a piece."""
    types, machine = other
    first = {"x86_64": (112, 104, 96), "aarch64": (0, 8, 16)}[machine]
    args = {arg.name: arg for arg in prototypes.entry(types, prototypes.function(types, "vfs_write")[0], machine)}
    assert [args[name].type for name in ("file", "buf", "count")] == ["struct file *", "const char *", "size_t"]
    (file,) = types.btf.find("file", (KIND_STRUCT,))
    offset = next(offset // 8 for name, _, offset, _ in members(types.btf, file) if name == "f_path")
    assert unpacked(args["file"].pieces[0])[:3] == (user.PIECE_PATH, 0, (first[0], offset))
    assert unpacked(args["buf"].pieces[0]) == (user.PIECE_BYTES, 1, (first[1], 0), 256, 2)
    assert unpacked(args["count"].pieces[0])[:3] == (user.PIECE_NUMBER, 2, (first[2],))
    socket, address, length = prototypes.entry(types, prototypes.function(types, "security_socket_connect")[0], machine)
    assert (socket.type, address.kind, length.type) == ("struct socket *", "sockaddr", "int")
    task, old, program = prototypes.each(types, prototypes.tracepoint(types, "sched_process_exec"))
    assert (task.name, old.name, program.name) == ("p", "old_pid", "bprm")
    ids = [id for id in range(1, types.btf.type_count, 17) if types.btf.kind(id) == KIND_FUNC]
    for id in ids[::20]:
        params, result = prototypes.function(types, types.btf.name(id))
        args = prototypes.entry(types, params, machine)
        assert all(arg.pieces for arg in args), types.btf.name(id)
        prototypes.returned(types, result, (80,), len(args))


def test_every_tracepoint_of_the_kernel(vmlinux: Types) -> None:
    names = [name[len("btf_trace_") :] for name in vmlinux.btf.names_starting("btf_trace_")]
    assert len(names) > 300
    for name in names[::7]:
        for arg in prototypes.each(vmlinux, prototypes.tracepoint(vmlinux, name)):
            assert arg.pieces, name


# --- formats ------------------------------------------------------------------------------------


@pytest.fixture
def top() -> str:
    try:
        return tracefs.root()
    except LinkError as error:
        pytest.skip(str(error))


def test_every_format_of_the_kernel(top: str, vmlinux: Types) -> None:
    """All parse; and where BTF has the structure of the record, it has the fields at the same places."""
    seen = compared = 0
    for category, name in tracefs.event_names("*", "*"):
        fields = tracefs.event_format(category, name)
        args = formats.arguments(category, fields, tracefs.event_printed(category, name), Names("x86_64"))
        own = [field for field in fields if not field.name.startswith("common_")]
        assert [arg.name for arg in args] == [field.name for field in own]
        assert sum(len(arg.pieces) for arg in args) <= user.PIECES
        seen += 1
        if seen % 5:
            continue
        for id in vmlinux.btf.find(f"trace_event_raw_{name}", (KIND_STRUCT,)):
            members = {member: offset // 8 for member, _, offset, _ in vmlinux.btf.members(id)}
            for arg in args:
                (raw,) = arg.pieces
                _, _, way, _, _ = unpacked(raw)
                assert members.get(arg.name, members.get(f"__data_loc_{arg.name}")) == way[0], (name, arg.name)
                compared += 1
    assert seen > 300
    assert compared > 50


def format_of(declaration: str, size: int, signed: bool = False, category: str = "x", printed: str = "") -> GenericArg:
    (arg,) = formats.arguments(category, [Field(declaration, 16, size, signed)], printed, Names("x86_64"))
    return arg


@pytest.mark.parametrize(
    ("declaration", "size", "signed", "category", "expected"),
    [
        ("pid_t pid", 4, True, "x", (32, True, "", user.PIECE_NUMBER, (16,), 4)),
        ("unsigned short port", 2, False, "x", (16, False, "", user.PIECE_NUMBER, (16,), 2)),
        ("int fd", 8, False, "syscalls", (32, True, "", user.PIECE_NUMBER, (16,), 4)),
        ("int fd", 8, False, "x", (64, False, "", user.PIECE_NUMBER, (16,), 8)),
        ("const char * name", 8, False, "syscalls", (64, False, "text", user.PIECE_STRING, (16, 0), 4104)),
        ("char * buf", 8, False, "syscalls", (64, False, "ptr", user.PIECE_NUMBER, (16,), 8)),
        ("char comm[16]", 16, False, "x", (64, False, "text", user.PIECE_STRING, (16,), 16)),
        ("__data_loc char[] msg", 4, False, "x", (64, False, "text", user.PIECE_STRING | 0x10, (16,), 4096)),
        ("__rel_loc char[] msg", 4, False, "x", (64, False, "text", user.PIECE_STRING | 0x20, (16,), 4096)),
        ("u64 args[6]", 48, False, "x", (64, False, "view", user.PIECE_BYTES, (16,), 48)),
    ],
)
def test_a_field(declaration: str, size: int, signed: bool, category: str, expected: tuple[object, ...]) -> None:
    arg = format_of(declaration, size, signed, category)
    kind, _, way, length, _ = unpacked(arg.pieces[0])
    assert (arg.bits, arg.signed, arg.kind, kind, way, length) == expected


@pytest.mark.parametrize(
    ("declaration", "size", "signed", "printed", "data", "value"),
    [
        ("u64 args[2]", 16, False, "", pack("=QQ", 1, 1 << 63), [1, 1 << 63]),
        ("long a[2]", 16, True, "", pack("=qq", -1, 5), [-1, 5]),
        ("__u8 saddr[4]", 4, False, "", b"\1\2\3\4", [1, 2, 3, 4]),
        ("__u8 saddr[4]", 4, False, '"a=%pI4", REC->saddr', b"\1\2\3\4", "1.2.3.4"),
        ("__u8 a[16]", 16, False, '"x=%d a=%pI6c", REC->x, REC->a', bytes(15) + b"\1", "::1"),
        ("__u8 a[28]", 28, False, '"%pISpc", REC->a', pack("=H", 2) + b"\0\x50\x7f\0\0\1" + bytes(20), "127.0.0.1:80"),
        ("__data_loc u8[] data", 4, False, "", b"ab", b"ab"),
        ("__data_loc u64[] data", 4, False, "", pack("=QQ", 3, 4), [3, 4]),
        ("__data_loc cpumask_t mask", 4, False, "", b"\1\0", "0x0100"),
    ],
)
def test_what_an_array_holds(
    declaration: str, size: int, signed: bool, printed: str, data: bytes, value: object
) -> None:
    arg = format_of(declaration, size, signed, printed=printed)
    assert arg.decode([(FORM_BYTES, data)], Names("x86_64")) == value


def test_names_in_a_print_format() -> None:
    names = Names("x86_64")
    text = (
        '"state=%s flags=%s at=%pS n=0x%lx d=%d", '
        '__print_symbolic(REC->state, { 0, "IDLE" }, { (1 << 2), "BUSY, VERY" }, { }), '
        '(REC->flags) ? __print_flags(REC->flags, "|", {( unsigned long)(( gfp_t)((((1UL))) << (4))), "A"}, '
        '{ 0x20u, "B" }, { 1, ((void *)0) }) : "none", (void *)REC->at, REC->n, REC->d'
    )
    fields = [
        Field(f"unsigned long {name}", 8 * n + 8, 8, False) for n, name in enumerate(("state", "flags", "at", "n", "d"))
    ]
    state, flags, at, n, d = formats.arguments("x", fields, text, names)
    assert names.text(state.kind, 4) == "BUSY, VERY"
    assert names.parse(state.kind, "IDLE") == 0
    assert names.text(flags.kind, 0x31) == "A|B|0x1"
    assert (at.kind, n.kind, d.kind) == ("hex", "hex", "")


@pytest.mark.parametrize(
    "text",
    ["1", "0x10u", "(1 << 3) | 2", "~0 & 0xff", "-1", "(( gfp_t)((((1UL))) << (4)))", "1 + 2 * 3 << 1", "010", "0"],
)
def test_constant_expressions(text: str) -> None:
    import re

    plain = re.sub(r"\( ?gfp_t\)|(?<=\d)[uUlL]+|(?<=[0-9a-f])u\b", "", text)
    plain = re.sub(r"\b0(\d+)", r"0o\1", plain)
    assert (printed.constant(text) - eval(plain)) % (1 << 64) == 0


@pytest.mark.parametrize("text", ["", "x", "1 +", "(1", "1 << 64", "f(1)", "REC->a", "1 2", '"a"', "sizeof(int)"])
def test_what_is_no_constant(text: str) -> None:
    assert printed.constant(text) is None


def test_registers_of_an_unknown_machine() -> None:
    with pytest.raises(UsageError, match="not known for the machine 'm68k'"):
        calls.convention("m68k")


# --- what there is --------------------------------------------------------------------------


def test_functions_and_tracepoints_are_listed(vmlinux: Types) -> None:
    (line,) = describe.functions("vfs_unlink", "x86_64")
    assert line.startswith("int vfs_unlink(struct ")
    assert "struct dentry *dentry" in line
    assert describe.functions("vfs_unlin?", "x86_64") == [line]
    (line,) = [line for line in describe.tracepoints("*sched_switch", "x86_64") if "sched_switch(" in line]
    assert "struct task_struct *prev, struct task_struct *next" in line
    for listed in (describe.functions, describe.tracepoints):
        with pytest.raises(UsageError, match="matches 'nosuch\\*'"):
            listed("nosuch*", "x86_64")


def test_an_event_is_explained(libc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bfer.about.hooks", lambda event: [event.name])
    lines = describe.explained(f"uretprobe:{libc}:getenv(const char *)", "x86_64")
    assert lines == [
        f"uretprobe:{libc}:getenv: seen when the function returns",
        "arguments:",
        "    const char * retval: text; exact, beginnings and endings are compared in the kernel",
        "result: const char *",
        "here:",
        f"    uretprobe:{libc}:getenv",
        "examples:",
        f"    bfer trace 'event=uretprobe:{libc}:getenv'",
        f"    bfer trace 'uretprobe:{libc}:getenv.retval=a*'",
        f"    bfer trace 'uretprobe:{libc}:getenv.retval<0'",
    ]
