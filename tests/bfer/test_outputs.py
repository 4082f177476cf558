"""JSON and table: every byte that a path or name can hold."""

from __future__ import annotations

import base64
import json
import os
import time

import pytest
from fake_records import AT_FDCWD, CATALOGUE, EVENTS, NAMES, field, openat2, record
from hypothesis import given
from hypothesis import strategies as st

from bfer import escape
from bfer.output.json import Json
from bfer.output.table import Table
from bfer.records import FORM_BYTES, FORM_ITEM, FORM_ITEM_CUT, FORM_MORE, PATH_CUT, PATH_UNREADABLE

MEMBERS = {
    "timestamp": int,
    "threadStartTime": int,
    "processorId": int,
    "processId": int,
    "cgroupId": int,
    "threadId": int,
    "parentProcessId": int,
    "hostProcessId": int,
    "hostThreadId": int,
    "hostParentProcessId": int,
    "userId": int,
    "mountNamespace": int,
    "pidNamespace": int,
    "processName": str,
    "hostName": str,
    "containerId": str,
    "containerImage": str,
    "containerName": str,
    "podName": str,
    "podNamespace": str,
    "podUID": str,
    "eventId": str,
    "eventName": str,
    "argsNum": int,
    "returnValue": int,
    "stackAddresses": type(None),
    "contextFlags": dict,
    "args": list,
}


def as_json(raw: bytes, texts: bool = False, offset: int = 0) -> dict:
    line = Json(EVENTS, NAMES, texts).render([raw], offset)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    event = json.loads(line.decode("utf-8"))
    assert list(event) == list(MEMBERS)
    for name, kind in MEMBERS.items():
        assert type(event[name]) is kind, name
    assert event["argsNum"] == len(event["args"])
    for arg in event["args"]:
        assert list(arg)[:3] == ["name", "type", "value"]
    return event


def as_table(raw: bytes, offset: int = 0) -> str:
    line = Table(EVENTS, NAMES).render([raw], offset)
    assert line.count(b"\n") == 1
    return line.decode("utf-8").rstrip("\n")


def args_of(raw: bytes, texts: bool = False) -> dict[str, tuple[str, object]]:
    return {arg["name"]: (arg["type"], arg["value"]) for arg in as_json(raw, texts)["args"]}


def test_json_line() -> None:
    line = Json(EVENTS, NAMES).render([record(node=b"fujitsu")], 5)
    assert line == (
        b'{"timestamp":1000000005,"threadStartTime":777,"processorId":1,"processId":42,"cgroupId":88,"threadId":43,'
        b'"parentProcessId":41,"hostProcessId":142,"hostThreadId":143,"hostParentProcessId":141,"userId":1000,'
        b'"mountNamespace":4026531841,"pidNamespace":4026531836,"processName":"cat","hostName":"fujitsu",'
        b'"containerId":"","containerImage":"","containerName":"","podName":"","podNamespace":"","podUID":"",'
        b'"eventId":"257","eventName":"openat","argsNum":4,"returnValue":3,"stackAddresses":null,'
        b'"contextFlags":{"containerStarted":false},"args":['
        b'{"name":"dirfd","type":"int","value":-100},'
        b'{"name":"pathname","type":"const char*","value":"/tmp/login.txt"},'
        b'{"name":"flags","type":"int","value":577},{"name":"mode","type":"mode_t","value":420}]}\n'
    )


@pytest.mark.parametrize(
    ("name", "scalars", "plain", "texts"),
    [
        (
            "open",
            (0o102, 0o600),
            {"flags": ("int", 66), "mode": ("mode_t", 384)},
            {"flags": ("string", "O_RDWR|O_CREAT"), "mode": ("string", "0600")},
        ),
        (
            "openat",
            (3, 0xFFFFFFFF, 0),
            {"dirfd": ("int", 3), "flags": ("int", -1), "mode": ("mode_t", 0)},
            {"dirfd": ("int", 3), "mode": ("string", "0")},
        ),
        ("creat", (0o644,), {"mode": ("mode_t", 420)}, {"mode": ("string", "0644")}),
        ("unlink", (), {}, {}),
        (
            "unlinkat",
            (AT_FDCWD, 0x200),
            {"dirfd": ("int", -100), "flags": ("int", 512)},
            {"flags": ("string", "AT_REMOVEDIR")},
        ),
    ],
)
def test_json_arguments(name: str, scalars: tuple[int, ...], plain: dict, texts: dict) -> None:
    raw = record(name, b"p", scalars)
    for wanted, got in ((plain, args_of(raw)), (texts, args_of(raw, True))):
        assert got["pathname"] == ("const char*", "p")
        assert list(got) == [arg.name for arg in CATALOGUE.events[name].args]
        for key, value in wanted.items():
            assert got[key] == value


