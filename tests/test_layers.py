"""Imports point down: each layer knows only those below it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The lowest layer first. A module belongs to the longest prefix that matches it,
# and may import its own layer and all lower ones.
LAYERS = (
    ("btf",),
    ("pybpf.errors",),
    (
        *("pybpf.asm", "pybpf.kernel", "pybpf.abi", "pybpf.native", "pybpf.privilege", "pybpf.syscalls"),
        *("pybpf.attrs", "pybpf.uapi", "pybpf.commands"),
        *("pybpf.kallsyms", "pybpf.tracefs", "pybpf.cgroups", "pybpf.cpus"),
    ),
    (
        *(
            "pybpf.object",
            "pybpf.maps",
            "pybpf.ringbuf",
            "pybpf.ringread",
            "pybpf.perfbuf",
            "pybpf.userring",
            "pybpf.aio",
            "pybpf.verifier",
        ),
        *("pybpf.sections", "pybpf.wholesections", "pybpf.linker", "pybpf.fold", "pybpf.externs", "pybpf.inkernel"),
        *("pybpf.corecache", "pybpf.target", "pybpf.loadbtf", "pybpf.interpreted"),
    ),
    ("pybpf.lang", "pybpf.loader", "pybpf.program", "pybpf.proginfo", "pybpf.ktypes", "pybpf.vm"),
    ("pybpf.links",),
    ("pybpf",),
    ("programs",),
    ("bfer",),
)

# What must not be imported between the command line and the first event: each
# of these costs milliseconds and memory that a small device does not have.
HEAVY = {
    "argparse",
    "ast",
    "asyncio",
    "cstruct",
    "dataclasses",
    "enum",
    "inspect",
    "json",
    "logging",
    "pyroute2",
    "re",
    "socket",
    "subprocess",
    "typing",
}


def rank(module: str) -> int:
    best, length = -1, -1
    for number, names in enumerate(LAYERS):
        for name in names:
            if (module == name or module.startswith(name + ".")) and len(name) > length:
                best, length = number, len(name)
    return best


def modules() -> list[tuple[str, Path]]:
    found = []
    for top in ("btf", "pybpf", "programs", "bfer"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def imported(tree: ast.Module) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            # `from package import module` asks for the module; the package itself has no code that matters.
            names += [f"{node.module}.{alias.name}" for alias in node.names] + [node.module or ""]
    return names


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_point_down(module: str, path: Path) -> None:
    own = rank(module)
    known = {name for name, _ in modules()}
    for name in imported(ast.parse(path.read_text())):
        if name in known and name != "pybpf":
            assert rank(name) <= own, f"{module} imports {name}, which is above it"


def test_start_path_is_lean() -> None:
    """What a run of ``bfer trace`` needs, apart from the kernel, without the heavy modules."""
    code = """
import sys
before = set(sys.modules)
import bfer.__main__, bfer.cli, bfer.tracer, pybpf.loader, pybpf.links, pybpf.ringbuf, pybpf.object.reader, btf.core
print(*sorted(set(sys.modules) - before))
"""
    got = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not HEAVY & set(got)
    assert not [name for name in got if name.startswith(("pybpf.lang", "pybpf.asm", "pyroute2"))]


def test_what_compiles_is_known() -> None:
    """A checkout compiles its objects anew when one of these has changed, so none must be missing."""
    code = """
import sys
from programs import COMPILER, OBJECTS
from pybpf.lang import compile_modules
for name in ("pidns.bpf.o", "hooks.bpf.o"):
    compile_modules(OBJECTS[name], name)
known = {f"{package}.{module}" for package, modules in COMPILER.items() for module in modules}
used = {name for name in sys.modules if name.startswith(("pybpf.", "btf.")) and not name.startswith("pybpf.lang")}
print(*(used ^ known) - {"pybpf.asm", "pybpf.object"})
"""
    got = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not got.split()
