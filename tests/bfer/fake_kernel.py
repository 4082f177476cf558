"""What the tracer needs of pybpf, without a kernel: maps are dicts, the ring buffer is a list."""

from __future__ import annotations

import os

from bfer import tracer as tracer_module
from pybpf.object.spec import MapSpec, ObjectSpec
from pybpf.ringbuf import Layout


class FakeMap:
    def __init__(self, name: str) -> None:
        self.name = name
        self.data: dict[bytes, bytes] = {}
        self.fd = -1

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        self.data[key] = value

    def delete(self, key: bytes) -> bool:
        return self.data.pop(key, None) is not None

    def lookup(self, key: bytes) -> bytes | None:
        return self.data.get(key, bytes(16) if self.name in ("lost", "untracked") else None)


class FakeSpec(ObjectSpec):
    __slots__ = ("values",)

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, object] = {}
        for name in (
            *(
                "events",
                "calls",
                "calls__raw_tp",
                "calls__steady",
                "enter_calls",
                "enter_calls__raw_tp",
                "enter_calls__steady",
                "scratch",
                "lost",
                "doorbell",
                "numbers",
                "node_names",
                "comms",
                "nodes",
                "tree",
            ),
            *(
                "binaries",
                "cgroups",
                "ranges",
                "followed",
                "untracked",
                "shapes",
                "verdicts",
                "path_prefixes",
                "path_suffixes",
            ),
        ):
            self.maps[name] = MapSpec(name, 1, 4, 4, 1)

    def set(self, name: str, value: object) -> None:
        self.values[name] = value


class Info:
    recursion_misses = 0


class FakeProgram:
    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd

    def info(self) -> Info:
        return Info()


class FakeKernel:
    """``batches`` are what the ring buffer gives, one after the other; ``at_end`` runs when they are used up."""

    def __init__(self) -> None:
        self.spec = FakeSpec()
        self.refused: dict[str, Exception] = {}
        self.loads: list[list[str]] = []
        self.attached: list[str] = []
        self.log: list[str] = []
        self.batches: list[list[bytes]] = []
        self.at_end = lambda: None
        self.maps = {name: FakeMap(name) for name in self.spec.maps}
        self.preempted = False

    def install(self, monkeypatch: object) -> None:
        patch = monkeypatch.setattr
        patch(tracer_module, "open_object", lambda name="": b"object")
        patch(tracer_module, "read_object", lambda data, names, lines=True: self.spec)
        patch(tracer_module, "Collection", self.collection)
        patch(tracer_module, "attach", self.attach)
        patch(tracer_module, "preempts_raw_tracepoints", lambda: self.preempted)
        patch(tracer_module, "_has_records", lambda: True)
        patch(tracer_module, "Doorbell", lambda _: FakeDoorbell())
        patch(tracer_module, "RingBuffer", lambda _: FakeRing(self))

    def collection(
        self, spec: object, names: list[str], btf: object = None, fold: bool = True, again: object = None
    ) -> FakeCollection:
        self.loads.append(names)
        family = {"__raw_tp": "raw", "__steady": "steady"}.get(names[0][-8:], "tp_btf")
        if family in self.refused:
            raise self.refused[family]
        return FakeCollection(self, names)

    def attach(self, program: FakeProgram) -> FakeLink:
        self.log.append(f"attach {program.name}")
        return FakeLink(self, program.name)


class FakeCollection:
    def __init__(self, kernel: FakeKernel, names: list[str]) -> None:
        self.kernel = kernel
        self.maps = kernel.maps
        self.programs = {name: FakeProgram(name, 100 + i) for i, name in enumerate(names)}

    def close(self) -> None:
        self.kernel.log.append("close")


class FakeLink:
    def __init__(self, kernel: FakeKernel, name: str) -> None:
        self.kernel = kernel
        self.name = name

    def close(self) -> None:
        self.kernel.log.append(f"detach {self.name}")


class FakeDoorbell:
    def ring_at(self, when: int) -> None:
        pass

    def alarmed(self) -> bool:
        return True

    def close(self) -> None:
        pass


class FakeRing:
    size = 1 << 20

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.fd, self._other = os.pipe()

    def available(self) -> int:
        if not self.kernel.batches:
            self.kernel.at_end()
        return sum(len(record) + 8 for batch in self.kernel.batches for record in batch)

    def rows(self, layout: Layout, limit: int = 1024) -> list[object]:
        batch = self.kernel.batches.pop(0) if self.kernel.batches else []
        return [field for record in batch for field in layout.other(record)]

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._other)
