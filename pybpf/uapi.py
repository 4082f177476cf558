"""The kernel's structures that bpf(2) and perf_event_open(2) exchange, declared in C.

This is the description; what runs is ``pybpf.attrs``, the places of the fields
derived from it ahead of time. ``python -m pybpf.uapi`` prints that table, and the
tests compare it with the one in use and with the BTF of the running kernel. Deriving,
and the classes of ``structure``, need the cstruct package; nothing else does.

A command's member of ``union bpf_attr`` is named after the command, anonymous
unions by their most general member. What ``BPF_LINK_CREATE`` and
``struct bpf_link_info`` hold behind their common head is declared apart, from the
head's end on. A field called ``size`` is ``size_`` here, for cstruct reserves that
name. Newest kernel described: 7.2.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What precedes the variants of a structure, in bytes.
LINK_CREATE_HEAD = 16
LINK_INFO_HEAD = 16

DECLARATIONS = """
struct map_create {
    uint32_t map_type; uint32_t key_size; uint32_t value_size; uint32_t max_entries;
    uint32_t map_flags; uint32_t inner_map_fd; uint32_t numa_node; char map_name[16];
    uint32_t map_ifindex; uint32_t btf_fd; uint32_t btf_key_type_id; uint32_t btf_value_type_id;
    uint32_t btf_vmlinux_value_type_id; uint64_t map_extra;
    int32_t value_type_btf_obj_fd; int32_t map_token_fd;
    uint64_t excl_prog_hash; uint32_t excl_prog_hash_size;
};
struct element { uint32_t map_fd; uint64_t key; uint64_t value; uint64_t flags; };
struct batch {
    uint64_t in_batch; uint64_t out_batch; uint64_t keys; uint64_t values;
    uint32_t count; uint32_t map_fd; uint64_t elem_flags; uint64_t flags;
};
struct prog_load {
    uint32_t prog_type; uint32_t insn_cnt; uint64_t insns; uint64_t license;
    uint32_t log_level; uint32_t log_size; uint64_t log_buf; uint32_t kern_version;
    uint32_t prog_flags; char prog_name[16]; uint32_t prog_ifindex;
    uint32_t expected_attach_type; uint32_t prog_btf_fd;
    uint32_t func_info_rec_size; uint64_t func_info; uint32_t func_info_cnt;
    uint32_t line_info_rec_size; uint64_t line_info; uint32_t line_info_cnt;
    uint32_t attach_btf_id; uint32_t attach_prog_fd;
    uint32_t core_relo_cnt; uint64_t fd_array; uint64_t core_relos; uint32_t core_relo_rec_size;
    uint32_t log_true_size; int32_t prog_token_fd; uint32_t fd_array_cnt;
    uint64_t signature; uint32_t signature_size; int32_t keyring_id;
};
struct obj { uint64_t pathname; uint32_t bpf_fd; uint32_t file_flags; int32_t path_fd; };
struct prog_attach {
    uint32_t target_fd; uint32_t attach_bpf_fd; uint32_t attach_type; uint32_t attach_flags;
    uint32_t replace_bpf_fd; uint32_t relative_fd; uint64_t expected_revision;
};
struct test {
    uint32_t prog_fd; uint32_t retval; uint32_t data_size_in; uint32_t data_size_out;
    uint64_t data_in; uint64_t data_out; uint32_t repeat; uint32_t duration;
    uint32_t ctx_size_in; uint32_t ctx_size_out; uint64_t ctx_in; uint64_t ctx_out;
    uint32_t flags; uint32_t cpu; uint32_t batch_size;
};
struct by_id { uint32_t start_id; uint32_t next_id; uint32_t open_flags; int32_t fd_by_id_token_fd; };
struct info { uint32_t bpf_fd; uint32_t info_len; uint64_t info; };
struct query {
    uint32_t target_fd; uint32_t attach_type; uint32_t query_flags; uint32_t attach_flags;
    uint64_t prog_ids; uint32_t prog_cnt; uint64_t prog_attach_flags;
    uint64_t link_ids; uint64_t link_attach_flags; uint64_t revision;
};
struct raw_tracepoint { uint64_t name; uint32_t prog_fd; uint64_t cookie; };
struct btf_load {
    uint64_t btf; uint64_t btf_log_buf; uint32_t btf_size; uint32_t btf_log_size;
    uint32_t btf_log_level; uint32_t btf_log_true_size; uint32_t btf_flags; int32_t btf_token_fd;
};
struct task_fd_query {
    uint32_t pid; uint32_t fd; uint32_t flags; uint32_t buf_len; uint64_t buf;
    uint32_t prog_id; uint32_t fd_type; uint64_t probe_offset; uint64_t probe_addr;
};
struct link_create { uint32_t prog_fd; uint32_t target_fd; uint32_t attach_type; uint32_t flags; };
struct link_create_iter { uint64_t iter_info; uint32_t iter_info_len; };
struct link_create_perf_event { uint64_t bpf_cookie; };
struct link_create_kprobe_multi { uint32_t flags; uint32_t cnt; uint64_t syms; uint64_t addrs; uint64_t cookies; };
struct link_create_tracing { uint32_t target_btf_id; uint64_t cookie; };
struct link_create_netfilter { uint32_t pf; uint32_t hooknum; int32_t priority; uint32_t flags; };
struct link_create_tcx { uint32_t relative_fd; uint64_t expected_revision; };
struct link_create_netkit { uint32_t relative_fd; uint64_t expected_revision; };
struct link_create_cgroup { uint32_t relative_fd; uint64_t expected_revision; };
struct link_create_uprobe_multi {
    uint64_t path; uint64_t offsets; uint64_t ref_ctr_offsets; uint64_t cookies;
    uint32_t cnt; uint32_t flags; uint32_t pid; uint32_t path_fd;
};
struct link_create_tracing_multi { uint64_t ids; uint64_t cookies; uint32_t cnt; };
struct link_update { uint32_t link_fd; uint32_t new_prog_fd; uint32_t flags; uint32_t old_prog_fd; };
struct link_detach { uint32_t link_fd; };
struct enable_stats { uint32_t type; };
struct iter_create { uint32_t link_fd; uint32_t flags; };
struct prog_bind_map { uint32_t prog_fd; uint32_t map_fd; uint32_t flags; };
struct token_create { uint32_t flags; uint32_t bpffs_fd; };
struct prog_stream_read { uint64_t stream_buf; uint32_t stream_buf_len; uint32_t stream_id; uint32_t prog_fd; };
struct prog_assoc_struct_ops { uint32_t map_fd; uint32_t prog_fd; uint32_t flags; };
struct bpf_common_attr { uint64_t log_buf; uint32_t log_size; uint32_t log_level; uint32_t log_true_size; };
struct bpf_prog_info {
    uint32_t type; uint32_t id; uint8_t tag[8]; uint32_t jited_prog_len; uint32_t xlated_prog_len;
    uint64_t jited_prog_insns; uint64_t xlated_prog_insns; uint64_t load_time;
    uint32_t created_by_uid; uint32_t nr_map_ids; uint64_t map_ids; char name[16];
    uint32_t ifindex; uint32_t gpl_compatible; uint64_t netns_dev; uint64_t netns_ino;
    uint32_t nr_jited_ksyms; uint32_t nr_jited_func_lens; uint64_t jited_ksyms; uint64_t jited_func_lens;
    uint32_t btf_id; uint32_t func_info_rec_size; uint64_t func_info;
    uint32_t nr_func_info; uint32_t nr_line_info; uint64_t line_info; uint64_t jited_line_info;
    uint32_t nr_jited_line_info; uint32_t line_info_rec_size; uint32_t jited_line_info_rec_size;
    uint32_t nr_prog_tags; uint64_t prog_tags; uint64_t run_time_ns; uint64_t run_cnt;
    uint64_t recursion_misses; uint32_t verified_insns; uint32_t attach_btf_obj_id; uint32_t attach_btf_id;
};
struct bpf_map_info {
    uint32_t type; uint32_t id; uint32_t key_size; uint32_t value_size; uint32_t max_entries;
    uint32_t map_flags; char name[16]; uint32_t ifindex; uint32_t btf_vmlinux_value_type_id;
    uint64_t netns_dev; uint64_t netns_ino; uint32_t btf_id; uint32_t btf_key_type_id;
    uint32_t btf_value_type_id; uint32_t btf_vmlinux_id; uint64_t map_extra;
    uint64_t hash; uint32_t hash_size;
};
struct bpf_btf_info {
    uint64_t btf; uint32_t btf_size; uint32_t id; uint64_t name; uint32_t name_len; uint32_t kernel_btf;
};
struct bpf_link_info { uint32_t type; uint32_t id; uint32_t prog_id; };
struct bpf_link_info_raw_tracepoint { uint64_t tp_name; uint32_t tp_name_len; uint64_t cookie; };
struct bpf_link_info_tracing {
    uint32_t attach_type; uint32_t target_obj_id; uint32_t target_btf_id; uint64_t cookie;
};
struct bpf_link_info_cgroup { uint64_t cgroup_id; uint32_t attach_type; };
struct bpf_link_info_netns { uint32_t netns_ino; uint32_t attach_type; };
struct bpf_link_info_xdp { uint32_t ifindex; };
struct bpf_link_info_struct_ops { uint32_t map_id; };
struct bpf_link_info_netfilter { uint32_t pf; uint32_t hooknum; int32_t priority; uint32_t flags; };
struct bpf_link_info_kprobe_multi {
    uint64_t addrs; uint32_t count; uint32_t flags; uint64_t missed; uint64_t cookies;
};
struct bpf_link_info_uprobe_multi {
    uint64_t path; uint64_t offsets; uint64_t ref_ctr_offsets; uint64_t cookies;
    uint32_t path_size; uint32_t count; uint32_t flags; uint32_t pid;
};
struct bpf_link_info_tcx { uint32_t ifindex; uint32_t attach_type; };
struct bpf_link_info_netkit { uint32_t ifindex; uint32_t attach_type; };
struct bpf_link_info_sockmap { uint32_t map_id; uint32_t attach_type; };
struct perf_event_attr {
    uint32_t type; uint32_t size_; uint64_t config; uint64_t sample_period; uint64_t sample_type;
    uint64_t read_format; uint64_t bits; uint32_t wakeup_events; uint32_t bp_type;
    uint64_t config1; uint64_t config2; uint64_t branch_sample_type; uint64_t sample_regs_user;
    uint32_t sample_stack_user; int32_t clockid; uint64_t sample_regs_intr; uint32_t aux_watermark;
    uint16_t sample_max_stack; uint16_t reserved_2; uint32_t aux_sample_size; uint32_t aux_action;
    uint64_t sig_data; uint64_t config3; uint64_t config4;
};
struct perf_event_mmap_page {
    uint32_t version; uint32_t compat_version; uint32_t lock; uint32_t index; int64_t offset;
    uint64_t time_enabled; uint64_t time_running; uint64_t capabilities; uint16_t pmc_width;
    uint16_t time_shift; uint32_t time_mult; uint64_t time_offset; uint64_t time_zero; uint32_t size_;
    uint32_t reserved_1; uint64_t time_cycles; uint64_t time_mask; uint8_t reserved[928];
    uint64_t data_head; uint64_t data_tail; uint64_t data_offset; uint64_t data_size;
    uint64_t aux_head; uint64_t aux_tail; uint64_t aux_offset; uint64_t aux_size;
};
"""

_CODES = {"uint8": "B", "uint16": "H", "uint32": "I", "int32": "i", "uint64": "Q", "int64": "q", "char": "s"}
# Place holders and capabilities that nobody fills in or reads.
_LEFT_OUT = ("reserved",)


def names() -> list[str]:
    """Every structure that is declared here, in order."""
    return [part.split()[0] for part in DECLARATIONS.split("struct ")[1:]]


def structure(name: str) -> type[Any]:
    """The cstruct class of a declared structure, in this machine's byte order. Raises KeyError for another name."""
    import cstruct  # type: ignore[import-not-found, import-untyped, unused-ignore]

    start = DECLARATIONS.find(f"struct {name} {{")
    if start < 0:
        raise KeyError(name)
    text = DECLARATIONS[start : DECLARATIONS.index("};", start) + 2]
    found: type[Any] = cstruct.parse(text, __cls__=cstruct.MemCStruct)
    return found


def places(name: str) -> list[tuple[str, int, str]]:
    """``(field, offset, code of the struct module)`` of a declared structure, by cstruct."""
    found = []
    for field, type in structure(name).__fields_types__.items():
        if not field.startswith(_LEFT_OUT):
            code = _CODES[type.c_type]
            length = type.vlen_ex
            if length > 1:
                code = f"{length}s"
            found.append((field.rstrip("_"), type.offset, code))
    return found


def table() -> dict[str, str]:
    """What ``pybpf.attrs.LAYOUTS`` must hold."""
    return {name: " ".join(f"{field}:{offset}:{code}" for field, offset, code in places(name)) for name in names()}


def _print_table() -> None:
    out = sys.stdout
    for name, fields in table().items():
        out.write(f'    "{name}": (\n')
        line = ""
        for word in fields.split():
            if len(line) + len(word) > 100:
                out.write(f'        "{line}"\n')
                line = ""
            line += word + " "
        out.write(f'        "{line.rstrip()}"\n    ),\n')


if __name__ == "__main__":
    _print_table()
