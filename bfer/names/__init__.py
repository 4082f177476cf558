"""Numbers as the names that people know them by: flags, modes, options, by kind of argument.

The tables stand in modules by subject, which are read only when a kind of theirs is met.
Names, their order and the form of what is unknown are strace's.
"""

from __future__ import annotations

from bfer.machine import own_node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Kinds of tables. FLAGS: (name, bits) pairs, names of several bits before their parts; one with no bits names 0.
# CHOICE: names by value. OCTAL: a mode.
FLAGS, CHOICE, OCTAL, HEX, CUSTOM = range(5)

# The module that knows a kind, and the only one to be asked.
_MODULES = {
    "bfer.names.files": (
        "open open_arm open_only open_only_arm mq_flags opened opened_arm mode inode_mode dev resolve whence rwf "
        "fallocate at at_eaccess at_statx at_handle rename memfd close_range access statx xattr sync_file_range "
        "fadvise splice "
        "flock fcntl ioctl fd_flags lease seals"
    ),
    "bfer.names.mounts": (
        "filesystem mount umount open_tree move_mount fsopen fsconfig fsmount mount_attr mount_attrs fspick swap "
        "listmount statmount quota"
    ),
    "bfer.names.waits": (
        "poll epoll epoll_ctl epoll_create inotify inotify_init fanotify_init fanotify_mark fanotify_mask "
        "io_uring_enter io_uring_register"
    ),
    "bfer.names.memory": (
        "mmap mempolicy prot msync mremap madvise mlockall mlock2 membarrier membarrier_flags pkey_access "
        "memfd_secret shadow_stack mbind get_mempolicy userfaultfd mem_prot_alert"
    ),
    "bfer.names.processes": (
        "signal clone clone3 sched sched_policy ioprio personality unshare setns wait idtype prio ioprio_who rlimit "
        "rusage ptrace "
        "prctl arch_prctl kcmp seccomp seccomp_flags pidfd_open pidfd_signal landlock_create landlock_rule "
        "sigmask signalfd eventfd sa_flags sa_handle_method sigstack rlim rseq landlock_restrict "
        "landlock_fs landlock_add sched_getattr "
        "sched_flags"
    ),
    "bfer.names.ethernet": "ethernet",
    "bfer.names.options": (
        "dumpable seccomp_mode securebits tsc mce_kill mm_field cap_ambient speculation speculation_flags tagged "
        "dispatch sched_core mdwe vma ptracer ptrace_options regset reqkey key_perms notify"
    ),
    "bfer.names.ipc": "ipcget shmget futex futex2 shmctl_cmd msgctl_cmd semctl key shmat msgflg",
    "bfer.names.times": "clock timer_abs itimer timerfd_create timerfd_settime",
    "bfer.names.system": (
        "hex keyring keyctl finit_module syslog reboot kexec kexec_file perf_event_open getrandom lsm_attr lsm_flags "
        "bpf bpf_prog bpf_attach capability capabilities cap_version kernel_read_file"
    ),
    "bfer.names.net": (
        "af sock_type msg shutdown sock_flags ipproto sol sockopt ip_option ipv6_option tcp_option udp_option "
        "netlink_option packet_option vsock_option xdp_option netlink"
    ),
}
# Kinds that arm and arm64 have tables of their own for, named so with the suffix ``_arm``.
_ARM_KINDS = ("open", "open_only", "opened")
_ARM = ("aarch64", "arm64", "armv8l")
_NODES_MAX = 256


class Names:
    """The names of one machine's kernel (``machine`` as uname says it)."""

    __slots__ = ("_arm", "_kinds", "_nodes", "machine", "read_node")

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self._arm = machine in _ARM or machine.startswith("arm")
        self._kinds: dict[str, Kind | None] = {}
        self._nodes: dict[bytes, bytes] = {}
        # The programs' map of nodenames, once it is there.
        self.read_node: Callable[[bytes], bytes | None] | None = None

    def node(self, key: bytes) -> bytes:
        """The nodename that records mean by ``key`` (NODE_KEY)."""
        name = self._nodes.get(key)
        if name is None:
            if self.read_node is None:
                return b""
            # Most often it is this process's, and to read a map may cost events (bfer/doorbell.py).
            found = own_node(key) or self.read_node(key)
            if found is None:
                return b""
            if len(self._nodes) >= _NODES_MAX:
                self._nodes.clear()
            name = self._nodes[key] = found.partition(b"\0")[0]
        return name

    def kind(self, name: str) -> Kind | None:
        """What is known of a kind of argument; None when its values have no names."""
        try:
            return self._kinds[name]
        except KeyError:
            if name == "syscall":
                from bfer.names.calls import kind

                found: Kind | None = kind(self.machine)
            else:
                found = _find(f"{name}_arm" if self._arm and name in _ARM_KINDS else name)
            self._kinds[name] = found
            return found

    def add(self, name: str, kind: Kind) -> None:
        """Make a kind known that is in no table."""
        self._kinds[name] = kind

    def text(self, kind: str, value: int) -> str | None:
        """``value``, without its sign, by name; None where the kind has none."""
        known = self.kind(kind)
        return None if known is None else known.text(value)

    def parse(self, kind: str, word: str) -> int | None:
        """The value that ``word`` names, None for a word that names none."""
        known = self.kind(kind)
        return None if known is None else known.parse(word)


