"""Packets themselves: XDP answers a ping where it arrives, tc takes one off the time to live and counts by protocol."""

from __future__ import annotations

from pybpf.lang import *


class Eth(Struct, packed=True):
    dst: u16[3]
    src: u16[3]
    proto: be16


class Ipv4(Struct):
    ver_ihl: u8
    tos: u8
    tot_len: be16
    id: be16
    frag: be16
    ttl: u8
    proto: u8
    csum: be16
    saddr: u32
    daddr: u32


class Icmp(Struct):
    type: u8
    code: u8
    csum: be16
    id: be16
    seq: be16


seen = PerCpuArray(u64, 256)


@xdp
def echo(ctx):
    eth = ctx.ptr(Eth)
    if not eth or eth.proto != 0x0800:
        return XDP_PASS
    ip = ctx.ptr(Ipv4, 14)
    if not ip or ip.ver_ihl != 0x45 or ip.proto != 1:
        return XDP_PASS
    icmp = ctx.ptr(Icmp, 34)
    if not icmp or icmp.type != 8 or icmp.code:
        return XDP_PASS
    for i in unroll(range(3)):
        mine = eth.dst[i]
        eth.dst[i] = eth.src[i]
        eth.src[i] = mine
    here = ip.daddr
    ip.daddr = ip.saddr
    ip.saddr = here
    # The type falls by 8 in the upper byte of its word; what the sum loses there it gains, end-around.
    icmp.type = 0
    total = u32(icmp.csum) + 0x0800
    icmp.csum = (total & 0xFFFF) + (total >> 16)
    return XDP_TX


@tc
def hop(skb):
    ip = skb.ptr(Ipv4, 14)
    if not ip or ip.ver_ihl != 0x45:
        return TC_ACT_OK
    count = seen.lookup(ip.proto)
    if count:
        count[0] += 1
    if ip.ttl <= 1:
        return TC_ACT_SHOT
    ip.ttl -= 1
    total = u32(ip.csum) + 0x0100
    ip.csum = (total & 0xFFFF) + (total >> 16)
    return TC_ACT_OK
