"""``bfer list`` and ``bfer explain``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bfer import __main__, availability, expr
from bfer.about import examples, explained
from bfer.availability import missing
from bfer.catalogue import Catalogue
from bfer.filters import FILTERS
from bfer.listing import catalogue
from bfer.names import Names
from programs import OBJECTS, load_object

ROOT = Path(__file__).parents[2]
CALL = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(int(sys.argv[1]), *[-1] * 6)
os._exit(ctypes.get_errno())
"""
HERE = catalogue()


@pytest.fixture(autouse=True, scope="module")
def _compiled() -> None:
    """A bare checkout says on stderr that it compiles."""
    for name in OBJECTS:
        load_object(name)


def out(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    assert __main__.main(list(words)) == 0
    text, err = capfd.readouterr()
    assert err == ""
    return text


def test_events(capfd: pytest.CaptureFixture[str]) -> None:
    text = out(capfd, "list")
    assert text == out(capfd, "list", "events") == out(capfd, "--list")
    names = [line.split()[0] for line in text.splitlines()[1:] if line and line[0] not in " [N"]
    assert names == list(HERE.events)


def test_events_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    events = json.loads(out(capfd, "list", "--json"))
    assert [event["name"] for event in events] == list(HERE.events)
    for event in events:
        assert event["available"] == (not event["reason"])
        assert [arg["name"] for arg in event["args"]] == [arg.name for arg in HERE.events[event["name"]].args]


def test_sets(capfd: pytest.CaptureFixture[str]) -> None:
    text = out(capfd, "list", "sets")
    assert max(map(len, text.splitlines())) <= 100
    assert json.loads(out(capfd, "list", "sets", "--json")) == HERE.sets
    assert f"fs_sync ({len(HERE.sets['fs_sync'])}): msync " in text


def test_filters(capfd: pytest.CaptureFixture[str]) -> None:
    """Each field of the grammar is there, and each example and synonym can be given."""
    text = out(capfd, "list", "filters")
    assert {filter.name for filter in FILTERS} >= set(expr.FIELDS)
    for filter in FILTERS:
        assert f"\n{filter.name} " in text
        expr.parse([filter.example], HERE)
        field = filter.name
        for other in filter.other.split():
            if "EVENT" not in other:
                assert expr.Parser(HERE, Names(HERE.machine), False).field(other) == field, other
        operators = expr.FIELDS.get(field)
        if operators and field != "container":
            assert tuple(filter.operators.split()) == operators
    assert [filter["name"] for filter in json.loads(out(capfd, "list", "filters", "--json"))] == [
        filter.name for filter in FILTERS
    ]


@pytest.mark.parametrize("name", [*HERE.events])
def test_examples_are_valid(name: str) -> None:
    for line in examples(HERE.events[name], Names(HERE.machine))[1:]:
        expr.parse([line.split("'")[1]], HERE)


def test_explain_without_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bfer.about.hooks", lambda event: ["nowhere"])
    text = "\n".join(explained("mmap", Catalogue("x86_64")))
    assert text.startswith("mmap: map a file or memory\nsystem call 9, seen when it returns\n")
    for part in ("sets: syscalls", "unsigned long prot", "PROT_READ PROT_WRITE", "here:\n    nowhere\nexamples:"):
        assert part in text
    assert "does not return" in "\n".join(explained("exit", Catalogue("x86_64")))
    assert max(map(len, "\n".join(explained("security_file_open", HERE)).splitlines())) <= 110


def symbols(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    text = "".join(f"ffffffff81000000 {line}\n" for line in lines).encode()
    monkeypatch.setattr("pybpf.kallsyms.blocks", lambda: iter([text] if text else []))
    kinds = ("refusal", "fentry", "fexit", "tp_btf", "raw_tp", "kprobe", "kretprobe")
    monkeypatch.setattr(availability, "_verdicts", dict.fromkeys(kinds, ""))


def test_what_the_symbols_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    x86 = Catalogue("x86_64")
    symbols(
        monkeypatch,
        *("T __x64_sys_read", "T __x64_sys_newstat", "W __x64_sys_kexec_load", "T __traceiter_sys_exit"),
        *("t __traceiter_module_load\t[mod]", "T security_file_open"),
    )
    found = missing(x86)
    assert "read" not in found
    assert "stat" not in found
    assert found["kexec_load"] == "it was built without this system call"
    assert found["openat"] == "it has no such system call"
    assert "module_load" not in found
    assert found["module_free"] == "it has no tracepoint module_free"
    assert "security_file_open" not in found
    assert found["security_socket_bind"] == "it has no function security_socket_bind"


def test_nothing_is_claimed_where_nothing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols(monkeypatch)
    events = Catalogue("x86_64").events
    # What user space makes of files it can see to be missing.
    assert [name for name in missing(Catalogue("x86_64")) if not events[name].derive] == []


def test_a_kind_of_hook_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols(monkeypatch, "T security_file_open")
    availability._verdicts.update(fentry="fentry: no trampolines", kprobe="kprobe: none")
    found = missing(Catalogue("x86_64"))
    assert found["security_file_open"] == "fentry: no trampolines; kprobe: none"
    availability._verdicts.update(kprobe="")
    assert "security_file_open" not in missing(Catalogue("x86_64"))


@pytest.mark.native
def test_calls_that_are_said_to_be_missing_are() -> None:
    """Made with arguments that no call takes, they must say ENOSYS."""
    marked = [event for name in missing(HERE) if not (event := HERE.events[name]).hooks and not event.is_compat]
    for event in marked:
        done = subprocess.run([sys.executable, "-S", "-c", CALL, str(event.number)], check=False)
        assert done.returncode == 38, event.name


@pytest.mark.native
def test_explain_tells_how_it_is_attached(capfd: pytest.CaptureFixture[str]) -> None:
    text = out(capfd, "explain", "openat")
    assert "sys_exit" in text.partition("here:")[2]
    assert "attached by" in text
    marked = missing(HERE)
    for event in HERE.events.values():
        if event.hooks and event.name != "print_mem_dump":  # of what, a filter must say
            text = out(capfd, "explain", event.name)
            assert ("cannot be traced" in text) == (event.name in marked), (event.name, text, marked.get(event.name))


def test_list_is_quick() -> None:
    """No module of the loader's or the compiler's is read for sets and filters."""
    code = "import sys; from bfer import listing; listing.main(['filters']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not [name for name in done.stderr.split() if name.startswith(("pybpf.", "json"))]
