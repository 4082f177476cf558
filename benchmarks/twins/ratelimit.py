"""Token bucket by user."""

from __future__ import annotations

from pybpf.lang import *


class Bucket(Struct):
    tokens: u64
    last: u64
    dropped: u64


class Config(ConfigBase):
    rate: u64 = 1000
    burst: u64 = 100


config = Config()
buckets = Hash(u32, Bucket, 1024)


@raw_tp("limit")
def limit(ctx):
    now = ktime_get_ns()
    bucket = buckets.lookup(uid())
    if not bucket:
        buckets[uid()] = Bucket(tokens=config.burst - 1, last=now, dropped=0)
        return 1
    tokens = bucket.tokens + (now - bucket.last) * config.rate // 1000000000
    if tokens > config.burst:
        tokens = config.burst
    bucket.last = now
    if tokens == 0:
        bucket.dropped += 1
        return 0
    bucket.tokens = tokens - 1
    return 1
