"""The maps of an object and its types as the kernel wants them, made when somebody asks.

Maps matter to those who load an object, not to those who choose among hundreds: what its BTF says
of them is read by MapSource, as what .BTF.ext says of functions is by DetailSource.
"""

from __future__ import annotations

from btf.errors import BtfError
from pybpf.errors import ObjectError
from pybpf.object.btfmaps import read_maps
from pybpf.object.details import bad_btf
from pybpf.object.spec import KCONFIG, KSYMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from btf.reader import Btf
    from pybpf.object.details import Types
    from pybpf.object.elf import Elf
    from pybpf.object.spec import Extern, MapSpec


class MapSource:
    """What gives an object its BTF and its maps, from its ``types``.

    ``data`` are the maps of the data sections, ``names`` those in .maps by offset, of which the ``used`` are
    read, or all with None. Raises ObjectError, each time that it is asked, if the definitions are malformed.
    Keeps nothing that refers to the object: a thousand objects that are read and dropped leave no cycles.
    """

    __slots__ = ("_data", "_externs", "_file", "_names", "_types", "_used")

    def __init__(
        self,
        file: Elf,
        types: Types | None,
        data: dict[str, MapSpec],
        names: Mapping[int, str],
        used: set[str] | None,
        externs: dict[str, Extern],
    ) -> None:
        self._file = file
        self._types = types
        self._data = data
        self._names = names
        self._used = used
        self._externs = externs

    def __call__(self) -> tuple[bytes, dict[str, MapSpec]]:
        """The BTF and the maps, those of data sections first."""
        if self._types is None:
            return b"", self._data
        try:
            btf = self._types()
            return self._complete(btf, self._types.raw), {**self._data, **self._defined(btf)}
        except BtfError as error:
            raise bad_btf(error) from error

    def _complete(self, btf: Btf, raw: bytes) -> bytes:
        described = btf.datasecs()
        for name, spec in self._data.items():
            spec.value_type_id = described.get(name, 0)
        incomplete = {name: id for name, id in described.items() if not btf.size(id)}
        if incomplete:
            from pybpf.object.datasec import fix_datasecs

            raw = fix_datasecs(self._file, raw, btf, incomplete)
        if KCONFIG in described or KSYMS in described:
            from pybpf.object.externs import describe_externs

            raw = describe_externs(raw, btf, self._externs)
        return raw

    def _defined(self, btf: Btf) -> dict[str, MapSpec]:
        """The definitions in .maps."""
        found: dict[str, MapSpec] = {}
        if not self._names:
            return found
        for spec in read_maps(btf, set(self._names.values()), self._used):
            if spec.name in self._data or spec.name in found:
                raise ObjectError(f"object has two maps named {spec.name!r}: rename one")
            found[spec.name] = spec
        return found
