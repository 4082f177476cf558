"""Loaded programs: the load itself with its second attempt for a log, test runs and statistics."""

from __future__ import annotations

from errno import E2BIG, EINVAL, ENOSPC
from struct import unpack_from

from pybpf import abi, kernel
from pybpf.errors import LoadError, VerifierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pybpf.sections import Section

_LOG_START = 64 * 1024
_PROG_INFO_SIZE = 232


def _log_limit() -> int:
    """Largest log buffer: what the kernel takes, but no more than a quarter of the memory that is free."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return max(_LOG_START, min(abi.LOG_SIZE_MAX, int(line.split()[1]) * 1024 // 4))
    except (OSError, ValueError, IndexError):
        pass
    return 16 * 1024 * 1024


def _text(log: bytearray) -> str:
    end = log.find(0)
    return log[: end if end >= 0 else len(log)].decode(errors="replace")


class Request:
    """What BPF_PROG_LOAD is asked; see ``kernel.prog_load`` for the fields."""

    __slots__ = (
        *("attach_btf_id", "attach_prog_fd", "btf_fd", "core_relos", "fd_array", "func_info"),
        *("insns", "license", "line_info", "name", "section"),
    )

    def __init__(self, name: str, section: Section, insns: bytes | bytearray, license: str = "GPL") -> None:
        self.name = name
        self.section = section
        self.insns = insns
        self.license = license
        self.attach_btf_id = 0
        self.attach_prog_fd = 0
        self.btf_fd = 0
        self.fd_array = b""
        self.core_relos = b""
        self.func_info = b""
        self.line_info = b""

    def attempt(self, log_level: int = 0, log: bytearray | None = None, log_sizes: list[int] | None = None) -> int:
        """One load: a descriptor or ``-errno``."""
        section = self.section
        return kernel.prog_load(
            section.type,
            self.insns,
            self.license,
            name=self.name,
            flags=section.flags,
            expected_attach_type=section.attach_type,
            attach_btf_id=self.attach_btf_id,
            attach_prog_fd=self.attach_prog_fd,
            btf_fd=self.btf_fd,
            func_info=self.func_info,
            line_info=self.line_info,
            fd_array=self.fd_array,
            core_relos=self.core_relos,
            log_level=log_level,
            log=log,
            log_sizes=log_sizes,
        )

    def attempt_with_log(self, log_level: int, tail: bool = False) -> tuple[int, str]:
        """Load with a log, as long as it may need: ``(descriptor or -errno, log)``.

        With ``tail`` its end is enough: a million steps take the verifier seconds each
        time, and what they say takes more memory than a device has.
        """
        size = _LOG_START
        limit = _log_limit()
        while True:
            log = bytearray(size)
            sizes: list[int] = []
            result = self.attempt(log_level, log, sizes)
            if result != -ENOSPC or size >= limit:
                break
            if tail:
                if not sizes[0]:
                    break  # before 6.4 it is the beginning that fits
                return -E2BIG, _text(log).partition("\n")[2]
            # Since 6.4 the kernel says how much it would have written; before, each try costs a verification.
            size = min(max(size * 2, sizes[0] + 1), limit)
        if result == -ENOSPC and log_level & (abi.LOG_LEVEL1 | abi.LOG_LEVEL2):
            # No room for the trace: statistics alone still come with the verifier's last words.
            log = bytearray(_LOG_START)
            result = self.attempt(abi.LOG_STATS, log)
        return result, _text(log)

    def load(
        self,
        log_level: int = 0,
        locate: Callable[[int], str] | None = None,
        field: Callable[[int], str] | None = None,
    ) -> Program:
        """Load the program: silently first, after a failure again with a log.

        ``locate`` and ``field`` explain an instruction's index, see
        ``verifier.message``. Raises VerifierError with the whole log in
        ``details``, LoadError when the kernel refused without a word.
        """
        log = ""
        if log_level:
            result, log = self.attempt_with_log(log_level)
        else:
            result = self.attempt()
            if result < 0:
                result, log = self.attempt_with_log(abi.LOG_LEVEL1, tail=result == -E2BIG)
        if result >= 0:
            return Program(kernel.Fd(result, f"program {self.name!r}"), self, log)
        # Statistics alone: refused for its kind, before the first instruction was looked at.
        if log.strip() and not log.startswith("processed 0 insns"):
            from pybpf import verifier

            raise VerifierError(verifier.message(self.name, log, locate, field), -result, log)
        hint = "this kernel may lack the program type or its hook" if result == -EINVAL else ""
        raise kernel.failure(LoadError, "BPF_PROG_LOAD", f"program {self.name!r} ({self.section.name})", -result, hint)


class TestRun:
    """Result of a test run: return value (32 bits), nanoseconds of one run, output data and context."""

    __slots__ = ("ctx", "data", "duration", "retval")
    __test__ = False  # not a test case, whatever its name begins with

    def __init__(self, retval: int, duration: int, data: bytes, ctx: bytes) -> None:
        self.retval = retval
        self.duration = duration
        self.data = data
        self.ctx = ctx


class ProgramInfo:
    """What the kernel knows of a program; times in nanoseconds.

    ``run_time`` and ``run_count`` grow only while kernel.bpf_stats_enabled is
    set; ``recursion_misses`` (5.12) and ``verified_insns`` (5.16) are 0 on older kernels.
    """

    __slots__ = (
        "btf_id",
        "id",
        "jited_size",
        "name",
        "recursion_misses",
        "run_count",
        "run_time",
        "tag",
        "translated_size",
        "type",
        "verified_insns",
    )

    def __init__(self, raw: bytes | bytearray) -> None:
        self.type, self.id = unpack_from("=II", raw)
        self.tag = bytes(raw[8:16]).hex()
        self.jited_size, self.translated_size = unpack_from("=II", raw, 16)
        self.name = bytes(raw[64:80]).partition(b"\0")[0].decode(errors="replace")
        (self.btf_id,) = unpack_from("=I", raw, 128)
        self.run_time, self.run_count, self.recursion_misses = unpack_from("=QQQ", raw, 192)
        (self.verified_insns,) = unpack_from("=I", raw, 216)


class Program:
    """A loaded program. ``log`` is the verifier's when one was asked for."""

    __slots__ = ("_fd", "attach_btf_id", "log", "name", "section")

    def __init__(self, fd: kernel.Fd, request: Request, log: str = "") -> None:
        self._fd = fd
        self.name = request.name
        self.section = request.section.name
        self.attach_btf_id = request.attach_btf_id
        self.log = log

    @classmethod
    def of(cls, fd: kernel.Fd) -> Program:
        """The program behind a descriptor, which belongs to the Program from now on. Raises SyscallError."""
        try:
            from pybpf.commands import check_kind
            from pybpf.proginfo import section_of

            check_kind(fd, "bpf-prog", "program")
            info = ProgramInfo(kernel.obj_get_info(fd.fd, _PROG_INFO_SIZE, fd.label))
            return cls(fd, Request(info.name or fd.label, section_of(info.type), b""))
        except BaseException:
            fd.close()
            raise

    @classmethod
    def by_id(cls, id: int) -> Program:
        """Open a program that is loaded (4.13). Needs CAP_SYS_ADMIN; raises SyscallError (ENOENT: gone)."""
        from pybpf.commands import prog_get_fd_by_id

        return cls.of(prog_get_fd_by_id(id))

    @classmethod
    def open_pinned(cls, path: str) -> Program:
        """Open a program pinned in a bpf file system. Raises SyscallError."""
        from pybpf.commands import obj_get

        return cls.of(obj_get(path))

    def pin(self, path: str) -> None:
        """Give the program a name in a bpf file system, under which it stays loaded. Raises SyscallError."""
        from pybpf.commands import obj_pin

        obj_pin(path, self.fd, f"program {self.name!r}")

    @property
    def fd(self) -> int:
        """The file descriptor; -1 once closed."""
        return self._fd.fd

    def test_run(
        self,
        data: bytes = b"",
        ctx: bytes = b"",
        *,
        repeat: int = 0,
        cpu: int | None = None,
        room: int = 256,
        ctx_room: int = 0,
        live_frames: bool = False,
        batch_size: int = 0,
    ) -> TestRun:
        """Run the program once (or ``repeat`` times) in the kernel, by BPF_PROG_TEST_RUN.

        socket, tc and xdp programs take a packet in ``data`` (14 bytes at least)
        and may return up to ``room`` bytes more; with ``ctx`` they also start from that
        __sk_buff or xdp_md (5.4, 5.15), and ``ctx_room`` bytes of it come back. raw_tp programs take
        the tracepoint's arguments as u64 in ``ctx`` (5.10), on CPU ``cpu`` if given;
        syscall programs a context in ``ctx`` that comes back changed (5.14).
        ``live_frames`` sends the packets that an xdp program passes or redirects on
        their way (5.18), ``batch_size`` of them at once. Raises SyscallError.
        """
        flags = abi.F_TEST_RUN_ON_CPU if cpu is not None else 0
        data_out = bytearray(len(data) + room) if data and not live_frames else None
        ctx_in = bytearray(ctx) if ctx else None
        ctx_out = bytearray(ctx_room) if ctx_room else None
        retval, duration, length, ctx_length = kernel.prog_test_run(
            self.fd,
            data,
            data_out,
            ctx_in,
            ctx_out,
            repeat=repeat,
            flags=flags | (abi.F_TEST_XDP_LIVE_FRAMES if live_frames else 0),
            cpu=cpu or 0,
            batch_size=batch_size,
            what=f"program {self.name!r}",
        )
        context = bytes(ctx_in or b"") if ctx_out is None else bytes(ctx_out[:ctx_length])
        return TestRun(retval, duration, bytes((data_out or b"")[:length]), context)

    def info(self) -> ProgramInfo:
        """Statistics and identity. Raises SyscallError."""
        return ProgramInfo(kernel.obj_get_info(self.fd, _PROG_INFO_SIZE, f"program {self.name!r}"))

    def close(self) -> None:
        """Close the descriptor; a link or prog array that uses the program keeps it alive."""
        self._fd.close()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Program {self.name!r} {self.section} fd {self.fd}>"
