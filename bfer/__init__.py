"""bfer: a process tracer for embedded Linux.

``bfer.Tracer`` gives the events of a trace to a Python program, ``bfer.Event`` is one; ``bfer.Error`` is the root of
all exceptions. They are imported when they are first asked for.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bfer.api import Tracer as Tracer
    from bfer.errors import UsageError as UsageError
    from bfer.event import Event as Event
    from bfer.event import Pointer as Pointer
    from bfer.event import Truncated as Truncated
    from bfer.event import TruncatedList as TruncatedList
    from btf.errors import Error as Error

_LAZY = {
    "Tracer": "bfer.api",
    "Event": "bfer.event",
    "Pointer": "bfer.event",
    "Truncated": "bfer.event",
    "TruncatedList": "bfer.event",
    "UsageError": "bfer.errors",
    "Error": "btf.errors",
}

__all__ = ["Error", "Event", "Pointer", "Tracer", "Truncated", "TruncatedList", "UsageError", "__version__"]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'bfer' has no attribute {name!r}")
    found: object = getattr(__import__(_LAZY[name], fromlist=[name]), name)
    globals()[name] = found
    return found
