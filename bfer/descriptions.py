"""What each event is about, in a line; read by those who ask, never on the way of a trace."""

from __future__ import annotations

TABLE = """
__kernel_write: the kernel has written to a file by itself
alg_socket: a socket of the family AF_ALG is bound to an algorithm, accepted, written to or read from
bpf_attach: a BPF program is attached: by a link of any kind, or to a perf event; to what
call_usermodehelper: the kernel starts a program, such as modprobe, by itself
cap_capable: a capability is asked for, and used if the process has it
cgroup_attach_task: a process is moved to another control group
cgroup_mkdir: a control group is made
cgroup_rmdir: a control group is removed
commit_creds: a process gets other credentials: ids, capabilities, user namespace
debugfs_create_dir: kernel code makes a folder in debugfs
debugfs_create_file: kernel code makes a file in debugfs
device_add: a device is registered, by a driver or because it was found
dirty_pipe_splice: a splice left its buffer in the pipe as one that later writes are merged into (CVE-2022-0847)
do_exit: a thread ends
do_init_module: a kernel module has been started; where it stands in the list of modules
do_mmap: memory has been mapped, with or without a file
do_sigaction: a process says what a signal is to do
do_truncate: a file gets another length by its name, or by O_TRUNC
file_modification: what is in an open file changes, told once until it is closed
ftrace_hook: a function of the kernel has callbacks by ftrace; what was there before the run, and what comes
hidden_inodes: a directory has an entry without an inode's number, as one that hides files leaves it
hidden_kernel_module: a module is in the kernel but missing from one of the places where modules are listed
hooked_proc_fops: the functions that list a directory of /proc are not the kernel's own
hooked_seq_ops: the functions that list sockets in /proc/net are not the kernel's own
hooked_syscall: an entry of the table of system calls does not lead into the kernel's own code
hooked_syscalls: all entries of the table of system calls that do not lead into the kernel's own code
init_namespaces: the namespaces of the system's first process, once at the beginning
inotify_watch: a file is watched by inotify
kallsyms_lookup_name: kernel code asks for the address of a symbol
kprobe_attach: a probe has been set on a function of the kernel
load_elf_phdrs: the kernel reads the headers of a program, or of its interpreter, to start it
magic_write: a file has been written from its start: the first bytes tell what it is
mem_prot_alert: memory becomes executable, or executable and writable
module_free: a kernel module is unloaded
module_load: a kernel module is loaded
net_tcp_connect: a connection over TCP is about to be made
print_mem_dump: the first bytes of what print_mem_dump.symbol_name=... names, at the beginning and after each module
proc_create: kernel code makes a file in /proc
process_execute_failed: a program that was found could not be started
random_read: /dev/random or /dev/urandom is read
register_chrdev: a driver has got a number for its character devices
sched_process_exec: a process has become another program
sched_process_exit: a thread ends; process_group_exit tells whether it was the last of its process
sched_process_fork: a process or thread is made
sched_switch: a processor goes from one thread to another
security_bpf: bpf() is called, with which command
security_bpf_map: a process gets a descriptor of a BPF map
security_bpf_prog: a process gets a descriptor of a BPF program, for loading it or by its number
security_bprm_check: a program is about to be started
security_file_mprotect: the protection of memory is about to change
security_file_open: a file is about to be opened, by whatever system call
security_inode_mknod: a device node, FIFO or socket is made in the file system
security_inode_rename: a file gets another name
security_inode_symlink: a symbolic link is made
security_inode_unlink: a file's name is removed
security_kernel_post_read_file: the kernel has read a file for itself
security_kernel_read_file: the kernel is about to read a file for itself: a module, firmware, another kernel
security_mmap_file: a file is about to be mapped into memory
security_path_notify: a process wants to be told of what happens to a file
security_sb_mount: a file system is about to be mounted
security_sb_umount: a file system is about to be unmounted
security_settime64: the clock is about to be set
security_socket_accept: a connection is about to be accepted
security_socket_bind: a socket is about to get an address
security_socket_connect: a socket is about to be connected, or its messages to get a receiver
security_socket_create: a socket is about to be made
security_socket_listen: a socket is about to accept connections
security_socket_setsockopt: an option of a socket is about to be set
security_task_prctl: prctl() is called
security_task_setrlimit: a limit of a process is about to be set
set_fs_pwd: a process enters another folder
shared_object_loaded: a file is about to be mapped to be executed by a process that runs another program
socket_accept: a connection has been accepted; both of its ends
socket_dup: a descriptor of a socket has been duplicated
stack_pivot: a system call was made with a stack pointer outside of the thread's stack
suspicious_syscall_source: a system call was made by code in memory that no file stands behind
switch_task_ns: a process gets other namespaces
symbols_collision: a shared object defines what another one of the process defines too
symbols_loaded: a shared object is loaded that defines the symbols asked for by symbols_loaded.symbols=...
sys_enter: any system call begins
sys_exit: any system call ends
task_rename: a thread gets another name
vfs_read: a file, pipe or socket has been read
vfs_readv: a file, pipe or socket has been read into several buffers
vfs_utimes: a file gets other times of access and change
vfs_write: a file, pipe or socket has been written to
vfs_writev: a file, pipe or socket has been written to from several buffers
zeroed_inodes: today's name of hidden_inodes
"""

RETURNING = {
    *("sys_exit", "do_mmap", "vfs_read", "vfs_readv", "vfs_write", "vfs_writev", "__kernel_write", "magic_write"),
    *("process_execute_failed", "do_init_module", "register_chrdev", "random_read", "socket_accept", "socket_dup"),
}
"""Those whose result is that of the function or call; of the others it is 0."""


def description(name: str) -> str:
    """The line on an event, also on a system call; "" where there is none."""
    line = line_of(TABLE, name)
    if not line:
        from bfer.call_descriptions import call_description

        line = call_description(name)
    return line


def line_of(table: str, name: str) -> str:
    """What a table of lines ``NAME: TEXT`` says of a name; "" if nothing."""
    at = table.find(f"\n{name}: ")
    return table[at + len(name) + 3 : table.index("\n", at + 1)] if at >= 0 else ""
