"""Map models from user space and from programs, where the kernel is no oracle; see test_vm_random for where it is."""

from __future__ import annotations

import pytest
from vm_programs import Body, array, make_object, mov, movi

from pybpf import abi
from pybpf.asm.insn import alu64, call, exit_, ldx, st, stx
from pybpf.asm.opcodes import BPF_ADD
from pybpf.errors import MapError
from pybpf.object.spec import MapSpec
from pybpf.vm import HashMap, LpmTrie, QueueMap, Vm, VmError, make_map


def key(number: int) -> bytes:
    return number.to_bytes(4, "little")


def value(number: int) -> bytes:
    return number.to_bytes(8, "little")


def test_array() -> None:
    model = make_map(array("m", 8, 3, value(7)))
    assert model.lookup(key(0)) == value(7)
    assert model.lookup(key(3)) is None
    model.update(key(2), value(9))
    assert list(model.items()) == [(key(0), value(7)), (key(1), bytes(8)), (key(2), value(9))]
    assert list(model.keys()) == [key(0), key(1), key(2)]
    for bad, reason in (
        ((key(3), value(1)), "no room"),
        ((key(0), value(1), 1), "exists already"),
        ((key(0), value(1), 9), "invalid"),
    ):
        with pytest.raises(MapError, match=reason):
            model.update(*bad)
    with pytest.raises(MapError, match="invalid"):
        model.delete(key(0))
    with pytest.raises(MapError, match="a key has 4 bytes, got 5"):
        model.lookup(bytes(5))
    with pytest.raises(MapError, match="a value has 8 bytes, got 5"):
        model.update(key(0), bytes(5))
    with pytest.raises(MapError, match="is not a per-CPU map"):
        model.lookup_percpu(key(0))


def test_frozen() -> None:
    spec = array("m", 8, contents=value(1))
    spec.frozen = True
    for model in (make_map(spec), make_map(MapSpec("h", abi.MAP_TYPE_HASH, 4, 8, 1))):
        model.freeze()
        with pytest.raises(MapError, match="is frozen"):
            model.update(key(0), value(2))


def test_hash() -> None:
    model = make_map(MapSpec("m", abi.MAP_TYPE_HASH, 4, 8, 2))
    assert isinstance(model, HashMap)
    model.update(key(1), value(1))
    model.update(key(2), value(2), abi.NOEXIST)
    assert len(model) == 2
    for bad, reason in (
        ((key(3), value(1)), "no room"),
        ((key(1), value(1), 1), "exists already"),
        ((key(3), value(1), 2), "no such key"),
        ((key(3), value(1), 3), "invalid"),
    ):
        with pytest.raises(MapError, match=reason):
            model.update(*bad)
    assert model.delete(key(1))
    assert not model.delete(key(1))
    assert model.lookup(key(1)) is None
    assert list(model.items()) == [(key(2), value(2))]
    assert model.take(key(2)) == value(2)
    assert len(model) == 0


def test_percpu() -> None:
    for kind in (abi.MAP_TYPE_PERCPU_ARRAY, abi.MAP_TYPE_PERCPU_HASH, abi.MAP_TYPE_LRU_PERCPU_HASH):
        model = make_map(MapSpec("m", kind, 4, 4, 2), cpus=3)
        model.update(key(1), b"same")
        assert model.lookup_percpu(key(1)) == [b"same"] * 3
        model.update(key(1), b"one.....two.....thre....")
        assert model.lookup(key(1)) == b"one.\0\0\0\0two.\0\0\0\0thre\0\0\0\0"
        if kind != abi.MAP_TYPE_PERCPU_ARRAY:
            assert model.lookup_percpu(key(0)) == []
        with pytest.raises(MapError, match="a value has 24 bytes"):
            model.update(key(1), bytes(8))


def test_percpu_from_a_program() -> None:
    body = Body().add(st(4, 10, -4, 0), mov(6, 1)).map(1, "m").add(mov(2, 10), alu64(BPF_ADD, 2, imm=-4), call(1))
    body.add(ldx(8, 1, 0, 0), alu64(BPF_ADD, 1, imm=5), stx(8, 0, 0, 1))
    body.map(1, "m").add(mov(2, 10), alu64(BPF_ADD, 2, imm=-4), movi(3, 0), call(195), ldx(8, 0, 0, 0)).end()
    vm = Vm(make_object([body], [MapSpec("m", abi.MAP_TYPE_PERCPU_ARRAY, 4, 8, 1)], "little"), cpus=2)
    vm.environment.cpu = 1
    assert [vm.run(), vm.run()] == [0, 0]
    vm.environment.cpu = 0
    assert vm.run() == 5
    assert vm.maps["m"].lookup_percpu(key(0)) == [value(5), value(10)]


def test_lru_evicts_what_was_used_longest_ago() -> None:
    model = make_map(MapSpec("m", abi.MAP_TYPE_LRU_HASH, 4, 8, 2))
    model.update(key(1), value(1))
    model.update(key(2), value(2))
    assert model.prog_lookup(key(1), 0) is not None
    model.update(key(3), value(3))
    assert {k for k, _ in model.items()} == {key(1), key(3)}


