"""Hand-made pairs of local and target types for the tests of CO-RE."""

from __future__ import annotations

from btf.builder import Builder
from btf.core import Relocator, Resolution
from btf.reader import Btf


class Side(Builder):
    """A builder with the types every test needs."""

    def __init__(self, byteorder: str = "little", long_size: int = 8) -> None:
        super().__init__(byteorder)
        self.long = self.int("unsigned long", long_size)
        self.u8 = self.int("unsigned char", 1)
        self.u16 = self.int("unsigned short", 2)
        self.u32 = self.int("unsigned int", 4)
        self.u64 = self.int("unsigned long long", 8)
        self.s32 = self.int("int", 4, signed=True)
        self.s64 = self.int("long long", 8, signed=True)
        self.void_ptr = self.ptr(0)


def resolve(local: Builder, target: Builder, id: int, access: str, kind: int) -> Resolution:
    return Relocator(Btf(local.to_bytes()), Btf(target.to_bytes())).resolve(id, access, kind)
