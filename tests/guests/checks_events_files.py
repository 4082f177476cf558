"""Events of files and folders: each fires, with what a small program did to them as its arguments."""

from __future__ import annotations

import base64
import os
import stat

from tests.guests.checks import check, equal, skip
from tests.guests.eventkit import argument, arguments, deeds, encoded, one

NAMES = """
f = open(folder + "/x", "wb", 0)
f.write(b"0123456789")
f.close()
told(x=os.stat(folder + "/x"))
os.mknod(folder + "/node", stat.S_IFCHR | 0o640, os.makedev(1, 3))
os.symlink("target/of/it", folder + "/link")
os.utime(folder + "/x", ns=(1000000001, 2000000002))
os.truncate(folder + "/x", 4)
os.mkdir(folder + "/sub")
os.chdir(folder)
os.chdir("sub/../sub")
os.chdir("/")
libc.inotify_add_watch(libc.inotify_init1(0o2000000), (folder + "/x").encode(), 0x2)
os.mkdir(folder + "/mnt")
libc.mount(b"none", (folder + "/mnt").encode(), b"tmpfs", 0, None)
os.close(os.open(folder + "/mnt/in", os.O_CREAT | os.O_WRONLY))
libc.umount2((folder + "/mnt").encode(), 2)
told(last=os.stat(folder + "/x"))
os.unlink(folder + "/x")
"""
NAME_EVENTS = (
    *("security_inode_mknod", "security_inode_symlink", "vfs_utimes", "do_truncate", "set_fs_pwd"),
    *("security_path_notify", "security_sb_umount", "security_file_open", "load_elf_phdrs", "security_inode_unlink"),
)


@check(timeout=90.0)
def check_names_and_times():
    """A node, a link, times, a length, folders entered, a watch, a mount gone."""
    with deeds(NAME_EVENTS, NAMES) as (found, folder, facts):
        mode, inode, device = facts["x"][:3]
        equal(stat.S_ISREG(mode), True)
        at = encoded(device)
        made = one(found, "security_inode_mknod")
        equal((made["mode"], made["dev"]), (stat.S_IFCHR | 0o640, 1 << 20 | 3))
        assert ends(made["file_name"], folder, "/node"), made
        linked = one(found, "security_inode_symlink")
        equal(linked["target"], "target/of/it")
        assert ends(linked["linkpath"], folder, "/link"), linked
        timed = one(found, "vfs_utimes")
        equal(timed, {"pathname": f"{folder}/x", "dev": at, "inode": inode, "atime": 1000000001, "mtime": 2000000002})
        cut = one(found, "do_truncate", length=4)
        equal((cut["inode"], cut["dev"]), (inode, at))
        assert ends(cut["pathname"], folder, "/x"), cut
        entered = [(event["unresolved_path"], event["resolved_path"]) for event in map(arguments, found["set_fs_pwd"])]
        equal(entered, [(folder, folder), ("sub/../sub", f"{folder}/sub"), ("/", "/")])
        watched = one(found, "security_path_notify")
        equal((watched["pathname"], watched["inode"], watched["dev"]), (f"{folder}/x", inode, at))
        equal((watched["mask"] & 2, watched["obj_type"]), (2, 0))  # FSNOTIFY_OBJ_TYPE_INODE
        gone = one(found, "security_sb_umount")
        equal(gone, {"mountpoint": f"{folder}/mnt", "type": "tmpfs", "flags": 2})
        opened = one(found, "security_file_open", pathname=f"{folder}/x")
        equal((opened["inode"], opened["dev"], opened["syscall_pathname"]), (inode, at, f"{folder}/x"))
        unlinked = one(found, "security_inode_unlink", inode=inode)
        equal((unlinked["device"], unlinked["ctime"]), (at, facts["last"][3]))
        assert ends(unlinked["pathname"], folder, "/x"), unlinked
        inside = one(found, "security_file_open", pathname=f"{folder}/mnt/in")
        equal(inside["flags"] & 3, os.O_WRONLY)
        programs = [argument(event, "pathname") for event in found["load_elf_phdrs"]]
        assert os.path.realpath("/proc/self/exe") in programs, programs


