"""Contexts of program types as include/uapi/linux/bpf.h lays them out, and which section has which.

Their fields are fixed kernel ABI, and the verifier turns an access into one to
the real object behind it. Later kernels add fields at the end; the verifier of
an older one refuses an access to what it does not have.
"""

from __future__ import annotations

from pybpf.lang.types import PtrType, StructType, Type, array_of, be16, char, i32, i64, u8, u16, u32, u64

_SOCK = """bound_dev_if family type protocol mark priority src_ip4 src_ip6[4] src_port dst_port:be16 pad_:u16 dst_ip4
dst_ip6[4] state rx_queue_mapping:i32"""

# One word a field: its name, [count], :type if it is not u32. ':sock' is a pointer to a bpf_sock, or None.
_LAYOUTS = {
    "__sk_buff": """len pkt_type mark queue_mapping protocol vlan_present vlan_tci vlan_proto priority ingress_ifindex
        ifindex tc_index cb[5] hash tc_classid data data_end napi_id family remote_ip4 local_ip4 remote_ip6[4]
        local_ip6[4] remote_port local_port data_meta flow_keys:u64 tstamp:u64 wire_len gso_segs sk:sock gso_size
        tstamp_type:u8 hwtstamp:u64""",
    "xdp_md": "data data_end data_meta ingress_ifindex rx_queue_index egress_ifindex",
    "bpf_sock": _SOCK,
    "bpf_sock_addr": """user_family user_ip4 user_ip6[4] user_port family type protocol msg_src_ip4 msg_src_ip6[4]
        sk:sock""",
    "bpf_sock_ops": """op args[4] family remote_ip4 local_ip4 remote_ip6[4] local_ip6[4] remote_port local_port
        is_fullsock snd_cwnd srtt_us bpf_sock_ops_cb_flags state rtt_min snd_ssthresh rcv_nxt snd_nxt snd_una mss_cache
        ecn_flags rate_delivered rate_interval_us packets_out retrans_out total_retrans segs_in data_segs_in segs_out
        data_segs_out lost_out sacked_out sk_txhash bytes_received:u64 bytes_acked:u64 sk:sock skb_data:u64
        skb_data_end:u64 skb_len skb_tcp_flags skb_hwtstamp:u64""",
    "sk_msg_md": """data:u64 data_end:u64 family remote_ip4 local_ip4 remote_ip6[4] local_ip6[4] remote_port local_port
        size sk:sock""",
    "sk_reuseport_md": "data:u64 data_end:u64 len eth_protocol ip_protocol bind_inany hash sk:sock migrating_sk:sock",
    "bpf_sk_lookup": """sk:sock family protocol remote_ip4 remote_ip6[4] remote_port:be16 pad_:u16 local_ip4
        local_ip6[4] local_port ingress_ifindex""",
    "bpf_sysctl": "write file_pos",
    "bpf_sockopt": "sk:sock optval:u64 optval_end:u64 level:i32 optname:i32 optlen:i32 retval:i32",
    "bpf_cgroup_dev_ctx": "access_type major minor",
}
_TYPES: dict[str, Type] = {"u8": u8, "u16": u16, "u32": u32, "u64": u64, "i32": i32, "be16": be16}


def _build() -> dict[str, StructType]:
    built: dict[str, StructType] = {}
    for name, text in sorted(_LAYOUTS.items(), key=lambda row: row[0] != "bpf_sock"):
        layout = built[name] = StructType(name)
        for word in text.split():
            field, _, kind = word.partition(":")
            field, _, count = field.partition("[")
            type = PtrType(built["bpf_sock"]) if kind == "sock" else _TYPES[kind or "u32"]
            layout.add(field, array_of(type, int(count[:-1])) if count else type)
        layout.finish()
    return built


CONTEXTS = _build()
"""Layouts by the name of the kernel's structure."""

