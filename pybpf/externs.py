"""What an object's externs come to in the running kernel: its configuration and its symbols.

Imported only for objects that have externs. The rules are those of libbpf.c
(set_kcfg_value_*, bpf_object__resolve_externs, get_kernel_version).
"""

from __future__ import annotations

import os
from errno import EACCES, ENOENT, EPERM
from struct import pack, pack_into, unpack_from

from btf.errors import BtfError, BtfNotFound
from btf.format import KIND_FUNC, KIND_VAR, essential_name
from pybpf import abi, commands, kallsyms, kernel, syscalls
from pybpf.errors import NotSupported, ObjectError, SyscallError
from pybpf.linker import Symbol
from pybpf.object.spec import KCONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btf.reader import Btf
    from pybpf.object.spec import Extern, ObjectSpec

_TRISTATE = {"n": 0, "y": 1, "m": 2}
_MODULES = "/sys/kernel/btf"
_BTF_INFO_SIZE = 32
_CALL, _EXIT = 0x85, 0x95
_GET_ATTACH_COOKIE = 174


# --- configuration ----------------------------------------------------------------


def kernel_code() -> int:
    """LINUX_KERNEL_VERSION of the running kernel: ``major << 16 | minor << 8 | patch``.

    Debian's and Ubuntu's release names a packaging series whose patch level is
    not that of the source; both say elsewhere which it is.
    """
    try:
        with open("/proc/version_signature") as file:  # Ubuntu: "Ubuntu 5.15.0-91.101-generic 5.15.131"
            fields = file.read().split()
        if len(fields) >= 3 and (code := version_code(fields[2])):
            return code
    except (OSError, UnicodeDecodeError):
        pass
    names = os.uname()
    _, debian, rest = names.version.partition("Debian ")
    return (version_code(rest) if debian else 0) or version_code(names.release)


def version_code(text: str) -> int:
    """``6.1.192-1`` as a LINUX_KERNEL_VERSION; 0 unless it starts with three numbers."""
    numbers: list[int] = []
    for part in text.split(".", 2):
        digits = len(part) - len(part.lstrip("0123456789"))
        if not digits or (digits < len(part) and len(numbers) < 2):
            return 0
        numbers.append(int(part[:digits][:9]))
    if len(numbers) < 3:
        return 0
    return (numbers[0] << 16 | numbers[1] << 8 | min(numbers[2], 255)) & 0xFFFFFFFF


def config_lines(names: set[str], release: str = "") -> dict[str, str]:
    """The settings ``names`` of the running kernel as its configuration file writes them (``y``, ``"text"``, ``250``).

    Read line by line from /boot/config-RELEASE, else /proc/config.gz. Raises
    NotSupported when there is neither.
    """
    plain = f"/boot/config-{release or os.uname().release}"
    try:
        with open(plain, "rb") as file:
            return _pick(file, names)
    except OSError:
        pass
    try:
        from gzip import open as open_gzip

        with open_gzip("/proc/config.gz") as file:
            return _pick(file, names)
    except (OSError, EOFError, ImportError) as error:
        raise NotSupported(
            f"the kernel's configuration cannot be read, neither {plain} nor /proc/config.gz ({error}): "
            f"set {', '.join(sorted(names))} before loading",
            ENOENT,
        ) from None


def _pick(lines: Iterable[bytes], names: set[str]) -> dict[str, str]:
    wanted = {name.encode() for name in names}
    found = {}
    for line in lines:
        if line.startswith(b"CONFIG_"):
            name, equals, value = line.partition(b"=")
            if equals and name in wanted:
                found[name.decode()] = value.strip().decode(errors="replace")
                if len(found) == len(wanted):
                    break
    return found


def encode_setting(extern: Extern, text: str, byteorder: str) -> bytes:
    """The bytes of a setting whose value is ``text``; ObjectError if the extern's type cannot hold it."""
    kind, size = extern.kind, extern.size
    if text in _TRISTATE:
        if kind == "bool" and text != "m":
            return b"\1" if text == "y" else b"\0"
        if kind == "tristate":
            return _TRISTATE[text].to_bytes(size, "little" if byteorder == "little" else "big")
        if kind == "char":
            return text.encode()
    elif text.startswith('"'):
        if kind == "string" and len(text) > 1 and text.endswith('"'):
            # Cut to what fits with its NUL, as libbpf does.
            return text[1:-1].encode()[: size - 1].ljust(size, b"\0")
    elif kind in ("int", "char"):
        try:
            value = int(text, 16 if text[:2].lower() == "0x" or text[:3].lower() == "-0x" else 10)
        except ValueError:
            raise ObjectError(
                f"extern {extern.name!r}: {text[:40]!r} in the kernel's configuration is no value"
            ) from None
        bits = size * 8
        low, high = (-(1 << bits - 1), 1 << bits - 1) if extern.signed else (0, 1 << bits)
        if size == 8:
            low, high = -(1 << 63), 1 << 64
        if not low <= value < high:
            raise ObjectError(f"extern {extern.name!r} has {size} bytes; the kernel's value {value} does not fit")
        return (value & (1 << bits) - 1).to_bytes(size, "little" if byteorder == "little" else "big")
    raise ObjectError(f"extern {extern.name!r} is declared as {kind}; the kernel's value is {text[:40]}")


