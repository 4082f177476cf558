"""Where the fields of the kernel's structures are, and how to fill and read them.

The table is derived from the C declarations in ``pybpf.uapi`` (which say how to make
it anew). Only commands that the start of a tracer does not need are built from
it; ``pybpf.kernel`` packs the others directly, and the tests hold both to this table.
"""

from __future__ import annotations

from struct import calcsize, pack_into, unpack_from

from pybpf.syscalls import address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Structure: its fields as NAME:OFFSET:CODE, the code one of the struct module.
LAYOUTS = {
    "map_create": (
        "map_type:0:I key_size:4:I value_size:8:I max_entries:12:I map_flags:16:I inner_map_fd:20:I "
        "numa_node:24:I map_name:28:16s map_ifindex:44:I btf_fd:48:I btf_key_type_id:52:I "
        "btf_value_type_id:56:I btf_vmlinux_value_type_id:60:I map_extra:64:Q value_type_btf_obj_fd:72:i "
        "map_token_fd:76:i excl_prog_hash:80:Q excl_prog_hash_size:88:I"
    ),
    "element": ("map_fd:0:I key:8:Q value:16:Q flags:24:Q"),
    "batch": ("in_batch:0:Q out_batch:8:Q keys:16:Q values:24:Q count:32:I map_fd:36:I elem_flags:40:Q flags:48:Q"),
    "prog_load": (
        "prog_type:0:I insn_cnt:4:I insns:8:Q license:16:Q log_level:24:I log_size:28:I log_buf:32:Q "
        "kern_version:40:I prog_flags:44:I prog_name:48:16s prog_ifindex:64:I expected_attach_type:68:I "
        "prog_btf_fd:72:I func_info_rec_size:76:I func_info:80:Q func_info_cnt:88:I line_info_rec_size:92:I "
        "line_info:96:Q line_info_cnt:104:I attach_btf_id:108:I attach_prog_fd:112:I core_relo_cnt:116:I "
        "fd_array:120:Q core_relos:128:Q core_relo_rec_size:136:I log_true_size:140:I prog_token_fd:144:i "
        "fd_array_cnt:148:I signature:152:Q signature_size:160:I keyring_id:164:i"
    ),
    "obj": ("pathname:0:Q bpf_fd:8:I file_flags:12:I path_fd:16:i"),
    "prog_attach": (
        "target_fd:0:I attach_bpf_fd:4:I attach_type:8:I attach_flags:12:I replace_bpf_fd:16:I "
        "relative_fd:20:I expected_revision:24:Q"
    ),
    "test": (
        "prog_fd:0:I retval:4:I data_size_in:8:I data_size_out:12:I data_in:16:Q data_out:24:Q repeat:32:I "
        "duration:36:I ctx_size_in:40:I ctx_size_out:44:I ctx_in:48:Q ctx_out:56:Q flags:64:I cpu:68:I "
        "batch_size:72:I"
    ),
    "by_id": ("start_id:0:I next_id:4:I open_flags:8:I fd_by_id_token_fd:12:i"),
    "info": ("bpf_fd:0:I info_len:4:I info:8:Q"),
    "query": (
        "target_fd:0:I attach_type:4:I query_flags:8:I attach_flags:12:I prog_ids:16:Q prog_cnt:24:I "
        "prog_attach_flags:32:Q link_ids:40:Q link_attach_flags:48:Q revision:56:Q"
    ),
    "raw_tracepoint": ("name:0:Q prog_fd:8:I cookie:16:Q"),
    "btf_load": (
        "btf:0:Q btf_log_buf:8:Q btf_size:16:I btf_log_size:20:I btf_log_level:24:I btf_log_true_size:28:I "
        "btf_flags:32:I btf_token_fd:36:i"
    ),
    "task_fd_query": (
        "pid:0:I fd:4:I flags:8:I buf_len:12:I buf:16:Q prog_id:24:I fd_type:28:I probe_offset:32:Q probe_addr:40:Q"
    ),
    "link_create": ("prog_fd:0:I target_fd:4:I attach_type:8:I flags:12:I"),
    "link_create_iter": ("iter_info:0:Q iter_info_len:8:I"),
    "link_create_perf_event": ("bpf_cookie:0:Q"),
    "link_create_kprobe_multi": ("flags:0:I cnt:4:I syms:8:Q addrs:16:Q cookies:24:Q"),
    "link_create_tracing": ("target_btf_id:0:I cookie:8:Q"),
    "link_create_netfilter": ("pf:0:I hooknum:4:I priority:8:i flags:12:I"),
    "link_create_tcx": ("relative_fd:0:I expected_revision:8:Q"),
    "link_create_netkit": ("relative_fd:0:I expected_revision:8:Q"),
    "link_create_cgroup": ("relative_fd:0:I expected_revision:8:Q"),
    "link_create_uprobe_multi": (
        "path:0:Q offsets:8:Q ref_ctr_offsets:16:Q cookies:24:Q cnt:32:I flags:36:I pid:40:I path_fd:44:I"
    ),
    "link_create_tracing_multi": ("ids:0:Q cookies:8:Q cnt:16:I"),
    "link_update": ("link_fd:0:I new_prog_fd:4:I flags:8:I old_prog_fd:12:I"),
    "link_detach": ("link_fd:0:I"),
    "enable_stats": ("type:0:I"),
    "iter_create": ("link_fd:0:I flags:4:I"),
    "prog_bind_map": ("prog_fd:0:I map_fd:4:I flags:8:I"),
    "token_create": ("flags:0:I bpffs_fd:4:I"),
    "prog_stream_read": ("stream_buf:0:Q stream_buf_len:8:I stream_id:12:I prog_fd:16:I"),
    "prog_assoc_struct_ops": ("map_fd:0:I prog_fd:4:I flags:8:I"),
    "bpf_common_attr": ("log_buf:0:Q log_size:8:I log_level:12:I log_true_size:16:I"),
    "bpf_prog_info": (
        "type:0:I id:4:I tag:8:8s jited_prog_len:16:I xlated_prog_len:20:I jited_prog_insns:24:Q "
        "xlated_prog_insns:32:Q load_time:40:Q created_by_uid:48:I nr_map_ids:52:I map_ids:56:Q name:64:16s "
        "ifindex:80:I gpl_compatible:84:I netns_dev:88:Q netns_ino:96:Q nr_jited_ksyms:104:I "
        "nr_jited_func_lens:108:I jited_ksyms:112:Q jited_func_lens:120:Q btf_id:128:I "
        "func_info_rec_size:132:I func_info:136:Q nr_func_info:144:I nr_line_info:148:I line_info:152:Q "
        "jited_line_info:160:Q nr_jited_line_info:168:I line_info_rec_size:172:I "
        "jited_line_info_rec_size:176:I nr_prog_tags:180:I prog_tags:184:Q run_time_ns:192:Q run_cnt:200:Q "
        "recursion_misses:208:Q verified_insns:216:I attach_btf_obj_id:220:I attach_btf_id:224:I"
    ),
    "bpf_map_info": (
        "type:0:I id:4:I key_size:8:I value_size:12:I max_entries:16:I map_flags:20:I name:24:16s "
        "ifindex:40:I btf_vmlinux_value_type_id:44:I netns_dev:48:Q netns_ino:56:Q btf_id:64:I "
        "btf_key_type_id:68:I btf_value_type_id:72:I btf_vmlinux_id:76:I map_extra:80:Q hash:88:Q "
        "hash_size:96:I"
    ),
    "bpf_btf_info": ("btf:0:Q btf_size:8:I id:12:I name:16:Q name_len:24:I kernel_btf:28:I"),
    "bpf_link_info": ("type:0:I id:4:I prog_id:8:I"),
    "bpf_link_info_raw_tracepoint": ("tp_name:0:Q tp_name_len:8:I cookie:16:Q"),
    "bpf_link_info_tracing": ("attach_type:0:I target_obj_id:4:I target_btf_id:8:I cookie:16:Q"),
    "bpf_link_info_cgroup": ("cgroup_id:0:Q attach_type:8:I"),
    "bpf_link_info_netns": ("netns_ino:0:I attach_type:4:I"),
    "bpf_link_info_xdp": ("ifindex:0:I"),
    "bpf_link_info_struct_ops": ("map_id:0:I"),
    "bpf_link_info_netfilter": ("pf:0:I hooknum:4:I priority:8:i flags:12:I"),
    "bpf_link_info_kprobe_multi": ("addrs:0:Q count:8:I flags:12:I missed:16:Q cookies:24:Q"),
    "bpf_link_info_uprobe_multi": (
        "path:0:Q offsets:8:Q ref_ctr_offsets:16:Q cookies:24:Q path_size:32:I count:36:I flags:40:I pid:44:I"
    ),
    "bpf_link_info_tcx": ("ifindex:0:I attach_type:4:I"),
    "bpf_link_info_netkit": ("ifindex:0:I attach_type:4:I"),
    "bpf_link_info_sockmap": ("map_id:0:I attach_type:4:I"),
    "perf_event_attr": (
        "type:0:I size:4:I config:8:Q sample_period:16:Q sample_type:24:Q read_format:32:Q bits:40:Q "
        "wakeup_events:48:I bp_type:52:I config1:56:Q config2:64:Q branch_sample_type:72:Q "
        "sample_regs_user:80:Q sample_stack_user:88:I clockid:92:i sample_regs_intr:96:Q aux_watermark:104:I "
        "sample_max_stack:108:H aux_sample_size:112:I aux_action:116:I sig_data:120:Q config3:128:Q "
        "config4:136:Q"
    ),
    "perf_event_mmap_page": (
        "version:0:I compat_version:4:I lock:8:I index:12:I offset:16:q time_enabled:24:Q time_running:32:Q "
        "capabilities:40:Q pmc_width:48:H time_shift:50:H time_mult:52:I time_offset:56:Q time_zero:64:Q "
        "size:72:I time_cycles:80:Q time_mask:88:Q data_head:1024:Q data_tail:1032:Q data_offset:1040:Q "
        "data_size:1048:Q aux_head:1056:Q aux_tail:1064:Q aux_offset:1072:Q aux_size:1080:Q"
    ),
}