def ends(path, folder, rest):
    """Paths that are known by their entry only are those within the file system."""
    return path.endswith(folder[folder.rindex("/") :] + rest)


KERNEL_READS = """
f = open(folder + "/module", "wb")
f.write(bytes(100))
f.close()
told(module=os.stat(folder + "/module"))
fd = os.open(folder + "/module", os.O_RDONLY)
told(result=libc.syscall({"x86_64": 313}.get(os.uname().machine, 273), fd, b"", 0))
"""


@check(timeout=60.0)
def check_what_the_kernel_reads():
    """A module that is none: the kernel reads the file before it finds out."""
    names = ("security_kernel_read_file", "security_kernel_post_read_file")
    with deeds(names, KERNEL_READS) as (found, folder, facts):
        equal(facts["result"], -1)
        _, inode, device = facts["module"][:3]
        reading = one(found, names[0])
        equal((reading["pathname"], reading["inode"], reading["dev"]), (f"{folder}/module", inode, encoded(device)))
        equal((reading["type"], reading["ctime"]), (2, facts["module"][3]))
        equal(one(found, names[1]), {"pathname": f"{folder}/module", "size": 100, "type": 2})


TRANSFERS = """
fd = os.open(folder + "/x", os.O_CREAT | os.O_RDWR, 0o600)
os.write(fd, b"0123456789")
os.lseek(fd, 7, 0)
os.write(fd, b"abcde")
os.pwritev(fd, [b"vec", b"tor"], 3)
os.lseek(fd, 2, 0)
os.read(fd, 1000)
os.preadv(fd, [bytearray(4), bytearray(3)], 1)
told(x=os.fstat(fd))
second = os.open(folder + "/y", os.O_CREAT | os.O_WRONLY, 0o600)
os.writev(second, [b"\\x7fELFabc", b"def"])
told(y=os.fstat(second))
reading, writing = os.pipe()
os.write(writing, b"pipe")
told(pipe=os.fstat(reading).st_ino)
"""
TRANSFER_EVENTS = ("vfs_write", "vfs_writev", "vfs_read", "vfs_readv", "magic_write")


@check(timeout=60.0)
def check_reads_and_writes():
    """Counts, positions and results of each call; the first bytes of a file that is written from its start."""
    with deeds(TRANSFER_EVENTS, TRANSFERS) as (found, folder, facts):
        mine = {name: (facts[name][1], encoded(facts[name][2])) for name in "xy"}

        def calls(name, of="x"):
            """Count, position and result of each call."""
            rows = []
            for event in found[name]:
                values = arguments(event)
                if values["pathname"] == f"{folder}/{of}":
                    equal((values["inode"], values["dev"]), mine[of])
                    rows.append((values.get("count", values.get("vlen")), values["pos"], event["returnValue"]))
            return rows

        equal(calls("vfs_write"), [(10, 0, 10), (5, 7, 5)])
        equal(calls("vfs_writev"), [(2, 3, 6)])
        equal(calls("vfs_writev", "y"), [(2, 0, 10)])
        equal(calls("vfs_read"), [(1000, 2, 10)])
        equal(calls("vfs_readv"), [(2, 1, 7)])
        (piped,) = [event for event in map(arguments, found["vfs_write"]) if event["inode"] == facts["pipe"]]
        equal((piped["pathname"], piped["count"], piped["pos"]), ("pipefs", 4, 0))
        headers = {}
        for event in map(arguments, found["magic_write"]):
            if event["pathname"].startswith(folder):
                name = event["pathname"][-1]
                equal((event["inode"], event["dev"]), mine[name])
                headers.setdefault(name, []).append(base64.b64decode(event["bytes"]))
        equal(headers, {"x": [b"0123456789"], "y": [b"\x7fELFabc"]})


CHANGES = """
import time
with open(folder + "/x", "w"):
    pass
time.sleep(0.1)
told(before=os.stat(folder + "/x").st_ctime_ns)
fd = os.open(folder + "/x", os.O_WRONLY)
os.write(fd, b"1")
told(after=os.stat(folder + "/x").st_ctime_ns)
time.sleep(0.1)
os.write(fd, b"2")
os.close(fd)
time.sleep(0.1)
told(again=os.stat(folder + "/x").st_ctime_ns)
fd = os.open(folder + "/x", os.O_WRONLY)
os.write(fd, b"3")
os.close(fd)
told(x=os.stat(folder + "/x"))
"""


