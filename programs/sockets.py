"""Events of sockets that need more than one hook tells: connections over TCP, accepted and duplicated sockets."""

from __future__ import annotations

from programs.events import *
from programs.records import *
from pybpf.ktypes import (
    file,
    pt_regs,
    pt_regs___arm64,
    pt_regs___riscv,
    socket,
    task_struct,
    unix_address,
    unix_sock,
)
from pybpf.lang import *

NET_TCP_CONNECT = HOOKS + 120
SOCKET_DUP = HOOKS + 121
SOCKET_ACCEPT = HOOKS + 122

AF_UNIX, AF_INET = 1, 2
SOCK_STREAM = 1
S_IFMT, S_IFSOCK = 0o170000, 0o140000
F_DUPFD, F_DUPFD_CLOEXEC = 0, 1030

# What the system calls are called by, on x86-64 and everywhere else.
NONE, DUP, DUP2, FCNTL, ACCEPT = range(5)


# --- connections ---------------------------------------------------------------------------


class InetAddress(Struct):
    """struct sockaddr_in, or the beginning of sockaddr_in6."""

    family: u16
    port: be16
    address4: u32
    address6: u32[4]


@inline
def fill_connection(record, shape, address):
    """The address as bytes of its own: 4 or 16."""
    end = record.end
    if end > FIELDS_FULL:
        return True
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    record.args[1] = address.port
    place = cast(Ptr[PathText], addr(field[1]))
    if address.family == AF_INET6:
        copy(cast(Ptr[u32[4]], addr(place.data))[0], address.address6)
        close_field(record, field, 0, FORM_BYTES, 16)
    else:
        cast(Ptr[u32], addr(place.data))[0] = address.address4
        close_field(record, field, 0, FORM_BYTES, 4)
    return True


@hook(*function("security_socket_connect"))
def net_tcp_connect(ctx, connecting: Ptr[socket], given: u64, size: u64):
    if connecting.type != SOCK_STREAM:
        return 0
    address = InetAddress()
    if read_kernel(address, given, size=min(size, 24)) < 0:
        return 0
    if address.family == AF_INET or address.family == AF_INET6:
        emit(NET_TCP_CONNECT, fill_connection, address)
    return 0


# --- descriptors -----------------------------------------------------------------------------


@inline
def kind_of_call(regs):
    """Which of the system calls that make a descriptor of a socket, if any; 32-bit calls are none."""
    number = syscall_number(regs)
    if exists(cast(Ptr[pt_regs___arm64], regs).syscallno) or exists(cast(Ptr[pt_regs___riscv], regs).a7):
        # include/uapi/asm-generic/unistd.h
        if number == 23:
            return DUP
        if number == 24:
            return DUP2
        if number == 25:
            return FCNTL
        if number == 202 or number == 242:
            return ACCEPT
        return NONE
    # arch/x86/entry/syscalls/syscall_64.tbl
    if number == 32:
        return DUP
    if number == 33 or number == 292:
        return DUP2
    if number == 72:
        return FCNTL
    if number == 43 or number == 288:
        return ACCEPT
    return NONE


@inline
def socket_of(task, fd):
    """The socket behind a descriptor of the task, as an address; 0 for none."""
    opened = cast(Ptr[file], open_file(task, fd))
    if (opened.f_inode.i_mode & S_IFMT) != S_IFSOCK:
        return u64(0)
    return u64(opened.private_data)


@inline
def put_unix_address(record, arg, sk):
    """The name that a socket of the family AF_UNIX is bound to; the family alone if to none."""
    end = record.end
    if end > FIELDS_FULL:
        return
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    place = cast(Ptr[PathText], addr(field[1]))
    cast(Ptr[u16], addr(place.data))[0] = AF_UNIX
    size: u64 = 2
    bound = u64(cast(Ptr[unix_sock], sk).addr)
    if sk and bound:
        # struct unix_address: a counter, the length, a hash in older kernels, struct sockaddr_un
        name = cast(Ptr[unix_address], bound)
        length = min(u64(name.len), SOCKADDR_MAX)
        if read_kernel(place.data, bound + offsetof(unix_address, "name"), size=length) == 0:
            size = length
    close_field(record, field, arg, FORM_BYTES, size)


@inline
def put_peer_address(record, arg, sk):
    """The address at the other end of a socket."""
    end = record.end
    if end > FIELDS_FULL:
        return
    common = addr(sk.__sk_common)
    if common.skc_family == AF_UNIX:
        put_unix_address(record, arg, u64(cast(Ptr[unix_sock], u64(sk)).peer))
        return
    field = cast(Ptr[Field], addr(record.data[end >> 3]))
    peer = cast(Ptr[LocalAddress], addr(field[1]))
    peer.family = common.skc_family
    cast(Ptr[u16], addr(peer.port))[0] = common.skc_dport
    peer.address4 = 0
    peer.scope = 0
    if common.skc_family == AF_INET6:
        for i in unroll(range(4)):
            peer.address6[i] = common.skc_v6_daddr.in6_u.u6_addr32[i]
    else:
        peer.address4 = common.skc_daddr
        for i in unroll(range(4)):
            peer.address6[i] = 0
    close_field(record, field, arg, FORM_BYTES, sizeof(LocalAddress))


@inline
def put_own_address(record, arg, sk):
    if sk.__sk_common.skc_family == AF_UNIX:
        put_unix_address(record, arg, u64(sk))
    else:
        put_local_address(record, arg, sk)


@inline
def fill_duplicate(record, shape, given):
    old, new, sk = given
    record.args[0] = old
    record.args[1] = new
    put_peer_address(record, 2, sk)
    return True


@hook("tp_btf/sys_exit", "raw_tp/sys_exit")
def socket_dup(ctx, regs: Ptr[pt_regs], result: i64):
    kind = kind_of_call(regs)
    if result < 0 or kind == NONE or kind == ACCEPT:
        return 0
    if kind == FCNTL:
        command = syscall_arg(regs, 1, False) & 0xFFFFFFFF
        if command != F_DUPFD and command != F_DUPFD_CLOEXEC:
            return 0
    found = socket_of(cast(Ptr[task_struct], u64(current_task())), u64(result))
    if found:
        sk = cast(Ptr[socket], found).sk
        emit(SOCKET_DUP, fill_duplicate, (syscall_arg(regs, 0, False), u64(result), sk), result)
    return 0


@inline
def fill_accepted(record, shape, given):
    listening, sk = given
    record.args[0] = listening
    put_own_address(record, 1, sk)
    put_peer_address(record, 2, sk)
    return True


@hook("tp_btf/sys_exit", "raw_tp/sys_exit")
def socket_accept(ctx, regs: Ptr[pt_regs], result: i64):
    if result < 0 or kind_of_call(regs) != ACCEPT:
        return 0
    found = socket_of(cast(Ptr[task_struct], u64(current_task())), u64(result))
    if found:
        emit(SOCKET_ACCEPT, fill_accepted, (syscall_arg(regs, 0, False), cast(Ptr[socket], found).sk), result)
    return 0
