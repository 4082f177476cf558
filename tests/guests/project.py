"""What a guest gets of the project: bfer's archive as byte code, the tree, and the checks that run inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zipfile
from importlib import metadata, util
from pathlib import Path

from .fetch import once
from .matrix import Unavailable, cache
from .roots import compile_all, python311

TREE = Path(__file__).parents[2]
_PARTS = ("btf", "pybpf", "programs", "bfer", "tests", "examples", "pyproject.toml")


def make_archive(out: Path, sources: bool = False) -> Path:
    """bfer as an archive: byte code for Python 3.11, as the usual guests have, or ``sources``. Raises Unavailable."""
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    command = [*python311(), "-m", "bfer", "archive", str(out), *(() if sources else ("--pyc",))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/", check=False)
    if done.returncode:
        raise Unavailable(f"bfer archive failed: {(done.stderr.strip() or 'no output').splitlines()[-1]}")
    return out


def stage(folder: Path, archive: Path | None, tests: bool, python: str) -> None:
    """Fill /project: bfer.pyz, the checks as tests/guests, and with ``tests`` the tree as /project/tree."""
    folder.mkdir()
    if archive is not None and python == "3.11":
        shutil.copy(archive, folder / "bfer.pyz")
    elif archive is not None:
        # As a folder, into which the guest's Python writes the byte code that it makes.
        sources = make_archive(folder / "sources.zip", sources=True)
        shutil.unpack_archive(sources, folder / "bfer.pyz")
        sources.unlink()
    _stage_checks(folder / "tests" / "guests")
    if python == "3.11" and (pyroute2 := _pyroute2()) is not None:
        shutil.copy(pyroute2, folder / "pyroute2.zip")
    if tests:
        for name in _PARTS:
            source = TREE / name
            target = folder / "tree" / name
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            elif source.exists():
                shutil.copy(source, target)
        compile_all(folder, folder / "tree")


def _pyroute2() -> Path | None:
    """This machine's pyroute2 as an archive of byte code, made once; None if it has none, which the checks then say."""
    spec = util.find_spec("pyroute2")
    if spec is None or spec.origin is None:
        return None
    final = cache() / "packages" / f"pyroute2-{metadata.version('pyroute2')}.zip"
    with once(final) as partial:
        if partial is not None:
            with tempfile.TemporaryDirectory() as name:
                root = Path(name)
                package = root / "pyroute2"
                shutil.copytree(Path(spec.origin).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
                compile_all(root, package, "-OO")
                with zipfile.ZipFile(partial, "w") as archive:
                    for path in sorted(package.rglob("*.pyc")):
                        archive.write(path, path.relative_to(root))
    return final


def _stage_checks(folder: Path) -> None:
    """The checks as byte code, and the objects of their programs."""
    from pybpf.lang import compile_modules

    here = Path(__file__).parent
    folder.mkdir(parents=True)
    for path in (
        here / "__init__.py",
        here / "checks.py",
        *sorted(here.glob("*kit.py")),
        *sorted(here.glob("checks_*.py")),
    ):
        shutil.copy(path, folder / path.name)
    compile_all(folder.parents[1], folder)
    for path in sorted(here.glob("programs_*.py")):
        name = path.with_suffix(".o").name
        (folder / name).write_bytes(compile_modules([f"tests.guests.{path.stem}"], name))