class Kind:
    """One kind: ``text`` of a value, ``parse`` of a text; ``read`` parses what is written as a call, from its parts."""

    __slots__ = ("_custom", "_read", "_style", "_table")

    def __init__(
        self,
        style: int,
        table: Sequence[tuple[str, int]] = (),
        custom: Callable[[int], str] | None = None,
        read: Callable[[list[str]], int | None] | None = None,
    ) -> None:
        self._style = style
        self._table = table
        self._custom = custom
        self._read = read

    def text(self, value: int) -> str:
        if self._style == FLAGS:
            return flags(value, self._table)
        if self._style == OCTAL:
            return f"0{value:o}" if value else "0"
        if self._style == HEX:
            return f"{value:#x}"
        if self._custom is not None:
            return self._custom(value)
        for name, number in self._table:
            if value == number or (number < 0 and value in (number + (1 << 32), number + (1 << 64))):
                return name
        return f"{value:#x}" if value > 9 else str(value)

    def words(self) -> list[str]:
        """All names that it knows."""
        return [name for name, _ in self._table]

    def parse(self, word: str) -> int | None:
        """The value of what ``text`` gives, in any order; None for what is none."""
        known = dict(self._table)
        if self._style == CHOICE:
            return known.get(word)
        if self._read is not None and word[-1:] == ")":
            return self._read([part.strip() for part in word[word.find("(") + 1 : -1].split(",")])
        if word[:1] == "-" and word[1:].isdigit():
            return int(word) & 0xFFFFFFFF
        value = 0
        for name in word.split("|"):
            bits = known.get(name)
            if bits is None:
                bits = _bits(name)
            if bits is None:
                return None
            value |= bits
        return value


def joined(parts: list[str], *places: tuple[int, Mapping[str, int]]) -> int | None:
    """A number of which each part stands so many bits up, as a number or by name."""
    value = 0
    if len(parts) != len(places):
        return None
    for part, (shift, known) in zip(parts, places):
        bits = known.get(part)
        if bits is None:
            bits = _bits(part)
        if bits is None:
            return None
        value |= bits << shift
    return value


def _bits(word: str) -> int | None:
    """What has no name: hex, a mode with its 0, a decimal number, one of these moved up (``21<<MAP_HUGE_SHIFT``)."""
    word, shifted, by = word.partition("<<")
    if shifted:
        number = _bits(word)
        return number << HUGE_SHIFT if number is not None and by in HUGE else None
    base = 16 if word[:2] == "0x" else 8 if word[:1] == "0" else 10
    if not word.isascii() or not word.isalnum():
        return None
    try:
        return int(word, base)
    except ValueError:
        return None


# include/uapi/asm-generic/hugetlb_encode.h: the size of pages, as a power of two, above other flags.
HUGE_SHIFT = 26
HUGE = ("MAP_HUGE_SHIFT", "MFD_HUGE_SHIFT", "SHM_HUGE_SHIFT")


def hexadecimal(value: int) -> str:
    """As strace writes it: 0 has no prefix."""
    return f"{value:#x}" if value else "0"


def with_size(value: int, table: Sequence[tuple[str, int]], shift: str) -> str:
    """Flags with the size of huge pages above them."""
    size = value >> HUGE_SHIFT & 0x3F
    rest = value & ~(0x3F << HUGE_SHIFT)
    if not size:
        return flags(rest, table)
    return f"{flags(rest, table)}|{size}<<{shift}" if rest else f"{size}<<{shift}"


def flags(value: int, table: Sequence[tuple[str, int]]) -> str:
    """``A|B``; unknown bits in hex, never empty."""
    names = []
    rest = value
    for name, bits in table:
        if bits and rest & bits == bits:
            names.append(name)
            rest &= ~bits
        elif not bits and not value:
            names.append(name)
    if rest:
        names.append(f"{rest:#x}")
    return "|".join(names) or "0"


def _find(name: str) -> Kind | None:
    for module, kinds in _MODULES.items():
        if name in kinds.split():
            return __import__(module, fromlist=["KINDS"]).KINDS[name]  # type: ignore[no-any-return]
    return None