@check(timeout=60.0)
def check_modification():
    """A change is told of once for each time that the file is open."""
    with deeds(("file_modification",), CHANGES) as (found, folder, facts):
        _, inode, device, last, _ = facts["x"]
        at = {"dev": encoded(device), "inode": inode}
        changes = [event for event in map(arguments, found["file_modification"]) if event["file_path"] == f"{folder}/x"]
        times = ((facts["before"], facts["after"]), (facts["again"], last))
        wanted = {**at, "file_path": f"{folder}/x"}
        equal(changes, [{**wanted, "old_ctime": old, "new_ctime": new} for old, new in times])


WATCHES = """
with open(folder + "/x", "w"):
    pass
told(x=os.stat(folder + "/x"))
libc.inotify_add_watch(libc.inotify_init1(0o2000000), (folder + "/x").encode(), 0x2)
libc.inotify_add_watch(libc.inotify_init1(0o2000000), b"/no/such/file", 0x2)
"""


@check(timeout=60.0)
def check_watches():
    """A watch that could be made."""
    with deeds(("inotify_watch",), WATCHES) as (found, folder, facts):
        _, inode, device = facts["x"][:3]
        wanted = {"pathname": f"{folder}/x", "dev": encoded(device), "inode": inode}
        equal([*map(arguments, found["inotify_watch"])], [wanted])


@check(timeout=60.0)
def check_the_kernel_writes():
    """A process's account, written by the kernel when the process ends."""
    with deeds(("__kernel_write", "magic_write"), ACCOUNT) as (found, folder, facts):
        if facts["result"]:
            skip(f"this kernel keeps no accounts of processes: acct() gave {os.strerror(facts['errno'])}")
        _, inode, device = facts["account"][:3]
        written = arguments(found["__kernel_write"][0])
        assert ends(written["pathname"], folder, "/account"), written
        wanted = {"dev": encoded(device), "inode": inode, "count": 64, "pos": 0}
        equal(written, {**wanted, "pathname": written["pathname"]})
        magic = one(found, "magic_write", pathname=written["pathname"])
        equal(len(base64.b64decode(magic["bytes"])), 32)


ACCOUNT = """
libc = ctypes.CDLL(None, use_errno=True)
open(folder + "/account", "w").close()
told(result=libc.acct((folder + "/account").encode()), errno=ctypes.get_errno(), account=os.stat(folder + "/account"))
if not os.fork():
    os._exit(0)
os.wait()
libc.acct(None)
"""


SLEEPERS = """
import _thread, time
reading, writing = os.pipe()
threads = []
def sleep():
    os.read(reading, 1)
    threads.append(_thread.get_native_id())
for _ in range(12):
    _thread.start_new_thread(sleep, ())
time.sleep(1)
fd = os.open(folder + "/x", os.O_CREAT | os.O_RDWR, 0o600)
for size in range(1, 6):
    os.write(fd, bytes(size))
os.lseek(fd, 0, 0)
os.read(fd, 15)
os.write(writing, bytes(12))
while len(threads) < 12:
    time.sleep(0.1)
told(x=os.fstat(fd), pipe=os.fstat(reading), threads=threads)
"""


@check(timeout=60.0)
def check_returns_while_others_sleep():
    """Calls are seen to return, those that begin and end while many sleep in the same function as well as these."""
    with deeds(("vfs_read", "vfs_write"), SLEEPERS) as (found, _, facts):

        def results(name, file):
            _, inode, device, *_ = facts[file]  # a pipe's inode may have the number of some file's
            return [
                (event["hostThreadId"], event["returnValue"])
                for event in found[name]
                if (argument(event, "inode"), argument(event, "dev")) == (inode, encoded(device))
            ]

        equal([result for _, result in results("vfs_write", "x")], [1, 2, 3, 4, 5])
        equal([result for _, result in results("vfs_read", "x")], [15])
        equal(sorted(results("vfs_read", "pipe")), sorted((thread, 1) for thread in facts["threads"]))