@given(st.binary(max_size=200), st.binary(max_size=16), st.binary(max_size=64), st.booleans())
def test_json_is_valid_whatever_the_bytes(path: bytes, comm: bytes, node: bytes, texts: bool) -> None:
    path = path.replace(b"\0", b"")
    event = as_json(record(path=path, comm=comm, node=node), texts)
    arg = event["args"][1]
    assert arg["value"] == path.decode("utf-8", "replace")
    if escape.is_utf8(path):
        assert list(arg) == ["name", "type", "value"]
    else:
        assert base64.b64decode(arg["valueBytes"]) == path
    assert event["processName"] == comm.partition(b"\0")[0].decode("utf-8", "replace")
    assert event["hostName"] == node.partition(b"\0")[0].decode("utf-8", "replace")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted({event.name for event in EVENTS.values()})),
            st.tuples(*[st.integers(0, (1 << 64) - 1)] * 6),
            st.sampled_from([0, PATH_CUT, PATH_UNREADABLE]),
            st.binary(max_size=12).map(lambda b: b.replace(b"\0", b"")),
            st.integers(-(1 << 63), (1 << 63) - 1),
        ),
        min_size=1,
        max_size=10,
    ),
    st.booleans(),
)
def test_batches_are_the_sum_of_their_records(rows: list[tuple], texts: bool) -> None:
    raws = [
        record(
            name,
            path,
            scalars,
            fields=field(1, path),
            status=status,
            result=result,
            pointer=(scalars[0] if status & 2 else None),
        )
        for name, scalars, status, path, result in rows
    ]
    for make in (lambda: Json(EVENTS, NAMES, texts), lambda: Table(EVENTS, NAMES)):
        together = make()
        expected = b"".join(make().render([raw], 7) for raw in raws)
        assert together.render(raws, 7) == expected
        assert together.render(raws, 7) == expected  # from the cache too
        assert expected.count(b"\n") == len(raws)
    for raw, row in zip(raws, rows):
        assert as_json(raw, texts)["returnValue"] == row[4]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"/tmp/x", b"/tmp/x"),
        (b'a"b\\c', b'a\\"b\\\\c'),
        (b"\n\t\r\b\f\x01\x1f\x7f", b"\\n\\t\\r\\b\\f\\u0001\\u001f\x7f"),
        ("\u65e5\u2028".encode(), "\u65e5\u2028".encode()),
        (b"\xff", "\ufffd".encode()),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd".encode()),
    ],
)
def test_json_escapes(path: bytes, text: bytes) -> None:
    assert escape.for_json(path) == text


def test_json_of_cut_and_unreadable() -> None:
    cut = as_json(record(path=b"a" * 4103, status=PATH_CUT))["args"][1]
    assert list(cut.items())[2:] == [("value", "a" * 4103), ("truncated", True)]
    odd = as_json(record(path=b"\xe6" * 4103, status=PATH_CUT))["args"][1]
    assert list(odd) == ["name", "type", "value", "valueBytes", "truncated"]
    raw = record(status=PATH_UNREADABLE, pointer=0xDEAD)
    assert args_of(raw)["pathname"] == ("void*", 0xDEAD)
    assert args_of(raw, True)["pathname"] == ("void*", "0xdead")
    assert args_of(record(status=PATH_UNREADABLE, pointer=0))["pathname"] == ("void*", 0)
    raw = openat2(b"x", 0x1000)
    assert args_of(raw)["how"] == ("void*", 0x1000)
    assert args_of(raw, True)["how"] == ("void*", "0x1000")


