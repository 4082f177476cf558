"""Processes, signals and what limits them."""

from __future__ import annotations

from bfer.names import CHOICE, CUSTOM, FLAGS, Kind, flags, hexadecimal, joined

# include/uapi/asm-generic/signal.h; from 32 on they are real-time signals.
_SIGNALS = (
    *(
        "HUP",
        "INT",
        "QUIT",
        "ILL",
        "TRAP",
        "ABRT",
        "BUS",
        "FPE",
        "KILL",
        "USR1",
        "SEGV",
        "USR2",
        "PIPE",
        "ALRM",
        "TERM",
    ),
    *("STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO"),
    *("PWR", "SYS"),
)
_SIGNAL = (
    *[(f"SIG{name}", number) for number, name in enumerate(_SIGNALS, 1)],
    ("SIGRTMIN", 32),
    *[(f"SIGRT_{number - 32}", number) for number in range(33, 65)],
)

# include/uapi/linux/sched.h
_CLONE = (
    ("CLONE_NEWTIME", 0x80),
    ("CLONE_VM", 0x100),
    ("CLONE_FS", 0x200),
    ("CLONE_FILES", 0x400),
    ("CLONE_SIGHAND", 0x800),
    ("CLONE_PIDFD", 0x1000),
    ("CLONE_PTRACE", 0x2000),
    ("CLONE_VFORK", 0x4000),
    ("CLONE_PARENT", 0x8000),
    ("CLONE_THREAD", 0x10000),
    ("CLONE_NEWNS", 0x20000),
    ("CLONE_SYSVSEM", 0x40000),
    ("CLONE_SETTLS", 0x80000),
    ("CLONE_PARENT_SETTID", 0x100000),
    ("CLONE_CHILD_CLEARTID", 0x200000),
    ("CLONE_DETACHED", 0x400000),
    ("CLONE_UNTRACED", 0x800000),
    ("CLONE_CHILD_SETTID", 0x1000000),
    ("CLONE_NEWCGROUP", 0x2000000),
    ("CLONE_NEWUTS", 0x4000000),
    ("CLONE_NEWIPC", 0x8000000),
    ("CLONE_NEWUSER", 0x10000000),
    ("CLONE_NEWPID", 0x20000000),
    ("CLONE_NEWNET", 0x40000000),
    ("CLONE_IO", 0x80000000),
    ("CLONE_CLEAR_SIGHAND", 0x100000000),
    ("CLONE_INTO_CGROUP", 0x200000000),
    ("CLONE_AUTOREAP", 0x400000000),
    ("CLONE_NNP", 0x800000000),
    ("CLONE_PIDFD_AUTOKILL", 0x1000000000),
    ("CLONE_EMPTY_MNTNS", 0x2000000000),
)

