"""Specifications: what an object file says, as plain data, before any kernel sees it.

Nothing here opens a file or makes a system call. The ELF reader fills these
in, users change them (sizes, config values, which programs to load), and the
loader turns them into kernel objects.
"""

from __future__ import annotations

from struct import Struct

from pybpf.errors import ObjectError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LINE = Struct("=4I")

# Relocation kinds of ProgramSpec.relocs.
RELOC_MAP = "map"  # ld_imm64 of a map's file descriptor
RELOC_DATA = "data"  # ld_imm64 of an address inside a data section's map
RELOC_CALL = "call"  # call of a subprogram
RELOC_FUNC = "func"  # ld_imm64 of a subprogram's address (callbacks)
RELOC_KSYM = "ksym"  # ld_imm64 of the address of an extern in .ksyms
RELOC_KFUNC = "kfunc"  # call of an extern in .ksyms

# The data section that externs of the kernel's configuration live in, and that of the kernel's symbols.
KCONFIG, KSYMS = ".kconfig", ".ksyms"


class Reloc:
    """One reference from an instruction to a symbol.

    ``index`` counts 8-byte slots from the program's first instruction.
    ``target`` is a map, data section or function name; ``addend`` the offset
    in bytes inside a data section.
    """

    __slots__ = ("addend", "index", "kind", "target")

    def __init__(self, index: int, kind: str, target: str, addend: int = 0) -> None:
        self.index = index
        self.kind = kind
        self.target = target
        self.addend = addend


class Details:
    """What .BTF.ext says of one function: see ProgramSpec. ``lines`` are the packed records, and the first's offset."""

    __slots__ = ("core_relos", "func_info", "lines")

    def __init__(self) -> None:
        self.core_relos: list[tuple[int, int, str, int]] = []
        self.func_info: list[tuple[int, int]] = []
        self.lines = b"", 0


class ProgramSpec:
    """A program or subprogram: code and what must still be filled in.

    ``section`` names program kind and hook the way libbpf spells them
    (``tp_btf/sys_exit``), ``.text`` for subprograms. ``insns`` is raw code in
    the object's byte order. ``core_relos`` are ``(index, type_id, access, kind)``,
    ``func_info`` is ``(index, type_id)``, ``line_info``
    ``(index, file_off, line_off, line << 10 | column)``; every index counts slots
    from the program's start. These three are asked of ``source``, which gets the
    function's name, when they are first wanted; it may raise ObjectError.
    """

    __slots__ = ("_details", "insns", "name", "relocs", "section", "source")

    def __init__(self, name: str, section: str, insns: bytes) -> None:
        self.name = name
        self.section = section
        self.insns = insns
        self.relocs: list[Reloc] = []
        self.source: Callable[[str], Details] | None = None
        self._details: Details | None = None

    @property
    def details(self) -> Details:
        """What .BTF.ext says of the function."""
        details = self._details
        if details is None:
            details = self._details = Details() if self.source is None else self.source(self.name)
            self.source = None
        return details

    @property
    def core_relos(self) -> list[tuple[int, int, str, int]]:
        """The CO-RE relocations."""
        return self.details.core_relos

    @core_relos.setter
    def core_relos(self, records: list[tuple[int, int, str, int]]) -> None:
        self.details.core_relos = records

    @property
    def func_info(self) -> list[tuple[int, int]]:
        """The function's type, at its first instruction."""
        return self.details.func_info

    @func_info.setter
    def func_info(self, records: list[tuple[int, int]]) -> None:
        self.details.func_info = records

    @property
    def line_info(self) -> list[tuple[int, int, int, int]]:
        """The records of the source lines, made anew each time: packed, thousands of them take little memory."""
        packed, first = self.details.lines
        return [(at - first >> 3, file, text, place) for at, file, text, place in _LINE.iter_unpack(packed)]

    @line_info.setter
    def line_info(self, records: list[tuple[int, int, int, int]]) -> None:
        self.details.lines = b"".join([_LINE.pack(index * 8, *rest) for index, *rest in records]), 0


class MapSpec:
    """A map to be created. Sizes are bytes; ``max_entries`` is bytes for ring buffers.

    ``inner`` describes the maps that a map of maps will hold.

    ``contents`` is the initial value of a data section's map (key 0), and
    ``frozen`` says that user space must not be able to write it after load.
    """

    __slots__ = (
        "contents",
        "flags",
        "frozen",
        "inner",
        "key_size",
        "key_type_id",
        "map_extra",
        "max_entries",
        "name",
        "pinning",
        "type",
        "value_size",
        "value_type_id",
    )

    def __init__(
        self,
        name: str,
        type: int,
        key_size: int,
        value_size: int,
        max_entries: int,
        flags: int = 0,
    ) -> None:
        self.name = name
        self.type = type
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.flags = flags
        self.key_type_id = 0
        self.value_type_id = 0
        self.map_extra = 0
        self.pinning = 0
        self.contents: bytearray | None = None
        self.frozen = False
        self.inner: MapSpec | None = None