_parsed: dict[str, dict[str, tuple[int, str, int]]] = {}


def fields(layout: str) -> Mapping[str, tuple[int, str, int]]:
    """``{field: (offset, code, size)}`` of a structure, in order of offsets."""
    known = _parsed.get(layout)
    if known is None:
        known = {}
        for word in LAYOUTS[layout].split():
            name, offset, code = word.split(":")
            known[name] = int(offset), code, calcsize("=" + code)
        _parsed[layout] = known
    return known


def size(layout: str) -> int:
    """Bytes up to the end of the last field."""
    offset, _, length = list(fields(layout).values())[-1]
    return offset + length


def build(layout: str, least: str = "", /, **values: int | bytes | bytearray) -> bytearray:
    """A structure with these fields, as short as it may be: kernels refuse fields that they do not know.

    It ends with the last field that is not zero, or with the field ``least`` if that
    is later. A bytearray stands for its address, and must live until the call is made; an
    empty one for the null pointer.
    """
    places = fields(layout)
    end = places[least][0] + places[least][2] if least else 0
    raw = bytearray(size(layout))
    for name, value in values.items():
        offset, code, length = places[name]
        if isinstance(value, bytearray):
            value = address(value) if value else 0
        if value:
            pack_into("=" + code, raw, offset, value)
            end = max(end, offset + length)
    del raw[end:]
    return raw


def read(layout: str, raw: bytes | bytearray, *names: str) -> tuple[int | bytes, ...]:
    """These fields of a structure; zero (or NULs) where ``raw`` ends before them."""
    places = fields(layout)
    found = []
    for name in names:
        offset, code, length = places[name]
        part = bytes(raw[offset : offset + length])
        found.append(unpack_from("=" + code, part.ljust(length, b"\0"))[0])
    return tuple(found)


def number(layout: str, raw: bytes | bytearray, name: str) -> int:
    """One field that is a number; 0 where ``raw`` ends before it."""
    (value,) = read(layout, raw, name)
    assert isinstance(value, int)
    return value
