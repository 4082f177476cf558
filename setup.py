"""Adds the compiled eBPF objects to the built package; everything else is in pyproject.toml."""

from __future__ import annotations

import os
import sys

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = os.path.dirname(os.path.abspath(__file__))


class BuildWithObject(build_py):
    """build_py that compiles the ``programs`` package with the tree's own compiler."""

    def run(self) -> None:
        super().run()
        sys.path.insert(0, ROOT)
        from pybpf.__main__ import compile_programs

        for path, data in compile_programs():
            # An editable install runs from the checkout, which is where compile_programs points.
            if not getattr(self, "editable_mode", False):
                path = os.path.join(self.build_lib, os.path.relpath(path, ROOT))
            with open(path, "wb") as file:
                file.write(data)


setup(cmdclass={"build_py": BuildWithObject})