# include/uapi/linux/personality.h: what is below the flags
_SYSTEMS = (
    ("PER_LINUX", 0),
    ("PER_BSD", 6),
    ("PER_LINUX32", 8),
    ("PER_RISCOS", 12),
    ("PER_OSF4", 15),
    ("PER_HPUX", 16),
    ("PER_MASK", 255),
)
_POLICIES = ("OTHER", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE", "EXT")
_PERSONALITY = (
    ("UNAME26", 0x20000),
    ("ADDR_NO_RANDOMIZE", 0x40000),
    ("FDPIC_FUNCPTRS", 0x80000),
    ("MMAP_PAGE_ZERO", 0x100000),
    ("ADDR_COMPAT_LAYOUT", 0x200000),
    ("READ_IMPLIES_EXEC", 0x400000),
    ("ADDR_LIMIT_32BIT", 0x800000),
    ("SHORT_INODE", 0x1000000),
    ("WHOLE_SECONDS", 0x2000000),
    ("STICKY_TIMEOUTS", 0x4000000),
    ("ADDR_LIMIT_3GB", 0x8000000),
)


def _signal(value: int) -> str:
    if 0 < value <= len(_SIGNALS):
        return f"SIG{_SIGNALS[value - 1]}"
    if value == 32:
        return "SIGRTMIN"
    if 32 < value <= 64:
        return f"SIGRT_{value - 32}"
    return str(value - (1 << 32) if value >> 31 == 1 else value)


def _clone(value: int) -> str:
    """The lowest byte is the signal at the child's end."""
    names = [flags(value & ~0xFF, _CLONE)] if value & ~0xFF else []
    if value & 0xFF:
        names.append(_signal(value & 0xFF))
    return "|".join(names) or "0"


_SCHED = (
    *[(f"SCHED_{name}", number) for number, name in enumerate(_POLICIES)],
    ("SCHED_RESET_ON_FORK", 0x40000000),
)


def _policy(value: int) -> str:
    policy = value & ~0x40000000
    name = f"SCHED_{_POLICIES[policy]}" if policy < len(_POLICIES) else f"{policy:#x}"
    return f"{name}|SCHED_RESET_ON_FORK" if value & 0x40000000 else name


def _personality(value: int) -> str:
    """The lowest byte is a system, the others are flags; 0xffffffff asks only."""
    if value == 0xFFFFFFFF:
        return f"{value:#x}"
    system = value & 0xFF
    name = next((name for name, known in _SYSTEMS if known == system), f"{system:#x}")
    return f"{name}|{flags(value & ~0xFF, _PERSONALITY)}" if value & ~0xFF else name


# include/uapi/linux/ioprio.h
_IO_CLASSES = ("NONE", "RT", "BE", "IDLE")


def _ioprio(value: int) -> str:
    """A class, above a level."""
    kind = value >> 13
    name = f"IOPRIO_CLASS_{_IO_CLASSES[kind]}" if kind < len(_IO_CLASSES) else hexadecimal(kind)
    return f"IOPRIO_PRIO_VALUE({name}, {value & 0x1FFF})"


def _limit(value: int) -> str:
    return "RLIM64_INFINITY" if value == (1 << 64) - 1 else str(value)


# include/uapi/linux/landlock.h, in the order of their bits
_LANDLOCK_FS = (
    *("EXECUTE", "WRITE_FILE", "READ_FILE", "READ_DIR", "REMOVE_DIR", "REMOVE_FILE", "MAKE_CHAR", "MAKE_DIR"),
    *("MAKE_REG", "MAKE_SOCK", "MAKE_FIFO", "MAKE_BLOCK", "MAKE_SYM", "REFER", "TRUNCATE", "IOCTL_DEV", "RESOLVE_UNIX"),
)

KINDS = {
    "landlock_fs": Kind(
        FLAGS, tuple([(f"LANDLOCK_ACCESS_FS_{name}", 1 << bit) for bit, name in enumerate(_LANDLOCK_FS)])
    ),
    "landlock_add": Kind(FLAGS, (("LANDLOCK_ADD_RULE_QUIET", 1),)),
    "sched_getattr": Kind(FLAGS, (("SCHED_GETATTR_FLAG_DL_DYNAMIC", 1),)),
    "sched_flags": Kind(
        FLAGS,
        (
            ("SCHED_FLAG_RESET_ON_FORK", 1),
            ("SCHED_FLAG_RECLAIM", 2),
            ("SCHED_FLAG_DL_OVERRUN", 4),
            ("SCHED_FLAG_KEEP_POLICY", 8),
            ("SCHED_FLAG_KEEP_PARAMS", 0x10),
            ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
            ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
        ),
    ),
    "signal": Kind(CUSTOM, _SIGNAL, _signal),
    "clone": Kind(CUSTOM, _CLONE + _SIGNAL, _clone),
    "clone3": Kind(FLAGS, _CLONE),
    "sched": Kind(CUSTOM, _SCHED, _policy),
    "sched_policy": Kind(CHOICE, _SCHED[:-1]),
    "ioprio": Kind(
        CUSTOM,
        (),
        _ioprio,
        lambda parts: joined(
            parts, (13, {f"IOPRIO_CLASS_{name}": number for number, name in enumerate(_IO_CLASSES)}), (0, {})
        ),
    ),
    "personality": Kind(CUSTOM, (*_SYSTEMS, *_PERSONALITY), _personality),
    "unshare": Kind(
        FLAGS,
        (
            ("CLONE_NEWTIME", 0x80),
            ("CLONE_VM", 0x100),
            ("CLONE_FS", 0x200),
            ("CLONE_FILES", 0x400),
            ("CLONE_SIGHAND", 0x800),
            ("CLONE_THREAD", 0x10000),
            ("CLONE_NEWNS", 0x20000),
            ("CLONE_SYSVSEM", 0x40000),
            ("CLONE_NEWCGROUP", 0x2000000),
            ("CLONE_NEWUTS", 0x4000000),
            ("CLONE_NEWIPC", 0x8000000),
            ("CLONE_NEWUSER", 0x10000000),
            ("CLONE_NEWPID", 0x20000000),
            ("CLONE_NEWNET", 0x40000000),
        ),
    ),
    "setns": Kind(
        FLAGS,
        (
            ("CLONE_NEWTIME", 0x80),
            ("CLONE_NEWNS", 0x20000),
            ("CLONE_NEWCGROUP", 0x2000000),
            ("CLONE_NEWUTS", 0x4000000),
            ("CLONE_NEWIPC", 0x8000000),
            ("CLONE_NEWUSER", 0x10000000),
            ("CLONE_NEWPID", 0x20000000),
            ("CLONE_NEWNET", 0x40000000),
        ),
    ),
    "wait": Kind(
        FLAGS,
        (
            ("WNOHANG", 1),
            ("WSTOPPED", 2),
            ("WEXITED", 4),
            ("WCONTINUED", 8),
            ("WNOWAIT", 0x1000000),
            ("__WNOTHREAD", 0x20000000),
            ("__WALL", 0x40000000),
            ("__WCLONE", 0x80000000),
        ),
    ),
    "idtype": Kind(
        CHOICE,
        (
            ("P_ALL", 0),
            ("P_PID", 1),
            ("P_PGID", 2),
            ("P_PIDFD", 3),
        ),
    ),
    "prio": Kind(
        CHOICE,
        (
            ("PRIO_PROCESS", 0),
            ("PRIO_PGRP", 1),
            ("PRIO_USER", 2),
        ),
    ),
    "ioprio_who": Kind(
        CHOICE,
        (
            ("IOPRIO_WHO_PROCESS", 1),
            ("IOPRIO_WHO_PGRP", 2),
            ("IOPRIO_WHO_USER", 3),
        ),
    ),
    "rlimit": Kind(
        CHOICE,
        (
            ("RLIMIT_CPU", 0),
            ("RLIMIT_FSIZE", 1),
            ("RLIMIT_DATA", 2),
            ("RLIMIT_STACK", 3),
            ("RLIMIT_CORE", 4),
            ("RLIMIT_RSS", 5),
            ("RLIMIT_NPROC", 6),
            ("RLIMIT_NOFILE", 7),
            ("RLIMIT_MEMLOCK", 8),
            ("RLIMIT_AS", 9),
            ("RLIMIT_LOCKS", 10),
            ("RLIMIT_SIGPENDING", 11),
            ("RLIMIT_MSGQUEUE", 12),
            ("RLIMIT_NICE", 13),
            ("RLIMIT_RTPRIO", 14),
            ("RLIMIT_RTTIME", 15),
        ),
    ),
    "rusage": Kind(
        CHOICE,
        (
            ("RUSAGE_SELF", 0),
            ("RUSAGE_CHILDREN", -1),
            ("RUSAGE_BOTH", -2),
            ("RUSAGE_THREAD", 1),
        ),
    ),
    "ptrace": Kind(
        CHOICE,
        (
            ("PTRACE_TRACEME", 0),
            ("PTRACE_PEEKTEXT", 1),
            ("PTRACE_PEEKDATA", 2),
            ("PTRACE_PEEKUSR", 3),
            ("PTRACE_POKETEXT", 4),
            ("PTRACE_POKEDATA", 5),
            ("PTRACE_POKEUSR", 6),
            ("PTRACE_CONT", 7),
            ("PTRACE_KILL", 8),
            ("PTRACE_SINGLESTEP", 9),
            ("PTRACE_GETREGS", 12),
            ("PTRACE_SETREGS", 13),
            ("PTRACE_GETFPREGS", 14),
            ("PTRACE_SETFPREGS", 15),
            ("PTRACE_ATTACH", 16),
            ("PTRACE_DETACH", 17),
            ("PTRACE_GETFPXREGS", 18),
            ("PTRACE_SETFPXREGS", 19),
            ("PTRACE_OLDSETOPTIONS", 21),
            ("PTRACE_SYSCALL", 24),
            ("PTRACE_GET_THREAD_AREA", 25),
            ("PTRACE_SET_THREAD_AREA", 26),
            ("PTRACE_ARCH_PRCTL", 30),
            ("PTRACE_SYSEMU", 31),
            ("PTRACE_SYSEMU_SINGLESTEP", 32),
            ("PTRACE_SINGLEBLOCK", 33),
            ("PTRACE_SETOPTIONS", 0x4200),
            ("PTRACE_GETEVENTMSG", 0x4201),
            ("PTRACE_GETSIGINFO", 0x4202),
            ("PTRACE_SETSIGINFO", 0x4203),
            ("PTRACE_GETREGSET", 0x4204),
            ("PTRACE_SETREGSET", 0x4205),
            ("PTRACE_SEIZE", 0x4206),
            ("PTRACE_INTERRUPT", 0x4207),
            ("PTRACE_LISTEN", 0x4208),
            ("PTRACE_PEEKSIGINFO", 0x4209),
            ("PTRACE_GETSIGMASK", 0x420A),
            ("PTRACE_SETSIGMASK", 0x420B),
            ("PTRACE_SECCOMP_GET_FILTER", 0x420C),
            ("PTRACE_SECCOMP_GET_METADATA", 0x420D),
            ("PTRACE_GET_SYSCALL_INFO", 0x420E),
            ("PTRACE_GET_RSEQ_CONFIGURATION", 0x420F),
            ("PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG", 0x4210),
            ("PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG", 0x4211),
            ("PTRACE_SET_SYSCALL_INFO", 0x4212),
        ),
    ),
    "prctl": Kind(
        CHOICE,
        (
            ("PR_SET_PDEATHSIG", 1),
            ("PR_GET_PDEATHSIG", 2),
            ("PR_GET_DUMPABLE", 3),
            ("PR_SET_DUMPABLE", 4),
            ("PR_GET_UNALIGN", 5),
            ("PR_SET_UNALIGN", 6),
            ("PR_GET_KEEPCAPS", 7),
            ("PR_SET_KEEPCAPS", 8),
            ("PR_GET_FPEMU", 9),
            ("PR_SET_FPEMU", 10),
            ("PR_GET_FPEXC", 11),
            ("PR_SET_FPEXC", 12),
            ("PR_GET_TIMING", 13),
            ("PR_SET_TIMING", 14),
            ("PR_SET_NAME", 15),
            ("PR_GET_NAME", 16),
            ("PR_GET_ENDIAN", 19),
            ("PR_SET_ENDIAN", 20),
            ("PR_GET_SECCOMP", 21),
            ("PR_SET_SECCOMP", 22),
            ("PR_CAPBSET_READ", 23),
            ("PR_CAPBSET_DROP", 24),
            ("PR_GET_TSC", 25),
            ("PR_SET_TSC", 26),
            ("PR_GET_SECUREBITS", 27),
            ("PR_SET_SECUREBITS", 28),
            ("PR_SET_TIMERSLACK", 29),
            ("PR_GET_TIMERSLACK", 30),
            ("PR_TASK_PERF_EVENTS_DISABLE", 31),
            ("PR_TASK_PERF_EVENTS_ENABLE", 32),
            ("PR_MCE_KILL", 33),
            ("PR_MCE_KILL_GET", 34),
            ("PR_SET_MM", 35),
            ("PR_SET_CHILD_SUBREAPER", 36),
            ("PR_GET_CHILD_SUBREAPER", 37),
            ("PR_SET_NO_NEW_PRIVS", 38),
            ("PR_GET_NO_NEW_PRIVS", 39),
            ("PR_GET_TID_ADDRESS", 40),
            ("PR_SET_THP_DISABLE", 41),
            ("PR_GET_THP_DISABLE", 42),
            ("PR_MPX_ENABLE_MANAGEMENT", 43),
            ("PR_MPX_DISABLE_MANAGEMENT", 44),
            ("PR_SET_FP_MODE", 45),
            ("PR_GET_FP_MODE", 46),
            ("PR_CAP_AMBIENT", 47),
            ("PR_SVE_SET_VL", 50),
            ("PR_SVE_GET_VL", 51),
            ("PR_GET_SPECULATION_CTRL", 52),
            ("PR_SET_SPECULATION_CTRL", 53),
            ("PR_PAC_RESET_KEYS", 54),
            ("PR_SET_TAGGED_ADDR_CTRL", 55),
            ("PR_GET_TAGGED_ADDR_CTRL", 56),
            ("PR_SET_IO_FLUSHER", 57),
            ("PR_GET_IO_FLUSHER", 58),
            ("PR_SET_SYSCALL_USER_DISPATCH", 59),
            ("PR_PAC_SET_ENABLED_KEYS", 60),
            ("PR_PAC_GET_ENABLED_KEYS", 61),
            ("PR_SCHED_CORE", 62),
            ("PR_SME_SET_VL", 63),
            ("PR_SME_GET_VL", 64),
            ("PR_SET_MDWE", 65),
            ("PR_GET_MDWE", 66),
            ("PR_SET_MEMORY_MERGE", 67),
            ("PR_GET_MEMORY_MERGE", 68),
            ("PR_RISCV_V_SET_CONTROL", 69),
            ("PR_RISCV_V_GET_CONTROL", 70),
            ("PR_RISCV_SET_ICACHE_FLUSH_CTX", 71),
            ("PR_PPC_GET_DEXCR", 72),
            ("PR_PPC_SET_DEXCR", 73),
            ("PR_GET_SHADOW_STACK_STATUS", 74),
            ("PR_SET_SHADOW_STACK_STATUS", 75),
            ("PR_LOCK_SHADOW_STACK_STATUS", 76),
            ("PR_TIMER_CREATE_RESTORE_IDS", 77),
            ("PR_FUTEX_HASH", 78),
            ("PR_RSEQ_SLICE_EXTENSION", 79),
            ("PR_SET_VMA", 0x53564D41),
            ("PR_SET_PTRACER", 0x59616D61),
        ),
    ),
    "arch_prctl": Kind(
        CHOICE,
        (
            ("ARCH_SET_GS", 4097),
            ("ARCH_SET_FS", 4098),
            ("ARCH_GET_FS", 4099),
            ("ARCH_GET_GS", 4100),
            ("ARCH_GET_CPUID", 4113),
            ("ARCH_SET_CPUID", 4114),
            ("ARCH_GET_XCOMP_SUPP", 4129),
            ("ARCH_GET_XCOMP_PERM", 4130),
            ("ARCH_REQ_XCOMP_PERM", 4131),
            ("ARCH_GET_XCOMP_GUEST_PERM", 4132),
            ("ARCH_REQ_XCOMP_GUEST_PERM", 4133),
            ("ARCH_MAP_VDSO_X32", 8193),
            ("ARCH_MAP_VDSO_32", 8194),
            ("ARCH_MAP_VDSO_64", 8195),
            ("ARCH_SHSTK_ENABLE", 0x5001),
            ("ARCH_SHSTK_DISABLE", 0x5002),
            ("ARCH_SHSTK_LOCK", 0x5003),
            ("ARCH_SHSTK_UNLOCK", 0x5004),
            ("ARCH_SHSTK_STATUS", 0x5005),
        ),
    ),
    "kcmp": Kind(
        CHOICE,
        (
            ("KCMP_FILE", 0),
            ("KCMP_VM", 1),
            ("KCMP_FILES", 2),
            ("KCMP_FS", 3),
            ("KCMP_SIGHAND", 4),
            ("KCMP_IO", 5),
            ("KCMP_SYSVSEM", 6),
            ("KCMP_EPOLL_TFD", 7),
        ),
    ),
    "seccomp": Kind(
        CHOICE,
        (
            ("SECCOMP_SET_MODE_STRICT", 0),
            ("SECCOMP_SET_MODE_FILTER", 1),
            ("SECCOMP_GET_ACTION_AVAIL", 2),
            ("SECCOMP_GET_NOTIF_SIZES", 3),
        ),
    ),
    "seccomp_flags": Kind(
        FLAGS,
        (
            ("SECCOMP_FILTER_FLAG_TSYNC", 1),
            ("SECCOMP_FILTER_FLAG_LOG", 2),
            ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4),
            ("SECCOMP_FILTER_FLAG_NEW_LISTENER", 8),
            ("SECCOMP_FILTER_FLAG_TSYNC_ESRCH", 0x10),
            ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 0x20),
        ),
    ),
    "pidfd_open": Kind(
        FLAGS,
        (
            ("PIDFD_NONBLOCK", 0x800),
            ("PIDFD_THREAD", 0x80),
            ("PIDFD_AUTOKILL", 0x200),
        ),
    ),
    "pidfd_signal": Kind(
        FLAGS,
        (
            ("PIDFD_SIGNAL_THREAD", 1),
            ("PIDFD_SIGNAL_THREAD_GROUP", 2),
            ("PIDFD_SIGNAL_PROCESS_GROUP", 4),
        ),
    ),
    "landlock_create": Kind(
        FLAGS,
        (
            ("LANDLOCK_CREATE_RULESET_VERSION", 1),
            ("LANDLOCK_CREATE_RULESET_ERRATA", 2),
        ),
    ),
    "landlock_rule": Kind(
        CHOICE,
        (
            ("LANDLOCK_RULE_PATH_BENEATH", 1),
            ("LANDLOCK_RULE_NET_PORT", 2),
        ),
    ),
    # Tracee's
    "sa_handle_method": Kind(CHOICE, (("SIG_DFL", 0), ("SIG_IGN", 1), ("SIG_HND", 2))),
    "sigmask": Kind(
        CHOICE,
        (
            ("SIG_BLOCK", 0),
            ("SIG_UNBLOCK", 1),
            ("SIG_SETMASK", 2),
        ),
    ),
    "signalfd": Kind(
        FLAGS,
        (
            ("SFD_NONBLOCK", 0x800),
            ("SFD_CLOEXEC", 0x80000),
        ),
    ),
    "sa_flags": Kind(
        FLAGS,
        (
            ("SA_RESTORER", 0x04000000),
            ("SA_ONSTACK", 0x08000000),
            ("SA_RESTART", 0x10000000),
            ("SA_INTERRUPT", 0x20000000),
            ("SA_NODEFER", 0x40000000),
            ("SA_RESETHAND", 0x80000000),
            ("SA_NOCLDSTOP", 0x1),
            ("SA_NOCLDWAIT", 0x2),
            ("SA_SIGINFO", 0x4),
            ("SA_UNSUPPORTED", 0x400),
            ("SA_EXPOSE_TAGBITS", 0x800),
        ),
    ),
    "sigstack": Kind(
        FLAGS,
        (
            ("SS_AUTODISARM", 1 << 31),
            ("SS_ONSTACK", 1),
            ("SS_DISABLE", 2),
        ),
    ),
    "rlim": Kind(CUSTOM, (("RLIM64_INFINITY", (1 << 64) - 1),), _limit),
    "eventfd": Kind(
        FLAGS,
        (
            ("EFD_SEMAPHORE", 1),
            ("EFD_NONBLOCK", 0x800),
            ("EFD_CLOEXEC", 0x80000),
        ),
    ),
    "rseq": Kind(
        FLAGS,
        (
            ("RSEQ_FLAG_UNREGISTER", 1),
            ("RSEQ_FLAG_SLICE_EXT_DEFAULT_ON", 2),
        ),
    ),
    "landlock_restrict": Kind(
        FLAGS,
        (
            ("LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF", 1),
            ("LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON", 2),
            ("LANDLOCK_RESTRICT_SELF_LOG_SUBDOMAINS_OFF", 4),
            ("LANDLOCK_RESTRICT_SELF_TSYNC", 8),
        ),
    ),
}
