"""The command line: options, outputs, and one clear line for what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_records import EVENTS, NAMES

from bfer import __main__, cli
from bfer.errors import OutputError, UsageError
from bfer.output.sink import OPTIONS, Outputs, Sink
from bfer.session import default_buffer

ROOT = Path(__file__).parents[2]

VALID = (
    "valid are table, table-verbose, json, xml, csv, FORMAT:FILE, template=TEXT, template:FILE, none, "
    "out-file:FILE, err-file:FILE, option:NAME"
)


def fields(*words: str) -> dict[str, object]:
    options = cli.parse(list(words))
    default = cli.Options()
    return {
        name: getattr(options, name)
        for name in cli.Options.__slots__
        if getattr(options, name) != getattr(default, name)
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("trace", {"action": "trace"}),
        ("trace event=openat comm=x", {"action": "trace", "expressions": ["event=openat", "comm=x"]}),
        ("--trace event=openat", {"action": "trace", "expressions": ["event=openat"]}),
        ("trace --trace=event=openat", {"action": "trace", "expressions": ["event=openat"]}),
        ("-t a -tb trace c", {"action": "trace", "expressions": ["a", "b", "c"]}),
        (
            "trace a -o json b --output=table:x",
            {"action": "trace", "expressions": ["a", "b"], "outputs": ["json", "table:x"]},
        ),
        ("-ojson", {"action": "trace", "outputs": ["json"]}),
        ("-q", {"action": "trace", "quiet": True}),
        ("-qojson", {"action": "trace", "quiet": True, "outputs": ["json"]}),
        ("trace --debug --btf /x", {"action": "trace", "debug": True, "btf": "/x"}),
        ("trace --explain", {"action": "trace", "explain": True}),
        ("-- ls -l", {"action": "trace", "command": ["ls", "-l"]}),
        ("trace a -- ls -- -q", {"action": "trace", "expressions": ["a"], "command": ["ls", "--", "-q"]}),
        ("list", {"action": "list"}),
        ("-l", {"action": "list", "list": True}),
        ("trace --list", {"action": "list", "list": True}),
        ("help", {"action": "help"}),
        ("trace --help", {"action": "help", "help": True}),
        ("--trace help", {"action": "help", "expressions": ["help"], "topic": "expressions"}),
        ("-o help", {"action": "help", "outputs": ["help"], "topic": "outputs"}),
        ("--version", {"action": "version", "version": True}),
        ("--duration 10", {"action": "trace", "duration": 10.0}),
        ("--duration=500ms", {"action": "trace", "duration": 0.5}),
        ("--duration 1.5s", {"action": "trace", "duration": 1.5}),
        ("--duration 2m", {"action": "trace", "duration": 120.0}),
        ("--duration 1h", {"action": "trace", "duration": 3600.0}),
        ("--buffer 1M", {"action": "trace", "buffer": 1 << 20}),
        ("--buffer 256k", {"action": "trace", "buffer": 256 << 10}),
        ("--buffer 65536", {"action": "trace", "buffer": 65536}),
        ("--buffer 2MiB", {"action": "trace", "buffer": 2 << 20}),
    ],
)
def test_options(words: str, expected: dict[str, object]) -> None:
    assert fields(*words.split()) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "nothing to do: try `bfer trace`, or `bfer --help`"),
        ("trase", "unknown command 'trase': did you mean 'trace'?"),
        ("event=open", "unknown command 'event=open': did you mean `bfer trace event=open`?"),
        ("frobnicate", "unknown command 'frobnicate': there are trace, list, help, explain, doctor, archive"),
        ("--quite", "unknown option '--quite': did you mean '--quiet'?"),
        ("-x", "unknown option '-x': see `bfer --help`"),
        ("-qx", "unknown option '-x': see `bfer --help`"),
        ("--frob=1", "unknown option '--frob': see `bfer --help`"),
        ("--quiet=1", "--quiet takes no value: '--quiet=1'"),
        ("--trace", "--trace needs a value: --trace EXPRESSION"),
        ("-o", "--output needs a value: --output OUTPUT"),
        ("trace -o -- ls", "--output needs a value: --output OUTPUT"),
        ("trace --", "no command after --"),
        ("--list x=1", "unknown command 'x=1': did you mean `bfer trace x=1`?"),
        ("trace --list x=1", "--list takes no arguments: 'x=1'"),
        ("--duration x", "--duration x: not a time such as 10, 10s, 500ms, 2m or 1h"),
        ("--duration -5", "--duration -5: not a time such as 10, 10s, 500ms, 2m or 1h"),
        ("--duration 5d", "--duration 5d: not a time such as 10, 10s, 500ms, 2m or 1h"),
        ("--duration .", "--duration .: not a time such as 10, 10s, 500ms, 2m or 1h"),
        ("--buffer x", "--buffer x: not a size such as 65536, 256K or 1M"),
        ("--buffer 1T", "--buffer 1T: not a size such as 65536, 256K or 1M"),
        ("--buffer 100K", "--buffer 100K: it must be a power of two from 16K to 1G"),
        ("--buffer 8K", "--buffer 8K: it must be a power of two from 16K to 1G"),
        ("--buffer 0", "--buffer 0: it must be a power of two from 16K to 1G"),
        ("--buffer 2G", "--buffer 2G: it must be a power of two from 16K to 1G"),
    ],
)
def test_bad_options(words: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(words.split()) == 2
    assert capfd.readouterr() == ("", f"bfer: {message}\n")


@pytest.mark.parametrize(
    ("words", "targets", "options"),
    [
        ([], [("table", "")], set()),
        (["table"], [("table", "")], set()),
        (["format:json"], [("json", "")], set()),
        (["json", "option:parse-arguments"], [("json", "")], {"parse-arguments"}),
        (["option:relative-time"], [("table", "")], {"relative-time"}),
        (["json:/x"], [("json", "/x")], set()),
        (["json:/x:y"], [("json", "/x:y")], set()),
        (["json:-"], [("json", "")], set()),
        (["table", "json:/x"], [("table", ""), ("json", "/x")], set()),
        (["json", "out-file:/x"], [("json", "/x")], set()),
        (["out-file:/x"], [("table", "/x")], set()),
        (["none"], [], set()),
        (["xml:/x", "csv"], [("csv", ""), ("xml", "/x")], set()),
        (["template={time}: {args}", "out-file:/x"], [("template={time}: {args}", "/x")], set()),
        (["option:parse-arguments-fds"], [("table", "")], {"parse-arguments", "parse-arguments-fds"}),
    ],
)
def test_outputs(words: list[str], targets: list[tuple[str, str]], options: set[str]) -> None:
    outputs = Outputs(words)
    assert (outputs.targets, outputs.options) == (targets, options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["syslog"],
            f"unrecognized output format: syslog: {VALID}",
        ),
        (["jsn"], "unrecognized output format: jsn: did you mean 'json'?"),
        (
            ["gob:/x"],
            "unrecognized output format: gob: that is Go's own encoding; json has the same members",
        ),
        (["json:"], "--output json:: nothing follows the colon"),
        (["option:sort"], f"invalid output option: sort: there are {', '.join(OPTIONS)}"),
        (["option:sort-event"], "invalid output option: sort-event: did you mean 'sort-events'?"),
        (["tabel-verbose"], "unrecognized output format: tabel-verbose: did you mean 'table-verbose'?"),
        (["template"], "--output template: which? Give template=TEXT or template:FILE"),
        (["template="], "--output template=: nothing follows the ="),
        (["template:/no/such"], "cannot read the template '/no/such': No such file or directory"),
        (["template:/"], "cannot read the template '/': Is a directory"),
        (["template:/dev/null"], "the template '/dev/null' is empty"),
        (["template:/bin/sh"], None),
        (["gotemplate=/no/such"], "cannot read the template '/no/such': No such file or directory"),
        (["err-file:/x", "err-file:/y"], "--output err-file: can be given only once"),
        (["none", "json"], "--output none: stands alone"),
        (["json", "table"], "only one output can go to standard output: give the other a file, such as json:FILE"),
        (["json:/x", "table:/x"], "only one output can go to '/x': give the other a file, such as json:FILE"),
        (["out-file:/x", "out-file:/y"], "--output out-file: can be given only once"),
    ],
)
def test_bad_outputs(words: list[str], message: str | None) -> None:
    with pytest.raises(UsageError) as error:
        Outputs(words)
    if message is None:
        assert str(error.value).startswith(f"the template {words[0].partition(':')[2]!r} is not UTF-8 at byte ")
    else:
        assert str(error.value) == message


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "file" / "x", "Not a directory")):
        with pytest.raises(OutputError) as error:
            Sink("json", str(path), set(), EVENTS, NAMES)
        assert str(error.value) == f"cannot write {str(path)!r}: {reason}"


def test_folders_above_a_file_are_made(tmp_path: Path) -> None:
    sink = Sink("json", str(tmp_path / "a" / "b" / "x"), set(), EVENTS, NAMES)
    sink.close()
    assert (tmp_path / "a" / "b" / "x").read_bytes() == b""


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("{{.EventName}} {{ .ProcessID }}", "{eventName} {processId}"),
        ("{{ .UserID }} {{- .PIDNS -}}  x\n", "{userId}{pidNamespace}x\n"),
        ('{"a": "{{ .ProcessName }}"}{{"\\n"}}', '{{"a": "{processName}"}}\\n'),
        ("{{/* note */}}a\\b{{`{`}}", "a\\\\b{{"),
        ("{{ .Timestamp }} {{ .ReturnValue }} {{ .Args }}", "{timestamp} {returnValue} {args}"),
    ],
)
def test_templates_of_go(text: str, ours: str, tmp_path: Path) -> None:
    file = tmp_path / "t"
    file.write_text(text)
    assert Outputs([f"gotemplate={file}"]).targets == [(f"template={ours}", "")]


@pytest.mark.parametrize("word", ["range .Args", ".Nothing", "printf `%s` .EventName", "if .X", "EventName", ""])
def test_templates_of_go_that_are_not_understood(word: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_text(f"a {{{{ {word} }}}}")
    with pytest.raises(UsageError, match=r"^gotemplate: ") as error:
        Outputs([f"gotemplate={tmp_path / 't'}"])
    assert word in str(error.value)
    (tmp_path / "t").write_text("a {{ .EventName")
    with pytest.raises(UsageError, match=r"^gotemplate: {{ without }} before '\.EventName'$"):
        Outputs([f"gotemplate={tmp_path / 't'}"])


def test_help_on_one_subject() -> None:
    assert run("--output", "help").stdout.startswith(b"outputs:\n  table ")
    expressions = run("-t", "help").stdout
    assert expressions.startswith(b"expressions (")
    assert b"outputs:" not in expressions
    assert expressions in run("--help").stdout


@pytest.mark.parametrize("option", [*cli._REFUSED])
def test_what_tracee_has_and_bfer_not(option: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert __main__.main([option, "x"]) == 2
    assert capfd.readouterr() == ("", f"bfer: {option}: {cli._REFUSED[option]}\n")


def test_output_is_checked_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bfer.tracer", None)
    assert __main__.main(["trace", "--output", f"json:{tmp_path}"]) == 1
    assert capfd.readouterr() == ("", f"bfer: cannot write {str(tmp_path)!r}: Is a directory\n")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["trace", "event=opnat"], 2, "unknown event 'opnat': did you mean 'openat'?"),
        (
            ["trace", "tree=1", "--", "ls"],
            2,
            "a command after -- is traced as a tree already: it cannot be combined with tree",
        ),
        (["trace", "tree=4194305"], 1, "tree: there is no process 4194305"),
        (
            ["trace", "-o", "syslog"],
            2,
            f"unrecognized output format: syslog: {VALID}",
        ),
    ],
)
def test_one_line(words: list[str], status: int, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(words) == status
    assert capfd.readouterr() == ("", f"bfer: {message}\n")


def test_help_tells_of_every_option() -> None:
    from bfer.expr import FIELDS
    from bfer.help import HELP
    from bfer.output.sink import FORMATS, OPTIONS

    for name, (short, value, _) in cli._OPTIONS.items():
        assert name in HELP
        assert not short or short in HELP
        assert not value or f"{name} {value}" in HELP or value in HELP
    for word in (*FIELDS, *FORMATS, *OPTIONS, *cli.COMMANDS[:2]):
        assert word in HELP
    assert max(map(len, HELP.splitlines())) <= 100


def run(*words: str, stdout: object = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "bfer", *words], cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, check=False
    )


def test_help_list_version() -> None:
    assert run("--help").stdout.startswith(b"usage: bfer trace")
    assert run("--version").stdout == b"bfer 0.1.0\n"
    listed = run("list").stdout.decode().splitlines()
    (line,) = [line for line in listed if line.startswith("openat ")]
    assert line.split() == [
        *("openat", "syscalls", "default", "fs", "fs_file_ops"),
        *("int", "dirfd,", "const", "char*", "pathname,", "int", "flags,", "mode_t", "mode"),
    ]


def test_nobody_reads_the_help() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = run("--help", stdout=pipe)
    assert (done.returncode, done.stderr) == (0, b"")


def test_size_of_the_buffer(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    sizes = ((65536, 256 << 10), (131072, 256 << 10), (131073, 1 << 20), ((2 << 20) - 1, 1 << 20), (2 << 20, 8 << 20))
    for kilobytes, expected in sizes:
        meminfo.write_text(f"MemTotal:       {kilobytes} kB\nMemFree: 1 kB\n")
        assert default_buffer(str(meminfo)) == expected
    assert default_buffer(str(tmp_path / "none")) == 256 << 10


def test_a_closed_standard_output_is_an_error() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m bfer list sets >&-"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "bfer: standard output: Bad file descriptor\n")
