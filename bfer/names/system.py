"""Keys, modules, BPF and the rest of the system."""

from __future__ import annotations

from bfer.names import CHOICE, CUSTOM, FLAGS, HEX, Kind, flags

_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
    "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
    "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
_ATTACHED = (
    "RAW_TRACEPOINT TRACEPOINT KPROBE KRETPROBE UPROBE URETPROBE"
    + " -" * 60
    + " TRACING CGROUP ITER NETNS XDP PERF_EVENT KPROBE_MULTI STRUCT_OPS NETFILTER TCX UPROBE_MULTI NETKIT SOCKMAP"
)
_BPF_PROGRAMS = (
    "UNSPEC SOCKET_FILTER KPROBE SCHED_CLS SCHED_ACT TRACEPOINT XDP PERF_EVENT CGROUP_SKB CGROUP_SOCK LWT_IN LWT_OUT "
    "LWT_XMIT SOCK_OPS SK_SKB CGROUP_DEVICE SK_MSG RAW_TRACEPOINT CGROUP_SOCK_ADDR LWT_SEG6LOCAL LIRC_MODE2 "
    "SK_REUSEPORT FLOW_DISSECTOR CGROUP_SYSCTL RAW_TRACEPOINT_WRITABLE CGROUP_SOCKOPT TRACING STRUCT_OPS EXT LSM "
    "SK_LOOKUP SYSCALL NETFILTER"
)

# include/uapi/linux/keyctl.h
_KEYRINGS = (
    ("KEY_SPEC_REQUESTOR_KEYRING", -8),
    ("KEY_SPEC_REQKEY_AUTH_KEY", -7),
    ("KEY_SPEC_GROUP_KEYRING", -6),
    ("KEY_SPEC_USER_SESSION_KEYRING", -5),
    ("KEY_SPEC_USER_KEYRING", -4),
    ("KEY_SPEC_SESSION_KEYRING", -3),
    ("KEY_SPEC_PROCESS_KEYRING", -2),
    ("KEY_SPEC_THREAD_KEYRING", -1),
)
# include/uapi/linux/kexec.h: above the flags stands the number of a machine, as ELF has it
_KEXEC = (
    ("KEXEC_ON_CRASH", 1),
    ("KEXEC_PRESERVE_CONTEXT", 2),
    ("KEXEC_UPDATE_ELFCOREHDR", 4),
    ("KEXEC_CRASH_HOTPLUG_SUPPORT", 8),
)
_KEXEC_MACHINES = (
    ("KEXEC_ARCH_DEFAULT", 0),
    ("KEXEC_ARCH_386", 3 << 16),
    ("KEXEC_ARCH_68K", 4 << 16),
    ("KEXEC_ARCH_MIPS_LE", 10 << 16),
    ("KEXEC_ARCH_MIPS", 8 << 16),
    ("KEXEC_ARCH_PARISC", 15 << 16),
    ("KEXEC_ARCH_PPC", 20 << 16),
    ("KEXEC_ARCH_PPC64", 21 << 16),
    ("KEXEC_ARCH_S390", 22 << 16),
    ("KEXEC_ARCH_ARM", 40 << 16),
    ("KEXEC_ARCH_SH", 42 << 16),
    ("KEXEC_ARCH_IA_64", 50 << 16),
    ("KEXEC_ARCH_X86_64", 62 << 16),
    ("KEXEC_ARCH_AARCH64", 183 << 16),
    ("KEXEC_ARCH_RISCV", 243 << 16),
    ("KEXEC_ARCH_LOONGARCH", 258 << 16),
)


def _keyring(value: int) -> str:
    """A serial number, or one of those that are always there."""
    number = (value & 0xFFFFFFFF) - (1 << 32) if value & 0x80000000 else value & 0xFFFFFFFF
    return next((name for name, known in _KEYRINGS if known == number), str(number))


def _kexec(value: int) -> str:
    machine = value & 0xFFFF0000
    rest = value & ~0xFFFF0000
    name = next((name for name, known in _KEXEC_MACHINES if known == machine), f"{machine:#x}")
    return f"{name}|{flags(rest, _KEXEC)}" if rest else name


