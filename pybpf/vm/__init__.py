"""A reference interpreter for eBPF: what a program does, found out without a kernel and without root.

It executes RFC 9669 and the instructions of cpu v4 and later, models maps and
the common helpers, and refuses, naming the instruction, everything that no
verified program may do when it runs: accesses out of bounds, reads of stack
bytes or registers that were never written, writes to what is read-only, bad
pointers, malformed code. It is no verifier: it sees only the path that is taken.

A tool for tests and build hosts; nothing that runs on a device imports it.
"""

from __future__ import annotations

from pybpf.vm.environment import Environment
from pybpf.vm.errors import VmError
from pybpf.vm.helpers import HELPERS, Helper
from pybpf.vm.machine import Vm
from pybpf.vm.maps import ArrayMap, HashMap, MapModel
from pybpf.vm.memory import Memory, Region
from pybpf.vm.othermaps import LpmTrie, MapOfMaps, PerfEventArray, ProgArray, QueueMap, RingBufMap, make_map

__all__ = [
    "HELPERS",
    "ArrayMap",
    "Environment",
    "HashMap",
    "Helper",
    "LpmTrie",
    "MapModel",
    "MapOfMaps",
    "Memory",
    "PerfEventArray",
    "ProgArray",
    "QueueMap",
    "Region",
    "RingBufMap",
    "Vm",
    "VmError",
    "make_map",
]
