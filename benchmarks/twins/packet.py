"""Headers of a packet that lies in a map: IPv4 with options, then TCP or UDP; counted by flow."""

from __future__ import annotations

from pybpf.lang import *


class Ipv4(Struct):
    ver_ihl: u8
    tos: u8
    tot_len: be16
    id: be16
    frag: be16
    ttl: u8
    proto: u8
    csum: u16
    saddr: be32
    daddr: be32


class Ports(Struct):
    sport: be16
    dport: be16


class Packet(Struct):
    length: u32
    ethertype: be16
    pad: u16
    data: u8[128]


class Flow(Struct):
    saddr: u32
    daddr: u32
    sport: u16
    dport: u16
    proto: u8


class Count(Struct):
    packets: u64
    bytes: u64


packets = Array(Packet, 1)
flows = LruHash(Flow, Count, 1024)


@raw_tp("packet")
def packet(ctx):
    p = packets.lookup(0)
    if not p or p.ethertype != 0x0800 or p.length < 24:
        return 0
    ip = cast(Ptr[Ipv4], addr(p.data))
    if ip.ver_ihl >> 4 != 4:
        return 1
    ihl = (ip.ver_ihl & 15) * 4
    if ihl < 20:
        return 2
    if ip.proto != 6 and ip.proto != 17:
        return 3
    ports = cast(Ptr[Ports], addr(p.data[ihl]))
    key = Flow(saddr=ip.saddr, daddr=ip.daddr, sport=ports.sport, dport=ports.dport, proto=ip.proto)
    found = flows.lookup(key)
    if found:
        found.packets += 1
        found.bytes += ip.tot_len
    else:
        flows[key] = Count(packets=1, bytes=ip.tot_len)
    return key.dport
