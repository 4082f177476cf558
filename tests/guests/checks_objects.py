"""Shared objects that a program loads, and what they export."""

from __future__ import annotations

from tests.guests.checks import check, equal
from tests.guests.eventkit import arguments, deeds, one

SCRIPT = """
import mmap
with open("/proc/self/maps") as maps:
    path = next(line.split(None, 5)[5].strip() for line in maps if "/libc." in line or "/ld-musl" in line)
data = open(path, "rb").read()
copy = folder + "/copy.so"
with open(copy, "wb") as file:
    file.write(data)
file = os.open(copy, os.O_RDONLY)
size = len(data)
told(copy=os.stat(copy))
mmap.mmap(file, size, mmap.MAP_PRIVATE, mmap.PROT_READ).close()
mmap.mmap(file, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
"""


@check(timeout=60.0)
def check_shared_objects_that_are_loaded():
    """Mapped with code; neither what is mapped without, nor the program itself."""
    with deeds(["shared_object_loaded"], SCRIPT) as (found, folder, facts):
        event = one(found, "shared_object_loaded", pathname=f"{folder}/copy.so")
        _, inode, device, ctime, _ = facts["copy"]
        equal((event["inode"], event["ctime"]), (inode, ctime))
        equal(
            (event["dev"] >> 20, event["dev"] & 0xFFFFF), (device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00)
        )
        names = [
            item["value"].rpartition("/")[2] for seen in found["shared_object_loaded"] for item in seen["args"][:1]
        ]
        assert not [name for name in names if name.startswith("python")], names


@check(timeout=60.0)
def check_symbols_of_a_library():
    """Those that were asked for, of the copy as of the file that it was made from."""
    with deeds(["symbols_loaded"], SCRIPT, "symbols_loaded.symbols=malloc,free,no_such_symbol") as (found, folder, _):
        event = one(found, "symbols_loaded", library_path=f"{folder}/copy.so")
        assert event["symbols"], found
        assert set(event["symbols"]) <= {"malloc", "free"}, event


@check(timeout=60.0)
def check_symbols_that_two_libraries_define():
    """The copy defines all that its original defines."""
    with deeds(["symbols_collision"], SCRIPT, "symbols_collision.symbols=malloc,free") as (found, folder, _):
        events = [arguments(event) for event in found["symbols_collision"]]
        collisions = [event for event in events if event["loaded_path"] == f"{folder}/copy.so"]
        assert collisions, events
        assert all(set(event["symbols"]) <= {"malloc", "free"} for event in collisions), events