def test_pointer_to_a_replaced_or_deleted_value_stays_good_for_the_run() -> None:
    def lookup(body: Body) -> Body:
        return body.map(1, "m").add(mov(2, 10), alu64(BPF_ADD, 2, imm=-4), call(1))

    body = lookup(Body().add(st(4, 10, -4, 1))).add(mov(6, 0), st(8, 10, -16, 9)).map(1, "m")
    body.add(mov(2, 10), alu64(BPF_ADD, 2, imm=-4), mov(3, 10), alu64(BPF_ADD, 3, imm=-16), movi(4, 0), call(2))
    body.add(ldx(8, 7, 6, 0))
    lookup(body).add(ldx(8, 8, 0, 0)).map(1, "m").add(mov(2, 10), alu64(BPF_ADD, 2, imm=-4), call(3))
    body.add(ldx(8, 0, 6, 0), alu64(0x20, 7, imm=100), alu64(BPF_ADD, 0, 7), alu64(0x20, 8, imm=10000))
    body.add(alu64(BPF_ADD, 0, 8)).end()
    vm = Vm(make_object([body], [MapSpec("m", abi.MAP_TYPE_HASH, 4, 8, 1)], "little"))
    vm.maps["m"].update(key(1), value(5))
    assert vm.run() == 5 + 500 + 90000
    with pytest.raises(VmError, match="null pointer"):
        vm.run()


def test_stored_pointer_is_bad_in_the_next_run() -> None:
    code = Body().add(mov(1, 10)).data(2, "m").add(ldx(8, 3, 2, 0), stx(8, 2, 0, 1), st(8, 10, -8, 1))
    code.add(alu64(0x50, 3, imm=-1), *(ldx(8, 0, 3, -8), exit_()))
    vm = Vm(make_object([code], [array("m", 8)]))
    with pytest.raises(VmError, match="no memory there"):
        vm.run()
    with pytest.raises(VmError, match="bytes at address 0x"):
        vm.run()


def lpm(bits: int, *address: int) -> bytes:
    return key(bits) + bytes(address)


def test_lpm_trie() -> None:
    model = make_map(MapSpec("m", abi.MAP_TYPE_LPM_TRIE, 8, 8, 4, abi.F_NO_PREALLOC))
    assert isinstance(model, LpmTrie)
    model.update(lpm(8, 10, 0, 0, 0), value(8))
    model.update(lpm(16, 10, 1, 0, 0), value(16))
    model.update(lpm(17, 10, 1, 128, 0), value(17))
    assert model.lookup(lpm(32, 10, 1, 128, 1)) == value(17)
    assert model.lookup(lpm(32, 10, 1, 127, 1)) == value(16)
    assert model.lookup(lpm(32, 10, 2, 0, 1)) == value(8)
    assert model.lookup(lpm(12, 10, 1, 128, 1)) == value(8)
    assert model.lookup(lpm(32, 11, 0, 0, 0)) is None
    model.update(lpm(0, 1, 2, 3, 4), value(0))
    assert model.lookup(lpm(32, 11, 0, 0, 0)) == value(0)
    assert len(model) == 4
    for bad, reason in (
        ((lpm(9, 1, 0, 0, 0), value(0)), "invalid argument"),
        ((lpm(33, 1, 0, 0, 0), value(0)), "invalid"),
    ):
        with pytest.raises(MapError, match=reason):
            model.update(*bad)
    assert not model.delete(lpm(15, 10, 1, 0, 0))
    assert model.delete(lpm(16, 10, 1, 7, 7))
    assert model.lookup(lpm(32, 10, 1, 127, 1)) == value(8)
    assert (lpm(8, 10, 0, 0, 0), value(8)) in list(model.items())
    big = make_map(MapSpec("m", abi.MAP_TYPE_LPM_TRIE, 8, 8, 4, abi.F_NO_PREALLOC), "big")
    big.update((8).to_bytes(4, "big") + bytes([10, 0, 0, 0]), value(1))
    assert big.lookup((32).to_bytes(4, "big") + bytes([10, 9, 9, 9])) == value(1)


def test_queue_and_stack() -> None:
    for kind, order in ((abi.MAP_TYPE_QUEUE, [1, 2, 3]), (abi.MAP_TYPE_STACK, [3, 2, 1])):
        model = make_map(MapSpec("m", kind, 0, 8, 3))
        assert isinstance(model, QueueMap)
        for number in (1, 2, 3):
            model.update(b"", value(number))
        with pytest.raises(MapError, match="no room"):
            model.update(b"", value(4))
        assert model.lookup(b"") == value(order[0])
        assert [model.take() for _ in range(4)] == [*map(value, order), None]
        for number in range(5):
            model.update(b"", value(number), abi.EXIST)
        assert len(model) == 3
        assert value(0) not in model.values


def test_sizes_are_checked() -> None:
    for spec, reason in (
        (MapSpec("m", abi.MAP_TYPE_ARRAY, 8, 8, 1), "keys of 4 bytes"),
        (MapSpec("m", abi.MAP_TYPE_HASH, 4, 8, 0), "room for elements"),
        (MapSpec("m", abi.MAP_TYPE_LPM_TRIE, 4, 8, 1, 1), "5 to 260 bytes"),
        (MapSpec("m", abi.MAP_TYPE_LPM_TRIE, 8, 8, 1), "BPF_F_NO_PREALLOC"),
        (MapSpec("m", abi.MAP_TYPE_QUEUE, 4, 8, 1), "has no key"),
        (MapSpec("m", abi.MAP_TYPE_RINGBUF, 0, 0, 5000), "power of two"),
        (MapSpec("m", abi.MAP_TYPE_PROG_ARRAY, 8, 4, 1), "4 bytes"),
        (array("m", 4, contents=bytes(8)), "8 bytes of contents in a value of 4"),
    ):
        with pytest.raises(VmError, match=reason):
            make_map(spec)


def test_maps_without_user_access() -> None:
    ring = make_map(MapSpec("r", abi.MAP_TYPE_RINGBUF, 0, 0, 4096))
    for access in (ring.lookup, ring.delete, lambda key: ring.update(key, b""), lambda key: ring.items()):
        with pytest.raises(MapError, match="of type 27 has no"):
            access(b"")
