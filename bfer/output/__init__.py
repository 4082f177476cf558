"""How events are written: one module for each format, and the sinks that hold them."""

from __future__ import annotations