KINDS = {
    "hex": Kind(HEX),
    "keyring": Kind(CUSTOM, _KEYRINGS, _keyring),
    "keyctl": Kind(
        CHOICE,
        (
            ("KEYCTL_GET_KEYRING_ID", 0),
            ("KEYCTL_JOIN_SESSION_KEYRING", 1),
            ("KEYCTL_UPDATE", 2),
            ("KEYCTL_REVOKE", 3),
            ("KEYCTL_CHOWN", 4),
            ("KEYCTL_SETPERM", 5),
            ("KEYCTL_DESCRIBE", 6),
            ("KEYCTL_CLEAR", 7),
            ("KEYCTL_LINK", 8),
            ("KEYCTL_UNLINK", 9),
            ("KEYCTL_SEARCH", 10),
            ("KEYCTL_READ", 11),
            ("KEYCTL_INSTANTIATE", 12),
            ("KEYCTL_NEGATE", 13),
            ("KEYCTL_SET_REQKEY_KEYRING", 14),
            ("KEYCTL_SET_TIMEOUT", 15),
            ("KEYCTL_ASSUME_AUTHORITY", 16),
            ("KEYCTL_GET_SECURITY", 17),
            ("KEYCTL_SESSION_TO_PARENT", 18),
            ("KEYCTL_REJECT", 19),
            ("KEYCTL_INSTANTIATE_IOV", 20),
            ("KEYCTL_INVALIDATE", 21),
            ("KEYCTL_GET_PERSISTENT", 22),
            ("KEYCTL_DH_COMPUTE", 23),
            ("KEYCTL_PKEY_QUERY", 24),
            ("KEYCTL_PKEY_ENCRYPT", 25),
            ("KEYCTL_PKEY_DECRYPT", 26),
            ("KEYCTL_PKEY_SIGN", 27),
            ("KEYCTL_PKEY_VERIFY", 28),
            ("KEYCTL_RESTRICT_KEYRING", 29),
            ("KEYCTL_MOVE", 30),
            ("KEYCTL_CAPABILITIES", 31),
            ("KEYCTL_WATCH_KEY", 32),
        ),
    ),
    "finit_module": Kind(
        FLAGS,
        (
            ("MODULE_INIT_IGNORE_MODVERSIONS", 1),
            ("MODULE_INIT_IGNORE_VERMAGIC", 2),
            ("MODULE_INIT_COMPRESSED_FILE", 4),
        ),
    ),
    "syslog": Kind(
        CHOICE,
        (
            ("SYSLOG_ACTION_CLOSE", 0),
            ("SYSLOG_ACTION_OPEN", 1),
            ("SYSLOG_ACTION_READ", 2),
            ("SYSLOG_ACTION_READ_ALL", 3),
            ("SYSLOG_ACTION_READ_CLEAR", 4),
            ("SYSLOG_ACTION_CLEAR", 5),
            ("SYSLOG_ACTION_CONSOLE_OFF", 6),
            ("SYSLOG_ACTION_CONSOLE_ON", 7),
            ("SYSLOG_ACTION_CONSOLE_LEVEL", 8),
            ("SYSLOG_ACTION_SIZE_UNREAD", 9),
            ("SYSLOG_ACTION_SIZE_BUFFER", 10),
        ),
    ),
    "reboot": Kind(
        CHOICE,
        (
            ("LINUX_REBOOT_CMD_CAD_OFF", 0),
            ("LINUX_REBOOT_CMD_RESTART", 0x1234567),
            ("LINUX_REBOOT_CMD_POWER_OFF", 0x4321FEDC),
            ("LINUX_REBOOT_CMD_KEXEC", 0x45584543),
            ("LINUX_REBOOT_CMD_CAD_ON", 0x89ABCDEF),
            ("LINUX_REBOOT_CMD_RESTART2", 0xA1B2C3D4),
            ("LINUX_REBOOT_CMD_HALT", 0xCDEF0123),
            ("LINUX_REBOOT_CMD_SW_SUSPEND", 0xD000FCE2),
        ),
    ),
    "kexec": Kind(CUSTOM, (*_KEXEC_MACHINES, *_KEXEC), _kexec),
    "kexec_file": Kind(
        FLAGS,
        (
            ("KEXEC_FILE_UNLOAD", 1),
            ("KEXEC_FILE_ON_CRASH", 2),
            ("KEXEC_FILE_NO_INITRAMFS", 4),
            ("KEXEC_FILE_DEBUG", 8),
            ("KEXEC_FILE_NO_CMA", 0x10),
            ("KEXEC_FILE_FORCE_DTB", 0x20),
        ),
    ),
    "perf_event_open": Kind(
        FLAGS,
        (
            ("PERF_FLAG_FD_NO_GROUP", 1),
            ("PERF_FLAG_FD_OUTPUT", 2),
            ("PERF_FLAG_PID_CGROUP", 4),
            ("PERF_FLAG_FD_CLOEXEC", 8),
        ),
    ),
    "getrandom": Kind(
        FLAGS,
        (
            ("GRND_NONBLOCK", 1),
            ("GRND_RANDOM", 2),
            ("GRND_INSECURE", 4),
        ),
    ),
    "lsm_attr": Kind(
        CHOICE,
        (
            ("LSM_ATTR_UNDEF", 0),
            ("LSM_ATTR_CURRENT", 100),
            ("LSM_ATTR_EXEC", 101),
            ("LSM_ATTR_FSCREATE", 102),
            ("LSM_ATTR_KEYCREATE", 103),
            ("LSM_ATTR_PREV", 104),
            ("LSM_ATTR_SOCKCREATE", 105),
        ),
    ),
    # include/linux/kernel_read_file.h
    "kernel_read_file": Kind(
        CHOICE,
        (
            ("unknown", 0),
            ("firmware", 1),
            ("kernel-module", 2),
            ("kexec-image", 3),
            ("kexec-initramfs", 4),
            ("security-policy", 5),
            ("x509-certificate", 6),
        ),
    ),
    "cap_version": Kind(
        CHOICE,
        (
            ("_LINUX_CAPABILITY_VERSION_1", 0x19980330),
            ("_LINUX_CAPABILITY_VERSION_2", 0x20071026),
            ("_LINUX_CAPABILITY_VERSION_3", 0x20080522),
        ),
    ),
    # include/uapi/linux/capability.h
    "capability": Kind(CHOICE, tuple([(f"CAP_{name}", number) for number, name in enumerate(_CAPABILITIES.split())])),
    "capabilities": Kind(
        FLAGS, tuple([(f"CAP_{name}", 1 << number) for number, name in enumerate(_CAPABILITIES.split())])
    ),
    # Tracee's numbers, and behind 64 enum bpf_link_type, include/uapi/linux/bpf.h
    "bpf_attach": Kind(CHOICE, tuple([(name, number) for number, name in enumerate(_ATTACHED.split()) if name != "-"])),
    # enum bpf_prog_type, include/uapi/linux/bpf.h
    "bpf_prog": Kind(
        CHOICE, tuple([(f"BPF_PROG_TYPE_{name}", number) for number, name in enumerate(_BPF_PROGRAMS.split())])
    ),
    "bpf": Kind(
        CHOICE,
        (
            ("BPF_MAP_CREATE", 0),
            ("BPF_MAP_LOOKUP_ELEM", 1),
            ("BPF_MAP_UPDATE_ELEM", 2),
            ("BPF_MAP_DELETE_ELEM", 3),
            ("BPF_MAP_GET_NEXT_KEY", 4),
            ("BPF_PROG_LOAD", 5),
            ("BPF_OBJ_PIN", 6),
            ("BPF_OBJ_GET", 7),
            ("BPF_PROG_ATTACH", 8),
            ("BPF_PROG_DETACH", 9),
            ("BPF_PROG_TEST_RUN", 10),
            ("BPF_PROG_GET_NEXT_ID", 11),
            ("BPF_MAP_GET_NEXT_ID", 12),
            ("BPF_PROG_GET_FD_BY_ID", 13),
            ("BPF_MAP_GET_FD_BY_ID", 14),
            ("BPF_OBJ_GET_INFO_BY_FD", 15),
            ("BPF_PROG_QUERY", 16),
            ("BPF_RAW_TRACEPOINT_OPEN", 17),
            ("BPF_BTF_LOAD", 18),
            ("BPF_BTF_GET_FD_BY_ID", 19),
            ("BPF_TASK_FD_QUERY", 20),
            ("BPF_MAP_LOOKUP_AND_DELETE_ELEM", 21),
            ("BPF_MAP_FREEZE", 22),
            ("BPF_BTF_GET_NEXT_ID", 23),
            ("BPF_MAP_LOOKUP_BATCH", 24),
            ("BPF_MAP_LOOKUP_AND_DELETE_BATCH", 25),
            ("BPF_MAP_UPDATE_BATCH", 26),
            ("BPF_MAP_DELETE_BATCH", 27),
            ("BPF_LINK_CREATE", 28),
            ("BPF_LINK_UPDATE", 29),
            ("BPF_LINK_GET_FD_BY_ID", 30),
            ("BPF_LINK_GET_NEXT_ID", 31),
            ("BPF_ENABLE_STATS", 32),
            ("BPF_ITER_CREATE", 33),
            ("BPF_LINK_DETACH", 34),
            ("BPF_PROG_BIND_MAP", 35),
            ("BPF_TOKEN_CREATE", 36),
            ("BPF_PROG_STREAM_READ_BY_FD", 37),
            ("BPF_PROG_ASSOC_STRUCT_OPS", 38),
        ),
    ),
    "lsm_flags": Kind(
        FLAGS,
        (("LSM_FLAG_SINGLE", 1),),
    ),
}