class Variable:
    """A global variable: ``size`` bytes at ``offset`` of data section ``section``."""

    __slots__ = ("name", "offset", "section", "size")

    def __init__(self, name: str, section: str, offset: int, size: int) -> None:
        self.name = name
        self.section = section
        self.offset = offset
        self.size = size


class Extern:
    """Something that only the running kernel can supply.

    ``section`` is ``.kconfig`` or ``.ksyms``; ``weak`` says that its absence is
    no error. ``type_id`` is its type in the object's BTF: the prototype of a kfunc
    (``is_function``), else the variable's, 0 (void) for a symbol without type.
    For .kconfig, ``kind`` is ``bool``, ``tristate``, ``char``, ``int`` or
    ``string``, with ``size`` bytes at ``offset`` of the section, and ``given``
    says that the user has set the value, so that the kernel is not asked.
    """

    __slots__ = ("given", "is_function", "kind", "name", "offset", "section", "signed", "size", "type_id", "weak")

    def __init__(self, name: str, section: str, type_id: int, weak: bool = False) -> None:
        self.name = name
        self.section = section
        self.type_id = type_id
        self.weak = weak
        self.is_function = False
        self.kind = ""
        self.offset = self.size = 0
        self.signed = False
        self.given = False


class ObjectSpec:
    """Everything one object file holds.

    ``byteorder`` is ``"little"`` or ``"big"``. ``btf`` is the raw .BTF section
    (empty when there is none). Data sections appear in ``maps`` under their
    section name (``.rodata``, ``.kconfig``). ``btf`` and ``maps`` are asked of
    ``source``, if there is one, when either is first wanted; it may raise
    ObjectError.
    """

    __slots__ = ("_btf", "_maps", "byteorder", "externs", "license", "programs", "source", "variables")

    def __init__(self, byteorder: str = "little") -> None:
        self.byteorder = byteorder
        self.license = ""
        self.programs: dict[str, ProgramSpec] = {}
        self.variables: dict[str, Variable] = {}
        self.externs: dict[str, Extern] = {}
        self.source: Callable[[], tuple[bytes, dict[str, MapSpec]]] | None = None
        self._btf = b""
        self._maps: dict[str, MapSpec] = {}

    def _ask(self) -> None:
        if self.source is not None:
            self._btf, self._maps = self.source()
            self.source = None

    @property
    def btf(self) -> bytes:
        """The types, as BTF that the kernel takes."""
        self._ask()
        return self._btf

    @btf.setter
    def btf(self, raw: bytes) -> None:
        self._ask()
        self._btf = raw

    @property
    def maps(self) -> dict[str, MapSpec]:
        """The maps by name; the dict is the object's own, and may be changed."""
        self._ask()
        return self._maps

    @maps.setter
    def maps(self, maps: dict[str, MapSpec]) -> None:
        self._ask()
        self._maps = maps

    def set(self, name: str, value: int | bytes) -> None:
        """Give the global variable ``name`` a value before load.

        An integer is stored in the variable's own size and the object's byte
        order; bytes are padded with NULs. Raises ObjectError for an unknown name
        or a value that does not fit.
        """
        var = self.variables.get(name)
        if var is None:
            raise ObjectError(f"object has no variable {name!r}; it has: {', '.join(sorted(self.variables))}")
        if isinstance(value, int):
            bits = var.size * 8
            if not -(1 << bits - 1) <= value < 1 << bits:
                raise ObjectError(f"variable {name!r} has {var.size} bytes; {value} does not fit")
            raw = (value & (1 << bits) - 1).to_bytes(var.size, "little" if self.byteorder == "little" else "big")
        elif len(value) > var.size:
            raise ObjectError(f"variable {name!r} has {var.size} bytes; {len(value)} do not fit")
        else:
            raw = value.ljust(var.size, b"\0")
        contents = self.maps[var.section].contents
        if contents is None:
            raise ObjectError(f"data section {var.section!r} has no contents")
        contents[var.offset : var.offset + var.size] = raw
        if var.section == KCONFIG and name in self.externs:
            self.externs[name].given = True
