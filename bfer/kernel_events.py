"""Events that are no system calls, as data: where they hook, arguments with their C types, sets.

A line is ``NAME PLACE ID HOOKS: TYPE NAME[:KIND][@OPTION], ...``; what has an OPTION is there only with that
output option. The event's number in the programs is HOOKS + PLACE; ID is
Tracee's number, or 800 + PLACE where Tracee 0.8 has none. What an event is about stands in bfer.descriptions.

HOOKS tells where the event is seen, for most in one place: the ways to see it there, best first, with commas between.
A way is a word, the kind of its program. The first program is called as the event, the others have the
suffix ``__WORD``. ``+`` joins the programs that only together make a way, ``;`` separates places.

``[SET ...]`` heads the lines of events that belong to these sets, ``(OBJECT)`` those whose programs are in OBJECT.bpf.o.
"""

from __future__ import annotations

# ruff: noqa: E501

TABLE = """
(hooks)
[default lsm_hooks fs fs_file_ops]
security_file_open 0 722 fentry,kprobe: const char* pathname, int flags:opened, dev_t dev, unsigned long inode, unsigned long ctime, const char* syscall_pathname, int syscall:syscall@detect-syscall
security_inode_unlink 5 723 fentry,kprobe: const char* pathname, unsigned long inode, dev_t device, u64 ctime
[lsm_hooks fs fs_file_ops]
security_inode_rename 6 758 fentry,kprobe: const char* old_path, const char* new_path
[proc]
sched_process_fork 2 706 tp_btf,raw_tp,steady: int parent_tid, int parent_ns_tid, int parent_pid, int parent_ns_pid, int child_tid, int child_ns_tid, int child_pid, int child_ns_pid, unsigned long start_time
task_rename 4 757 tp_btf,raw_tp: const char* old_name, const char* new_name, int syscall:syscall@detect-syscall
[default proc proc_life]
sched_process_exit 3 708 tp_btf,raw_tp,steady: long exit_code, bool process_group_exit
[default lsm_hooks proc proc_life]
security_bprm_check 7 721 fentry,kprobe: const char* pathname, dev_t dev, unsigned long inode
[default lsm_hooks fs]
security_sb_mount 8 730 fentry,kprobe: const char* dev_name, const char* path, const char* type, unsigned long flags:mount
[default lsm_hooks net net_sock]
security_socket_create 9 724 fentry,kprobe: int family:af, int type:sock_type, int protocol, int kern
security_socket_listen 10 725 fentry,kprobe: int sockfd:fd, struct sockaddr* local_addr:sockaddr, int backlog
security_socket_connect 11 726 fentry,kprobe: int sockfd:fd, struct sockaddr* remote_addr:sockaddr
security_socket_accept 12 727 fentry,kprobe: int sockfd:fd, struct sockaddr* local_addr:sockaddr
security_socket_bind 13 728 fentry,kprobe: int sockfd:fd, struct sockaddr* local_addr:sockaddr
security_socket_setsockopt 14 729 fentry,kprobe: int sockfd:fd, int level:sol, int optname:sockopt, struct sockaddr* local_addr:sockaddr
[lsm_hooks fs fs_file_ops proc proc_mem memory]
security_mmap_file 17 737 fentry,kprobe: const char* pathname, int flags:opened, dev_t dev, unsigned long inode, unsigned long ctime, int prot:prot, int mmap_flags:mmap, int syscall:syscall@detect-syscall
[default system system_module]
module_load 15 815 tp_btf,raw_tp: const char* name, const char* version, const char* src_version, const char* pathname, dev_t dev, unsigned long inode, unsigned long ctime
module_free 16 816 tp_btf,raw_tp: const char* name, const char* version, const char* src_version
(tasks)
[default proc]
sched_process_exec 1 707 tp_btf,raw_tp;loader,loader_return: const char* cmdpath, const char* pathname, const char** argv:strings, const char** env:strings@exec-env, dev_t dev, unsigned long inode, int invoked_from_kernel, unsigned long ctime, umode_t stdin_type:inode_mode, umode_t inode_mode:inode_mode, const char* interp, const char* interpreter_pathname, dev_t interpreter_dev, unsigned long interpreter_inode, unsigned long interpreter_ctime, const char* sha256:sha256@exec-hash
[proc]
process_execute_failed 57 857 fexit,single,enter+return: int dirfd:dirfd, int flags:at, const char* pathname, const char* binary.path, dev_t binary.device_id, unsigned long binary.inode_number, unsigned long binary.ctime, umode_t binary.inode_mode:inode_mode, const char* interpreter_path, umode_t stdin_type:inode_mode, const char* stdin_path, int kernel_invoked, const char** argv:argv, const char** envp:envp@exec-env
[signals]
do_sigaction 58 858 fentry,kprobe: int sig:signal, bool is_sa_initialized, unsigned long sa_flags:sa_flags, unsigned long sa_mask, u8 sa_handle_method:sa_handle_method, void* sa_handler, bool is_old_sa_initialized, unsigned long old_sa_flags:sa_flags, unsigned long old_sa_mask, u8 old_sa_handle_method:sa_handle_method, void* old_sa_handler
[]
sys_enter 18 704 tp_btf,raw_tp: int syscall:syscall
sys_exit 19 705 tp_btf,raw_tp: int syscall:syscall
[proc]
sched_switch 20 709 tp_btf,raw_tp: int cpu, int prev_tid, const char* prev_comm, int next_tid, const char* next_comm
[proc proc_life]
do_exit 21 710 fentry,kprobe:
(security)
[default]
cap_capable 22 711 fentry,kprobe: int cap:capability, int syscall:syscall@detect-syscall
[lsm_hooks]
security_bpf 37 731 fentry,kprobe: int cmd:bpf
security_bpf_map 38 732 fentry,kprobe: unsigned int map_id, const char* map_name
security_bpf_prog 39 839 fentry,kprobe;helpers,helpers__kprobe,helpers_clone: int type:bpf_prog, const char* name, u64[] helpers:helpers, u32 id, bool load
security_task_setrlimit 47 847 fentry,kprobe: u32 target_host_pid, int resource:rlimit, u64 new_rlim_cur, u64 new_rlim_max
security_settime64 48 848 fentry,kprobe: long tv_sec, long tv_nsec, int tz_minuteswest, int tz_dsttime
security_task_prctl 49 849 fentry,kprobe: int option:prctl, unsigned long arg2, unsigned long arg3, unsigned long arg4, unsigned long arg5, const char* vma_name
[]
commit_creds 30 715 fentry,kprobe: slim_cred_t old_cred:cred, slim_cred_t new_cred:cred, int syscall:syscall@detect-syscall
switch_task_ns 31 716 fentry,kprobe: pid_t pid, u32 new_mnt, u32 new_pid, u32 new_uts, u32 new_ipc, u32 new_net, u32 new_cgroup
cgroup_attach_task 32 718 tp_btf,raw_tp: const char* cgroup_path, const char* comm, pid_t pid
cgroup_mkdir 33 719 tp_btf,raw_tp: u64 cgroup_id, const char* cgroup_path, u32 hierarchy_id
cgroup_rmdir 34 720 tp_btf,raw_tp: u64 cgroup_id, const char* cgroup_path, u32 hierarchy_id
(memory)
[security_alert memory]
mem_prot_alert 29 714 fexit,enter+return;change,change__kprobe: u32 alert:mem_prot_alert, void* addr, size_t len, int prot:prot, int prev_prot:prot, const char* pathname, dev_t dev, unsigned long inode, unsigned long ctime
[lsm_hooks fs fs_file_ops proc proc_mem memory]
security_file_mprotect 44 738 fentry,kprobe: const char* pathname, int prot:prot, unsigned long ctime, int prev_prot:prot, void* addr, size_t len
[proc proc_mem memory]
do_mmap 50 850 enter+return: void* addr, const char* pathname, u32 flags:opened, dev_t dev, unsigned long inode, unsigned long ctime, unsigned long pgoff, unsigned long len, unsigned long prot:prot, unsigned long mmap_flags:mmap
(readwrite)
[]
vfs_write 23 712 fexit,enter+return: const char* pathname, dev_t dev, unsigned long inode, size_t count, off_t pos
vfs_writev 24 713 fexit,enter+return: const char* pathname, dev_t dev, unsigned long inode, unsigned long vlen, off_t pos
vfs_read 25 825 fexit,enter+return: const char* pathname, dev_t dev, unsigned long inode, size_t count, off_t pos
vfs_readv 26 826 fexit,enter+return: const char* pathname, dev_t dev, unsigned long inode, unsigned long vlen, off_t pos
__kernel_write 27 741 fexit,enter+return: const char* pathname, dev_t dev, unsigned long inode, size_t count, off_t pos
magic_write 28 717 fexit,enter+return;vector_fexit,vector_enter+vector_return;kernel_fexit,kernel_enter+kernel_return: const char* pathname, bytes bytes:bytes, dev_t dev, unsigned long inode
(files)
[lsm_hooks]
security_kernel_read_file 40 733 fentry,kprobe: const char* pathname, dev_t dev, unsigned long inode, int type:kernel_read_file, unsigned long ctime
security_kernel_post_read_file 41 735 fentry,kprobe: const char* pathname, long size, int type:kernel_read_file
security_inode_mknod 42 734 fentry,kprobe: const char* file_name, umode_t mode:inode_mode, dev_t dev
security_path_notify 46 846 fentry,kprobe: const char* pathname, unsigned long inode, dev_t dev, u64 mask:inotify, u32 obj_type
[lsm_hooks fs fs_file_ops]
security_inode_symlink 43 736 fentry,kprobe: const char* linkpath, const char* target
[lsm_hooks fs]
security_sb_umount 45 845 fentry,kprobe: const char* mountpoint, const char* type, int flags:umount
[fs fs_file_attr]
vfs_utimes 51 851 fentry,kprobe: const char* pathname, dev_t dev, unsigned long inode, u64 atime, u64 mtime
[fs fs_file_ops]
do_truncate 52 852 fentry,kprobe: const char* pathname, unsigned long inode, dev_t dev, u64 length
file_modification 53 853 fentry+fexit,kprobe+kretprobe;time_fentry+time_fexit,time_kprobe+time_kretprobe;close,close__kprobe: const char* file_path, dev_t dev, unsigned long inode, unsigned long old_ctime, unsigned long new_ctime
[fs fs_monitor]
inotify_watch 54 854 fexit,enter+return: const char* pathname, unsigned long inode, dev_t dev
[fs fs_dir_ops]
set_fs_pwd 55 855 fentry,kprobe: const char* unresolved_path, const char* resolved_path
[proc]
load_elf_phdrs 56 754 fentry,kprobe: const char* pathname, dev_t dev, unsigned long inode
(drivers)
[drivers]
proc_create 100 742 fentry,kprobe: const char* name, void* proc_ops_addr
kprobe_attach 101 743 fexit,kretprobe+enter: const char* symbol_name, void* pre_handler_addr, void* post_handler_addr
call_usermodehelper 102 744 fentry,kprobe: const char* pathname, const char*const* argv:argv, const char*const* envp:envp, int wait
debugfs_create_file 103 746 fentry,kprobe,full+short,full__kprobe+short__kprobe: const char* file_name, const char* path, mode_t mode, void* proc_ops_addr
debugfs_create_dir 104 748 fentry,kprobe: const char* name, const char* path
device_add 105 749 fentry,kprobe: const char* name, const char* parent_name
register_chrdev 106 750 fexit,kretprobe+enter: unsigned int requested_major_number, unsigned int granted_major_number, const char* char_device_name, void* char_device_fops
kallsyms_lookup_name 108 761 fexit,kretprobe+enter: const char* symbol_name, void* symbol_address
[drivers system system_module]
do_init_module 107 752 fexit+enter,kretprobe+enter__kprobe: const char* name, const char* version, const char* src_version, void* prev, void* next, void* prev_next, void* next_prev
(integrity)
[integrity]
hooked_syscalls 114 2004 derive.syscall_table: []trace.HookedSymbolData hooked_syscalls:hooked
hooked_seq_ops 115 2005 derive.seq_ops: map[string]trace.HookedSymbolData hooked_seq_ops:hooked
hooked_proc_fops 113 755 derive.proc_fops;fentry,kprobe: []trace.HookedSymbolData hooked_fops_pointers:hooked
hooked_syscall 116 2014 derive.syscall_table: const char* syscall, const char* address, const char* function, const char* owner
hidden_kernel_module 117 2008 derive.modules: const char* address, const char* name, const char* srcversion
ftrace_hook 118 2015 derive.ftrace: const char* symbol, const char* trampoline, const char* callback, long callback_offset, const char* callback_owner, const char* flags, u64 count
dirty_pipe_splice 110 745 fexit,kretprobe+enter: unsigned long inode_in, umode_t in_file_type:inode_mode, const char* in_file_path, loff_t exposed_data_start_offset, size_t exposed_data_len, unsigned long inode_out, unsigned int out_pipe_last_buffer_flags
hidden_inodes 111 740 fentry,kprobe: const char* hidden_process
zeroed_inodes 112 1112 fentry,kprobe: const char* dirent_name
(sockets)
[net net_sock]
net_tcp_connect 120 2016 fentry,kprobe: const char* dst:ip, int dst_port, const char*const* dst_dns:argv
socket_dup 121 739 tp_btf,raw_tp: int oldfd:fd, int newfd:fd, struct sockaddr* remote_addr:sockaddr
socket_accept 122 753 tp_btf,raw_tp: int sockfd:fd, struct sockaddr* local_addr:sockaddr, struct sockaddr* remote_addr:sockaddr
(stacks)
[integrity memory]
suspicious_syscall_source 130 1130 tp_btf,raw_tp: int syscall:syscall, void* ip, const char* vma_type, void* vma_start, unsigned long vma_size, unsigned long vma_flags:hex
stack_pivot 131 1131 tp_btf,raw_tp: int syscall:syscall, void* sp, const char* vma_type, void* vma_start, unsigned long vma_size, unsigned long vma_flags:hex
(crypto)
[crypto]
random_read 140 1140 fexit+enter,kretprobe+enter__kprobe,old_kretprobe+old_enter,old_kretprobe+old_enter__kprobe;urandom+urandom_enter,urandom_kretprobe+urandom_enter__kprobe,uold_kretprobe+uold_enter,uold_kretprobe+uold_enter__kprobe: const char* device, size_t count
alg_socket 141 1141 fentry,kprobe;accept,accept__kprobe;sendmsg,sendmsg__kprobe;recvmsg,recvmsg__kprobe: const char* operation, const char* type, const char* name, size_t size
(objects)
[fs fs_file_ops proc proc_mem]
shared_object_loaded 150 751 fentry,kprobe: const char* pathname, int flags:opened, dev_t dev, unsigned long inode, unsigned long ctime
(integrity)
[system]
init_namespaces 119 2000 derive.namespaces: u32 cgroup, u32 ipc, u32 mnt, u32 net, u32 pid, u32 pid_for_children, u32 time, u32 time_for_children, u32 user, u32 uts
(attachments)
[integrity]
bpf_attach 160 760 fentry+prime,kprobe+prime__kprobe;ioctl,ioctl__kprobe: int prog_type:bpf_prog, const char* prog_name, u32 prog_id, const char* symbol_name, u64 symbol_addr:hex, int attach_type:bpf_attach
(objects)
[fs]
symbols_loaded 151 2006 derive.objects;fentry,kprobe: const char* library_path, const char*const* symbols:argv
symbols_collision 152 2007 derive.objects;fentry,kprobe: const char* loaded_path, const char* collision_path, const char*const* symbols:argv
(integrity)
[integrity memory]
print_mem_dump 109 763 derive.memory_dump: []byte bytes:outbuf, void* address, u64 length, u64 caller_context_id, const char* arch, const char* symbol_name, const char* symbol_owner
"""
