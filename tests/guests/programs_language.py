"""Programs of the checks of the language: what old kernels lack stands behind guards, or has another way."""

from __future__ import annotations

from pybpf.lang import *

LICENSE = "GPL"


class Sum(Struct):
    n: u64
    last: u64


class Wire(Struct, packed=True):
    kind: u8
    length: u32
    whole: u64
    low: Bits[u32, 3]
    high: Bits[u32, 13]


class Key(Struct):
    bits: u32
    text: char[16]


class Word(Struct):
    text: char[12]


class Job(Struct):
    timer: Timer
    runs: u64


squares = Array(u64, 64)
table = Hash(u32, u64, 8)
inner = Array(u64, 4)
rows = ArrayOfMaps(inner, 2)
prefixes = LpmTrie(Key, u32, 8)
words = Array(Word, 1)
jobs = Array(Job, 1)


@kfunc
def bpf_rcu_read_lock(): ...


@kfunc
def bpf_rcu_read_unlock(): ...


@inline
def add(i, total, step):
    total.n += i * step
    total.last = i
    squares[i] = i * i + 1
    return total.n > 1000


@tc
def loops(skb):
    total = Sum()
    passes = loop(40, add, total, 3)
    return total.n * 100 + passes


@inline
def entry(key, value, total):
    total.n += key[0] * value[0]


@tc
def walks(skb):
    for i in range(5):
        table[i] = i * 10
    total = Sum()
    if has("for_each_map_elem"):
        table.for_each(entry, total)
        return total.n
    return 0xFFFF


@tc
def places(skb):
    w = Wire(kind=1, length=skb.len, whole=1 << 40, low=5)
    w.high = w.length + 1
    w.whole += w.length
    return (w.whole == (1 << 40) + skb.len) + w.low * 10 + (w.high == skb.len + 1) * 100


@tc
def nested(skb):
    row = rows.lookup(1)
    if not row:
        return 77
    row[2] += 5
    return row.get(2, 0)


@tc
def known(skb):
    w = words.lookup(0)
    return startswith(w.text, prefixes) if w else 2


@tc
def kfuncs(skb):
    if exists(bpf_rcu_read_lock):
        bpf_rcu_read_lock()
        bpf_rcu_read_unlock()
        return 1
    return 2


@inline
def fired(key, job):
    job.runs += 1


@tc
def timers(skb):
    if not has(timer_init):
        return 2
    job = jobs.lookup(0)
    if job and timer_init(job.timer, jobs, CLOCK_MONOTONIC) == 0:
        timer_set_callback(job.timer, jobs, fired)
        timer_start(job.timer, 1000000)
    return 0
