"""Events of cryptography in the kernel: random numbers that are read, and sockets of the family AF_ALG."""

from __future__ import annotations

from programs.events import *
from programs.records import *
from programs.returns import *
from programs.texts import *
from pybpf.ktypes import iov_iter, sock, socket
from pybpf.lang import *

RANDOM_READ = HOOKS + 140
ALG_SOCKET = HOOKS + 141

AF_ALG = 38
BIND, ACCEPT, SENDMSG, RECVMSG = range(4)
# Strings of 8 bytes.
WORD_BIND, WORD_ACCEPT = 0x646E6962, 0x747065636361
WORD_SENDMSG, WORD_RECVMSG = 0x67736D646E6573, 0x67736D76636572
RANDOM_0, RANDOM_1 = 0x6E61722F7665642F, 0x6D6F64  # /dev/random
URANDOM_0, URANDOM_1 = 0x6172752F7665642F, 0x6D6F646E  # /dev/urandom


# --- random numbers ---------------------------------------------------------------------------


@inline
def fill_random(record, shape, given):
    urandom, asked = given
    record.args[1] = asked
    if urandom:
        put_words(record, 0, URANDOM_0, URANDOM_1, 12)
    else:
        put_words(record, 0, RANDOM_0, RANDOM_1, 11)
    return True


@inline
def asked_of_iterator(first, second, third):
    return cast(Ptr[iov_iter], second).count


@inline
def asked_directly(first, second, third):
    return third


def device_read(word, urandom, function, asked):
    """Programs for a function that reads one of the devices; ``asked`` gives the bytes that are wanted."""
    start = f"random_read__{word}_" if word else "random_read__"

    @hook(f"fentry/{function}", f"kprobe/{function}", name=f"{start}enter")
    def enter(ctx, first: u64, second: u64, third: u64):
        note_call(RANDOM_READ, asked(first, second, third))
        return 0

    @hook(f"kretprobe/{function}", name=f"{start}kretprobe")
    def leave(ctx):
        call = noted_call(RANDOM_READ)
        if call:
            emit(RANDOM_READ, fill_random, (urandom, call.args[0]), i64(ctx.ret))
            forget_call(RANDOM_READ)
        return 0

    return enter, leave


def with_trampoline(word, urandom, function):
    """The same where the function's return can be seen without a probe; it takes two arguments."""

    @hook(f"fexit/{function}", name=f"random_read__{word}" if word else "random_read")
    def leave(ctx, first: u64, second: u64, result: i64):
        call = noted_call(RANDOM_READ)
        if call:
            emit(RANDOM_READ, fill_random, (urandom, call.args[0]), result)
            forget_call(RANDOM_READ)
        return 0

    return leave


# The functions have other names and arguments in kernels before 5.18 without its changes to random numbers.
programs_random = device_read("", 0, "random_read_iter", asked_of_iterator), with_trampoline("", 0, "random_read_iter")
programs_urandom = (
    device_read("urandom", 1, "urandom_read_iter", asked_of_iterator),
    with_trampoline("urandom", 1, "urandom_read_iter"),
)
programs_old = (
    device_read("old", 0, "random_read", asked_directly),
    device_read("uold", 1, "urandom_read", asked_directly),
)


# --- sockets -----------------------------------------------------------------------------------


class AlgAddress(Struct):
    """struct sockaddr_alg, include/uapi/linux/if_alg.h."""

    family: u16
    type: char[14]
    features: u32
    mask: u32
    name: char[64]


algorithms = LruHash(u64, AlgAddress, 1024)  # by the socket that was bound


@inline
def fill_alg(record, shape, given):
    operation, bound, size = given
    record.args[3] = size
    if operation == BIND:
        put_words(record, 0, WORD_BIND, 0, 4)
    elif operation == ACCEPT:
        put_words(record, 0, WORD_ACCEPT, 0, 6)
    elif operation == SENDMSG:
        put_words(record, 0, WORD_SENDMSG, 0, 7)
    else:
        put_words(record, 0, WORD_RECVMSG, 0, 7)
    type: u64 = 0
    name: u64 = 0
    known = algorithms.lookup(bound)
    if known:  # else it was bound before the run began
        type = u64(addr(known.type))
        name = u64(addr(known.name))
    put_kernel_string(record, shape, 1, type)
    return put_kernel_string(record, shape, 2, name)


@inline
def is_alg(given):
    return given.sk.__sk_common.skc_family == AF_ALG


@hook(*function("security_socket_bind"))
def alg_socket(ctx, bound: Ptr[socket], given: u64, size: u64):
    if not is_alg(bound):
        return 0
    address = AlgAddress()
    if read_kernel(address, given, size=min(size & 0xFFFFFFFF, sizeof(AlgAddress))) == 0:
        algorithms.update(u64(bound.sk), address, BPF_ANY)
    emit(ALG_SOCKET, fill_alg, (BIND, u64(bound.sk), 0), 0, (3, 1))
    return 0


@hook(*function("security_socket_accept"))
def alg_socket__accept(ctx, bound: Ptr[socket], made: u64):
    if is_alg(bound):
        emit(ALG_SOCKET, fill_alg, (ACCEPT, u64(bound.sk), 0), 0, (3, 1))
    return 0


@inline
def parent(sk):
    """The socket that another came from by accept(): the first member of struct alg_sock behind struct sock."""
    return read_kernel(u64, u64(sk) + sizeof(sock))


@hook(*function("security_socket_sendmsg"))
def alg_socket__sendmsg(ctx, used: Ptr[socket], message: u64, size: u32):
    if is_alg(used):
        emit(ALG_SOCKET, fill_alg, (SENDMSG, parent(used.sk), u64(size)), 0, (3, 1))
    return 0


@hook(*function("security_socket_recvmsg"))
def alg_socket__recvmsg(ctx, used: Ptr[socket], message: u64, size: u32):
    if is_alg(used):
        emit(ALG_SOCKET, fill_alg, (RECVMSG, parent(used.sk), u64(size)), 0, (3, 1))
    return 0
