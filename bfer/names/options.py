"""What the further arguments of prctl, ptrace and keyctl mean, which depends on the first one (bfer.values)."""

from __future__ import annotations

from bfer.names import CHOICE, FLAGS, Kind

KINDS = {
    # include/linux/sched/coredump.h
    "dumpable": Kind(CHOICE, (("SUID_DUMP_DISABLE", 0), ("SUID_DUMP_USER", 1), ("SUID_DUMP_ROOT", 2))),
    "seccomp_mode": Kind(
        CHOICE,
        (("SECCOMP_MODE_DISABLED", 0), ("SECCOMP_MODE_STRICT", 1), ("SECCOMP_MODE_FILTER", 2)),
    ),
    "securebits": Kind(
        FLAGS,
        (
            ("SECBIT_NOROOT", 1),
            ("SECBIT_NOROOT_LOCKED", 2),
            ("SECBIT_NO_SETUID_FIXUP", 4),
            ("SECBIT_NO_SETUID_FIXUP_LOCKED", 8),
            ("SECBIT_KEEP_CAPS", 0x10),
            ("SECBIT_KEEP_CAPS_LOCKED", 0x20),
            ("SECBIT_NO_CAP_AMBIENT_RAISE", 0x40),
            ("SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED", 0x80),
            ("SECBIT_EXEC_RESTRICT_FILE", 0x100),
            ("SECBIT_EXEC_RESTRICT_FILE_LOCKED", 0x200),
            ("SECBIT_EXEC_DENY_INTERACTIVE", 0x400),
            ("SECBIT_EXEC_DENY_INTERACTIVE_LOCKED", 0x800),
        ),
    ),
    "tsc": Kind(CHOICE, (("PR_TSC_ENABLE", 1), ("PR_TSC_SIGSEGV", 2))),
    "mce_kill": Kind(CHOICE, (("PR_MCE_KILL_CLEAR", 0), ("PR_MCE_KILL_SET", 1))),
    "mm_field": Kind(
        CHOICE,
        (
            ("PR_SET_MM_START_CODE", 1),
            ("PR_SET_MM_END_CODE", 2),
            ("PR_SET_MM_START_DATA", 3),
            ("PR_SET_MM_END_DATA", 4),
            ("PR_SET_MM_START_STACK", 5),
            ("PR_SET_MM_START_BRK", 6),
            ("PR_SET_MM_BRK", 7),
            ("PR_SET_MM_ARG_START", 8),
            ("PR_SET_MM_ARG_END", 9),
            ("PR_SET_MM_ENV_START", 10),
            ("PR_SET_MM_ENV_END", 11),
            ("PR_SET_MM_AUXV", 12),
            ("PR_SET_MM_EXE_FILE", 13),
            ("PR_SET_MM_MAP", 14),
            ("PR_SET_MM_MAP_SIZE", 15),
        ),
    ),
    "cap_ambient": Kind(
        CHOICE,
        (
            ("PR_CAP_AMBIENT_IS_SET", 1),
            ("PR_CAP_AMBIENT_RAISE", 2),
            ("PR_CAP_AMBIENT_LOWER", 3),
            ("PR_CAP_AMBIENT_CLEAR_ALL", 4),
        ),
    ),
    "speculation": Kind(
        CHOICE,
        (("PR_SPEC_STORE_BYPASS", 0), ("PR_SPEC_INDIRECT_BRANCH", 1), ("PR_SPEC_L1D_FLUSH", 2)),
    ),
    "speculation_flags": Kind(
        FLAGS,
        (
            ("PR_SPEC_PRCTL", 1),
            ("PR_SPEC_ENABLE", 2),
            ("PR_SPEC_DISABLE", 4),
            ("PR_SPEC_FORCE_DISABLE", 8),
            ("PR_SPEC_DISABLE_NOEXEC", 0x10),
        ),
    ),
    "tagged": Kind(
        FLAGS,
        (
            ("PR_TAGGED_ADDR_ENABLE", 1),
            ("PR_MTE_TCF_SYNC", 2),
            ("PR_MTE_TCF_ASYNC", 4),
        ),
    ),
    "dispatch": Kind(CHOICE, (("PR_SYS_DISPATCH_OFF", 0), ("PR_SYS_DISPATCH_ON", 1))),
    "sched_core": Kind(
        CHOICE,
        (
            ("PR_SCHED_CORE_GET", 0),
            ("PR_SCHED_CORE_CREATE", 1),
            ("PR_SCHED_CORE_SHARE_TO", 2),
            ("PR_SCHED_CORE_SHARE_FROM", 3),
        ),
    ),
    "mdwe": Kind(FLAGS, (("PR_MDWE_REFUSE_EXEC_GAIN", 1), ("PR_MDWE_NO_INHERIT", 2))),
    "vma": Kind(CHOICE, (("PR_SET_VMA_ANON_NAME", 0),)),
    "ptracer": Kind(CHOICE, (("PR_SET_PTRACER_ANY", -1),)),
    "ptrace_options": Kind(
        FLAGS,
        (
            ("PTRACE_O_TRACESYSGOOD", 1),
            ("PTRACE_O_TRACEFORK", 2),
            ("PTRACE_O_TRACEVFORK", 4),
            ("PTRACE_O_TRACECLONE", 8),
            ("PTRACE_O_TRACEEXEC", 0x10),
            ("PTRACE_O_TRACEVFORKDONE", 0x20),
            ("PTRACE_O_TRACEEXIT", 0x40),
            ("PTRACE_O_TRACESECCOMP", 0x80),
            ("PTRACE_O_EXITKILL", 0x100000),
            ("PTRACE_O_SUSPEND_SECCOMP", 0x200000),
        ),
    ),
    # include/uapi/linux/elf.h
    "regset": Kind(
        CHOICE,
        (
            ("NT_PRSTATUS", 1),
            ("NT_FPREGSET", 2),
            ("NT_386_TLS", 0x200),
            ("NT_386_IOPERM", 0x201),
            ("NT_X86_XSTATE", 0x202),
            ("NT_ARM_VFP", 0x400),
            ("NT_ARM_TLS", 0x401),
            ("NT_ARM_HW_BREAK", 0x402),
            ("NT_ARM_HW_WATCH", 0x403),
            ("NT_ARM_SYSTEM_CALL", 0x404),
            ("NT_ARM_SVE", 0x405),
            ("NT_ARM_PAC_MASK", 0x406),
            ("NT_ARM_TAGGED_ADDR_CTRL", 0x409),
        ),
    ),
    "reqkey": Kind(
        CHOICE,
        (
            ("KEY_REQKEY_DEFL_NO_CHANGE", -1),
            ("KEY_REQKEY_DEFL_DEFAULT", 0),
            ("KEY_REQKEY_DEFL_THREAD_KEYRING", 1),
            ("KEY_REQKEY_DEFL_PROCESS_KEYRING", 2),
            ("KEY_REQKEY_DEFL_SESSION_KEYRING", 3),
            ("KEY_REQKEY_DEFL_USER_KEYRING", 4),
            ("KEY_REQKEY_DEFL_USER_SESSION_KEYRING", 5),
            ("KEY_REQKEY_DEFL_GROUP_KEYRING", 6),
            ("KEY_REQKEY_DEFL_REQUESTOR_KEYRING", 7),
        ),
    ),
    # include/linux/key.h
    "key_perms": Kind(
        FLAGS,
        tuple(
            [
                (f"KEY_{who}_{what}", 1 << bit << shift)
                for who, shift in (("POS", 24), ("USR", 16), ("GRP", 8), ("OTH", 0))
                for bit, what in enumerate(("VIEW", "READ", "WRITE", "SEARCH", "LINK", "SETATTR"))
            ]
        ),
    ),
    # include/uapi/linux/fcntl.h
    "notify": Kind(
        FLAGS,
        (
            ("DN_ACCESS", 1),
            ("DN_MODIFY", 2),
            ("DN_CREATE", 4),
            ("DN_DELETE", 8),
            ("DN_RENAME", 0x10),
            ("DN_ATTRIB", 0x20),
            ("DN_MULTISHOT", 0x80000000),
        ),
    ),
}
