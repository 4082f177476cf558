"""XML, CSV, templates and the verbose table: every byte that a path or name can hold, and the same facts as JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from base64 import b64decode
from pathlib import Path
from struct import pack

import pytest
from fake_records import AT_FDCWD, CATALOGUE, EVENTS, NAMES, field, openat2, record
from hypothesis import given, settings
from hypothesis import strategies as st

from bfer.descriptors import Descriptors
from bfer.errors import UsageError
from bfer.output.csv import COLUMNS, Csv
from bfer.output.json import Json
from bfer.output.lines import Lines
from bfer.output.table import Table
from bfer.output.template import Template
from bfer.output.verbose import Verbose
from bfer.output.xml import Xml
from bfer.records import (
    ARGS,
    FORM_BYTES,
    FORM_ITEM,
    FORM_ITEM_CUT,
    FORM_MORE,
    FORM_NUMBER,
    PATH_CUT,
    PATH_UNREADABLE,
)

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"
IN4 = pack("=H", 2) + pack(">H", 8080) + bytes([127, 0, 0, 1]) + bytes(8)


def every_event() -> list[bytes]:
    """A record or more of each event: whole, cut, unreadable, with names that are no text."""
    records = []
    for event in EVENTS.values():
        fields = b""
        for arg in event.args:
            if arg.kind in ("argv", "envp"):
                fields += field(arg.slot, b"a\nb", FORM_ITEM) + field(arg.slot, b"\xff", FORM_ITEM_CUT)
                fields += field(arg.slot, b"", FORM_MORE)
            elif "sockaddr" in arg.kind:
                fields += field(arg.slot, IN4, FORM_BYTES)
            elif arg.kind == "pair":
                fields += field(arg.slot, pack("=ii", 3, 4), FORM_BYTES)
            elif arg.kind == "bytes":
                fields += field(arg.slot, b"\x7fELF\xff", FORM_BYTES)
            elif arg.kind == "cred":
                fields += field(arg.slot, pack("=10I5Q", *range(15)), FORM_BYTES)
            elif arg.kind == "helpers":
                fields += field(arg.slot, pack("=4Q", 1 << 63, 0, 1, 2), FORM_BYTES)
            elif arg.kind == "strings":
                fields += field(arg.slot, b"a\0\xff\0", FORM_BYTES)
            elif arg.kind == "open_how":
                fields += field(arg.slot, pack("=QQQ", 0o102, 0o600, 8), FORM_BYTES)
            elif arg.kind == "clone_args":
                fields += field(arg.slot, pack("=8Q", *range(8)), FORM_BYTES)
            elif arg.memory:
                fields += field(arg.slot, b"<\x01&\xff>")
            elif arg.slot >= ARGS:
                fields += field(arg.slot, 7, FORM_NUMBER)
        options = {"compat": True} if event.is_compat and event.name in both() else {}
        for path, status, result in ((b"/x", 0, 0), (b'\xff"', PATH_CUT, -2), (b"", PATH_UNREADABLE, -(1 << 63))):
            pointer = 0xDEAD if status == PATH_UNREADABLE else None
            values = (AT_FDCWD, (1 << 64) - 1, 0, 1, 2, 3)
            records.append(
                record(
                    *(event.name, path, values),
                    fields=fields,
                    status=status,
                    result=result,
                    pointer=pointer,
                    comm=b'a,"\n\x01<',
                    **options,
                )
            )
    return records


def both() -> set[str]:
    return {name for name, event in CATALOGUE.events.items() if event.compat is not None}


def document(data: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(Xml.opening + data + Xml.closing)


def told(element: ElementTree.Element) -> bytes:
    """What a text element stands for."""
    kept = element.find("bytes")
    return (element.text or "").encode() if kept is None else b64decode(kept.text or "")


@pytest.mark.parametrize("texts", [False, True])
def test_all_formats_tell_the_same(texts: bool) -> None:
    raws = every_event()
    objects = [json.loads(line) for line in Json(EVENTS, NAMES, texts).render(raws, 5).splitlines()]
    elements = list(document(Xml(EVENTS, NAMES, texts).render(raws, 5)))
    text = (Csv(EVENTS, NAMES).opening + Csv(EVENTS, NAMES, texts).render(raws, 5)).decode()
    assert text.count("\r\n") == text.count("\n") == len(raws) + 1
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert len(objects) == len(elements) == len(rows) == len(raws)
    for event, element, row in zip(objects, elements, rows):
        assert [*event] == [child.tag for child in element] == [*row] == [*COLUMNS]
        for name in COLUMNS:
            if name in ("args", "contextFlags"):
                assert json.loads(row[name]) == event[name]
            elif name not in ("processName", "hostName"):
                assert (element.findtext(name) or "") == row[name] == ("" if event[name] is None else str(event[name]))
        assert told(element.find("processName")) == b'a,"\n\x01<'
        assert row["processName"] == 'a,"\\n\\1<'
        compare_args(event["args"], list(element.find("args")))


def compare_args(args: list[dict], elements: list[ElementTree.Element]) -> None:
    assert len(args) == len(elements)
    for arg, element in zip(args, elements):
        assert (arg["name"], arg["type"]) == (element.get("name"), element.get("type"))
        assert arg.get("truncated", False) is (
            element.get("truncated") == "true" or any(item.get("truncated") for item in element)
        )
        value = arg["value"]
        if isinstance(value, dict):
            assert {child.get("name"): child.text or "" for child in element} == {k: str(v) for k, v in value.items()}
        elif isinstance(value, list):
            texts = [told(item).decode("utf-8", "replace") for item in element]
            assert texts == [str(item) for item in value]
        elif "valueBytes" in arg:
            assert told(element) == b64decode(arg["valueBytes"])
        else:
            assert told(element).decode() == str(value)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\0", b"")), min_size=1, max_size=5))
def test_xml_and_csv_hold_any_bytes(paths: list[bytes]) -> None:
    raws = [record("unlink", path, (), comm=path[:15]) for path in paths]
    for element, path in zip(document(Xml(EVENTS, NAMES).render(raws, 0)), paths):
        assert told(element.find("args")[0]) == path
        assert told(element.find("processName")) == path[:15]
    text = Csv(EVENTS, NAMES).render(raws, 0).decode()
    for row, path in zip(csv.reader(io.StringIO(text, newline=""), strict=True), paths):
        assert json.loads(row[-1])[0]["value"] == path.decode("utf-8", "replace")


@pytest.mark.parametrize("text", ["\ufffe", "\u2028", "\x85\x7f", "\r\n\t", "]]>&amp;<a/>", "\U0001f600"])
def test_xml_of_odd_characters(text: str) -> None:
    data = Xml(EVENTS, NAMES).render([record("unlink", text.encode(), ())], 0)
    assert len(data.decode().splitlines()) == 1
    assert told(document(data)[0].find("args")[0]) == text.encode()


def test_batches_are_the_sum_of_their_records() -> None:
    raws = every_event()[:300]
    for make in (
        lambda: Xml(EVENTS, NAMES),
        lambda: Csv(EVENTS, NAMES),
        lambda: Verbose(EVENTS, NAMES),
        lambda: Template(EVENTS, NAMES, "{timestamp} {processName} {args}"),
    ):
        renderer: Lines = make()
        expected = b"".join(make().render([raw], 7) for raw in raws)
        assert renderer.render(raws, 7) == expected
        assert renderer.render(raws, 7) == expected


def test_verbose_columns() -> None:
    head, line = (text.decode().rstrip("\n") for text in (Verbose.header, Verbose(EVENTS, NAMES).render([record()], 0)))
    names = [
        "TIME",
        "UTS_NAME",
        "CONTAINER_ID",
        "MNT_NS",
        "PID_NS",
        "UID",
        "COMM",
        "PID",
        "TID",
        "PPID",
        "RET",
        "EVENT",
        "ARGS",
    ]
    assert head.split() == names
    starts = [head.index(f"{name} ") for name in names[:-1]] + [head.index("ARGS")]
    found = {name: line[at:].split("  ")[0].strip() for name, at in zip(names, starts)}
    assert found == {
        "TIME": found["TIME"],
        "UTS_NAME": "board",
        "CONTAINER_ID": "",
        "MNT_NS": "4026531841",
        "PID_NS": "4026531836",
        "UID": "1000",
        "COMM": "cat",
        "PID": "42",
        "TID": "43",
        "PPID": "41",
        "RET": "3",
        "EVENT": "openat",
        "ARGS": Table(EVENTS, NAMES).render([record()], 0).decode()[95:].strip(),
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{processName}[{processId}] {eventName} = {returnValue}", "cat[42] openat = 3"),
        ("{args.pathname}: {args.flags}|{args.nothing}|", "/tmp/x: O_WRONLY|O_CREAT|O_TRUNC||"),
        ("{args}", "dirfd: -100, pathname: /tmp/x, flags: O_WRONLY|O_CREAT|O_TRUNC, mode: 0644"),
        ("{processName:<6}|{processName:>6}|{processName:^5}|{processName:2}|", "cat   |   cat| cat |cat|"),
        ("{{{userId}}} \\\\\\t{timestamp}", "{1000} \\\t1000000007"),
        ("one\\n{hostName}\n", "one\nboard"),
    ],
)
def test_templates(text: str, line: str) -> None:
    template = Template(EVENTS, NAMES, text, utc=True)
    assert template.render([record(path=b"/tmp/x")] * 2, 7).decode() == f"{line}\n" * 2
    assert template.lines_per_event == line.count("\n") + 1


def test_template_of_odd_records() -> None:
    text = "{time} {args.pathname}"
    assert Template(EVENTS, NAMES, text, utc=True).render(
        [
            record("unlink", b"a\nb", (), time=3_600_000_001_000),
            record("unlink", b"c", (), status=PATH_CUT),
            record("unlink", pointer=0, status=PATH_UNREADABLE),
            openat2(b"x", (0, 0, 0)),
            record("close", scalars=(3,)),
        ],
        0,
    ).decode().splitlines() == [
        *("01:00:00:000001 a\\nb", "00:00:01:000000 c...", "00:00:01:000000 NULL", "00:00:01:000000 x"),
        "00:00:01:000000 ",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{proces}", "unknown field 'proces': there are JSON's members, time, args and args.NAME"),
        ("{processname}", "unknown field 'processname': did you mean 'processName'?"),
        ("{}", "unknown field '': there are JSON's members, time, args and args.NAME"),
        ("{args.}", "unknown field 'args.': did you mean 'args'?"),
        ("{time", "the { at character 1 is not closed; write {{ for a brace"),
        ("a}", "a lone } at character 2: write }} for a brace"),
        ("\\x", "\\x at character 1: there are \\n, \\t, \\e and \\\\"),
        ("\\", "\\ at character 1: there are \\n, \\t, \\e and \\\\"),
        ("{time:}", "{time:}: a width is <N, >N or ^N, N from 1 to 1000"),
        ("{time:<}", "{time:<}: a width is <N, >N or ^N, N from 1 to 1000"),
        ("{time:x}", "{time:x}: a width is <N, >N or ^N, N from 1 to 1000"),
        ("{time:99999}", "{time:99999}: a width is <N, >N or ^N, N from 1 to 1000"),
    ],
)
def test_bad_templates(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        Template(EVENTS, NAMES, text)
    assert str(error.value) == f"template: {message}"


def test_descriptors_have_names(tmp_path: Path) -> None:
    (tmp_path / "a\n<b").write_text("")
    with open(tmp_path / "a\n<b") as file:
        namespace = os.stat("/proc/self/ns/pid").st_ino
        fd = file.fileno()
        raws = [record(name, b"x", (number, 0, 0)) for name in ("write", "openat") for number in (fd, 1 << 30)]
        raws.append(record("close", scalars=(fd,)))
        # The records' process: this one, in its own namespace.
        ids = pack("=3I", os.getpid(), os.getpid(), os.getppid())
        raws = [raw[:36] + ids + raw[48:56] + pack("=I", namespace) + raw[60:] for raw in raws]
        name = f"{fd}={tmp_path}/a\n<b"
        for make in (Json, Csv):
            renderer = make(EVENTS, NAMES, True)
            renderer.descriptors = Descriptors()
            lines = renderer.render(raws, 0).decode()
            if make is Csv:
                args = [json.loads(row[-1]) for row in csv.reader(io.StringIO(lines, newline=""), strict=True)]
            else:
                args = [json.loads(line)["args"] for line in lines.splitlines()]
            firsts = [(arg[0]["type"], arg[0]["value"]) for arg in args]
            assert firsts == [*[("string", name), ("int", 1 << 30)] * 2, ("int", fd)]
            assert args[2][1]["value"] == "x"
        xml = Xml(EVENTS, NAMES, True)
        xml.descriptors = Descriptors()
        assert document(xml.render(raws, 0))[0].find("args")[0].text == name
        table = Table(EVENTS, NAMES)
        table.descriptors = Descriptors()
        assert f"fd: {fd}={tmp_path}/a\\n<b, " in table.render(raws, 0).decode()
    assert f"fd: {fd}, " in table.render(raws, 0).decode(), "kept although the file was closed"


def test_vectors_that_are_empty_or_do_not_fit() -> None:
    path = field(0, b"/bin/ls")

    def vectors(fields: bytes, env: bool) -> list[object]:
        renderer = Json(EVENTS, NAMES)
        renderer.env = env
        args = json.loads(renderer.render([record("execve", scalars=(), fields=path + fields)], 0))["args"]
        return [(arg["value"], arg.get("truncated", False)) for arg in args[1:]]

    assert vectors(b"", False) == [([], False), (0, False)]
    assert vectors(b"", True) == [([], False), ([], False)]
    item = field(1, b"a" * 4096, FORM_ITEM)
    full = [["a" * 4096] * 2, True]
    assert vectors(item * 2, False) == [(full[0], True), (0, False)]
    assert vectors(item * 2, True) == [(full[0], True), ([], True)]
    two = field(1, b"a", FORM_ITEM) + field(2, b"a" * 4096, FORM_ITEM) * 2
    assert vectors(two, True) == [(["a"], False), (full[0], True)]
    assert vectors(field(1, b"a", FORM_ITEM) + field(2, b"A=1", FORM_ITEM), True) == [(["a"], False), (["A=1"], False)]


# --- schemas ----------------------------------------------------------------------


def check(value: object, schema: dict, root: dict, where: str = "$") -> None:
    """The part of JSON Schema that ours uses; an unknown keyword is an error."""
    known = {"$ref", "$schema", "$id", "$defs", "title", "description", "type", "enum", "const", "pattern", "minimum"}
    known |= {"maximum", "properties", "required", "additionalProperties", "items", "maxItems", "anyOf"}
    known |= {"contentEncoding"}
    assert schema.keys() <= known, f"{where}: {schema.keys() - known}"
    if "$ref" in schema:
        check(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, where)
    if "anyOf" in schema:
        assert any(passes(value, choice, root) for choice in schema["anyOf"]), f"{where}: {value!r}"
    if "type" in schema:
        kinds = {"integer": int, "string": str, "boolean": bool, "null": type(None), "array": list, "object": dict}
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert type(value) in [kinds[name] for name in types], f"{where}: {value!r} is not {schema['type']}"
    if "const" in schema:
        assert value == schema["const"], where
    if isinstance(value, int):
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value), f"{where}: {value}"
    if isinstance(value, str) and "pattern" in schema:
        import re

        assert re.search(schema["pattern"], value), f"{where}: {value!r}"
    if isinstance(value, list):
        assert len(value) <= schema.get("maxItems", len(value)), where
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            check(item, schema["items"], root, f"{where}[{index}]")
    if isinstance(value, dict):
        assert value.keys() >= set(schema.get("required", ())), where
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
            assert inner is not False, f"{where}: {name} is not known"
            check(item, inner, root, f"{where}.{name}")


def passes(value: object, schema: dict, root: dict) -> bool:
    try:
        check(value, schema, root)
    except AssertionError:
        return False
    return True


def test_json_lines_meet_their_schema() -> None:
    schema = json.loads((SCHEMAS / "event.schema.json").read_text())
    for texts in (False, True):
        for line in Json(EVENTS, NAMES, texts).render(every_event(), 0).splitlines():
            check(json.loads(line), schema, schema)
    event = json.loads(line)
    for name in COLUMNS:
        assert not passes({key: value for key, value in event.items() if key != name}, schema, schema), name
        assert not passes({**event, name: 1.5}, schema, schema), name
    assert not passes({**event, "more": 1}, schema, schema)
    assert not passes({**event, "args": [{"name": "x", "type": "int", "value": None}]}, schema, schema)


def test_xml_documents_meet_their_schema(tmp_path: Path) -> None:
    if shutil.which("xmllint") is None:
        pytest.skip("xmllint is not installed")

    def lint(body: bytes) -> str:
        file = tmp_path / "events.xml"
        file.write_bytes(Xml.opening + body + Xml.closing)
        words = ["xmllint", "--noout", "--schema", str(SCHEMAS / "events.xsd"), str(file)]
        return "" if (got := subprocess.run(words, capture_output=True, text=True)).returncode == 0 else got.stderr

    assert lint(b"") == ""
    for texts in (False, True):
        assert lint(Xml(EVENTS, NAMES, texts).render(every_event(), 0)) == ""
    line = Xml(EVENTS, NAMES).render([record()], 0)
    for old, new in (
        (b"<userId>1000</userId>", b""),
        (b"<userId>1000<", b"<userId>root<"),
        (b"</args>", b"</args><more/>"),
        (b'type="int"', b""),
    ):
        assert "fails to validate" in lint(line.replace(old, new))
