"""Contexts of programs that see a packet: struct xdp_md and struct __sk_buff (include/uapi/linux/bpf.h)."""

from __future__ import annotations

from pybpf.vm.errors import VmError
from pybpf.vm.memory import Memory, Region

ETH_HLEN = 14
# Magic offsets of BPF_ABS and BPF_IND loads (include/uapi/linux/filter.h).
SKF_NET_OFF = -0x100000
SKF_LL_OFF = -0x200000

_MINIMUM = ETH_HLEN  # what BPF_PROG_TEST_RUN takes

# Layout: fields that give addresses, at which offset; ranges that may be written; those that may not be read.
_Layout = tuple[int, dict[int, str], tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]
_XDP: _Layout = (24, {0: "data", 4: "data_end", 8: "data_meta"}, (), ((20, 24),))
_TC_WRITABLE = ((8, 16), (32, 36), (44, 68), (72, 76), (152, 160))
_TC: _Layout = (192, {76: "data", 80: "data_end", 140: "data_meta"}, _TC_WRITABLE, ((88, 140), (144, 152)))
# Socket filters have no direct access to the packet (net/core/filter.c, sk_filter_is_valid_access).
_SOCKET: _Layout = (192, {}, ((48, 68),), ((72, 84), (88, 152), (152, 160)))
LAYOUTS = {"xdp": _XDP, "tc": _TC, "action": _TC, "socket": _SOCKET}


class PacketContext(Region):
    """The context of an ``xdp``, ``tc``, ``action`` or ``socket`` program, with the packet that belongs to it.

    ``frame`` starts at the Ethernet header, as BPF_PROG_TEST_RUN takes it.
    Socket filters see it from behind that header, the others whole. The fields
    ``data``, ``data_meta`` and ``data_end`` read as addresses although they have 4 bytes.
    """

    __slots__ = ("_hidden", "_memory", "_pointers", "_ranges", "kind", "moved", "packet", "skipped")

    def __init__(self, memory: Memory, kind: str, frame: bytes) -> None:
        if kind not in LAYOUTS:
            raise VmError(f"no packet context for {kind!r} programs; known are: {', '.join(LAYOUTS)}")
        if len(frame) < _MINIMUM:
            raise VmError(f"a packet has an Ethernet header of {ETH_HLEN} bytes at least; got {len(frame)} bytes")
        size, self._pointers, self._ranges, self._hidden = LAYOUTS[kind]
        super().__init__(bytearray(size), f"the {kind} context", atomic=False)
        self._memory = memory
        self.kind = kind
        self.moved = 0  # how far bpf_xdp_adjust_head took the start of the packet
        self.skipped = bytes(frame[:ETH_HLEN]) if kind == "socket" else b""
        self.packet = Region(bytearray(), "the packet")
        self.replace(frame[len(self.skipped) :])
        if kind != "xdp":
            self.put(16, int.from_bytes(frame[12:14], memory.byteorder))  # protocol: in network order

    def put(self, at: int, value: int) -> None:
        """Set the 4-byte field at an offset, such as 40 (ifindex)."""
        self.data[at : at + 4] = value.to_bytes(4, self._memory.byteorder)

    def replace(self, packet: bytes) -> None:
        """Give the program another packet: addresses in the old one are bad from now on."""
        self._memory.unmap(self.packet)
        self.packet = Region(bytearray(packet), "the packet", writable=self.kind != "socket", atomic=False)
        self._memory.map(self.packet)
        if self.kind != "xdp":
            self.put(0, len(packet))

    def load(self, at: int, size: int) -> bytes | None:
        name = self._pointers.get(at)
        if name is None:
            return None
        base = self.packet.base
        address = base + len(self.packet.data) if name == "data_end" else base
        return address.to_bytes(8, self._memory.byteorder)

    def refuse(self, at: int, size: int, writes: bool) -> str:
        for start in self._pointers:
            if at < start + 4 and start < at + size and (at != start or size != 4 or writes):
                return f"{self._pointers[start]} can only be read, as 4 bytes"
        if writes:
            if not any(start <= at and at + size <= end for start, end in self._ranges):
                return f"{self.kind} programs cannot write this field"
        elif any(at < end and start < at + size for start, end in self._hidden):
            return f"{self.kind} programs cannot read this field"
        if at % size:
            return "misaligned access of the context"
        return ""

    def classic(self, offset: int, size: int) -> int | None:
        """What BPF_ABS and BPF_IND load: a big-endian number of the packet; None outside of it."""
        seen = bytes(self.packet.data)
        if offset < 0:
            # The network header follows the link layer's; socket filters have that one in front of what they see.
            whole = self.skipped + seen
            if offset >= SKF_NET_OFF:
                offset, seen = offset - SKF_NET_OFF, whole[ETH_HLEN:]
            elif offset >= SKF_LL_OFF:
                offset, seen = offset - SKF_LL_OFF, whole
            else:
                return None
        raw = seen[offset : offset + size]
        return int.from_bytes(raw, "big") if len(raw) == size else None
