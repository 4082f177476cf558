"""Maps: ``Map`` is bytes in, bytes out; the other modules add types, batches, pins and the rarer kinds.

Only ``base`` is imported here, for that is what loading a program needs.
"""

from __future__ import annotations

from pybpf.maps.base import Map, check_ringbuf_size

__all__ = ["Map", "check_ringbuf_size"]