def test_json_of_fields() -> None:
    raw = openat2(b"/x", (0o2000000, 0, 8))
    plain, texts = args_of(raw), args_of(raw, True)
    assert list(plain) == list(texts) == ["dirfd", "pathname", "how", "size"]
    assert plain["pathname"] == ("const char*", "/x")
    assert plain["how"] == ("struct open_how*", {"flags": 0o2000000, "mode": 0, "resolve": 8})
    assert texts["how"][1] == {"flags": "O_RDONLY|O_CLOEXEC", "mode": "0", "resolve": "RESOLVE_BENEATH"}
    assert plain["size"] == ("size_t", 24)
    address = b"\2\0\x1f\x90\x7f\0\0\1" + bytes(8)
    raw = record("connect", scalars=(3, 16), fields=field(1, address, FORM_BYTES))
    assert args_of(raw)["addr"] == (
        "struct sockaddr*",
        {"sa_family": "AF_INET", "sin_addr": "127.0.0.1", "sin_port": "8080"},
    )
    raw = record("pipe2", scalars=(0,), fields=field(0, b"\3\0\0\0\4\0\0\0", FORM_BYTES))
    assert args_of(raw)["pipefd"] == ("int[2]", [3, 4])


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (field(0, b"/bin/ls") + field(1, b"ls", FORM_ITEM) + field(1, b'a"b', FORM_ITEM), '["ls", "a\\"b"]'),
        (field(0, b"/bin/ls") + field(1, 0), "NULL"),
        (field(0, b"/bin/ls") + field(1, b"ls", FORM_ITEM) + field(1, 0x10), '["ls", 0x10]'),
        (field(0, b"/bin/ls") + field(1, b"x", FORM_ITEM_CUT) + field(1, b"", FORM_MORE), '["x"..., ...]'),
    ],
)
def test_vectors(fields: bytes, text: str) -> None:
    raw = record("execve", scalars=(), fields=fields)
    line = as_table(raw)
    assert line.endswith(f"pathname: /bin/ls, argv: {text}, envp: NULL")
    value = args_of(raw)["argv"][1]
    assert value == 0 if text == "NULL" else isinstance(value, list)