def kconfig(spec: ObjectSpec, used: set[str]) -> bytes:
    """Contents of the .kconfig section. ``used`` names the externs that programs refer to.

    Raises ObjectError when one of these that is not weak has no value here.
    """
    contents = bytearray(spec.maps[KCONFIG].contents or b"")
    wanted = {n: e for n, e in spec.externs.items() if e.section == KCONFIG and not e.given and n in used}
    settings = {name for name in wanted if name.startswith("CONFIG_")}
    lines: dict[str, str] = {}
    if settings:
        try:
            lines = config_lines(settings)
        except NotSupported:
            if not all(wanted[name].weak for name in settings):
                raise
    missing = []
    for name, extern in wanted.items():
        text = lines.get(name)
        if name not in settings:
            text = _virtual(name)
        if text is not None:
            contents[extern.offset : extern.offset + extern.size] = encode_setting(extern, text, spec.byteorder)
        elif not extern.weak:
            missing.append(name)
    if missing:
        raise ObjectError(
            f"this kernel's configuration does not set {', '.join(missing)}: "
            f"declare {'it' if len(missing) == 1 else 'them'} __weak, or give a value before loading"
        )
    return bytes(contents)


def _virtual(name: str) -> str | None:
    """A setting that libbpf makes up; None for a name that it does not know either."""
    if name == "LINUX_KERNEL_VERSION":
        code = kernel_code()
        if not code:
            raise ObjectError(f"extern {name!r}: release {os.uname().release!r} of this kernel is not a version")
        return str(code)
    if name == "LINUX_HAS_BPF_COOKIE":
        return "y" if _takes_cookies() else "n"
    if name == "LINUX_HAS_SYSCALL_WRAPPER":
        wrapped = addresses({f"__{prefix}_sys_bpf" for prefix in ("x64", "arm64", "s390x", "riscv", "powerpc")}, False)
        return "y" if wrapped else "n"
    return None


def _takes_cookies() -> bool:
    """Whether a tracepoint's program may call bpf_get_attach_cookie (5.15), found out by loading one that does."""
    code = pack("=BBhiBBhi", _CALL, 0, 0, _GET_ATTACH_COOKIE, _EXIT, 0, 0, 0)
    fd = kernel.prog_load(abi.PROG_TYPE_TRACEPOINT, code, "GPL")
    if fd >= 0:
        os.close(fd)
    return fd >= 0


# --- symbols ----------------------------------------------------------------------


def addresses(names: set[str], needed: bool = True, path: str = "/proc/kallsyms") -> dict[str, int]:
    """Addresses of kernel symbols, read in pieces: the file has 10 MB. Absent names are left out.

    Raises NotSupported when addresses are ``needed`` and the kernel hides them,
    ObjectError when a name has several.
    """
    found: dict[str, int] = {}
    try:
        for name, symbols in kallsyms.find(names, path).items():
            if len({symbol.address for symbol in symbols}) > 1:
                raise ObjectError(f"extern {name!r}: this kernel has several symbols of that name")
            found[name] = symbols[0].address
    except OSError as error:
        if error.errno not in (ENOENT, EACCES, EPERM):
            raise
        if needed:
            raise NotSupported(f"{path} cannot be read ({error}): externs without a type need it", ENOENT) from None
    hidden = [name for name, value in found.items() if not value]
    if hidden and needed:
        raise NotSupported(
            f"this kernel hides its addresses (kernel.kptr_restrict): extern {hidden[0]!r} cannot be resolved", EPERM
        )
    return found


