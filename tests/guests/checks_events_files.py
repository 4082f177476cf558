"""Events of files and folders: each fires, with what a small program did to them as its arguments."""

from __future__ import annotations

import os
import stat

from tests.guests.checks import check, equal
from tests.guests.eventkit import argument, arguments, deeds, one

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
"""
NAME_EVENTS = (
    *("security_inode_mknod", "security_inode_symlink", "vfs_utimes", "do_truncate", "set_fs_pwd"),
    *("security_path_notify", "security_sb_umount", "security_file_open", "load_elf_phdrs"),
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
        equal(watched["mask"] & 2, 2)
        gone = one(found, "security_sb_umount")
        equal(gone, {"mountpoint": f"{folder}/mnt", "type": "tmpfs", "flags": 2})
        opened = one(found, "security_file_open", pathname=f"{folder}/x")
        equal((opened["inode"], opened["dev"], opened["syscall_pathname"]), (inode, at, f"{folder}/x"))
        inside = one(found, "security_file_open", pathname=f"{folder}/mnt/in")
        equal(inside["flags"] & 3, os.O_WRONLY)
        programs = [argument(event, "pathname") for event in found["load_elf_phdrs"]]
        assert os.path.realpath("/proc/self/exe") in programs, programs


def encoded(device):
    """A device as the kernel numbers it inside (include/linux/kdev_t.h)."""
    return os.major(device) << 20 | os.minor(device)


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