def test_table_line() -> None:
    stamp = 1_700_000_000_123_456_789
    clock = time.strftime("%H:%M:%S", time.localtime(stamp // 10**9))
    assert Table.header.decode() == (
        "TIME             UID    COMM             PID     TID     RET              EVENT                ARGS\n"
    )
    assert as_table(record(time=stamp)) == (
        f"{clock}:123456  1000   cat              42      43      3                openat               "
        "dirfd: -100, pathname: /tmp/login.txt, flags: O_WRONLY|O_CREAT|O_TRUNC, mode: 0644"
    )


def test_table_time_follows_the_offset() -> None:
    table = Table(EVENTS, NAMES, utc=True)
    lines = table.render([record(time=5_000_000_000), record(time=5_999_999_999)], 3600 * 10**9).splitlines()
    assert [line[:15] for line in lines] == [b"01:00:05:000000", b"01:00:05:999999"]
    assert table.render([record(time=6_000_000_000)], 3600 * 10**9)[:15] == b"01:00:06:000000"


@pytest.mark.parametrize(
    ("raw", "args"),
    [
        (record("open", b"", (0, 0)), "pathname: , flags: O_RDONLY, mode: 0"),
        (record("creat", b"x", (0o600,)), "pathname: x, mode: 0600"),
        (record("unlink", b"x y", ()), "pathname: x y"),
        (record("unlinkat", b"x", (5, 0)), "dirfd: 5, pathname: x, flags: 0"),
        (record("unlinkat", b"x", (5, 0x201)), "dirfd: 5, pathname: x, flags: AT_REMOVEDIR|0x1"),
        (
            openat2(b"x", (0, 0, 8)),
            "dirfd: -100, pathname: x, how: {flags: O_RDONLY, mode: 0, resolve: RESOLVE_BENEATH}, size: 24",
        ),
        (
            openat2(b"x", (0o102, 0o644, 0)),
            "dirfd: -100, pathname: x, how: {flags: O_RDWR|O_CREAT, mode: 0644, resolve: 0}, size: 24",
        ),
        (
            openat2(b"x", 0, (3, 24)),
            "dirfd: 3, pathname: x, how: NULL, size: 24",
        ),
        (record("unlink", b"a" * 4103, (), status=PATH_CUT), "pathname: " + "a" * 4103 + "..."),
        (record("unlink", pointer=0, scalars=(), status=PATH_UNREADABLE), "pathname: NULL"),
        (record("creat", pointer=0xFFF, scalars=(1,), status=PATH_UNREADABLE), "pathname: 0xfff, mode: 01"),
        (record("unlink", b"a\nb\x1b[31m", ()), "pathname: a\\nb\\33[31m"),
        (record("unlink", b"\x1b1", ()), "pathname: \\0331"),
        (record("unlink", b"\x00"[:0] + b"\x01\x7f\t\r\v\f\x07", ()), "pathname: \\1\\177\\t\\r\\v\\f\\7"),
        (record("unlink", b"back\\slash", ()), "pathname: back\\\\slash"),
        (record("unlink", "caf\u00e9 \u65e5".encode(), ()), "pathname: caf\u00e9 \u65e5"),
        (record("unlink", b"\xff\xe6\x97", ()), "pathname: \\xff\\xe6\\x97"),
        (record("unlink", "\u202e\u0085\u00a0".encode(), ()), "pathname: \\xe2\\x80\\xae\\xc2\\x85\\xc2\\xa0"),
    ],
)
def test_table_arguments(raw: bytes, args: str) -> None:
    assert as_table(raw).split(maxsplit=7)[7] == args


@given(st.binary(max_size=60), st.binary(max_size=16))
def test_table_is_printable_whatever_the_bytes(path: bytes, comm: bytes) -> None:
    line = as_table(record(path=path.replace(b"\0", b""), comm=comm))
    assert line.isprintable()


@pytest.mark.parametrize("name", [name for name in dir(os) if name.startswith("O_") and name != "O_ACCMODE"])
def test_flags_have_this_machine_s_values(name: str) -> None:
    from bfer.names import Names

    names = Names(os.uname().machine)
    value = getattr(os, name)
    text = names.text("open", value)
    assert text is not None
    assert names.parse("open", text) == value
    if name not in ("O_ASYNC", "O_NDELAY", "O_RSYNC", "O_FSYNC", "O_LARGEFILE"):  # other names of the same bits
        assert name in text.split("|")


def test_flags_on_arm64() -> None:
    from bfer.names import Names

    names = Names("aarch64")
    assert names.text("open", 0o40000) == "O_RDONLY|O_DIRECTORY"
    assert names.text("open", 0o200000 | 3) == "O_ACCMODE|O_DIRECT"
    assert names.text("open", 1 << 40 | 4) == "O_RDONLY|0x10000000004"


def test_caches_are_bounded() -> None:
    for renderer in (Json(EVENTS, NAMES), Table(EVENTS, NAMES)):
        for start in range(0, 10000, 500):
            lines = renderer.render([record(pid=pid) for pid in range(start, start + 500)], 0)
            assert lines.count(b"\n") == 500
        assert len(renderer._cache) <= 4096


def test_a_full_cache_forgets_nothing_that_a_batch_needs() -> None:
    for renderer in (Json(EVENTS, NAMES), Table(EVENTS, NAMES)):
        for start in range(0, 4096, 256):
            renderer.render([record(pid=pid) for pid in range(start, start + 256)], 0)
        odd = record("unlink", scalars=(), status=PATH_UNREADABLE, pointer=0xABC, pid=9999)
        batch = [odd, *(record(pid=pid) for pid in range(5000, 5255)), odd]
        lines = renderer.render(batch, 0).splitlines()
        assert lines[0] == lines[-1]
        assert (b'"value":2748' if isinstance(renderer, Json) else b"0xabc") in lines[0]


@given(st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"\0", b"")), min_size=1, max_size=6))
def test_halves_of_characters_do_not_join_across_paths(paths: list[bytes]) -> None:
    raws = [record("unlink", path, ()) for path in paths]
    lines = Json(EVENTS, NAMES).render(raws, 0).decode("utf-8").split("\n")[:-1]
    assert [json.loads(line)["args"][0]["value"] for line in lines] == [p.decode("utf-8", "replace") for p in paths]
    table = Table(EVENTS, NAMES).render(raws, 0).decode("utf-8").split("\n")[:-1]
    assert all(line.isprintable() for line in table)
    assert len(table) == len(paths)
