"""Every Python snippet of docs/dsl.md compiles as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lang_harness import PROGRAMS, programs_of

from pybpf.lang.compile import compile_functions

TEXT = (Path(__file__).parents[2] / "docs" / "dsl.md").read_text()
SNIPPETS = [
    (TEXT[: found.start()].count("\n") + 2, found.group(1)) for found in re.finditer(r"```python\n(.*?)```", TEXT, re.S)
]


def object_of_snippet(tmp_path, monkeypatch, line: int) -> bytes:
    import importlib

    text = next(snippet for at, snippet in SNIPPETS if at == line)
    name = f"docs_dsl_{line}"
    (tmp_path / f"{name}.py").write_text("from __future__ import annotations\n" + text)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module(name)
    assert module.__name__ in PROGRAMS
    return compile_functions(programs_of(module), f"{name}.o")


def test_there_are_snippets():
    assert len(SNIPPETS) >= 8
    assert TEXT.count("```") == 2 * len(SNIPPETS) + 2  # one block is an example of an error


def test_every_name_of_the_language_is_there():
    """Helpers and the kernel's constants apart, of which there are hundreds."""
    import pybpf.lang
    from pybpf.lang.helpers import HELPERS
    from pybpf.lang.surface import CONSTANTS

    names = set(pybpf.lang.__all__) - HELPERS.keys() - CONSTANTS.keys() - {"compile_functions", "compile_modules"}
    assert len(names) > 100
    assert not [name for name in sorted(names) if not re.search(rf"\b{re.escape(name)}\b", TEXT)]


@pytest.mark.parametrize("line", [line for line, _ in SNIPPETS])
def test_snippet_compiles(tmp_path, monkeypatch, line):
    assert object_of_snippet(tmp_path, monkeypatch, line).startswith(b"\x7fELF")


@pytest.mark.native
@pytest.mark.parametrize("line", [line for line, _ in SNIPPETS])
def test_snippet_loads(tmp_path, monkeypatch, line):
    """What this kernel can load: probes on functions are left out."""
    from pybpf.loader import Collection
    from pybpf.object.reader import read_object

    spec = read_object(object_of_snippet(tmp_path, monkeypatch, line))
    names = [name for name, program in spec.programs.items() if not program.section.startswith(("fentry", ".text"))]
    if names:
        Collection(spec, names).close()
