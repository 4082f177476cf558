"""What each system call asks the kernel for, in a line; read by those who ask, never on the way of a trace."""

from __future__ import annotations

from bfer.descriptions import line_of

TABLE = """
_llseek: set the position in a file, by two halves of 32 bits
_newselect: wait until one of a set of files can be read or written
_sysctl: read or change a parameter of the kernel by numbers (gone since 5.5)
accept: take the next connection off a listening socket
accept4: take the next connection off a listening socket, with flags for the new descriptor
access: ask whether the real user may read, write or execute a file
acct: record every process that ends in a file, or stop that
add_key: add a key to a keyring, or change it
adjtimex: read the clock's discipline, or adjust it
alarm: send SIGALRM after some seconds
arch_prctl: read or set what the architecture keeps for a thread: segment bases, features
arm_fadvise64_64: say how a part of a file will be read, the advice before the numbers of 64 bits
arm_sync_file_range: write a part of a file to the disk, the flags before the numbers of 64 bits
bdflush: tune the kernel's writing of buffers (does nothing any more)
bind: give a socket its local address
bpf: make and use BPF programs, maps and links
brk: move the end of the data segment
cachestat: count the pages of a part of a file that are in the page cache
capget: read the capabilities of a thread
capset: change the capabilities of the calling thread
chdir: enter a folder by its path
chmod: change the permissions of a file
chown: change the owner of a file
chroot: make a folder the root of all paths
clock_adjtime: read the discipline of a clock, or adjust it
clock_getres: ask how fine a clock is
clock_gettime: read a clock
clock_nanosleep: sleep for a time, or until one, by a clock
clock_settime: set a clock
clone: make a process or thread, with flags for what it shares
clone3: make a process or thread, by a structure
close: close a descriptor
close_range: close all descriptors of a range, or mark them close-on-exec
connect: connect a socket to an address, or set the receiver of its messages
copy_file_range: copy bytes from file to file inside the kernel
creat: make a file, or empty it, and open it for writing
create_module: make room for a kernel module (gone since 2.6)
delete_module: unload a kernel module
dup: duplicate a descriptor to the lowest free number
dup2: duplicate a descriptor to a given number
dup3: duplicate a descriptor to a given number, with flags
epoll_create: make an epoll instance, with a size that is ignored
epoll_create1: make an epoll instance, with flags
epoll_ctl: add a file to an epoll instance, change or remove it
epoll_ctl_old: an early form of epoll_ctl (never implemented)
epoll_pwait: wait for events of an epoll instance under a signal mask
epoll_pwait2: wait for events of an epoll instance under a signal mask, up to nanoseconds
epoll_wait: wait for events of an epoll instance
epoll_wait_old: an early form of epoll_wait (never implemented)
eventfd: make a descriptor that counts events
eventfd2: make a descriptor that counts events, with flags
execve: become another program
execveat: become another program, found from a folder's descriptor, or the descriptor's own
exit: end the calling thread
exit_group: end all threads of the process
faccessat: ask whether the real user may use a file, found from a folder's descriptor
faccessat2: ask whether a user may use a file, found from a folder's descriptor, with flags
fadvise64: say how a part of a file will be read
fadvise64_64: say how a part of a file will be read; numbers of 64 bits
fallocate: reserve, free, zero or shift space in a file
fanotify_init: make a fanotify group, which is told of what happens to files
fanotify_mark: say which file, mount or file system a fanotify group is told of
fchdir: enter a folder by its descriptor
fchmod: change the permissions of an open file
fchmodat: change the permissions of a file, found from a folder's descriptor
fchmodat2: change the permissions of a file, found from a folder's descriptor, with flags
fchown: change the owner of an open file
fchownat: change the owner of a file, found from a folder's descriptor
fcntl: work on a descriptor: duplicate it, its flags, locks, leases, pipe sizes, seals
fdatasync: write a file's contents to the disk, and of its metadata what reading them takes
fgetxattr: read an extended attribute of an open file
file_getattr: read a file's flags and project, as FS_IOC_FSGETXATTR does
file_setattr: set a file's flags and project, as FS_IOC_FSSETXATTR does
finit_module: load a kernel module from a descriptor
flistxattr: list the extended attributes of an open file
flock: lock an open file, or unlock it
fork: make a process, a copy of the calling one
fremovexattr: remove an extended attribute of an open file
fsconfig: set a parameter of a file system that is being set up, or make it
fsetxattr: set an extended attribute of an open file
fsmount: make a mount of a file system that has been set up
fsopen: begin to set up a file system
fspick: take a mounted file system to configure it anew
fstat: read the metadata of an open file
fstatat64: read the metadata of a file, found from a folder's descriptor
fstatfs: ask for size and type of the file system of an open file
fsync: write a file to the disk
ftruncate: set the length of an open file
futex: wait at a word in memory, wake those who wait, or requeue them
futex_requeue: move those who wait at one word in memory to another
futex_wait: wait at a word in memory, of several sizes
futex_waitv: wait at several words in memory at once
futex_wake: wake those who wait at a word in memory, of several sizes
futimesat: set a file's times, found from a folder's descriptor
get_kernel_syms: list the kernel's symbols (gone since 2.6)
get_mempolicy: ask which NUMA nodes memory comes from
get_robust_list: ask where a thread keeps the list of its robust futexes
get_thread_area: read a segment of the thread's local storage
getcpu: ask on which processor and node the thread runs
getcwd: ask for the path of the current folder
getdents: read entries of a folder
getdents64: read entries of a folder, with types and numbers of 64 bits
getegid: ask for the effective group
geteuid: ask for the effective user
getgid: ask for the real group
getgroups: ask for the supplementary groups
getitimer: ask how long an interval timer has to go
getpeername: ask for the address at a socket's other end
getpgid: ask for the process group of a process
getpgrp: ask for the process group of the calling process
getpid: ask for the number of the calling process
getppid: ask for the number of the parent
getpriority: ask for the nice value of a process, group or user
getrandom: get random bytes
getresgid: ask for the real, effective and saved group
getresuid: ask for the real, effective and saved user
getrlimit: ask for a limit of the process
getrusage: ask for the processor time and memory used
getsid: ask for the session of a process
getsockname: ask for a socket's own address
getsockopt: read an option of a socket
gettid: ask for the number of the calling thread
gettimeofday: read the wall clock
getuid: ask for the real user
getxattr: read an extended attribute of a file
getxattrat: read an extended attribute of a file, found from a folder's descriptor
init_module: load a kernel module from memory
inotify_add_watch: watch a file or folder
inotify_init: make an inotify instance
inotify_init1: make an inotify instance, with flags
inotify_rm_watch: stop to watch a file or folder
io_cancel: cancel an asynchronous operation
io_destroy: end a context of asynchronous operations
io_getevents: take results of asynchronous operations
io_pgetevents: take results of asynchronous operations under a signal mask
io_setup: make a context for asynchronous operations
io_submit: start asynchronous operations
io_uring_enter: hand over submissions of an io_uring, and wait for completions
io_uring_register: register buffers, files and more with an io_uring
io_uring_setup: make an io_uring
ioctl: ask a device or file for what only it knows how to do
ioperm: allow a range of I/O ports
iopl: allow all I/O ports
ioprio_get: ask for the I/O priority of a process, group or user
ioprio_set: set the I/O priority of a process, group or user
ipc: System V messages, semaphores and shared memory, by an operation's number
kcmp: compare what two processes have: files, memory, tables
kexec_file_load: load another kernel to boot into, by descriptors
kexec_load: load another kernel to boot into, from memory
keyctl: work on keys and keyrings
kill: send a signal to a process or group
landlock_add_rule: add a rule to a Landlock ruleset
landlock_create_ruleset: make a Landlock ruleset
landlock_restrict_self: put a Landlock ruleset into force for the calling thread
lchown: change the owner of a file, not following a symbolic link
lgetxattr: read an extended attribute of a file, not following a symbolic link
link: give a file another name
linkat: give a file another name, found from folders' descriptors
listen: make a socket accept connections
listmount: list mounts below a mount
listns: list namespaces
listxattr: list the extended attributes of a file
listxattrat: list the extended attributes of a file, found from a folder's descriptor
llistxattr: list the extended attributes of a file, not following a symbolic link
lookup_dcookie: ask for the path of a profiler's cookie (gone since 6.7)
lremovexattr: remove an extended attribute of a file, not following a symbolic link
lseek: set the position in an open file
lsetxattr: set an extended attribute of a file, not following a symbolic link
lsm_get_self_attr: read what security modules keep for the calling process
lsm_list_modules: list the active security modules
lsm_set_self_attr: change what a security module keeps for the calling process
lstat: read the metadata of a file, not following a symbolic link
madvise: say how memory will be used, or give it back
map_shadow_stack: map a shadow stack
mbind: say which NUMA nodes a range of memory comes from
membarrier: make all threads pass a memory barrier
memfd_create: make a file that is in memory only
memfd_secret: make a file in memory that even the kernel does not map
migrate_pages: move a process's pages to other NUMA nodes
mincore: ask which pages are in memory
mkdir: make a folder
mkdirat: make a folder, found from a folder's descriptor
mknod: make a device node, FIFO, socket or file
mknodat: make a device node, FIFO, socket or file, found from a folder's descriptor
mlock: keep a range of memory from being swapped out
mlock2: keep a range of memory from being swapped out, with flags
mlockall: keep all memory of the process from being swapped out
mmap: map a file or memory
mmap2: map a file or memory, the offset in pages
modify_ldt: read or change the thread's local descriptor table
mount: mount a file system, move or change a mount
mount_setattr: change the properties of a mount or a tree of them
move_mount: put a mount at a place
move_pages: move single pages of a process to NUMA nodes, or ask where they are
mprotect: change what may be done with a range of memory
mq_getsetattr: read or set the attributes of a message queue
mq_notify: ask to be told when a message arrives in a queue
mq_open: open a message queue, or make it
mq_timedreceive: take a message from a queue, waiting up to a time
mq_timedsend: put a message into a queue, waiting up to a time
mq_unlink: remove a message queue
mremap: move or resize mapped memory
mseal: forbid all changes to a range of mappings
msgctl: control a System V message queue
msgget: find a System V message queue, or make it
msgrcv: take a message from a System V queue
msgsnd: put a message into a System V queue
msync: write mapped memory back to its file
munlock: allow a range of memory to be swapped out again
munlockall: allow all memory to be swapped out again
munmap: unmap a range of memory
name_to_handle_at: get a handle by which a file can be opened later
nanosleep: sleep for a time
newfstatat: read the metadata of a file, found from a folder's descriptor
nfsservctl: control the NFS server (gone since 3.1)
nice: change the priority of the calling process
old_mmap: map a file or memory, by a structure
oldfstat: read the metadata of an open file, the first form
oldlstat: read the metadata of a file, not following a symbolic link, the first form
oldolduname: ask for the names of the system, the first form
oldselect: wait until one of a set of files can be read or written, by a structure
oldstat: read the metadata of a file, the first form
olduname: ask for the names of the system, the second form
open: open a file, or make it
open_by_handle_at: open a file by a handle
open_tree: get a descriptor of a mount, or of a copy of it
open_tree_attr: get a descriptor of a mount, and change its properties
openat: open a file, or make it, found from a folder's descriptor
openat2: open a file, or make it, with rules for the path
pause: sleep until a signal comes
pciconfig_iobase: ask where a PCI bus is mapped
pciconfig_read: read from a PCI device's configuration
pciconfig_write: write to a PCI device's configuration
perf_event_open: open a performance counter, or a probe
personality: read or set which system the process is to see
pidfd_getfd: get a copy of another process's descriptor
pidfd_open: get a descriptor of a process
pidfd_send_signal: send a signal to a process by its descriptor
pipe: make a pipe
pipe2: make a pipe, with flags
pivot_root: exchange the root file system
pkey_alloc: get a memory protection key
pkey_free: give a memory protection key back
pkey_mprotect: change what may be done with a range of memory, with a protection key
poll: wait for events of some descriptors
ppoll: wait for events of some descriptors under a signal mask
prctl: read or change properties of the calling process
pread64: read from a position in a file
preadv: read from a position in a file into several buffers
preadv2: read from a position in a file into several buffers, with flags
prlimit64: read and set a limit of a process
process_madvise: say how another process's memory will be used
process_mrelease: free the memory of a process that is being killed
process_vm_readv: read another process's memory
process_vm_writev: write into another process's memory
pselect6: wait until one of a set of files can be read or written, under a signal mask
ptrace: watch and control another process
pwrite64: write to a position in a file
pwritev: write to a position in a file from several buffers
pwritev2: write to a position in a file from several buffers, with flags
query_module: ask about kernel modules (gone since 2.6)
quotactl: control the disk quotas of a file system
quotactl_fd: control the disk quotas of the file system of a descriptor
read: read from a descriptor
readahead: read a part of a file into the page cache
readdir: read one entry of a folder
readlink: read where a symbolic link leads
readlinkat: read where a symbolic link leads, found from a folder's descriptor
readv: read from a descriptor into several buffers
reboot: reboot or halt the system, or allow Ctrl-Alt-Del
recv: receive from a connected socket
recvfrom: receive from a socket, with the sender's address
recvmmsg: receive several messages from a socket
recvmsg: receive a message from a socket, with descriptors and control data
remap_file_pages: change which pages of a file a mapping shows
removexattr: remove an extended attribute of a file
removexattrat: remove an extended attribute of a file, found from a folder's descriptor
rename: give a file another name or place
renameat: give a file another name or place, found from folders' descriptors
renameat2: give a file another name or place, with flags
request_key: find a key, or have user space make it
restart_syscall: go on with a call that a stop signal interrupted
riscv_flush_icache: make code just written visible to execution
riscv_hwprobe: ask what the processors can do
rmdir: remove an empty folder
rseq: register the thread's restartable sequences
rseq_slice_yield: give back a time slice that was extended
rt_sigaction: say what a signal is to do
rt_sigpending: ask which signals are waiting
rt_sigprocmask: block or unblock signals
rt_sigqueueinfo: send a signal with data to a process
rt_sigreturn: come back from a signal handler
rt_sigsuspend: wait for a signal under another mask
rt_sigtimedwait: take a waiting signal, waiting up to a time
rt_tgsigqueueinfo: send a signal with data to a thread
s390_guarded_storage: control guarded storage
s390_pci_mmio_read: read from a PCI device's memory
s390_pci_mmio_write: write to a PCI device's memory
s390_runtime_instr: control runtime instrumentation
s390_sthyi: ask the hypervisor for its information
sched_get_priority_max: ask for the highest priority of a scheduling policy
sched_get_priority_min: ask for the lowest priority of a scheduling policy
sched_getaffinity: ask on which processors a thread may run
sched_getattr: read the scheduling policy and all its parameters
sched_getparam: read the scheduling priority
sched_getscheduler: read the scheduling policy
sched_rr_get_interval: ask for the round-robin time slice
sched_setaffinity: say on which processors a thread may run
sched_setattr: set the scheduling policy and all its parameters
sched_setparam: set the scheduling priority
sched_setscheduler: set scheduling policy and priority
sched_yield: let another thread run
seccomp: filter the system calls of the calling process
select: wait until one of a set of files can be read or written
semctl: control System V semaphores
semget: find System V semaphores, or make them
semop: change System V semaphores, or wait for them
semtimedop: change System V semaphores, or wait for them up to a time
send: send to a connected socket
sendfile: copy from a file to a descriptor inside the kernel
sendmmsg: send several messages on a socket
sendmsg: send a message on a socket, with descriptors and control data
sendto: send on a socket, to an address
set_mempolicy: say which NUMA nodes the thread's memory comes from
set_mempolicy_home_node: say which NUMA node a range of memory is best taken from
set_robust_list: say where the thread keeps the list of its robust futexes
set_thread_area: set a segment of the thread's local storage
set_tid_address: say where the thread's number is cleared at its end
setdomainname: set the NIS domain name
setfsgid: set the group by which files are judged
setfsuid: set the user by whom files are judged
setgid: set the group
setgroups: set the supplementary groups
sethostname: set the host name
setitimer: start or stop an interval timer
setns: enter a namespace
setpgid: put a process into a process group
setpriority: set the nice value of a process, group or user
setregid: set the real and effective group
setresgid: set the real, effective and saved group
setresuid: set the real, effective and saved user
setreuid: set the real and effective user
setrlimit: set a limit of the process
setsid: begin a session
setsockopt: set an option of a socket
settimeofday: set the wall clock
setuid: set the user
setxattr: set an extended attribute of a file
setxattrat: set an extended attribute of a file, found from a folder's descriptor
sgetmask: read the mask of blocked signals, the first form
shmat: map a System V shared memory segment
shmctl: control a System V shared memory segment
shmdt: unmap a System V shared memory segment
shmget: find a System V shared memory segment, or make it
shutdown: end one or both directions of a connection
sigaction: say what a signal is to do, with a mask of 32 signals
sigaltstack: say on which stack signal handlers run
signal: say what a signal is to do, the first form
signalfd: make a descriptor that reads signals
signalfd4: make a descriptor that reads signals, with flags
sigpending: ask which of the first 32 signals are waiting
sigprocmask: block or unblock the first 32 signals
sigreturn: come back from a signal handler, the first form
sigsuspend: wait for a signal under another mask, the first form
socket: make a socket
socketcall: all calls of sockets, by an operation's number
socketpair: make two sockets that are connected
splice: move bytes between a pipe and a descriptor inside the kernel
ssetmask: set the mask of blocked signals, the first form
stat: read the metadata of a file
statfs: ask for size and type of the file system of a path
statmount: ask about a mount by its number
statx: read the metadata of a file that are asked for
stime: set the wall clock, in seconds
swapoff: stop to swap to a file or device
swapon: swap to a file or device
symlink: make a symbolic link
symlinkat: make a symbolic link, found from a folder's descriptor
sync: write all file systems to the disks
sync_file_range: write a part of a file to the disk
syncfs: write the file system of a descriptor to the disk
sysfs: ask which types of file systems there are
sysinfo: ask for uptime, load and memory of the system
syslog: read or control the kernel's log
tee: copy bytes from pipe to pipe, leaving them in the first
tgkill: send a signal to a thread of a process
time: read the wall clock, in seconds
timer_create: make a timer
timer_delete: delete a timer
timer_getoverrun: ask how often a timer ran out unseen
timer_gettime: ask how long a timer has to go
timer_settime: start or stop a timer
timerfd_create: make a timer that is a descriptor
timerfd_gettime: ask how long a timer's descriptor has to go
timerfd_settime: start or stop a timer's descriptor
times: ask for the processor time used, in ticks
tkill: send a signal to a thread
truncate: set the length of a file
ugetrlimit: ask for a limit of the process, with numbers of 32 bits
umask: set which permissions new files do not get
umount: unmount a file system
umount2: unmount a file system, with flags
uname: ask for the names of the system: kernel, release, host
unlink: remove a file's name
unlinkat: remove a file's name or a folder, found from a folder's descriptor
unshare: leave what is shared with other processes: namespaces, files, memory
uprobe: enter the kernel from an optimised uprobe; not for programs
uretprobe: return to the kernel from a function under a uretprobe; not for programs
uselib: load a library of the old kind
userfaultfd: make a descriptor by which page faults are handled in user space
ustat: ask for free space and inodes of a file system
utime: set a file's times, in seconds
utimensat: set a file's times in nanoseconds, found from a folder's descriptor
utimes: set a file's times, in microseconds
vfork: make a process that uses the caller's memory until it becomes another program
vhangup: hang up the terminal
vm86: run in virtual 8086 mode
vm86old: run in virtual 8086 mode, the first form
vmsplice: put memory into a pipe
wait4: wait for a child to change its state, with the time it used
waitid: wait for a child to change its state, with details
waitpid: wait for a child to change its state
write: write to a descriptor
writev: write to a descriptor from several buffers
"""

# What the names of later forms of a call end with, and what is different in them.
_FORMS = {"_time64": "times of 64 bits", "64": "numbers of 64 bits", "32": "ids of 32 bits"}


def call_description(name: str) -> str:
    """The line on a system call, or that on its first form and what is different; "" where there is none."""
    line = line_of(TABLE, name)
    for ending, what in _FORMS.items():
        if not line and name.endswith(ending) and (first := line_of(TABLE, name[: -len(ending)])):
            line = f"{first}; {what}"
    return line
