"""hooked_proc_fops: who owns the functions that list a directory of /proc instead of the kernel's."""

from __future__ import annotations

from struct import unpack

from bfer.derive import fields
from bfer.derive.source import Source
from bfer.memory import fields as parts_of

_MEMBERS = ("iterate_shared", "iterate")  # programs.integrity.Operations


class ProcFops(Source):
    def convert(self, block: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
        found = parts_of(data).get(0)
        if found is None:
            return []
        functions = [(member, address) for member, address in zip(_MEMBERS, unpack("=2Q", found[0][1])) if address]
        owners = self.kernel.owners([address for _, address in functions])
        hooked = [("", member, owners.get(address, ("", "hidden"))[1]) for member, address in functions]
        return [(block, fields.hooks(0, hooked))]


SOURCE = ProcFops
