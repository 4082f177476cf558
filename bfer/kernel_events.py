"""Events that are no system calls, as data: where they hook, arguments with their C types, sets.

A line is ``NAME PLACE ID HOOKS: TYPE NAME[:KIND][@OPTION], ...``; what has an OPTION is there only with that
output option, last of all. The program of programs/hooks.py has the event's
name, and its number there is HOOKS + PLACE; ID is Tracee's number. HOOKS are the
kinds of programs that there are, best first: the first has the plain name, another the suffix ``__KIND``.
``[SET ...]`` heads the lines of events that belong to these sets.
"""

from __future__ import annotations

# ruff: noqa: E501

TABLE = """
[default lsm_hooks fs fs_file_ops]
security_file_open 0 722 fentry,kprobe: const char* pathname, int flags:open, dev_t dev, unsigned long inode, unsigned long ctime, int syscall:syscall@detect-syscall
security_inode_unlink 5 723 fentry,kprobe: const char* pathname, unsigned long inode, dev_t dev, u64 ctime
[lsm_hooks fs fs_file_ops]
security_inode_rename 6 770 fentry,kprobe: const char* old_path, const char* new_path
[default proc]
sched_process_exec 1 707 tp_btf,raw_tp: const char* cmdpath, const char* pathname, dev_t dev, unsigned long inode, unsigned long ctime, umode_t inode_mode:inode_mode, const char* sha256:sha256@exec-hash
[proc]
sched_process_fork 2 706 tp_btf,raw_tp: int parent_tid, int parent_pid, int child_tid, int child_pid, unsigned long start_time
task_rename 4 769 tp_btf,raw_tp: const char* old_name, const char* new_name, int syscall:syscall@detect-syscall
[default proc proc_life]
sched_process_exit 3 708 tp_btf,raw_tp: long exit_code, bool process_group_exit
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
security_mmap_file 17 736 fentry,kprobe: const char* pathname, int flags:open, dev_t dev, unsigned long inode, unsigned long ctime, int prot:prot, int mmap_flags:mmap, int syscall:syscall@detect-syscall
[default system system_module]
module_load 15 780 tp_btf,raw_tp: const char* name, const char* version, const char* src_version
module_free 16 781 tp_btf,raw_tp: const char* name, const char* version, const char* src_version
"""
