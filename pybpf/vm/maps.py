"""Models of the maps whose elements programs point into: arrays and hashes, plain, per CPU, LRU.

Two sides use a map. Programs call helpers, which call the ``prog_`` methods:
they get regions of memory and error numbers. Tests play user space: ``lookup``,
``update``, ``delete``, ``items`` as in pybpf.maps, on bytes, raising MapError.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import E2BIG, EEXIST, EINVAL, ENOENT, ENOTSUP, EPERM

from pybpf import abi
from pybpf.errors import MapError
from pybpf.object.spec import MapSpec
from pybpf.vm.errors import VmError
from pybpf.vm.memory import Order, Region

F_LOCK = 4


class MapModel:
    """What all maps share. Sizes are bytes; ``cpus`` is how many CPUs a per-CPU map has values for."""

    def __init__(self, spec: MapSpec, byteorder: Order = "little", cpus: int = 1) -> None:
        self.name = spec.name
        self.type = spec.type
        self.key_size = spec.key_size
        self.value_size = spec.value_size
        self.max_entries = spec.max_entries
        self.flags = spec.flags | (abi.F_RDONLY_PROG if spec.frozen else 0)
        self.byteorder: Order = byteorder
        self.percpu = spec.type in abi.PERCPU_MAP_TYPES
        self.cpus = cpus if self.percpu else 1
        self.frozen = False
        # The address that stands for the map itself.
        self.handle = Region(bytearray(), f"map {spec.name!r} itself")

    def __str__(self) -> str:
        return f"map {self.name!r}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    # --- programs -----------------------------------------------------------------

    def prog_lookup(self, key: bytes, cpu: int) -> Region | None:
        """The value's memory, as a program on that CPU gets it."""
        raise self.unfit("look up an element")

    def prog_update(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """0 or a negative error number."""
        raise self.unfit("update an element")

    def prog_delete(self, key: bytes) -> int:
        """0 or a negative error number."""
        raise self.unfit("delete an element")

    def prog_push(self, value: bytes, flags: int) -> int:
        """0 or a negative error number."""
        raise self.unfit("push")

    def prog_take(self, remove: bool) -> bytes | None:
        """The element that pop and peek give, None when there is none."""
        raise self.unfit("pop or peek")

    def direct(self) -> Region:
        """The memory that a 64-bit immediate load of a map value points into."""
        raise VmError(f"{self} has no directly addressed value: only an array of one element has")

    def walk(self, cpu: int) -> Iterator[tuple[bytes, Region]]:
        """The elements, for bpf_for_each_map_elem."""
        raise self.unfit("walk over the elements")

    def unfit(self, what: str) -> VmError:
        return VmError(f"{self} of type {self.type}: a program cannot {what}")

    def check_prog(self, writes: bool) -> None:
        """Raise VmError if programs may not read (write) the map's elements."""
        if self.flags & (abi.F_RDONLY_PROG if writes else abi.F_WRONLY_PROG):
            raise VmError(f"{self} is {'read' if writes else 'write'}-only for programs")

    def value_region(self, data: bytearray) -> Region:
        return Region(
            data,
            f"a value of map {self.name!r}",
            writable=not self.flags & abi.F_RDONLY_PROG,
            readable=not self.flags & abi.F_WRONLY_PROG,
        )

    # --- user space -----------------------------------------------------------------

    def lookup(self, key: bytes) -> bytes | None:
        """The value of ``key``, None when it is absent. Per-CPU maps give a block, each value padded to 8 bytes."""
        raise self._not_for_users("lookup")

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Set ``key``. A per-CPU map takes a block, or one value for every CPU."""
        raise self._not_for_users("update")

    def delete(self, key: bytes) -> bool:
        """Remove ``key``; False if it was not there."""
        raise self._not_for_users("delete")

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All ``(key, value)``."""
        raise self._not_for_users("items")

    def keys(self) -> Iterator[bytes]:
        """All keys."""
        for key, _ in self.items():
            yield key

    def freeze(self) -> None:
        """Refuse every later write by user space."""
        self.frozen = True

    def check_key(self, key: bytes) -> None:
        if len(key) != self.key_size:
            raise MapError(f"{self}: a key has {self.key_size} bytes, got {len(key)}", EINVAL)

    def check_write(self) -> None:
        if self.frozen:
            raise MapError(f"{self} is frozen", EPERM)

    def failure(self, error: int) -> MapError:
        reasons = {
            -E2BIG: f"no room for another element (max_entries {self.max_entries})",
            -EEXIST: "the key exists already",
            -ENOENT: "there is no such key",
        }
        return MapError(f"{self}: {reasons.get(error, 'invalid argument')}", -error)

    def _not_for_users(self, what: str) -> MapError:
        return MapError(f"{self} of type {self.type} has no {what}", ENOTSUP)

    # --- per-CPU blocks ---------------------------------------------------------------

    def split(self, value: bytes) -> list[bytes]:
        """A value for each CPU, out of a block or one value."""
        size, stride = self.value_size, self.value_size + 7 & ~7
        if not self.percpu and len(value) == size:
            return [bytes(value)]
        if self.percpu and len(value) == stride * self.cpus:
            return [bytes(value[at : at + size]) for at in range(0, len(value), stride)]
        if self.percpu and len(value) == size:
            return [bytes(value)] * self.cpus
        raise MapError(
            f"{self}: a value has {stride * self.cpus if self.percpu else size} bytes, got {len(value)}", EINVAL
        )

    def join(self, values: list[bytes]) -> bytes:
        """The block that user space sees."""
        if not self.percpu:
            return values[0]
        return b"".join(value.ljust(self.value_size + 7 & ~7, b"\0") for value in values)

    def lookup_percpu(self, key: bytes) -> list[bytes]:
        """The value of each CPU; an empty list when ``key`` is absent."""
        if not self.percpu:
            raise MapError(f"{self} is not a per-CPU map", EINVAL)
        block = self.lookup(key)
        return [] if block is None else self.split(block)


class ArrayMap(MapModel):
    """BPF_MAP_TYPE_ARRAY and PERCPU_ARRAY. Elements get their memory when somebody wants them."""

    def __init__(self, spec: MapSpec, byteorder: Order = "little", cpus: int = 1) -> None:
        super().__init__(spec, byteorder, cpus)
        if spec.key_size != 4 or not spec.value_size or not spec.max_entries:
            raise VmError(f"{self}: an array has keys of 4 bytes, values and elements")
        self._values: dict[tuple[int, int], Region] = {}
        if spec.contents is not None:
            if len(spec.contents) > spec.value_size:
                raise VmError(f"{self}: {len(spec.contents)} bytes of contents in a value of {spec.value_size}")
            self._region(0, 0).data[: len(spec.contents)] = spec.contents
        self.frozen = spec.frozen

    def _region(self, index: int, cpu: int) -> Region:
        region = self._values.get((index, cpu))
        if region is None:
            region = self._values[index, cpu] = self.value_region(bytearray(self.value_size))
        return region

    def _index(self, key: bytes) -> int:
        return int.from_bytes(key, self.byteorder)

    def prog_lookup(self, key: bytes, cpu: int) -> Region | None:
        index = self._index(key)
        return self._region(index, cpu if self.percpu else 0) if index < self.max_entries else None

    def prog_update(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        return self._update(key, [(cpu if self.percpu else 0, value)], flags)

    def prog_delete(self, key: bytes) -> int:
        return -EINVAL

    def direct(self) -> Region:
        return self._region(0, 0) if self.max_entries == 1 and not self.percpu else super().direct()

    def walk(self, cpu: int) -> Iterator[tuple[bytes, Region]]:
        for index in range(self.max_entries):
            yield index.to_bytes(4, self.byteorder), self._region(index, cpu if self.percpu else 0)

    def _update(self, key: bytes, values: list[tuple[int, bytes]], flags: int) -> int:
        if flags & ~F_LOCK > abi.EXIST:
            return -EINVAL
        index = self._index(key)
        if index >= self.max_entries:
            return -E2BIG
        if flags & abi.NOEXIST:
            return -EEXIST
        for cpu, value in values:
            self._region(index, cpu).data[:] = value
        return 0

    def lookup(self, key: bytes) -> bytes | None:
        self.check_key(key)
        index = self._index(key)
        if index >= self.max_entries:
            return None
        values = []
        for cpu in range(self.cpus):
            region = self._values.get((index, cpu))
            values.append(bytes(self.value_size) if region is None else bytes(region.data))
        return self.join(values)

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        self.check_key(key)
        self.check_write()
        error = self._update(key, list(enumerate(self.split(value))), flags)
        if error:
            raise self.failure(error)

    def delete(self, key: bytes) -> bool:
        raise self.failure(-EINVAL)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for index in range(self.max_entries):
            key = index.to_bytes(4, self.byteorder)
            value = self.lookup(key)
            assert value is not None
            yield key, value


class HashMap(MapModel):
    """BPF_MAP_TYPE_HASH, LRU_HASH and their per-CPU kinds.

    An update of a plain hash replaces the element, so that a pointer to the old
    value no longer shows what the map holds, as in the kernel. Iteration is in
    order of insertion. The LRU kinds evict what was used longest ago, exactly;
    the kernel only approximates that.
    """

    def __init__(self, spec: MapSpec, byteorder: Order = "little", cpus: int = 1) -> None:
        super().__init__(spec, byteorder, cpus)
        if not spec.key_size or not spec.value_size or not spec.max_entries:
            raise VmError(f"{self}: a hash has keys, values and room for elements")
        self.lru = spec.type in (abi.MAP_TYPE_LRU_HASH, abi.MAP_TYPE_LRU_PERCPU_HASH)
        self._elements: dict[bytes, list[Region]] = {}

    def __len__(self) -> int:
        return len(self._elements)

    def prog_lookup(self, key: bytes, cpu: int) -> Region | None:
        values = self._elements.get(key)
        if values is None:
            return None
        if self.lru:
            self._elements[key] = self._elements.pop(key)
        return values[cpu if self.percpu else 0]

    def prog_update(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        return self._update(key, {cpu if self.percpu else 0: value}, flags)

    def prog_delete(self, key: bytes) -> int:
        return 0 if self._elements.pop(key, None) is not None else -ENOENT

    def walk(self, cpu: int) -> Iterator[tuple[bytes, Region]]:
        for key, values in list(self._elements.items()):
            yield key, values[cpu if self.percpu else 0]

    def _update(self, key: bytes, values: dict[int, bytes], flags: int) -> int:
        if flags & ~F_LOCK > abi.EXIST:
            return -EINVAL
        old = self._elements.get(key)
        if old is not None and flags & abi.NOEXIST:
            return -EEXIST
        if old is None and flags & abi.EXIST:
            return -ENOENT
        if old is None and len(self._elements) >= self.max_entries:
            if not self.lru:
                return -E2BIG
            del self._elements[next(iter(self._elements))]
        if old is not None and (self.percpu or flags & F_LOCK):
            regions = old
        else:
            regions = [self.value_region(bytearray(self.value_size)) for _ in range(self.cpus)]
        for cpu, value in values.items():
            regions[cpu].data[:] = value
        if self.lru:
            self._elements.pop(key, None)
        self._elements[key] = regions
        return 0

    def lookup(self, key: bytes) -> bytes | None:
        self.check_key(key)
        values = self._elements.get(bytes(key))
        return None if values is None else self.join([bytes(region.data) for region in values])

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        self.check_key(key)
        self.check_write()
        error = self._update(bytes(key), dict(enumerate(self.split(value))), flags)
        if error:
            raise self.failure(error)

    def delete(self, key: bytes) -> bool:
        self.check_key(key)
        self.check_write()
        return not self.prog_delete(bytes(key))

    def take(self, key: bytes) -> bytes | None:
        """Look up and delete at once."""
        value = self.lookup(key)
        self.delete(key)
        return value

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key in list(self._elements):
            value = self.lookup(key)
            if value is not None:
                yield key, value
