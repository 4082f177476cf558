"""Events of memory: mapped, protected, and what can be written and executed."""

from __future__ import annotations

import os

from tests.guests.checks import check, equal
from tests.guests.eventkit import arguments, deeds, encoded, one

DEEDS = """
with open(folder + "/x", "wb") as file:
    file.write(bytes(20000))
fd = os.open(folder + "/x", os.O_RDWR)
told(x=os.fstat(fd))
with open("/proc/self/fdinfo/%d" % fd) as file:
    told(flags=[int(line.split()[1], 8) for line in file if line.startswith("flags:")][0])
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
both = libc.mmap(None, 12288, 7, 0x22, -1, 0)
plain = libc.mmap(None, 8192, 1, 2, fd, 4096)
told(both=both, plain=plain)
libc.mprotect(both, 4096, 5)
libc.mprotect(plain, 4096, 5)
libc.mprotect(plain, 4096, 7)
"""
MMAP_W_X, X_ADDED, W_ADDED, W_REMOVED = range(1, 5)


@check(timeout=60.0)
def check_mappings_and_protection():
    names = ("mem_prot_alert", "security_file_mprotect", "do_mmap", "security_mmap_file")
    with deeds(names, DEEDS) as (found, folder, facts):
        _, inode, device, changed, _ = facts["x"]
        at = encoded(device)
        both, plain = facts["both"], facts["plain"]
        file = {"pathname": f"{folder}/x", "dev": at, "inode": inode, "ctime": changed}
        none = {"pathname": "", "dev": 0, "inode": 0, "ctime": 0}

        def alert(number, address, length, protection, before):
            return {"alert": number, "addr": address, "len": length, "prot": protection, "prev_prot": before}

        alerts = [event for event in map(arguments, found["mem_prot_alert"]) if event["addr"] in (both, plain)]
        equal(
            alerts,
            [
                {**alert(MMAP_W_X, both, 12288, 7, 0), **none},
                {**alert(W_REMOVED, both, 4096, 5, 7), **none},
                {**alert(X_ADDED, plain, 4096, 5, 1), **file},
                {**alert(W_ADDED, plain, 4096, 7, 5), **file},
            ],
        )
        # By the file: an address may have been another mapping's before.
        mapped = one(found, "do_mmap", pathname=f"{folder}/x")
        wanted = {**file, "addr": plain, "pgoff": 1, "len": 8192, "prot": 1, "mmap_flags": 2}
        flags = facts["flags"] & ~os.O_CLOEXEC  # what fdinfo adds: the descriptor's, not the file's
        equal(mapped, {**wanted, "flags": flags})
        checked = one(found, "security_mmap_file", pathname=f"{folder}/x")
        equal(checked, {**file, "flags": flags, "prot": 1, "mmap_flags": 2})
        one(found, "do_mmap", addr=both, pathname="", len=12288, prot=7, mmap_flags=0x22)
        results = [event["returnValue"] for event in found["do_mmap"] if arguments(event)["pathname"] == f"{folder}/x"]
        equal([result & (1 << 64) - 1 for result in results], [plain])
        changes = [event for event in map(arguments, found["security_file_mprotect"]) if event["addr"] == plain]
        wanted = {"pathname": f"{folder}/x", "ctime": changed, "addr": plain, "len": 4096}
        equal(changes, [{**wanted, "prot": 5, "prev_prot": 1}, {**wanted, "prot": 7, "prev_prot": 5}])
