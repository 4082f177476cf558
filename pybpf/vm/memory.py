"""Memory of the interpreter: regions with bounds and permissions at made-up 64-bit addresses.

Every region that is not placed at an address of the caller's choice has 4 GiB
of address space of its own with 4 GiB of nothing behind it, so that no
overflow by a 32-bit amount reaches a neighbour, and the upper half of an
address finds the region. The lower 4 GiB hold nothing: a pointer that was cut
to 32 bits is as bad as a null pointer.
"""

from __future__ import annotations

from itertools import count
from typing import Literal, NoReturn

from pybpf.vm.errors import VmError

M32 = 0xFFFF_FFFF
M64 = 0xFFFF_FFFF_FFFF_FFFF

# Kernel addresses have the sign bit set, so these do.
_pages = count(0x8000_0000, 2)
_NULL_PAGE = 4096

Order = Literal["little", "big"]


class Region:
    """Bytes at an address.

    ``data`` is what is stored there; programs can read the first ``readable``
    bytes and write the first ``writable`` ones. ``init`` has a byte for each
    byte of a stack frame, 0 while it was never written, and is None for other
    regions; stack frames also refuse misaligned accesses (kernel/bpf/verifier.c,
    check_ptr_alignment). ``user`` marks user space, which only helpers reach.
    ``atomic`` says whether atomic instructions may be used on it.
    """

    __slots__ = ("atomic", "base", "data", "init", "name", "readable", "user", "writable")

    def __init__(
        self,
        data: bytearray,
        name: str,
        *,
        writable: bool = True,
        readable: bool = True,
        base: int | None = None,
        user: bool = False,
        atomic: bool = True,
    ) -> None:
        self.base = next(_pages) << 32 if base is None else base
        self.data = data
        self.name = name
        self.readable = len(data) if readable else 0
        self.writable = len(data) if writable else 0
        self.init: bytearray | None = None
        self.user = user
        self.atomic = atomic

    def __repr__(self) -> str:
        return f"<Region {self.name} {self.base:#x}+{len(self.data)}>"

    def load(self, at: int, size: int) -> bytes | None:
        """Bytes whose value is not what ``data`` holds; None for all others. See context.PacketContext."""
        return None

    def refuse(self, at: int, size: int, writes: bool) -> str:
        """Why these bytes of the region are out of reach, in addition to bounds and permissions; "" if they are not."""
        return ""


class StackFrame(Region):
    """A frame of ``size`` bytes that nothing was written to yet."""

    __slots__ = ()

    def __init__(self, size: int, name: str) -> None:
        super().__init__(bytearray(size), name)
        self.init = bytearray(size)


