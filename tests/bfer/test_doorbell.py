"""The words that the reader and the programs share, in a real map."""

from __future__ import annotations

from struct import pack, unpack

import pytest

from bfer.doorbell import AT_NEXT, AT_WATERMARK, SILENT, Doorbell
from pybpf import abi
from pybpf.errors import MapError
from pybpf.maps import Map
from pybpf.object.spec import MapSpec


def key(number: int) -> bytes:
    return pack("=I", number)


@pytest.mark.native
def test_both_sides_see_the_words() -> None:
    with Map.create(MapSpec("doorbell", abi.MAP_TYPE_ARRAY, 4, 4, 2, abi.F_MMAPABLE)) as map:
        doorbell = Doorbell(map)
        for when in (AT_NEXT, AT_WATERMARK, SILENT):
            doorbell.ring_at(when)
            assert unpack("=I", map.lookup(key(0)) or b"") == (when,)
        assert not doorbell.alarmed()
        map.update(key(1), pack("=I", 1))
        assert doorbell.alarmed()
        assert not doorbell.alarmed()
        assert unpack("=I", map.lookup(key(1)) or b"") == (0,)
        doorbell.close()


@pytest.mark.native
def test_a_map_that_cannot_be_mapped() -> None:
    with Map.create(MapSpec("doorbell", abi.MAP_TYPE_ARRAY, 4, 4, 2)) as map, pytest.raises(MapError, match="doorbell"):
        Doorbell(map)
