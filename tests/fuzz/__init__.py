"""Random programs, each run three ways: by CPython on the same text, by pybpf.vm, and by the kernel."""

from __future__ import annotations
