"""What the kernel tells of a loaded program beyond its statistics: code, maps, functions, lines."""

from __future__ import annotations

from errno import EINVAL, ENOENT
from struct import unpack_from

from pybpf import abi, attrs, commands, kernel
from pybpf.errors import LoadError, ObjectError
from pybpf.sections import Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from btf.reader import Btf
    from pybpf.program import Program

_LAYOUT = "bpf_prog_info"
_PREFIX = "PROG_TYPE_"
# What an array of the info structure is called, how its number of elements, and their size.
_ARRAYS = {
    "translated": ("xlated_prog_insns", "xlated_prog_len", 1),
    "machine_code": ("jited_prog_insns", "jited_prog_len", 1),
    "map_ids": ("map_ids", "nr_map_ids", 4),
    "addresses": ("jited_ksyms", "nr_jited_ksyms", 8),
    "func_info": ("func_info", "nr_func_info", 8),
    "line_info": ("line_info", "nr_line_info", 16),
}


def type_name(type: int) -> str:
    """``xdp`` for 6, as the kernel's names are; the number for an unknown one."""
    for name, value in vars(abi).items():
        if value == type and name.startswith(_PREFIX):
            return name[len(_PREFIX) :].lower()
    return str(type)


def section_of(type: int) -> Section:
    """A section for a program that comes from the kernel, which knows its type only."""
    name = type_name(type)
    return Section(name, name, type, 0, 0, None, "")


class Details:
    """One program, completely.

    ``map_ids`` are its maps'; ``translated`` its code as the kernel changed it, ``machine_code`` what
    runs (both empty without CAP_SYS_ADMIN or where the kernel hides addresses);
    ``functions`` pairs of instruction and BTF type id, ``lines`` tuples of instruction, offsets of file
    name and source line in its BTF's strings, line number and column; ``addresses`` where its
    functions are. ``load_time`` is ns since boot, ``uid`` who loaded it. Raises SyscallError.
    """

    __slots__ = (
        *("addresses", "btf_id", "functions", "gpl_compatible", "id", "lines", "load_time", "machine_code"),
        *("map_ids", "name", "tag", "translated", "type", "uid", "verified_insns"),
    )

    def __init__(self, program: Program) -> None:
        what = f"program {program.name!r}"
        raw = kernel.obj_get_info(program.fd, attrs.size(_LAYOUT), what)
        self.type, self.id, self.btf_id, self.load_time, self.uid, self.verified_insns, gpl = [
            attrs.number(_LAYOUT, raw, name)
            for name in ("type", "id", "btf_id", "load_time", "created_by_uid", "verified_insns", "gpl_compatible")
        ]
        self.gpl_compatible = bool(gpl & 1)
        self.tag = bytes(raw[8:16]).hex()
        self.name = bytes(raw[64:80]).partition(b"\0")[0].decode(errors="replace")
        buffers: dict[str, bytearray] = {}
        values: dict[str, int | bytearray] = {}
        for name, (pointer, number, size) in _ARRAYS.items():
            count = attrs.number(_LAYOUT, raw, number)
            if count:
                buffers[name] = values[pointer] = bytearray(count * size)
                values[number] = count
        # Records are as long as we say; the kernel is told, and does not write more.
        request = attrs.build(_LAYOUT, **values, func_info_rec_size=8, line_info_rec_size=16)
        request += bytes(attrs.size(_LAYOUT) - len(request))
        commands.obj_get_info_into(program.fd, request, what)
        # What the kernel hides it says to be of length or at address 0.
        for name, (pointer, number, size) in _ARRAYS.items():
            if name in buffers:
                shown = attrs.number(_LAYOUT, request, pointer) and attrs.number(_LAYOUT, request, number)
                del buffers[name][shown * size :]
        self.translated = bytes(buffers.get("translated", b""))
        self.machine_code = bytes(buffers.get("machine_code", b""))
        self.map_ids = memoryview(buffers.get("map_ids", b"")).cast("I").tolist()
        self.addresses = memoryview(buffers.get("addresses", b"")).cast("Q").tolist()
        functions, lines = buffers.get("func_info", b""), buffers.get("line_info", b"")
        self.functions = [unpack_from("=II", functions, at) for at in range(0, len(functions), 8)]
        self.lines = [
            (insn, file, line, where >> 10, where & 0x3FF)
            for insn, file, line, where in [unpack_from("=IIII", lines, at) for at in range(0, len(lines), 16)]
        ]


def program_btf(program: Program) -> Btf:
    """The BTF that a program was loaded with; the caller closes it. Raises ObjectError if it has none."""
    from btf.reader import Btf

    id = program.info().btf_id
    if not id:
        raise ObjectError(f"program {program.name!r} was loaded without BTF")
    with commands.btf_get_fd_by_id(id) as fd:
        size = attrs.number("bpf_btf_info", kernel.obj_get_info(fd.fd, 16, "BTF"), "btf_size")
        data = bytearray(size)
        request = attrs.build("bpf_btf_info", "btf_size", btf=data, btf_size=size)
        commands.obj_get_info_into(fd.fd, request, "BTF")
    return Btf(data)


def function_id(program: Program, name: str) -> int:
    """The BTF id of a function of a loaded program, for what is to replace or trace it. Raises LoadError."""
    from btf.errors import BtfNotFound
    from btf.format import KIND_FUNC

    if not name:
        raise LoadError(f"the section must name a function of program {program.name!r}, as in freplace/NAME", EINVAL)
    with program_btf(program) as btf:
        try:
            return btf.find_id(name, KIND_FUNC)
        except BtfNotFound:
            raise LoadError(f"program {program.name!r} has no function {name!r}", ENOENT) from None
