"""What docs/links.md says: its snippet runs, its names exist, its sections are known."""

from __future__ import annotations

import re
from pathlib import Path
from struct import pack

import pytest

from pybpf import links
from pybpf.links import dispatch, order
from pybpf.sections import known_sections

TEXT = (Path(__file__).parents[2] / "docs" / "links.md").read_text()


def test_every_function_is_there_and_told_of():
    told = set(re.findall(r"`(attach_\w+)`", TEXT)) | set(re.findall(r"`(attach_\w+)\(", TEXT))
    assert told <= set(links.__all__)
    # attach_tracing is what attach() uses for hooks that a program knows since its load.
    assert {name for name in links.__all__ if name.startswith("attach_")} - told == {"attach_tracing"}
    for name in links.__all__:
        assert getattr(links, name).__doc__, name


def test_every_kind_that_can_be_attached_has_a_row():
    rows = " ".join(line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `"))
    kinds = {*dispatch._MODULES, "tp", "raw_tp", "tp_btf", "fentry", "fexit", "fmod_ret", "lsm"}
    # Variants of a kind that is told of.
    variants = {"kretprobe.multi", "kprobe.session", "kretsyscall", "uretprobe.multi", "uprobe.session", "lsm_cgroup"}
    for kind in kinds - variants - {"cgroup"}:
        assert re.search(rf"`{re.escape(kind)}[/`]", rows), kind
    hooked, whole = known_sections()
    known = {name.partition("/")[0] for name in [*hooked, *whole]}
    assert kinds - known == set()


def test_mechanisms_in_the_tables_are_told_of():
    for name in ("KPROBE", "KPROBE_MULTI", "UPROBE", "UPROBE_MULTI", "XDP", "TC", "CGROUP", "SOCKMAP"):
        for mechanism in getattr(order, name):
            assert f"`{mechanism}`" in TEXT, mechanism


@pytest.mark.native
def test_the_snippet_runs(capsys):
    from pybpf.program import Request
    from pybpf.sections import parse_section

    snippet = re.search(r"```python\n(.*?)```", TEXT, re.S)
    assert snippet is not None
    first, second = snippet[1].split("\ntry:")
    head = "\n".join(line for line in first.splitlines() if " import " in line)
    # r0 = 0; exit
    code = pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
    for section, text in (("tp/syscalls/sys_enter_getppid", first), ("kprobe", f"{head}\ntry:{second}")):
        with Request("documented", parse_section(section), code).load() as program:
            exec(compile(text, "docs/links.md", "exec"), {"program": program})
    out = capsys.readouterr().out
    assert "tracepoint event" in out
    assert "no_such_function" in out
