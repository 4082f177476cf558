"""Flags of the calls that deal with memory."""

from __future__ import annotations

from bfer.names import CHOICE, CUSTOM, FLAGS, Kind, flags, with_size

# include/uapi/asm-generic/mman.h; MAP_32BIT and MAP_ABOVE4G are x86's.
_SHARING = {"MAP_FILE": 0, "MAP_SHARED": 1, "MAP_PRIVATE": 2, "MAP_SHARED_VALIDATE": 3, "MAP_DROPPABLE": 8}
_TYPES = {value: name for name, value in _SHARING.items()}
_MAP = (
    ("MAP_FIXED", 0x10),
    ("MAP_ANONYMOUS", 0x20),
    ("MAP_32BIT", 0x40),
    ("MAP_ABOVE4G", 0x80),
    ("MAP_GROWSDOWN", 0x100),
    ("MAP_DENYWRITE", 0x800),
    ("MAP_EXECUTABLE", 0x1000),
    ("MAP_LOCKED", 0x2000),
    ("MAP_NORESERVE", 0x4000),
    ("MAP_POPULATE", 0x8000),
    ("MAP_NONBLOCK", 0x10000),
    ("MAP_STACK", 0x20000),
    ("MAP_HUGETLB", 0x40000),
    ("MAP_SYNC", 0x80000),
    ("MAP_FIXED_NOREPLACE", 0x100000),
)
_POLICIES = ("DEFAULT", "PREFERRED", "BIND", "INTERLEAVE", "LOCAL", "PREFERRED_MANY", "WEIGHTED_INTERLEAVE")
_POLICY = (("MPOL_F_STATIC_NODES", 0x8000), ("MPOL_F_RELATIVE_NODES", 0x4000), ("MPOL_F_NUMA_BALANCING", 0x2000))


def _mmap(value: int) -> str:
    sharing = _TYPES.get(value & 0xF) or f"{value & 0xF:#x}"
    rest = value & ~0xF
    return f"{sharing}|{with_size(rest, _MAP, 'MAP_HUGE_SHIFT')}" if rest else sharing


def _mempolicy(value: int) -> str:
    rest = value & 0xE000
    mode = value & ~0xE000
    if mode >= len(_POLICIES):
        return flags(value, _POLICY)
    name = f"MPOL_{_POLICIES[mode]}"
    return f"{name}|{flags(rest, _POLICY)}" if rest else name


KINDS = {
    "mmap": Kind(CUSTOM, (*_SHARING.items(), *_MAP), _mmap),
    "mempolicy": Kind(CUSTOM, (*[(f"MPOL_{name}", n) for n, name in enumerate(_POLICIES)], *_POLICY), _mempolicy),
    "prot": Kind(
        FLAGS,
        (
            ("PROT_NONE", 0),
            ("PROT_READ", 1),
            ("PROT_WRITE", 2),
            ("PROT_EXEC", 4),
            ("PROT_SEM", 8),
            ("PROT_GROWSDOWN", 0x1000000),
            ("PROT_GROWSUP", 0x2000000),
        ),
    ),
    "msync": Kind(
        FLAGS,
        (
            ("MS_ASYNC", 1),
            ("MS_INVALIDATE", 2),
            ("MS_SYNC", 4),
        ),
    ),
    "mremap": Kind(
        FLAGS,
        (
            ("MREMAP_MAYMOVE", 1),
            ("MREMAP_FIXED", 2),
            ("MREMAP_DONTUNMAP", 4),
        ),
    ),
    "madvise": Kind(
        CHOICE,
        (
            ("MADV_NORMAL", 0),
            ("MADV_RANDOM", 1),
            ("MADV_SEQUENTIAL", 2),
            ("MADV_WILLNEED", 3),
            ("MADV_DONTNEED", 4),
            ("MADV_FREE", 8),
            ("MADV_REMOVE", 9),
            ("MADV_DONTFORK", 10),
            ("MADV_DOFORK", 11),
            ("MADV_MERGEABLE", 12),
            ("MADV_UNMERGEABLE", 13),
            ("MADV_HUGEPAGE", 14),
            ("MADV_NOHUGEPAGE", 15),
            ("MADV_DONTDUMP", 16),
            ("MADV_DODUMP", 17),
            ("MADV_WIPEONFORK", 18),
            ("MADV_KEEPONFORK", 19),
            ("MADV_COLD", 20),
            ("MADV_PAGEOUT", 21),
            ("MADV_POPULATE_READ", 22),
            ("MADV_POPULATE_WRITE", 23),
            ("MADV_DONTNEED_LOCKED", 24),
            ("MADV_COLLAPSE", 25),
            ("MADV_HWPOISON", 100),
            ("MADV_SOFT_OFFLINE", 101),
            ("MADV_GUARD_INSTALL", 102),
            ("MADV_GUARD_REMOVE", 103),
        ),
    ),
    "mlockall": Kind(
        FLAGS,
        (
            ("MCL_CURRENT", 1),
            ("MCL_FUTURE", 2),
            ("MCL_ONFAULT", 4),
        ),
    ),
    "mlock2": Kind(
        FLAGS,
        (("MLOCK_ONFAULT", 1),),
    ),
    "membarrier": Kind(
        CHOICE,
        (
            ("MEMBARRIER_CMD_QUERY", 0),
            ("MEMBARRIER_CMD_GLOBAL", 1),
            ("MEMBARRIER_CMD_GLOBAL_EXPEDITED", 2),
            ("MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED", 4),
            ("MEMBARRIER_CMD_PRIVATE_EXPEDITED", 8),
            ("MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED", 16),
            ("MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE", 32),
            ("MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE", 64),
            ("MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ", 128),
            ("MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ", 256),
            ("MEMBARRIER_CMD_GET_REGISTRATIONS", 512),
        ),
    ),
    "membarrier_flags": Kind(
        FLAGS,
        (("MEMBARRIER_CMD_FLAG_CPU", 1),),
    ),
    "pkey_access": Kind(
        FLAGS,
        (
            ("PKEY_UNRESTRICTED", 0),
            ("PKEY_DISABLE_ACCESS", 1),
            ("PKEY_DISABLE_WRITE", 2),
            ("PKEY_DISABLE_EXECUTE", 4),
            ("PKEY_DISABLE_READ", 8),
        ),
    ),
    "memfd_secret": Kind(
        FLAGS,
        (("O_CLOEXEC", 0x80000),),
    ),
    "shadow_stack": Kind(
        FLAGS,
        (
            ("SHADOW_STACK_SET_TOKEN", 1),
            ("SHADOW_STACK_SET_MARKER", 2),
        ),
    ),
    "mbind": Kind(
        FLAGS,
        (
            ("MPOL_MF_STRICT", 1),
            ("MPOL_MF_MOVE", 2),
            ("MPOL_MF_MOVE_ALL", 4),
        ),
    ),
    # As Tracee words them.
    "mem_prot_alert": Kind(
        CHOICE,
        (
            ("Mmaped region with W+E permissions!", 1),
            ("Protection changed to Executable!", 2),
            ("Protection changed from E to W+E!", 3),
            ("Protection changed from W+E to E!", 4),
        ),
    ),
    "get_mempolicy": Kind(
        FLAGS,
        (
            ("MPOL_F_NODE", 1),
            ("MPOL_F_ADDR", 2),
            ("MPOL_F_MEMS_ALLOWED", 4),
        ),
    ),
    "userfaultfd": Kind(
        FLAGS,
        (
            ("UFFD_USER_MODE_ONLY", 1),
            ("O_NONBLOCK", 0x800),
            ("O_CLOEXEC", 0x80000),
        ),
    ),
}