_OF_SECTION = {
    "xdp": "xdp_md", "xdp.frags": "xdp_md", "netkit": "__sk_buff", "lwt_seg6local": "__sk_buff",
    "flow_dissector": "__sk_buff", "tc": "__sk_buff", "classifier": "__sk_buff", "action": "__sk_buff", "tcx":
    "__sk_buff",
    "socket": "__sk_buff", "cgroup_skb": "__sk_buff", "sk_skb": "__sk_buff", "lwt_in": "__sk_buff",
    "lwt_out": "__sk_buff", "lwt_xmit": "__sk_buff", "sockops": "bpf_sock_ops", "sk_msg": "sk_msg_md",
    "sk_lookup": "bpf_sk_lookup", "sk_reuseport": "sk_reuseport_md",
}  # fmt: skip
_OF_CGROUP = {
    "skb": "__sk_buff", "sock": "bpf_sock", "dev": "bpf_cgroup_dev_ctx", "sysctl": "bpf_sysctl",
    "getsockopt": "bpf_sockopt", "setsockopt": "bpf_sockopt", "sock_create": "bpf_sock", "sock_release": "bpf_sock",
    "post_bind4": "bpf_sock", "post_bind6": "bpf_sock",
}  # fmt: skip
_ADDRESS_HOOKS = ("bind", "connect", "sendmsg", "recvmsg", "getpeername", "getsockname")

# Where the data that ctx.ptr() looks into starts and ends.
DATA = {
    "__sk_buff": ("data", "data_end"),
    "xdp_md": ("data", "data_end"),
    "sk_msg_md": ("data", "data_end"),
    "sk_reuseport_md": ("data", "data_end"),
    "bpf_sockopt": ("optval", "optval_end"),
    "bpf_sock_ops": ("skb_data", "skb_data_end"),
}


def cgroup_context(hook: str) -> str | None:
    """The structure that a cgroup hook (``sock_create``, ``connect4``) gets, None for an unknown hook."""
    if hook in _OF_CGROUP:
        return _OF_CGROUP[hook]
    return "bpf_sock_addr" if any(hook in (f"{name}4", f"{name}6", f"{name}_unix") for name in _ADDRESS_HOOKS) else None


def _syscall_context(name: str, last: str) -> StructType:
    """Context of a syscalls:sys_{enter,exit}_* tracepoint (kernel/trace/trace_syscalls.c)."""
    layout = StructType(name)
    layout.add("common", char[8])
    layout.add("nr", i64)
    if last == "args":
        layout.add("args", u64[6])
    else:
        layout.add("ret", i64)
    layout.finish()
    return layout


_SYS_ENTER = _syscall_context("sys_enter_context", "args")
_SYS_EXIT = _syscall_context("sys_exit_context", "ret")


def known_context(section: str) -> StructType | None:
    """The context's layout where the section alone says it, else None."""
    parts = section.lstrip("?").split("/")
    if parts[0] in ("tracepoint", "tp") and len(parts) == 3 and parts[1] == "syscalls":
        if parts[2].startswith("sys_enter_"):
            return _SYS_ENTER
        if parts[2].startswith("sys_exit_"):
            return _SYS_EXIT
    name = cgroup_context("".join(parts[1:2])) if parts[0] == "cgroup" else _OF_SECTION.get(parts[0])
    return CONTEXTS[name] if name else None


# Contexts besides those above, by the names that the verifier knows (bpf_ctx_convert in kernel/bpf/btf.c).
_NAMED = {
    "raw_tp": "bpf_raw_tracepoint_args",
    "raw_tracepoint": "bpf_raw_tracepoint_args",
    "perf_event": "bpf_perf_event_data",
    "kprobe": "pt_regs",
    "kretprobe": "pt_regs",
    "uprobe": "pt_regs",
    "uretprobe": "pt_regs",
}


def global_context(section: str) -> StructType | None:
    """The structure by which a global subprogram's parameter is known to be the context; None if there is none."""
    first = section.lstrip("?").split("/")[0]
    if first in ("tracepoint", "tp"):
        return None
    known = known_context(section)
    if known is not None or first not in _NAMED:
        return known
    layout = StructType(_NAMED[first])
    layout.finish()
    return layout
