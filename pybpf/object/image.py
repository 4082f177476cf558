"""From compiled functions to an object file: places code in sections, adds DATASECs and .BTF.ext.

``assemble`` is what the compiler calls. It completes the compiler's type
builder (one DATASEC for every section that holds variables, and the
.BTF.ext records of every function) and hands an ``ObjectImage`` to the writer.
"""

from __future__ import annotations

from pybpf.errors import ObjectError
from pybpf.object.writer import ObjectImage, place_units, write_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from btf.builder import Builder
    from btf.ext_writer import ExtBuilder
    from pybpf.object.unit import CodeUnit


def assemble(
    units: Sequence[CodeUnit],
    func_ids: Mapping[str, int],
    maps: Sequence[tuple[str, int, int]],
    data_sections: Mapping[str, tuple[bytes, Sequence[tuple[str, int, int, int]]]],
    license: str,
    builder: Builder,
    byteorder: str = "little",
    externs: Sequence[tuple[str, str, int, int, bool]] = (),
    lines: bool = True,
) -> bytes:
    """The ELF object of ``units``.

    ``func_ids`` maps each unit's name to its BTF FUNC; ``maps`` lists
    ``(name, var_id, size)`` where ``var_id`` is the BTF VAR of the map's
    definition struct and ``size`` that struct's size in bytes; ``data_sections``
    maps a section name (``.rodata``, ``.data``, ``.bss`` or one of these plus
    ``.suffix``) to its bytes and its variables ``(name, var_id, offset, size)``.
    The DATASEC types are made here: ``builder`` must not hold any yet. Without ``lines`` the
    object knows nothing of the source, which saves a third of it. The same
    input gives the same bytes. Raises ObjectError for a function without BTF,
    an unknown relocation target or a name used twice.
    """
    from btf.ext_writer import ExtBuilder

    image = ObjectImage(byteorder)
    image.units = list(units)
    image.license = license
    offset = 0
    members = []
    for name, var_id, size in maps:
        image.maps.append((name, offset, size))
        members.append((var_id, offset, size))
        offset += size
    if members:
        builder.datasec(".maps", offset, members)
    for section, (contents, variables) in data_sections.items():
        ordered = sorted(variables, key=_offset)
        image.data[section] = (bytes(contents), [(name, at, size) for name, _, at, size in ordered])
        if ordered:
            builder.datasec(section, len(contents), [(var_id, at, size) for _, var_id, at, size in ordered])
    sections: dict[str, list[tuple[int, int, int]]] = {}
    for name, section, type_id, size, weak in externs:
        image.externs.append((name, weak))
        sections.setdefault(section, []).append((type_id, 0, size))
    for section, entries in sections.items():
        builder.datasec(section, 0, entries)
    ext = ExtBuilder(builder)
    for section, placed in place_units(units).items():
        for unit, start in placed:
            _describe(ext, section, unit, start, func_ids, lines)
    # .BTF.ext puts its strings into .BTF, so it comes first.
    image.btf_ext = ext.to_bytes()
    image.btf = builder.to_bytes()
    return write_object(image)


def _offset(variable: tuple[str, int, int, int]) -> int:
    return variable[2]


def _describe(
    ext: ExtBuilder, section: str, unit: CodeUnit, start: int, func_ids: Mapping[str, int], lines: bool
) -> None:
    """The .BTF.ext records of one function that starts ``start`` bytes into its section."""
    type_id = func_ids.get(unit.name)
    if type_id is None:
        raise ObjectError(f"function {unit.name!r} has no BTF type")
    ext.func(section, start, type_id)
    # The kernel wants line records ascending, and one at every function's first instruction.
    previous = -1
    for index, loc in unit.lines if lines else ():
        if index <= previous:
            if index < previous:
                raise ObjectError(f"line records of function {unit.name!r} are not in order")
            continue
        at = 0 if previous < 0 else index
        ext.line(section, start + at * 8, loc.path, loc.text, loc.line, loc.col)
        previous = index
    for index, core in unit.cores:
        ext.core(section, start + index * 8, core.type_id, core.access, core.kind)
