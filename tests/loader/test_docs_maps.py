"""Every Python snippet of docs/maps.md runs as it stands."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "maps.md").read_text()
SNIPPETS = [
    (TEXT[: found.start()].count("\n") + 2, found[1]) for found in re.finditer(r"```python\n(.*?)```", TEXT, re.S)
]

pytestmark = pytest.mark.native


def test_there_are_snippets():
    assert len(SNIPPETS) == TEXT.count("```") // 2 >= 5


@pytest.mark.parametrize("line", [line for line, _ in SNIPPETS])
def test_snippet_runs(tmp_path, line):
    path = tmp_path / f"docs_maps_{line}.py"
    path.write_text("from __future__ import annotations\n" + dict(SNIPPETS)[line])
    runpy.run_path(str(path), run_name=path.stem)
