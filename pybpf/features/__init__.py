"""What this system can do and cannot: see ``pybpf.features.probes``."""

from __future__ import annotations