class Symbols:
    """Resolves .ksyms externs; owns the descriptors of the modules' BTF that it found any in.

    ``fds`` are these descriptors; a kfunc's ``Symbol.index`` is a descriptor's
    place among them plus 1, since place 0 of a load's ``fd_array`` is the kernel's own.
    """

    def __init__(self, local: Callable[[], Btf], target: Callable[[], Btf]) -> None:
        self._local = local
        self._target = target
        self._files: dict[str, kernel.Fd] = {}
        self.fds: list[int] = []

    def resolve(self, externs: list[Extern]) -> dict[str, Symbol]:
        """The symbols of ``externs`` by name. Raises ObjectError or NotSupported for one that must exist."""
        found = {}
        untyped = {extern.name for extern in externs if not extern.type_id}
        where = addresses(untyped) if untyped else {}
        missing = []
        for extern in externs:
            if not extern.type_id:
                symbol = Symbol("address", where[extern.name]) if extern.name in where else None
            else:
                symbol = self._typed(extern)
            if symbol is None:
                if not extern.weak:
                    missing.append(extern.name)
                symbol = Symbol("missing")
            found[extern.name] = symbol
        if missing:
            raise NotSupported(
                f"this kernel has no {', '.join(missing)} (externs in .ksyms): "
                f"declare {'it' if len(missing) == 1 else 'them'} __weak and guard the use",
                ENOENT,
            )
        return found

    def _typed(self, extern: Extern) -> Symbol | None:
        kind = KIND_FUNC if extern.is_function else KIND_VAR
        try:
            vmlinux = self._target()
        except BtfNotFound:
            if extern.weak:
                return None  # a kernel without BTF has no typed symbols
            raise
        name = essential_name(extern.name) if extern.is_function else extern.name
        ids = vmlinux.find(name, (kind,))
        if ids:
            return self._checked(extern, vmlinux, ids[0], Symbol("btf", ids[0]))
        from btf.reader import Btf

        for module in _modules():
            try:
                with Btf.open(f"{_MODULES}/{module}", vmlinux) as btf:
                    ids = btf.find(name, (kind,), own=True)
                    if not ids:
                        continue
                    symbol = self._checked(extern, btf, ids[0], Symbol("btf", ids[0]))
            except BtfError:
                continue  # a module that is gone by now, or of another kernel
            if symbol is not None:
                symbol.fd = self._module_fd(module)
                symbol.index = self.fds.index(symbol.fd) + 1
            return symbol
        return None

    def _checked(self, extern: Extern, btf: Btf, type_id: int, symbol: Symbol) -> Symbol | None:
        """``symbol`` if the kernel's type is what the object says; a weak extern of another type is absent."""
        from btf.core_match import Matcher, Work

        target = btf.resolve(btf.type(type_id))
        if Matcher(self._local(), btf, Work()).types_compat(extern.type_id, target):
            return symbol
        if extern.weak:
            return None
        raise ObjectError(
            f"extern {extern.name!r}: the object says {self._local().label(extern.type_id)}, "
            f"this kernel has {btf.label(target)}"
        )

    def _module_fd(self, module: str) -> int:
        known = self._files.get(module)
        if known is None:
            for id in _btf_ids():
                try:
                    fd = commands.btf_get_fd_by_id(id)
                except SyscallError:
                    continue  # unloaded meanwhile
                if _btf_name(fd) == module:
                    known = self._files[module] = fd
                    self.fds.append(fd.fd)
                    break
                fd.close()
            else:
                raise NotSupported(f"module {module!r} has BTF, but the kernel gives no descriptor of it", ENOENT)
        return known.fd

    def close(self) -> None:
        """Close the modules' descriptors; loaded programs hold their modules themselves."""
        for fd in self._files.values():
            fd.close()
        self._files = {}
        self.fds = []


def _modules() -> list[str]:
    try:
        return sorted(name for name in os.listdir(_MODULES) if name != "vmlinux")
    except OSError:
        return []


def _btf_ids() -> Iterator[int]:
    id = commands.btf_get_next_id(0)
    while id is not None:
        yield id
        id = commands.btf_get_next_id(id)


def _btf_name(fd: kernel.Fd) -> str:
    """Name of the BTF behind ``fd``; empty for what user space loaded (bpf_btf_info.name, 5.11)."""
    name = bytearray(64)
    info = bytearray(_BTF_INFO_SIZE)
    pack_into("=QI", info, 16, kernel.address(name), len(name))
    attr = bytearray(16)
    pack_into("=iIQ", attr, 0, fd.fd, len(info), kernel.address(info))
    if syscalls.bpf(abi.OBJ_GET_INFO_BY_FD, attr) < 0:
        return ""
    if not unpack_from("=I", info, 28)[0]:  # kernel_btf
        return ""
    return bytes(name).partition(b"\0")[0].decode(errors="replace")