class Memory:
    """All regions that a program can reach at the moment.

    ``probe_mem`` makes loads by programs from where nothing is give 0 instead of
    a VmError, as the kernel's exception table does for pointers that have a BTF
    type.
    """

    def __init__(self, byteorder: Order = "little", probe_mem: bool = False) -> None:
        self.byteorder: Order = byteorder
        self.probe_mem = probe_mem
        # By the upper half of the address; the instructions look here first.
        self.pages: dict[int, Region] = {}
        # Regions that compute what is read; never in pages.
        self._computed: dict[int, Region] = {}
        self._placed: list[Region] = []
        self._permanent: dict[int, Region] = {}
        self._gone: dict[int, str] = {}

    def map(self, region: Region, permanent: bool = False) -> int:
        """Make a region reachable until it is unmapped or the run ends (``permanent``: not even then); its address."""
        self.pages[region.base >> 32] = region
        if permanent:
            self._permanent[region.base >> 32] = region
        return region.base

    def map_computed(self, region: Region) -> int:
        """The same for a region with a ``load`` of its own."""
        self._computed[region.base >> 32] = region
        return region.base

    def unmap(self, region: Region) -> None:
        """Take a region away; a pointer into it is bad from now on."""
        page = region.base >> 32
        self.pages.pop(page, None)
        self._gone[page] = region.name

    def place(
        self,
        data: bytes | bytearray,
        address: int,
        *,
        writable: bool = False,
        user: bool = False,
        name: str = "placed memory",
    ) -> Region:
        """Put ``data`` at an address, for good. Raises VmError when something is there or the address is impossible.

        A bytearray is used itself and shows what programs write. User memory
        can be reached by helpers such as probe_read_user only.
        """
        if not _NULL_PAGE <= address <= M64 - len(data):
            raise VmError(f"{name} cannot be placed at {address:#x}: no such address")
        if address >> 63 and self._find(address) is not None:
            raise VmError(f"{name} cannot be placed at {address:#x}: {self._find(address)!r} is there")
        for other in self._placed:
            if address < other.base + len(other.data) and other.base < address + len(data):
                raise VmError(f"{name} cannot be placed at {address:#x}: {other!r} is there")
        raw = data if isinstance(data, bytearray) else bytearray(data)
        region = Region(raw, name, writable=writable, base=address, user=user)
        self._placed.append(region)
        return region

    def remove(self, region: Region) -> None:
        """Take placed memory away again."""
        self._placed = [other for other in self._placed if other is not region]

    def reset(self) -> None:
        """Forget what belonged to the last run."""
        self.pages.clear()
        self.pages.update(self._permanent)
        self._computed.clear()
        self._gone.clear()

    # --- access -----------------------------------------------------------------

    def _find(self, address: int) -> Region | None:
        page = address >> 32
        region = self.pages.get(page) or self._computed.get(page)
        if region is None:
            for placed in self._placed:
                if placed.base <= address < placed.base + len(placed.data):
                    return placed
        return region

    def locate(
        self, address: int, size: int, verb: str, writes: bool = False, user: bool = False
    ) -> tuple[Region, int]:
        """The region of ``size`` bytes at an address, and their offset in it. Raises VmError, which says why not.

        ``verb`` (reads, writes ...) is for the message. Does not look at what was initialised.
        """
        region = self._find(address)
        if region is None:
            self._fail(address, size, verb)
        at = address - region.base
        if region.user and not user:
            raise VmError(f"{verb} {size} bytes at {address:#x}, which is user space: use probe_read_user")
        limit = region.writable if writes else region.readable
        if at + size > limit:
            whole = len(region.data)
            if at + size <= whole:
                raise VmError(
                    f"{verb} {size} bytes at {describe(region, at)}, which is {'read' if writes else 'write'}-only"
                )
            if not whole:
                raise VmError(f"{verb} {size} bytes at {describe(region, at)}, which has no bytes")
            raise VmError(f"{verb} {size} bytes at {describe(region, at)}: outside its {whole} bytes")
        refusal = region.refuse(at, size, writes)
        if refusal:
            raise VmError(f"{verb} {size} bytes at {describe(region, at)}: {refusal}")
        return region, at

    def _fail(self, address: int, size: int, verb: str) -> NoReturn:
        what = f"{verb} {size} bytes at address {address:#x}"
        if address < _NULL_PAGE:
            raise VmError(f"{what}: a null pointer")
        page = address >> 32
        gone = self._gone.get(page)
        if gone is not None:
            raise VmError(f"{what}: {gone} is there no more")
        above = self.pages.get(page + 1) or self._computed.get(page + 1)
        if above is not None:
            raise VmError(f"{verb} {size} bytes at {describe(above, address - above.base)}: below its first byte")
        raise VmError(f"{what}: no memory there")

    def _check_stack(self, region: Region, at: int, size: int, verb: str, reads: bool, aligned: bool) -> None:
        if region.init is None:
            return
        if aligned and at % size:
            raise VmError(f"{verb} {size} bytes at {describe(region, at)}: misaligned stack access")
        hole = region.init.find(0, at, at + size) if reads else -1
        if hole >= 0:
            raise VmError(f"{verb} {size} bytes at {describe(region, at)}: {describe(region, hole)} was never written")

    def load(self, address: int, size: int) -> int:
        """What a load instruction reads: unsigned. The slow way, for what the instruction itself did not settle."""
        if self.probe_mem and self._find(address) is None:
            return 0
        region, at = self.locate(address, size, "reads")
        computed = region.load(at, size)
        if computed is not None:
            return int.from_bytes(computed, self.byteorder)
        self._check_stack(region, at, size, "reads", True, True)
        return int.from_bytes(region.data[at : at + size], self.byteorder)

    def store(self, address: int, size: int, value: int) -> None:
        """What a store instruction does; ``value`` fits ``size`` bytes."""
        region, at = self.locate(address, size, "writes", True)
        self._check_stack(region, at, size, "writes", False, True)
        self._put(region, at, value.to_bytes(size, self.byteorder))

    def atomic(self, address: int, size: int, reads: bool = True, writes: bool = True) -> tuple[Region, int]:
        """Where an atomic instruction works: naturally aligned, and neither context nor packet."""
        verb = "updates" if reads and writes else "writes" if writes else "reads"
        region, at = self.locate(address, size, verb)
        if not region.atomic:
            raise VmError(f"{verb} {region.name} by an atomic instruction, which is not allowed there")
        if writes:
            self.locate(address, size, verb, True)
        if at % size:
            raise VmError(f"{verb} {size} bytes at {describe(region, at)}: a misaligned atomic access")
        self._check_stack(region, at, size, verb, reads, True)
        if region.init is not None:
            region.init[at : at + size] = b"\1" * size
        return region, at

    def read(self, address: int, size: int) -> bytes:
        """The bytes that a helper reads on the program's behalf. Raises VmError."""
        if not size:
            return b""
        region, at = self.locate(address & M64, size, "lets a helper read")
        self._check_stack(region, at, size, "lets a helper read", True, False)
        return bytes(region.data[at : at + size])

    def write(self, address: int, data: bytes) -> None:
        """What a helper writes for the program. Raises VmError."""
        if data:
            region, at = self.locate(address & M64, len(data), "lets a helper write", True)
            self._put(region, at, data)

    def probe(self, address: int, size: int, user: bool) -> bytes | None:
        """Read from anywhere, the way of bpf_probe_read_*: None if a byte of it cannot be read in that space."""
        result = b""
        while len(result) < size:
            here = (address & M64) + len(result)
            region = self._find(here)
            if region is None or region.user != user or here - region.base >= region.readable:
                return None
            at = here - region.base
            result += bytes(region.data[at : min(region.readable, at + size - len(result))])
        return result

    def probe_string(self, address: int, size: int, user: bool) -> bytes | None:
        """Up to ``size`` bytes without the NUL that ends them; None on a fault before it."""
        result = bytearray()
        while len(result) < size:
            byte = self.probe(address + len(result), 1, user)
            if byte is None:
                return None
            if byte == b"\0":
                break
            result += byte
        return bytes(result)

    @staticmethod
    def _put(region: Region, at: int, data: bytes) -> None:
        region.data[at : at + len(data)] = data
        if region.init is not None:
            region.init[at : at + len(data)] = b"\1" * len(data)


def describe(region: Region, at: int) -> str:
    """A place in words; offsets in a stack frame count from the frame pointer."""
    if region.init is not None:
        return f"fp{at - len(region.data):+d} of {region.name}"
    return f"offset {at} of {region.name}"
