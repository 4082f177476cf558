"""What is shown of a structure that an argument points at.

A line names members as C would write them after ``->``, a structure's pointers followed. A single member that is a path
or a text stands for the whole.
"""

from __future__ import annotations

VIEWS = {
    "file": ("f_path",),
    "path": ("",),
    "dentry": ("",),
    "kiocb": ("ki_filp.f_path",),
    "filename": ("name",),
    "linux_binprm": ("filename",),
    "qstr": ("name",),
    "super_block": ("s_id",),
    "file_system_type": ("name",),
    "module": ("name",),
    "net_device": ("name",),
    "gendisk": ("disk_name",),
    "kobject": ("name",),
    "device": ("kobj.name",),
    "ctl_table": ("procname",),
    "bpf_map": ("name",),
    "bpf_prog": ("aux.name",),
    "irqaction": ("name",),
    "cgroup": ("kn.name",),
    "kernfs_node": ("name",),
    "new_utsname": ("nodename",),
    "task_struct": ("pid", "tgid", "comm"),
    "pid": ("numbers.nr",),
    "inode": ("i_ino", "i_sb.s_dev"),
    "cred": ("uid.val", "gid.val", "euid.val"),
    "sk_buff": ("len", "protocol"),
    "vm_area_struct": ("vm_start", "vm_end"),
    "iov_iter": ("count",),
    "timespec64": ("tv_sec", "tv_nsec"),
    "kernel_siginfo": ("si_signo", "si_errno", "si_code"),
    "iattr": ("ia_valid", "ia_mode"),
    "kernel_clone_args": ("flags", "exit_signal"),
    "bio": ("bi_iter.bi_sector", "bi_iter.bi_size"),
}

SOCKADDRS = ("sockaddr", "sockaddr_unsized", "sockaddr_storage", "__kernel_sockaddr_storage", "sockaddr_in")
SOCKADDRS_OTHER = ("sockaddr_in6", "sockaddr_un", "sockaddr_nl", "sockaddr_ll", "sockaddr_alg", "sockaddr_vm")

SOCKETS = {"sock": "", "socket": "sk", "inet_sock": "sk", "tcp_sock": "inet_conn.icsk_inet.sk"}
"""Structures with a socket's addresses, and the way to their struct sock."""

LENGTHS = frozenset(
    (
        *("count", "len", "length", "size", "nbytes", "bytes", "buflen", "buf_len", "bufsize", "datalen", "data_len"),
        *("addrlen", "addr_len", "namelen", "name_len", "alen", "msg_namelen"),
    )
)
"""How an argument is called that tells how many bytes there are behind the one before it."""
