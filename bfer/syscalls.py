"""All system calls, as data: numbers by machine, arguments with their C types, sets.

A line is ``NAME X86-64 I386 GENERIC ARM S390X: TYPE NAME[:KIND], ...``; ``-`` is a table
that lacks the call. GENERIC is include/uapi/asm-generic/unistd.h (arm64, riscv64,
loongarch64); I386 and ARM are also the tables of 32-bit callers on x86-64 and arm64. A name
may have several lines, where machines disagree about the arguments. KIND says how
a value is read and printed (bfer.values, bfer.memory); without it the type does.
``[SET ...]`` heads the lines of calls that belong to these sets.

The text is searched, not parsed, when only a few calls are asked for.
"""

from __future__ import annotations

# ruff: noqa: E501

TABLE = """
[fs fs_read_write]
read 0 3 63 3 3: int fd:fd, void* buf, size_t count
write 1 4 64 4 4: int fd:fd, const void* buf, size_t count
lseek 8 19 62 19 19: int fd:fd, off_t offset, unsigned int whence:whence
pread64 17 180 67 180 180: int fd:fd, void* buf, size_t count, off_t offset
pwrite64 18 181 68 181 181: int fd:fd, const void* buf, size_t count, off_t offset
readv 19 145 65 145 145: int fd:fd, const struct iovec* iov:iovecs, unsigned long iovcnt
writev 20 146 66 146 146: int fd:fd, const struct iovec* iov:iovecs, unsigned long iovcnt
sendfile 40 187 71 187 187: int out_fd:fd, int in_fd:fd, off_t* offset, size_t count
preadv 295 333 69 361 328: int fd:fd, const struct iovec* iov:iovecs, unsigned long iovcnt, unsigned long pos_l, unsigned long pos_h
pwritev 296 334 70 362 329: int fd:fd, const struct iovec* iov:iovecs, unsigned long iovcnt, unsigned long pos_l, unsigned long pos_h
copy_file_range 326 377 285 391 375: int fd_in:fd, off_t* off_in, int fd_out:fd, off_t* off_out, size_t len, unsigned int flags
preadv2 327 378 286 392 376: int fd:fd, const struct iovec* iov:iovecs, unsigned long iovcnt, unsigned long pos_l, unsigned long pos_h, int flags:rwf
pwritev2 328 379 287 393 377: int fd:fd, const struct iovec* iov:iovecs, unsigned long iovcnt, unsigned long pos_l, unsigned long pos_h, int flags:rwf
[fs fs_file_ops]
open 2 5 - 5 5: const char* pathname, int flags:open, mode_t mode
close 3 6 57 6 6: int fd:fd
truncate 76 92 45 92 92: const char* path, off_t length
ftruncate 77 93 46 93 93: int fd:fd, off_t length
rename 82 38 - 38 38: const char* oldpath, const char* newpath
creat 85 8 - 8 8: const char* pathname, mode_t mode
mknod 133 14 - 14 14: const char* pathname, mode_t mode:inode_mode, dev_t dev:dev
openat 257 295 56 322 288: int dirfd:dirfd, const char* pathname, int flags:open, mode_t mode
mknodat 259 297 33 324 290: int dirfd:dirfd, const char* pathname, mode_t mode:inode_mode, dev_t dev:dev
renameat 264 302 38 329 295: int olddirfd:dirfd, const char* oldpath, int newdirfd:dirfd, const char* newpath
fallocate 285 324 47 352 314: int fd:fd, int mode:fallocate, off_t offset, off_t len
name_to_handle_at 303 341 264 370 335: int dirfd:dirfd, const char* pathname, struct file_handle* handle, int* mount_id, int flags:at_handle
open_by_handle_at 304 342 265 371 336: int mount_fd:dirfd, struct file_handle* handle, int flags:open
renameat2 316 353 276 382 347: int olddirfd:dirfd, const char* oldpath, int newdirfd:dirfd, const char* newpath, unsigned int flags:rename
close_range 436 436 436 436 436: unsigned int first, unsigned int last, unsigned int flags:close_range
openat2 437 437 437 437 437: int dirfd:dirfd, const char* pathname, struct open_how* how:open_how, size_t size
file_getattr 468 468 468 468 468: int dirfd:dirfd, const char* pathname, struct file_attr* attr, size_t size, unsigned int at_flags:at
file_setattr 469 469 469 469 469: int dirfd:dirfd, const char* pathname, struct file_attr* attr, size_t size, unsigned int at_flags:at
[fs fs_file_ops memory]
memfd_create 319 356 279 385 350: const char* name, unsigned int flags:memfd
[fs fs_file_attr]
stat 4 106 - 106 106: const char* pathname, struct stat* statbuf:outstat
fstat 5 108 80 108 108: int fd:fd, struct stat* statbuf:outstat
lstat 6 107 - 107 107: const char* pathname, struct stat* statbuf:outstat
access 21 33 - 33 33: const char* pathname, int mode:access
chmod 90 15 - 15 15: const char* pathname, mode_t mode
fchmod 91 94 52 94 94: int fd:fd, mode_t mode
chown 92 182 - 182 212: const char* pathname, uid_t owner, gid_t group
fchown 93 95 55 95 207: int fd:fd, uid_t owner, gid_t group
lchown 94 16 - 16 198: const char* pathname, uid_t owner, gid_t group
umask 95 60 166 60 60: mode_t mask
utime 132 30 - - 30: const char* filename, const struct utimbuf* times:utimbuf
utimes 235 271 - 269 313: const char* filename, struct timeval* times:timevals
utimensat 280 320 88 348 315: int dirfd:dirfd, const char* pathname, struct timespec* times:timespecs, int flags:at
futimesat 261 299 - 326 292: int dirfd:dirfd, const char* pathname, struct timeval* times:timevals
newfstatat 262 - 79 - 293: int dirfd:dirfd, const char* pathname, struct stat* statbuf:outstat, int flags:at_statx
fchownat 260 298 54 325 291: int dirfd:dirfd, const char* pathname, uid_t owner, gid_t group, int flags:at
fchmodat 268 306 53 333 299: int dirfd:dirfd, const char* pathname, mode_t mode
fchmodat2 452 452 452 452 452: int dirfd:dirfd, const char* pathname, mode_t mode, unsigned int flags:at
faccessat 269 307 48 334 300: int dirfd:dirfd, const char* pathname, int mode:access
faccessat2 439 439 439 439 439: int dirfd:dirfd, const char* pathname, int mode:access, int flags:at_eaccess
statx 332 383 291 397 379: int dirfd:dirfd, const char* pathname, int flags:at_statx, unsigned int mask:statx, struct statx* statxbuf:outstatx
setxattr 188 226 5 226 224: const char* path, const char* name, const void* value, size_t size, int flags:xattr
lsetxattr 189 227 6 227 225: const char* path, const char* name, const void* value, size_t size, int flags:xattr
fsetxattr 190 228 7 228 226: int fd:fd, const char* name, const void* value, size_t size, int flags:xattr
getxattr 191 229 8 229 227: const char* path, const char* name, void* value, size_t size
lgetxattr 192 230 9 230 228: const char* path, const char* name, void* value, size_t size
fgetxattr 193 231 10 231 229: int fd:fd, const char* name, void* value, size_t size
listxattr 194 232 11 232 230: const char* path, char* list, size_t size
llistxattr 195 233 12 233 231: const char* path, char* list, size_t size
flistxattr 196 234 13 234 232: int fd:fd, char* list, size_t size
removexattr 197 235 14 235 233: const char* path, const char* name
lremovexattr 198 236 15 236 234: const char* path, const char* name
fremovexattr 199 237 16 237 235: int fd:fd, const char* name
setxattrat 463 463 463 463 463: int dirfd:dirfd, const char* pathname, unsigned int at_flags:at, const char* name, const struct xattr_args* uargs, size_t usize
getxattrat 464 464 464 464 464: int dirfd:dirfd, const char* pathname, unsigned int at_flags:at, const char* name, struct xattr_args* uargs, size_t usize
listxattrat 465 465 465 465 465: int dirfd:dirfd, const char* pathname, unsigned int at_flags:at, char* list, size_t size
removexattrat 466 466 466 466 466: int dirfd:dirfd, const char* pathname, unsigned int at_flags:at, const char* name
[fs fs_dir_ops]
getdents 78 141 - 141 141: int fd:fd, struct linux_dirent* dirp, unsigned int count
getcwd 79 183 17 183 183: char* buf:outstr, size_t size
chdir 80 12 49 12 12: const char* path
fchdir 81 133 50 133 133: int fd:fd
mkdir 83 39 - 39 39: const char* pathname, mode_t mode
rmdir 84 40 - 40 40: const char* pathname
chroot 161 61 51 61 61: const char* path
lookup_dcookie 212 253 18 249 110: u64 cookie, char* buffer, size_t len
getdents64 217 220 61 217 220: int fd:fd, struct linux_dirent64* dirp, unsigned int count
mkdirat 258 296 34 323 289: int dirfd:dirfd, const char* pathname, mode_t mode
[fs fs_fd_ops]
ioctl 16 54 29 54 54: int fd:fd, unsigned int request:ioctl, unsigned long arg:ptr
dup 32 41 23 41 41: int oldfd:fd
dup2 33 63 - 63 63: int oldfd:fd, int newfd:fd
fcntl 72 55 25 55 55: int fd:fd, int cmd:fcntl, unsigned long arg:fcntl_arg
flock 73 143 32 143 143: int fd:fd, int operation:flock
dup3 292 330 24 358 326: int oldfd:fd, int newfd:fd, int flags:open_only
[fs fs_link_ops]
link 86 9 - 9 9: const char* oldpath, const char* newpath
unlink 87 10 - 10 10: const char* pathname
symlink 88 83 - 83 83: const char* target, const char* linkpath
readlink 89 85 - 85 85: const char* pathname, char* buf:outbuf, size_t bufsiz
unlinkat 263 301 35 328 294: int dirfd:dirfd, const char* pathname, int flags:at
linkat 265 303 37 330 296: int olddirfd:dirfd, const char* oldpath, int newdirfd:dirfd, const char* newpath, unsigned int flags:at
symlinkat 266 304 36 331 297: const char* target, int newdirfd:dirfd, const char* linkpath
readlinkat 267 305 78 332 298: int dirfd:dirfd, const char* pathname, char* buf:outbuf, size_t bufsiz
[fs fs_monitor]
inotify_init 253 291 - 316 284:
inotify_add_watch 254 292 27 317 285: int fd:fd, const char* pathname, u32 mask:inotify
inotify_rm_watch 255 293 28 318 286: int fd:fd, int wd
inotify_init1 294 332 26 360 324: int flags:inotify_init
fanotify_init 300 338 262 367 332: unsigned int flags:fanotify_init, unsigned int event_f_flags:open
fanotify_mark 301 339 263 368 333: int fanotify_fd:fd, unsigned int flags:fanotify_mark, u64 mask:fanotify_mask, int dirfd:dirfd, const char* pathname
[fs fs_mux_io]
poll 7 168 - 168 168: struct pollfd* fds:pollfds, unsigned int nfds, int timeout
select 23 - - - 142: int nfds, fd_set* readfds, fd_set* writefds, fd_set* exceptfds, struct timeval* timeout
epoll_create 213 254 - 250 249: int size
epoll_ctl_old 214 - - - -: int epfd:fd, int op:epoll_ctl, int fd:fd, struct epoll_event* event
epoll_wait_old 215 - - - -: int epfd:fd, struct epoll_event* events, int maxevents, int timeout
epoll_wait 232 256 - 252 251: int epfd:fd, struct epoll_event* events:outepoll_events, int maxevents, int timeout
epoll_ctl 233 255 21 251 250: int epfd:fd, int op:epoll_ctl, int fd:fd, struct epoll_event* event:epoll_event
pselect6 270 308 72 335 301: int nfds, fd_set* readfds, fd_set* writefds, fd_set* exceptfds, struct timespec* timeout, void* sigmask
ppoll 271 309 73 336 302: struct pollfd* fds:pollfds, unsigned int nfds, struct timespec* tmo_p, const sigset_t* sigmask:sigset, size_t sigsetsize
epoll_pwait 281 319 22 346 312: int epfd:fd, struct epoll_event* events:outepoll_events, int maxevents, int timeout, const sigset_t* sigmask:sigset, size_t sigsetsize
epoll_create1 291 329 20 357 327: int flags:epoll_create
epoll_pwait2 441 441 441 441 441: int fd:fd, struct epoll_event* events:outepoll_events, int maxevents, const struct timespec* timeout:timespec, const sigset_t* sigset:sigset, size_t sigsetsize
[fs fs_async_io]
io_setup 206 245 0 243 243: unsigned int nr_events, io_context_t* ctx_idp
io_destroy 207 246 1 244 244: io_context_t ctx_id
io_getevents 208 247 4 245 245: io_context_t ctx_id, long min_nr, long nr, struct io_event* events, struct timespec* timeout:timespec
io_submit 209 248 2 246 246: io_context_t ctx_id, long nr, struct iocb** iocbpp
io_cancel 210 249 3 247 247: io_context_t ctx_id, struct iocb* iocb, struct io_event* result
io_pgetevents 333 385 292 399 382: aio_context_t ctx_id, long min_nr, long nr, struct io_event* events, struct timespec* timeout:timespec, const struct __aio_sigset* usig
io_uring_setup 425 425 425 425 425: unsigned int entries, struct io_uring_params* p
io_uring_enter 426 426 426 426 426: int fd:fd, unsigned int to_submit, unsigned int min_complete, unsigned int flags:io_uring_enter, const void* argp, size_t argsz
io_uring_register 427 427 427 427 427: int fd:fd, unsigned int opcode:io_uring_register, void* arg, unsigned int nr_args
[fs fs_sync]
msync 26 144 227 144 144: void* addr, size_t length, int flags:msync
fsync 74 118 82 118 118: int fd:fd
fdatasync 75 148 83 148 148: int fd:fd
sync 162 36 81 36 36:
sync_file_range 277 314 84 - 307: int fd:fd, off_t offset, off_t nbytes, unsigned int flags:sync_file_range
syncfs 306 344 267 373 338: int fd:fd
[fs fs_info]
ustat 136 62 - 62 62: dev_t dev:dev, struct ustat* ubuf
statfs 137 99 43 99 99: const char* path, struct statfs* buf:outstatfs
fstatfs 138 100 44 100 100: int fd:fd, struct statfs* buf:outstatfs
sysfs 139 135 - 135 135: int option, unsigned long arg1:ptr, unsigned long arg2:ptr
statmount 457 457 457 457 457: const struct mnt_id_req* req, struct statmount* buf, size_t bufsize, unsigned int flags:statmount
listmount 458 458 458 458 458: const struct mnt_id_req* req, u64* mnt_ids, size_t nr_mnt_ids, unsigned int flags:listmount
listns 470 470 470 470 470: const struct ns_id_req* req, u64* ns_ids, size_t nr_ns_ids, unsigned int flags
[fs]
pivot_root 155 217 41 218 217: const char* new_root, const char* put_old
mount 165 21 40 21 21: const char* source, const char* target, const char* filesystemtype, unsigned long mountflags:mount, const void* data
umount2 166 52 39 52 52: const char* target, int flags:umount
umount - 22 - - 22: const char* target
uselib 134 86 - 86 86: const char* library
readahead 187 225 213 225 222: int fd:fd, off_t offset, size_t count
fadvise64 221 250 223 - 253: int fd:fd, off_t offset, size_t len, int advice:fadvise
splice 275 313 76 340 306: int fd_in:fd, off_t* off_in, int fd_out:fd, off_t* off_out, size_t len, unsigned int flags:splice
tee 276 315 77 342 308: int fd_in:fd, int fd_out:fd, size_t len, unsigned int flags:splice
vmsplice 278 316 75 343 309: int fd:fd, const struct iovec* iov:iovecs, unsigned long nr_segs, unsigned int flags:splice
open_tree 428 428 428 428 428: int dirfd:dirfd, const char* pathname, unsigned int flags:open_tree
open_tree_attr 467 467 467 467 467: int dirfd:dirfd, const char* pathname, unsigned int flags:open_tree, struct mount_attr* uattr:mount_attrs, size_t usize
move_mount 429 429 429 429 429: int from_dirfd:dirfd, const char* from_path, int to_dirfd:dirfd, const char* to_path, unsigned int flags:move_mount
fsopen 430 430 430 430 430: const char* fsname, unsigned int flags:fsopen
fsconfig 431 431 431 431 431: int fs_fd:fd, unsigned int cmd:fsconfig, const char* key, const void* value, int aux
fsmount 432 432 432 432 432: int fsfd:fd, unsigned int flags:fsmount, unsigned int ms_flags:mount_attr
fspick 433 433 433 433 433: int dirfd:dirfd, const char* pathname, unsigned int flags:fspick
mount_setattr 442 442 442 442 442: int dfd:dirfd, const char* path, unsigned int flags:at, struct mount_attr* uattr:mount_attrs, size_t usize
cachestat 451 451 451 451 451: int fd:fd, struct cachestat_range* cstat_range, struct cachestat* cstat, unsigned int flags
nfsservctl 180 169 42 169 169: int cmd, struct nfsctl_arg* argp, union nfsctl_res* resp
quotactl_fd 443 443 443 443 443: int fd:fd, unsigned int cmd:quota, u32 id:id, void* addr
swapon 167 87 224 87 87: const char* path, int swapflags:swap
swapoff 168 115 225 115 115: const char* path
[net net_sock]
socket 41 359 198 281 359: int domain:af, int type:sock_type, int protocol:ipproto
connect 42 362 203 283 362: int sockfd:fd, struct sockaddr* addr:sockaddr, int addrlen
accept 43 - 202 285 -: int sockfd:fd, struct sockaddr* addr:outsockaddr, int* addrlen:outint
shutdown 48 373 210 293 373: int sockfd:fd, int how:shutdown
bind 49 361 200 282 361: int sockfd:fd, struct sockaddr* addr:sockaddr, int addrlen
listen 50 363 201 284 363: int sockfd:fd, int backlog
getsockname 51 367 204 286 367: int sockfd:fd, struct sockaddr* addr:outsockaddr, int* addrlen:outint
getpeername 52 368 205 287 368: int sockfd:fd, struct sockaddr* addr:outsockaddr, int* addrlen:outint
socketpair 53 360 199 288 360: int domain:af, int type:sock_type, int protocol:ipproto, int[2] sv:pair
setsockopt 54 366 208 294 366: int sockfd:fd, int level:sol, int optname:sockopt, const void* optval, int optlen
getsockopt 55 365 209 295 365: int sockfd:fd, int level:sol, int optname:sockopt, void* optval, int* optlen:outint
accept4 288 364 242 366 364: int sockfd:fd, struct sockaddr* addr:outsockaddr, int* addrlen:outint, int flags:sock_flags
[net net_snd_rcv]
sendto 44 369 206 290 369: int sockfd:fd, void* buf, size_t len, int flags:msg, struct sockaddr* dest_addr:sockaddr, int addrlen
recvfrom 45 371 207 292 371: int sockfd:fd, void* buf, size_t len, int flags:msg, struct sockaddr* src_addr:outsockaddr, int* addrlen:outint
sendmsg 46 370 211 296 370: int sockfd:fd, struct msghdr* msg:msghdr, int flags:msg
recvmsg 47 372 212 297 372: int sockfd:fd, struct msghdr* msg:msghdr, int flags:msg
recvmmsg 299 337 243 365 357: int sockfd:fd, struct mmsghdr* msgvec, unsigned int vlen, int flags:msg, struct timespec* timeout
sendmmsg 307 345 269 374 358: int sockfd:fd, struct mmsghdr* msgvec, unsigned int vlen, int flags:msg
[net]
sethostname 170 74 161 74 74: const char* name:sized, int len
setdomainname 171 121 162 121 121: const char* name:sized, int len
socketcall - 102 - - 102: int call, unsigned long* args
[proc proc_life]
clone 56 - - - -: unsigned long flags:clone, void* stack, int* parent_tid, int* child_tid, unsigned long tls:ptr
clone - 120 220 120 -: unsigned long flags:clone, void* stack, int* parent_tid, unsigned long tls:ptr, int* child_tid
clone - - - - 120: void* stack, unsigned long flags:clone, int* parent_tid, int* child_tid, unsigned long tls:ptr
fork 57 2 - 2 2:
vfork 58 190 - 190 190:
execve 59 11 221 11 11: const char* pathname, const char*const* argv:argv, const char*const* envp:envp
exit 60 1 93 1 1: int status
wait4 61 114 260 114 114: pid_t pid, int* wstatus:outwstatus, int options:wait, struct rusage* rusage
waitpid - 7 - - -: pid_t pid, int* wstatus, int options:wait
exit_group 231 252 94 248 248: int status
waitid 247 284 95 280 281: int idtype:idtype, pid_t id, siginfo_t* infop, int options:wait, struct rusage* rusage:outrusage
execveat 322 358 281 387 354: int dirfd:dirfd, const char* pathname, const char*const* argv:argv, const char*const* envp:envp, int flags:at
clone3 435 435 435 435 435: struct clone_args* cl_args:clone_args, size_t size
[proc proc_mem memory]
mmap 9 - 222 - -: void* addr, size_t length, unsigned long prot:prot, unsigned long flags:mmap, int fd:fd, off_t off:hex
old_mmap - 90 - - 90: struct mmap_arg_struct* arg
mmap2 - 192 - 192 -: void* addr, size_t length, unsigned long prot:prot, unsigned long flags:mmap, int fd:fd, off_t off:hex
mprotect 10 125 226 125 125: void* addr, size_t len, unsigned long prot:prot
munmap 11 91 215 91 91: void* addr, size_t length
brk 12 45 214 45 45: void* addr
mremap 25 163 216 163 163: void* old_address, size_t old_size, size_t new_size, unsigned long flags:mremap, void* new_address
mincore 27 218 232 219 218: void* addr, size_t length, unsigned char* vec
madvise 28 219 233 220 219: void* addr, size_t length, int advice:madvise
mlock 149 150 228 150 150: const void* addr, size_t len
munlock 150 151 229 151 151: const void* addr, size_t len
mlockall 151 152 230 152 152: int flags:mlockall
munlockall 152 153 231 153 153:
modify_ldt 154 123 - - -: int func, void* ptr, unsigned long bytecount
remap_file_pages 216 257 234 253 267: void* addr, size_t size, unsigned long prot:prot, size_t pgoff, unsigned long flags:mmap
membarrier 324 375 283 389 356: int cmd:membarrier, unsigned int flags:membarrier_flags, int cpu_id
mlock2 325 376 284 390 374: const void* addr, size_t len, int flags:mlock2
pkey_mprotect 329 380 288 394 384: void* addr, size_t len, unsigned long prot:prot, int pkey
pkey_alloc 330 381 289 395 385: unsigned long flags, unsigned long access_rights:pkey_access
pkey_free 331 382 290 396 386: int pkey
process_madvise 440 440 440 440 440: int pidfd:fd, const struct iovec* iovec:iovecs, size_t vlen, int advice:madvise, unsigned int flags
process_mrelease 448 448 448 448 448: int pidfd:fd, unsigned int flags
memfd_secret 447 447 447 - -: unsigned int flags:memfd_secret
map_shadow_stack 453 453 453 453 453: unsigned long addr:ptr, unsigned long size, unsigned int flags:shadow_stack
mseal 462 462 462 462 462: unsigned long start:ptr, size_t len, unsigned long flags
[proc proc_ids]
getpid 39 20 172 20 20:
getuid 102 24 174 24 199:
getgid 104 47 176 47 200:
setuid 105 23 146 23 213: uid_t uid
setgid 106 46 144 46 214: gid_t gid
geteuid 107 49 175 49 201:
getegid 108 50 177 50 202:
setpgid 109 57 154 57 57: pid_t pid, pid_t pgid
getppid 110 64 173 64 64:
getpgrp 111 65 - 65 65:
setsid 112 66 157 66 66:
setreuid 113 70 145 70 203: uid_t ruid, uid_t euid
setregid 114 71 143 71 204: gid_t rgid, gid_t egid
getgroups 115 80 158 80 205: int size, gid_t* list
setgroups 116 81 159 81 206: int size, gid_t* list
setresuid 117 164 147 164 208: uid_t ruid, uid_t euid, uid_t suid
getresuid 118 165 148 165 209: uid_t* ruid:outid, uid_t* euid:outid, uid_t* suid:outid
setresgid 119 170 149 170 210: gid_t rgid, gid_t egid, gid_t sgid
getresgid 120 171 150 171 211: gid_t* rgid:outid, gid_t* egid:outid, gid_t* sgid:outid
getpgid 121 132 155 132 132: pid_t pid
setfsuid 122 138 151 138 215: uid_t fsuid
setfsgid 123 139 152 139 216: gid_t fsgid
getsid 124 147 156 147 147: pid_t pid
gettid 186 224 178 224 236:
[proc proc_sched]
sched_yield 24 158 124 158 158:
getpriority 140 96 141 96 96: int which:prio, int who
setpriority 141 97 140 97 97: int which:prio, int who, int prio
sched_setparam 142 154 118 154 154: pid_t pid, struct sched_param* param:int
sched_getparam 143 155 121 155 155: pid_t pid, struct sched_param* param:outint
sched_setscheduler 144 156 119 156 156: pid_t pid, int policy:sched, struct sched_param* param:int
sched_getscheduler 145 157 120 157 157: pid_t pid
sched_get_priority_max 146 159 125 159 159: int policy:sched_policy
sched_get_priority_min 147 160 126 160 160: int policy:sched_policy
sched_rr_get_interval 148 161 127 161 161: pid_t pid, struct timespec* tp:outtimespec
sched_setaffinity 203 241 122 241 239: pid_t pid, unsigned int cpusetsize, unsigned long* mask
sched_getaffinity 204 242 123 242 240: pid_t pid, unsigned int cpusetsize, unsigned long* mask
ioprio_set 251 289 30 314 282: int which:ioprio_who, int who, int ioprio:ioprio
ioprio_get 252 290 31 315 283: int which:ioprio_who, int who
sched_setattr 314 351 274 380 345: pid_t pid, struct sched_attr* attr:sched_attr, unsigned int flags
sched_getattr 315 352 275 381 346: pid_t pid, struct sched_attr* attr, unsigned int size, unsigned int flags:sched_getattr
nice - 34 - 34 34: int inc
[proc]
getrlimit 97 76 163 - 191: unsigned int resource:rlimit, struct rlimit* rlim:outrlimit
getrusage 98 77 165 77 77: int who:rusage, struct rusage* usage:outrusage
ptrace 101 26 117 26 26: long request:ptrace, pid_t pid, unsigned long addr:ptrace_addr, unsigned long data:ptrace_data
capget 125 184 90 184 184: struct __user_cap_header_struct* hdrp:cap_header, struct __user_cap_data_struct* datap:outcap_data
capset 126 185 91 185 185: struct __user_cap_header_struct* hdrp:cap_header, const struct __user_cap_data_struct* datap:cap_data
personality 135 136 92 136 136: unsigned int persona:personality
prctl 157 172 167 172 172: int option:prctl, unsigned long arg2:prctl_arg2, unsigned long arg3:prctl_arg3, unsigned long arg4:ptr, unsigned long arg5:ptr
arch_prctl 158 384 - - -: int option:arch_prctl, unsigned long addr:ptr
setrlimit 160 75 164 75 75: unsigned int resource:rlimit, const struct rlimit* rlim:rlimit
acct 163 51 89 51 51: const char* filename
set_thread_area 205 243 - - -: struct user_desc* u_info
get_thread_area 211 244 - - -: struct user_desc* u_info
set_tid_address 218 258 96 256 252: int* tidptr
unshare 272 310 97 337 303: unsigned long flags:unshare
set_robust_list 273 311 99 338 304: struct robust_list_head* head, size_t len
get_robust_list 274 312 100 339 305: int pid, struct robust_list_head** head_ptr, size_t* len_ptr
prlimit64 302 340 261 369 334: pid_t pid, unsigned int resource:rlimit, const struct rlimit64* new_limit:rlimit, struct rlimit64* old_limit:outrlimit
getcpu 309 318 168 345 311: unsigned int* cpu:outuint, unsigned int* node:outuint, struct getcpu_cache* tcache
kcmp 312 349 272 378 343: pid_t pid1, pid_t pid2, int type:kcmp, unsigned long idx1, unsigned long idx2
setns 308 346 268 375 339: int fd:fd, int nstype:setns
seccomp 317 354 277 383 348: unsigned int operation:seccomp, unsigned int flags:seccomp_flags, const void* args
rseq 334 386 293 398 383: struct rseq* rseq, u32 rseq_len, int flags:rseq, u32 sig:hex
rseq_slice_yield 471 471 471 471 471:
pidfd_open 434 434 434 434 434: pid_t pid, unsigned int flags:pidfd_open
pidfd_getfd 438 438 438 438 438: int pidfd:fd, int targetfd:fd, unsigned int flags
landlock_create_ruleset 444 444 444 444 444: struct landlock_ruleset_attr* attr:landlock_attr, size_t size, u32 flags:landlock_create
landlock_add_rule 445 445 445 445 445: int ruleset_fd:fd, int rule_type:landlock_rule, void* rule_attr, u32 flags:landlock_add
landlock_restrict_self 446 446 446 446 446: int ruleset_fd:fd, u32 flags:landlock_restrict
riscv_flush_icache - - 259 - -: unsigned long start:ptr, unsigned long end:ptr, unsigned long flags
riscv_hwprobe - - 258 - -: struct riscv_hwprobe* pairs, size_t pair_count, size_t cpusetsize, unsigned long* cpus, unsigned int flags
uretprobe 335 - - - -:
uprobe 336 - - - -:
vm86old - 113 - - -: struct vm86_struct* info
vm86 - 166 - - -: unsigned long fn, struct vm86plus_struct* v86
iopl 172 110 - - -: int level
ioperm 173 101 - - -: unsigned long from:hex, unsigned long num:hex, int turn_on
s390_runtime_instr - - - - 342: int command, int signum
s390_pci_mmio_write - - - - 352: unsigned long mmio_addr:ptr, const void* user_buffer, size_t length
s390_pci_mmio_read - - - - 353: unsigned long mmio_addr:ptr, void* user_buffer, size_t length
s390_guarded_storage - - - - 378: int command, struct gs_cb* gs_cb
s390_sthyi - - - - 380: unsigned long function_code, void* resp_buffer, u64* return_code, unsigned long flags
[proc memory]
process_vm_readv 310 347 270 376 340: pid_t pid, const struct iovec* local_iov:iovecs, unsigned long liovcnt, const struct iovec* remote_iov:remote_iovecs, unsigned long riovcnt, unsigned long flags
process_vm_writev 311 348 271 377 341: pid_t pid, const struct iovec* local_iov:iovecs, unsigned long liovcnt, const struct iovec* remote_iov:remote_iovecs, unsigned long riovcnt, unsigned long flags
userfaultfd 323 374 282 388 355: int flags:userfaultfd
[signals]
rt_sigaction 13 174 134 174 174: int signum:signal, const struct sigaction* act:sigaction, struct sigaction* oldact:outsigaction, size_t sigsetsize
rt_sigprocmask 14 175 135 175 175: int how:sigmask, sigset_t* set:sigset, sigset_t* oldset:outsigset, size_t sigsetsize
rt_sigreturn 15 173 139 173 173:
sigreturn - 119 - 119 119:
pause 34 29 - 29 29:
kill 62 37 129 37 37: pid_t pid, int sig:signal
rt_sigpending 127 176 136 176 176: sigset_t* set:outsigset, size_t sigsetsize
rt_sigtimedwait 128 177 137 177 177: const sigset_t* set:sigset, siginfo_t* info, const struct timespec* timeout:timespec, size_t sigsetsize
rt_sigqueueinfo 129 178 138 178 178: pid_t tgid, int sig:signal, siginfo_t* info
rt_sigsuspend 130 179 133 179 179: sigset_t* mask:sigset, size_t sigsetsize
sigaltstack 131 186 132 186 186: const stack_t* ss:sigstack, stack_t* old_ss:outsigstack
tkill 200 238 130 238 237: int tid, int sig:signal
restart_syscall 219 0 128 0 7:
tgkill 234 270 131 268 241: int tgid, int tid, int sig:signal
signalfd 282 321 - 349 316: int fd:fd, sigset_t* mask:sigset, size_t sizemask
eventfd 284 323 - 351 318: unsigned int initval
signalfd4 289 327 74 355 322: int fd:fd, const sigset_t* mask:sigset, size_t sizemask, int flags:signalfd
eventfd2 290 328 19 356 323: unsigned int initval, int flags:eventfd
rt_tgsigqueueinfo 297 335 240 363 330: pid_t tgid, pid_t tid, int sig:signal, siginfo_t* info
pidfd_send_signal 424 424 424 424 424: int pidfd:fd, int sig:signal, siginfo_t* info, unsigned int flags:pidfd_signal
signal - 48 - - 48: int sig:signal, void* handler
sgetmask - 68 - - -:
ssetmask - 69 - - -: long newmask
sigaction - 67 - 67 67: int signum:signal, const struct old_sigaction* act, struct old_sigaction* oldact
sigsuspend - 72 - 72 72: int unused1, int unused2, unsigned long mask:hex
sigpending - 73 - 73 73: unsigned long* set
sigprocmask - 126 - 126 126: int how:sigmask, unsigned long* set, unsigned long* oldset
[ipc ipc_pipe]
pipe 22 42 - 42 42: int[2] pipefd:pair
pipe2 293 331 59 359 325: int[2] pipefd:pair, int flags:open_only
[ipc ipc_shm memory]
shmget 29 395 194 307 395: key_t key:key, size_t size, int shmflg:shmget
shmat 30 397 196 305 397: int shmid, const void* shmaddr, int shmflg:shmat
shmctl 31 396 195 308 396: int shmid, int cmd:shmctl_cmd, struct shmid_ds* buf
shmdt 67 398 197 306 398: const void* shmaddr
[ipc ipc_sem]
semget 64 393 190 299 393: key_t key:key, int nsems, int semflg:ipcget
semop 65 - 193 298 -: int semid, struct sembuf* sops, unsigned int nsops
semctl 66 394 191 300 394: int semid, int semnum, int cmd:semctl, unsigned long arg:ptr
semtimedop 220 - 192 312 392: int semid, struct sembuf* sops, unsigned int nsops, const struct timespec* timeout:timespec
[ipc ipc_msgq]
msgget 68 399 186 303 399: key_t key:key, int msgflg:ipcget
msgsnd 69 400 189 301 400: int msqid, struct msgbuf* msgp, size_t msgsz, int msgflg:msgflg
msgrcv 70 401 188 302 401: int msqid, struct msgbuf* msgp, size_t msgsz, long msgtyp, int msgflg:msgflg
msgctl 71 402 187 304 402: int msqid, int cmd:msgctl_cmd, struct msqid_ds* buf
mq_open 240 277 180 274 271: const char* name, int oflag:open, mode_t mode, struct mq_attr* attr:mq_attr
mq_unlink 241 278 181 275 272: const char* name
mq_timedsend 242 279 182 276 273: mqd_t mqdes, const char* msg_ptr:ptr, size_t msg_len, unsigned int msg_prio, const struct timespec* abs_timeout:timespec
mq_timedreceive 243 280 183 277 274: mqd_t mqdes, char* msg_ptr, size_t msg_len, unsigned int* msg_prio:outuint, const struct timespec* abs_timeout:timespec
mq_notify 244 281 184 278 275: mqd_t mqdes, const struct sigevent* sevp
mq_getsetattr 245 282 185 279 276: mqd_t mqdes, const struct mq_attr* newattr:mq_attr, struct mq_attr* oldattr:outmq_attr
[ipc ipc_futex]
futex 202 240 98 240 238: int* uaddr, int futex_op:futex, int val, const struct timespec* timeout, int* uaddr2, int val3
futex_waitv 449 449 449 449 449: struct futex_waitv* waiters, unsigned int nr_futexes, unsigned int flags, struct timespec* timeout:timespec, clockid_t clockid:clock
futex_wake 454 454 454 454 454: void* uaddr, unsigned long mask:hex, int nr, unsigned int flags:futex2
futex_wait 455 455 455 455 455: void* uaddr, unsigned long val, unsigned long mask:hex, unsigned int flags:futex2, struct timespec* timeout, clockid_t clockid:clock
futex_requeue 456 456 456 456 456: struct futex_waitv* waiters, unsigned int flags, int nr_wake, int nr_requeue
[ipc]
ipc - 117 - - 117: unsigned int call, int first, unsigned long second, unsigned long third, void* ptr, long fifth
[time time_clock]
clock_settime 227 264 112 262 259: clockid_t clockid:clock, const struct timespec* tp:timespec
clock_gettime 228 265 113 263 260: clockid_t clockid:clock, struct timespec* tp:outtimespec
clock_getres 229 266 114 264 261: clockid_t clockid:clock, struct timespec* res:outtimespec
clock_nanosleep 230 267 115 265 262: clockid_t clockid:clock, int flags:timer_abs, const struct timespec* request:timespec, struct timespec* remain
clock_adjtime 305 343 266 372 337: clockid_t clk_id:clock, struct timex* buf
adjtimex 159 124 171 124 124: struct timex* buf
[time time_timer]
nanosleep 35 162 101 162 162: const struct timespec* req:timespec, struct timespec* rem
getitimer 36 105 102 105 105: int which:itimer, struct itimerval* curr_value:outitimerval
alarm 37 27 - - 27: unsigned int seconds
setitimer 38 104 103 104 104: int which:itimer, struct itimerval* new_value:itimerval, struct itimerval* old_value:outitimerval
timer_create 222 259 107 257 254: clockid_t clockid:clock, struct sigevent* sevp, timer_t* timer_id:outint
timer_settime 223 260 110 258 255: timer_t timer_id, int flags:timer_abs, const struct itimerspec* new_value:itimerspec, struct itimerspec* old_value:outitimerspec
timer_gettime 224 261 108 259 256: timer_t timer_id, struct itimerspec* curr_value:outitimerspec
timer_getoverrun 225 262 109 260 257: timer_t timer_id
timer_delete 226 263 111 261 258: timer_t timer_id
timerfd_create 283 322 85 350 319: int clockid:clock, int flags:timerfd_create
timerfd_settime 286 325 86 353 320: int fd:fd, int flags:timerfd_settime, const struct itimerspec* new_value:itimerspec, struct itimerspec* old_value:outitimerspec
timerfd_gettime 287 326 87 354 321: int fd:fd, struct itimerspec* curr_value:outitimerspec
[time time_tod]
gettimeofday 96 78 169 78 78: struct timeval* tv:outtimeval, struct timezone* tz:outtimezone
time 201 13 - - -: time_t* tloc
settimeofday 164 79 170 79 79: const struct timeval* tv:timeval, const struct timezone* tz:timezone
stime - 25 - - -: const time_t* t
[time]
times 100 43 153 43 43: struct tms* buf:outtms
[system system_keys crypto]
add_key 248 286 217 309 278: const char* type, const char* description, const void* payload, size_t plen, key_serial_t keyring:keyring
request_key 249 287 218 310 279: const char* type, const char* description, const char* callout_info, key_serial_t dest_keyring:keyring
keyctl 250 288 219 311 280: int operation:keyctl, unsigned long arg2:keyctl_arg2, unsigned long arg3:keyctl_arg3, unsigned long arg4:ptr, unsigned long arg5:ptr
[system system_module]
create_module 174 127 - - 127: const char* name, size_t size
init_module 175 128 105 128 128: void* module_image, unsigned long len, const char* param_values
delete_module 176 129 106 129 129: const char* name, unsigned int flags:open_only
get_kernel_syms 177 130 - - 130: struct kernel_sym* table
query_module 178 167 - - 167: const char* name, int which, void* buf, size_t bufsize, size_t* ret
finit_module 313 350 273 379 344: int fd:fd, const char* param_values, int flags:finit_module
[system system_numa memory]
mbind 237 274 235 319 268: void* addr, unsigned long len, unsigned long mode:mempolicy, const unsigned long* nodemask, unsigned long maxnode, unsigned int flags:mbind
set_mempolicy 238 276 237 321 270: int mode:mempolicy, const unsigned long* nodemask, unsigned long maxnode
get_mempolicy 239 275 236 320 269: int* mode, unsigned long* nodemask, unsigned long maxnode, void* addr, unsigned long flags:get_mempolicy
migrate_pages 256 294 238 400 287: int pid, unsigned long maxnode, const unsigned long* old_nodes, const unsigned long* new_nodes
move_pages 279 317 239 344 310: int pid, unsigned long count, const void** pages, const int* nodes, int* status, int flags:mbind
set_mempolicy_home_node 450 450 450 450 450: unsigned long start:ptr, unsigned long len, unsigned long home_node, unsigned long flags
[system]
uname 63 122 160 122 122: struct utsname* buf:oututsname
sysinfo 99 116 179 116 116: struct sysinfo* info:outsysinfo
syslog 103 103 116 103 103: int type:syslog, char* bufp, int len
vhangup 153 111 58 111 111:
_sysctl 156 149 - 149 149: struct __sysctl_args* args
reboot 169 88 142 88 88: int magic:hex, int magic2:hex, int cmd:reboot, void* arg
quotactl 179 131 60 131 131: unsigned int cmd:quota, const char* special, u32 id:id, void* addr
kexec_load 246 283 104 347 277: unsigned long entry:ptr, unsigned long nr_segments, struct kexec_segment* segments, unsigned long flags:kexec
kexec_file_load 320 - 294 401 381: int kernel_fd:fd, int initrd_fd:fd, unsigned long cmdline_len, const char* cmdline, unsigned long flags:kexec_file
perf_event_open 298 336 241 364 331: struct perf_event_attr* attr, pid_t pid, int cpu, int group_fd:fd, unsigned long flags:perf_event_open
bpf 321 357 280 386 351: int cmd:bpf, union bpf_attr* attr, unsigned int size
lsm_get_self_attr 459 459 459 459 459: unsigned int attr:lsm_attr, struct lsm_ctx* ctx, u32* size, u32 flags:lsm_flags
lsm_set_self_attr 460 460 460 460 460: unsigned int attr:lsm_attr, struct lsm_ctx* ctx, u32 size, u32 flags
lsm_list_modules 461 461 461 461 461: u64* ids, u32* size, u32 flags
bdflush - 134 - 134 134: int func, long data
oldolduname - 59 - - -: struct oldold_utsname* name
olduname - 109 - - -: struct old_utsname* name
[fs crypto]
getrandom 318 355 278 384 349: void* buf, size_t buflen, unsigned int flags:getrandom
[32bit]
oldstat - 18 - - -: const char* filename, struct __old_kernel_stat* statbuf
oldfstat - 28 - - -: int fd:fd, struct __old_kernel_stat* statbuf
oldlstat - 84 - - -: const char* filename, struct __old_kernel_stat* statbuf
oldselect - 82 - - -: struct sel_arg_struct* arg
readdir - 89 - - 89: int fd:fd, struct old_linux_dirent* dirp, unsigned int count
_llseek - 140 - 140 -: int fd:fd, unsigned long offset_high, unsigned long offset_low, loff_t* result, unsigned int whence:whence
_newselect - 142 - 142 -: int n, fd_set* readfds, fd_set* writefds, fd_set* exceptfds, struct timeval* timeout
ugetrlimit - 191 - 191 -: unsigned int resource:rlimit, struct rlimit* rlim
truncate64 - 193 - 193 -: const char* path, unsigned long length_lo, unsigned long length_hi
ftruncate64 - 194 - 194 -: int fd:fd, unsigned long length_lo, unsigned long length_hi
stat64 - 195 - 195 -: const char* pathname, struct stat64* statbuf
lstat64 - 196 - 196 -: const char* pathname, struct stat64* statbuf
fstat64 - 197 - 197 -: int fd:fd, struct stat64* statbuf
fstatat64 - 300 - 327 -: int dirfd:dirfd, const char* pathname, struct stat64* statbuf, int flags:at
lchown32 - 198 - 198 -: const char* pathname, uid_t owner, gid_t group
getuid32 - 199 - 199 -:
getgid32 - 200 - 200 -:
geteuid32 - 201 - 201 -:
getegid32 - 202 - 202 -:
setreuid32 - 203 - 203 -: uid_t ruid, uid_t euid
setregid32 - 204 - 204 -: gid_t rgid, gid_t egid
getgroups32 - 205 - 205 -: int size, gid_t* list
setgroups32 - 206 - 206 -: int size, gid_t* list
fchown32 - 207 - 207 -: int fd:fd, uid_t owner, gid_t group
setresuid32 - 208 - 208 -: uid_t ruid, uid_t euid, uid_t suid
getresuid32 - 209 - 209 -: uid_t* ruid, uid_t* euid, uid_t* suid
setresgid32 - 210 - 210 -: gid_t rgid, gid_t egid, gid_t sgid
getresgid32 - 211 - 211 -: gid_t* rgid, gid_t* egid, gid_t* sgid
chown32 - 212 - 212 -: const char* pathname, uid_t owner, gid_t group
setuid32 - 213 - 213 -: uid_t uid
setgid32 - 214 - 214 -: gid_t gid
setfsuid32 - 215 - 215 -: uid_t fsuid
setfsgid32 - 216 - 216 -: gid_t fsgid
fcntl64 - 221 - 221 -: int fd:fd, int cmd:fcntl, unsigned long arg:fcntl_arg
sendfile64 - 239 - 239 -: int out_fd:fd, int in_fd:fd, loff_t* offset, size_t count
statfs64 - 268 - 266 265: const char* path, size_t sz, struct statfs64* buf
fstatfs64 - 269 - 267 266: int fd:fd, size_t sz, struct statfs64* buf
fadvise64_64 - 272 - - -: int fd:fd, unsigned long arg2, unsigned long arg3, unsigned long arg4, unsigned long arg5
arm_fadvise64_64 - - - 270 -: int fd:fd, int advice:fadvise, unsigned long arg3, unsigned long arg4, unsigned long arg5
arm_sync_file_range - - - 341 -: int fd:fd, unsigned int flags:sync_file_range, unsigned long arg3, unsigned long arg4, unsigned long arg5
pciconfig_iobase - - - 271 -: long which, unsigned long bus, unsigned long devfn
pciconfig_read - - - 272 -: unsigned long bus, unsigned long dfn, unsigned long off, unsigned long len, void* buf
pciconfig_write - - - 273 -: unsigned long bus, unsigned long dfn, unsigned long off, unsigned long len, void* buf
send - - - 289 -: int sockfd:fd, void* buf, size_t len, int flags:msg
recv - - - 291 -: int sockfd:fd, void* buf, size_t len, int flags:msg
clock_gettime64 - 403 - 403 -: clockid_t clockid:clock, struct __kernel_timespec* tp
clock_settime64 - 404 - 404 -: clockid_t clockid:clock, const struct __kernel_timespec* tp
clock_adjtime64 - 405 - 405 -: clockid_t clk_id:clock, struct __kernel_timex* buf
clock_getres_time64 - 406 - 406 -: clockid_t clockid:clock, struct __kernel_timespec* res
clock_nanosleep_time64 - 407 - 407 -: clockid_t clockid:clock, int flags:timer_abs, const struct __kernel_timespec* request, struct __kernel_timespec* remain
timer_gettime64 - 408 - 408 -: timer_t timer_id, struct __kernel_itimerspec* curr_value
timer_settime64 - 409 - 409 -: timer_t timer_id, int flags:timer_abs, const struct __kernel_itimerspec* new_value, struct __kernel_itimerspec* old_value
timerfd_gettime64 - 410 - 410 -: int fd:fd, struct __kernel_itimerspec* curr_value
timerfd_settime64 - 411 - 411 -: int fd:fd, int flags:timerfd_settime, const struct __kernel_itimerspec* new_value, struct __kernel_itimerspec* old_value
utimensat_time64 - 412 - 412 -: int dirfd:dirfd, const char* pathname, struct __kernel_timespec* times, int flags:at
pselect6_time64 - 413 - 413 -: int nfds, fd_set* readfds, fd_set* writefds, fd_set* exceptfds, struct __kernel_timespec* timeout, void* sigmask
ppoll_time64 - 414 - 414 -: struct pollfd* fds, unsigned int nfds, struct __kernel_timespec* tmo_p, const sigset_t* sigmask, size_t sigsetsize
io_pgetevents_time64 - 416 - 416 -: aio_context_t ctx_id, long min_nr, long nr, struct io_event* events, struct __kernel_timespec* timeout, const struct __aio_sigset* usig
recvmmsg_time64 - 417 - 417 -: int sockfd:fd, struct mmsghdr* msgvec, unsigned int vlen, int flags:msg, struct __kernel_timespec* timeout
mq_timedsend_time64 - 418 - 418 -: mqd_t mqdes, const char* msg_ptr:ptr, size_t msg_len, unsigned int msg_prio, const struct __kernel_timespec* abs_timeout
mq_timedreceive_time64 - 419 - 419 -: mqd_t mqdes, char* msg_ptr, size_t msg_len, unsigned int* msg_prio, const struct __kernel_timespec* abs_timeout
semtimedop_time64 - 420 - 420 -: int semid, struct sembuf* sops, unsigned int nsops, const struct __kernel_timespec* timeout
rt_sigtimedwait_time64 - 421 - 421 -: const sigset_t* set, siginfo_t* info, const struct __kernel_timespec* timeout, size_t sigsetsize
futex_time64 - 422 - 422 -: int* uaddr, int futex_op:futex, int val, const struct __kernel_timespec* timeout, int* uaddr2, int val3
sched_rr_get_interval_time64 - 423 - 423 -: pid_t pid, struct __kernel_timespec* tp
"""
