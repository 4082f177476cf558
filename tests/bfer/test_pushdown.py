"""What goes to the kernel and what stays: together they must decide as a plain matcher does."""

from __future__ import annotations

from struct import unpack

import pytest
from fake_records import CATALOGUE, EVENTS, NAMES, openat2, record, rows
from hypothesis import given
from hypothesis import strategies as st

from bfer import expr, values
from bfer.catalogue import Arg
from bfer.errors import UsageError
from bfer.policy import Numbers
from bfer.pushdown import Plan, prefix_key, push_down, suffix_key
from bfer.records import BLOCK_START, CALL, CHECK_RESULT, COMPAT, PATH_CUT, PATH_UNREADABLE, ROW, WHO_SIZE
from bfer.residual import Residual


def plan_of(*texts: str, command: bool = False) -> Plan:
    return push_down(expr.parse(texts, CATALOGUE), command)


def plan_or_none(*texts: str) -> Plan | None:
    """None where nothing can ever match."""
    try:
        return plan_of(*texts)
    except UsageError as error:
        if not str(error).startswith("nothing can ever match"):
            raise
        return None


def kernel_passes(plan: Plan, number: int, path: bytes, status: int = 0) -> bool:
    """path_is_selected() of programs/selection.py, with a trie and a hash that work as the kernel's."""
    wanted, unwanted = plan.shapes[number].rule
    if not wanted and not unwanted:
        return True
    hits = 0
    if status != PATH_UNREADABLE:
        length = len(path) + 1
        key = (path + b"\0")[: min(length, 256)]
        if plan.config.get("prefixes_on"):
            entries = {}
            for prefix, mask in plan.prefixes.items():
                bits, data = unpack("=I256s", prefix_key(prefix))
                assert bits <= 2048
                entries[data[: bits // 8]] = mask
            matching = [prefix for prefix in entries if key.startswith(prefix)]
            if matching:
                hits |= entries[max(matching, key=len)]
        lengths = plan.suffix_lengths()
        assert len(lengths) <= 8
        table = {suffix_key(suffix): mask for suffix, mask in plan.suffixes.items()}
        for size in lengths:
            if length > size:
                hits |= table.get(suffix_key((path + b"\0")[length - 1 - size : length - 1]), 0)
    return not (wanted and not hits & wanted) and not hits & unwanted


def rules(plan: Plan) -> dict[int, tuple[int, int]]:
    """What native calls demand of their paths."""
    return {number: shape.rule for number, shape in plan.shapes.items() if number < COMPAT and any(shape.rule)}


def numbers_pass(plan: Plan, number: int, raw: bytes) -> bool:
    """call_is_selected() of programs/selection.py."""
    shape = plan.shapes[number]
    result, *args, _, _ = CALL.unpack_from(raw, BLOCK_START + WHO_SIZE)
    if shape.bits and not args[shape.masked] & shape.bits:
        return False

    def verdict(slot: int, value: int, default: int) -> bool:
        return bool(plan.verdicts.get((number, slot, value & ((1 << 64) - 1)), default))

    checked = shape.checked >> CHECK_RESULT & 1
    if not shape.above < result < shape.below and not (checked and verdict(CHECK_RESULT, result, 0)):
        return False
    if checked and not verdict(CHECK_RESULT, result, shape.passing >> CHECK_RESULT & 1):
        return False
    for slot, value in enumerate(args):
        if shape.checked >> slot & 1:
            value &= 0xFFFFFFFF if shape.narrow >> slot & 1 else -1
            default = shape.passing >> slot & 1
            if shape.ranged >> slot & 1:
                low, high, flip = plan.ranges[number, slot]
                default = low <= value ^ flip <= high
            if not verdict(slot, value, default):
                return False
    return True


def passes(plan: Plan, name: str, path: bytes, status: int = 0, **fields: object) -> bool:
    number = CATALOGUE.events[name].number
    pointer = 8 if status == PATH_UNREADABLE else None
    raw = record(name, path, status=status, pointer=pointer, **fields)
    if not kernel_passes(plan, number, path, status) or not numbers_pass(plan, number, raw):
        return False
    if not plan.residual:
        return True
    return bool(Residual(plan.residual, EVENTS, NAMES).keep(rows([raw])))


def plainly(path: bytes, words: list[str]) -> bool:
    for word in words:
        data = word.strip("*").encode()
        if word in ("*", "**"):
            return True
        if word[0] == "*" and word[-1] == "*":
            if data in path:
                return True
        elif word[-1] == "*":
            if path.startswith(data):
                return True
        elif word[0] == "*":
            if path.endswith(data):
                return True
        elif path == data:
            return True
    return False


def wrapped(arg: Arg, number: int) -> int:
    """The value of ``arg`` when its register holds the lowest bits of ``number``."""
    return values.number(arg, number & ((1 << 64) - 1))


letters = st.text("ab/", min_size=0, max_size=4)
words = st.one_of(
    letters.filter(bool),
    letters.map(lambda s: s + "*"),
    letters.filter(bool).map(lambda s: "*" + s),
    letters.map(lambda s: f"*{s}*"),
    st.integers(57, 63).map(lambda n: "*" + "a" * n),
    st.integers(250, 260).map(lambda n: "a" * n),
    st.integers(250, 260).map(lambda n: "a" * n + "*"),
)
paths = st.one_of(
    st.text("ab/", max_size=6),
    st.integers(50, 70).map(lambda n: "a" * n),
    st.integers(245, 265).map(lambda n: "a" * n),
).map(str.encode)


@given(
    st.lists(words, max_size=4),
    st.lists(words, max_size=4),
    st.lists(words, max_size=3),
    st.lists(paths, min_size=1, max_size=8),
)
def test_same_as_a_plain_matcher(wanted: list[str], unwanted: list[str], other: list[str], tried: list[bytes]) -> None:
    texts = ["event=openat,open"]
    texts += [f"openat.pathname={','.join(wanted)}"] if wanted else []
    texts += [f"openat.pathname!={','.join(unwanted)}"] if unwanted else []
    texts += [f"open.pathname={','.join(other)}"] if other else []
    plan = plan_or_none(*texts)
    if plan is None:
        assert not any(plainly(path, wanted) and not plainly(path, unwanted) for path in tried)
        return
    for path in tried:
        expected = (not wanted or plainly(path, wanted)) and not plainly(path, unwanted)
        assert passes(plan, "openat", path) == expected
        assert passes(plan, "open", path) == (not other or plainly(path, other))
        assert passes(plan, "openat", path, PATH_UNREADABLE) == (not wanted)


def test_simple_patterns_leave_nothing_to_user_space() -> None:
    plan = plan_of("openat.pathname=/tmp/login*,/etc/passwd,*.conf", "openat.pathname!=/tmp/login.old")
    assert not plan.residual
    assert rules(plan) == {257: (1, 2)}
    assert plan.prefixes == {b"/tmp/login": 1, b"/etc/passwd\0": 1, b"/tmp/login.old\0": 3}
    assert plan.suffixes == {b".conf": 1}
    assert plan.config["prefixes_on"] == 1
    assert plan.suffix_lengths() == [5]


def test_no_path_filter_costs_nothing() -> None:
    plan = plan_of("event=openat")
    assert plan.config == {}
    assert not rules(plan)
    assert not plan.residual
    assert plan.calls == {257: "path", COMPAT + 295: "path"}


@pytest.mark.parametrize(
    "word", ["*login*", "a" * 256, "a" * 256 + "*", "*" + "a" * 61], ids=["contains", "exact", "prefix", "suffix"]
)
def test_what_the_kernel_cannot_match(word: str) -> None:
    plan = plan_of(f"openat.pathname=/tmp/x,{word}")
    assert not rules(plan)
    assert not plan.prefixes
    assert passes(plan, "openat", b"/tmp/x")
    assert not passes(plan, "openat", b"/tmp/y")
    # Of what is not wanted, each can go down alone.
    plan = plan_of(f"openat.pathname!=/tmp/x,{word}")
    assert rules(plan) == {257: (0, 1)}
    assert len(plan.residual[257].args["pathname"][1].unwanted) == 1


@pytest.mark.parametrize(("word", "length"), [("a" * 255, 256), ("a" * 255 + "*", 255)])
def test_longest_paths_of_a_trie(word: str, length: int) -> None:
    plan = plan_of(f"openat.pathname={word}")
    assert not plan.residual
    assert [len(prefix) for prefix in plan.prefixes] == [length]


def test_nine_suffix_lengths_do_not_fit() -> None:
    eight = ",".join("*" + "a" * n for n in range(1, 9))
    assert not plan_of(f"openat.pathname={eight}").residual
    plan = plan_of(f"openat.pathname={eight},*aaaaaaaaa")
    assert plan.residual
    assert not plan.suffixes
    # What one event cannot have must not be taken from another.
    plan = plan_of(f"openat.pathname={eight},*aaaaaaaaa", "open.pathname=*x")
    assert list(plan.residual) == [257, COMPAT + 295]
    assert plan.suffixes == {b"x": 1}


@pytest.mark.parametrize(
    ("words", "others"),
    [("pid=7", 0), ("pid>7", 0), ("follow", 0), ("pid=7 uid=0", 1), ("pidns=7", 1), ("pid=new", 1), ("container", 1)],
)
def test_what_asks_for_all_filters_on_processes(words: str, others: int) -> None:
    config = plan_of(*words.split()).config
    assert (config["who_on"], config.get("others_on", 0)) == (1, others)


def test_who_goes_down_whole() -> None:
    words = ("uid=0,1000", "uid>2000", "pid!=5", "pid=new", "comm=cat", "comm!=dog", "tree=9", "follow", "uts=x")
    plan = plan_of(*words, "mntns=7", "pidns<9", "tid>=4", "container=ab", "bin=/bin/x,*/y", "bin!=/bin/x*")
    assert plan.config == {
        "who_on": 1,
        "others_on": 1,
        "uts_on": 1,
        "uts_default": 0,
        "mntns_on": 1,
        "mntns_default": 0,
        "pidns_on": 1,
        "pidns_default": 1,
        "pidns_below": 9,
        "tid_on": 1,
        "tid_default": 1,
        "tid_above": 3,
        "container_on": 1,
        "binary_on": 1,
        "binary_default": 0,
        "binary_wanted": 1,
        "binary_unwanted": 2,
        "prefixes_on": 1,
        "uid_on": 1,
        "uid_default": 1,
        "uid_above": 2000,
        "pid_on": 1,
        "pid_default": 1,
        "pid_new": 1,
        "comm_on": 1,
        "comm_default": 0,
        "tree_on": 1,
        "tree_default": 0,
        "follow": 1,
    }
    assert plan.numbers == {("uid", 0): True, ("uid", 1000): True, ("pid", 5): False, ("mntns", 7): True}
    assert plan.nodes == {b"x": True}
    assert plan.prefixes == {b"/bin/x\0": 3, b"/bin/x": 2}
    assert plan.suffixes == {b"/y": 1}
    assert plan.comms == {b"cat": True, b"dog": False}
    assert plan.tree == {9: True}
    assert plan.follows_processes
    assert not plan.residual


def test_defaults_of_unwanted_values() -> None:
    config = plan_of("comm!=dog", "tree!=9", "pid!=new", "uid<5").config
    assert config["comm_default"] == config["tree_default"] == 1
    assert config["pid_new"] == 2
    assert (config["uid_default"], config["uid_below"]) == (1, 5)


def test_command_is_a_tree() -> None:
    plan = plan_of(command=True)
    assert plan.config == {"who_on": 1, "others_on": 1, "tree_on": 1, "tree_default": 0}
    assert plan.follows_processes


class TestNumbers:
    """Arguments that are numbers, and results: in the kernel, but for patterns."""

    @pytest.mark.parametrize(
        ("texts", "fields", "expected"),
        [
            (["openat.retval<0"], {"result": -2}, True),
            (["openat.retval<0"], {"result": 3}, False),
            (["openat.retval=-ENOENT"], {"result": -13}, False),
            (["openat.flags=O_WRONLY|O_CREAT|O_TRUNC"], {}, True),
            (["openat.flags=O_WRONLY"], {}, False),
            (["openat.flags=*O_CREAT*"], {}, True),
            (["openat.flags=O_RDWR*"], {}, False),
            (["openat.flags!=577"], {}, False),
            (["openat.flags!=577"], {"scalars": (3, 578, 0)}, True),
            (["openat.mode=0644"], {}, True),
            (["openat.mode=42*"], {}, True),
            (["openat.mode=0600,0644"], {}, True),
            (["openat.mode!=0644"], {}, False),
            (["openat.dirfd=-100"], {}, True),
            (["openat.dirfd=AT_FDCWD"], {"scalars": (0xFFFFFF9C, 0, 0)}, True),
            (["openat.dirfd=3"], {}, False),
            (["openat.pathname=*gin*", "openat.retval>=0"], {"result": -2}, False),
            (["openat.pathname=*gin*", "openat.retval>=0"], {"result": 0}, True),
        ],
    )
    def test_openat(self, texts: list[str], fields: dict[str, object], expected: bool) -> None:
        assert passes(plan_of(*texts), "openat", b"/tmp/login.txt", **fields) == expected

    @given(
        st.sampled_from(["lseek.offset", "close.fd", "read.count", "fchown.group"]),
        st.lists(st.tuples(st.sampled_from(["=", "!=", "<", ">", "<=", ">="]), st.integers(-3, 3)), max_size=4),
        st.sampled_from([0, 1 << 31, 1 << 32, 1 << 63]),
        st.lists(st.integers(-4, 4), min_size=1, max_size=6),
    )
    def test_bounds(self, name: str, words: list[tuple[str, int]], around: int, tried: list[int]) -> None:
        """Tracee's rule, with the numbers that the C type has: the same in the kernel as by hand."""
        event, _, member = name.partition(".")
        arg = CATALOGUE.events[event].arg(member)
        words = [(op, wrapped(arg, around + n)) for op, n in words]
        numbers = Numbers()
        for op, n in words:
            numbers.add(op, n)
        plan = plan_or_none(f"event={event}", *[f"{name}{op}{n}" for op, n in words])
        if plan is None:
            assert not any(numbers.matches(wrapped(arg, around + n)) for n in tried)
            return
        assert not plan.residual
        for n in tried:
            value = wrapped(arg, around + n)
            scalars = [0] * len(CATALOGUE.events[event].args)
            scalars[arg.slot] = value
            memory = [other.slot for other in CATALOGUE.events[event].args if other.memory]
            scalars = tuple(scalar for slot, scalar in enumerate(scalars) if slot not in memory)
            assert passes(plan, event, b"", scalars=scalars) == numbers.matches(value)

    def test_a_mode_has_16_bits(self) -> None:
        """The programs compare 32, of which a call could set what the kernel does not look at."""
        plan = plan_of("chmod.mode=0777")
        assert not plan.verdicts
        assert sorted(plan.residual) == [90, COMPAT + 15]

    def test_scope(self) -> None:
        keep = Residual(
            plan_of("openat.scope.pid>=40", "openat.scope.comm=c*", "openat.retval=3").residual, EVENTS, NAMES
        ).keep
        records = [record(), record(pid=7), record(comm=b"dog"), record("open", pid=7)]
        assert keep(rows(records)) == rows([records[0], records[3]])
        assert list(plan_of("openat.scope.uid!=0").residual) == [257, COMPAT + 295]

    def test_other_events_are_left_alone(self) -> None:
        plan = plan_of("event=open,openat", "openat.flags=O_W*", "openat.pathname=*x*")
        residual = Residual(plan.residual, EVENTS, NAMES)
        records = [record("open", b"/y", (0, 0)), record("openat", b"/x", (0, 0)), record("openat", b"/x", (0, 1))]
        assert residual.keep(rows(records)) == rows([records[0], records[2]])

    def test_exact_numbers_leave_nothing_to_user_space(self) -> None:
        plan = plan_of("openat.flags=O_RDWR,65", "openat.flags!=66", "openat.retval=-ENOENT", "close.fd=5")
        assert not plan.residual
        assert plan.config == {"values_on": 1}
        native = {key: verdict for key, verdict in plan.verdicts.items() if key[0] < COMPAT}
        assert native == {
            (257, 2, 2): True,
            (257, 2, 65): True,
            (257, 2, 66): False,
            (257, CHECK_RESULT, (1 << 64) - 2): True,
            (3, 0, 5): True,
        }

    def test_how(self) -> None:
        keep = Residual(plan_of("openat2.how=*RESOLVE_BENEATH*").residual, EVENTS, NAMES).keep
        beneath, root, unknown = openat2(b"x", (0, 0, 8)), openat2(b"x", (0, 0, 16)), openat2(b"x", 0x1000)
        assert keep(rows([beneath, root, unknown])) == rows([beneath])
        keep = Residual(plan_of("openat2.how!=*O_PATH*").residual, EVENTS, NAMES).keep
        records = [beneath, openat2(b"x", (0o10000000, 0, 0)), unknown]
        assert keep(rows(records)) == rows([beneath, unknown])

    def test_a_cut_path_has_no_known_end(self) -> None:
        plan = plan_of("openat.pathname=*a*,*.x")
        path = b"b" * 4101 + b".x"
        assert passes(plan, "openat", path)
        assert not passes(plan, "openat", path, PATH_CUT)
        assert passes(plan, "openat", b"a" + path, PATH_CUT)

    def test_cache_is_bounded(self) -> None:
        residual = Residual(plan_of("openat.flags=O_W*").residual, EVENTS, NAMES)
        kept = residual.keep(rows([record(pid=pid, scalars=(0, pid % 2, 0)) for pid in range(10000)]))
        assert len(kept) == 5000 * ROW
        assert len(residual._cache) <= 4096


def test_programs_are_selected_by_number() -> None:
    plan = plan_of("event=*")
    assert {event.number: event.program for event in EVENTS.values() if not event.hooks} == plan.calls
    assert {event.number for event in EVENTS.values() if event.hooks} == {event.number for event in plan.hooks}


def test_writes_only() -> None:
    plan = plan_of()
    assert (plan.shapes[257].bits, plan.shapes[257].masked) == (3, 2)
    assert passes(plan, "openat", b"/x", scalars=(0, 0o1101, 0))
    assert not passes(plan, "openat", b"/x", scalars=(0, 0, 0))
    hook = CATALOGUE.events["security_file_open"].number
    assert (plan.shapes[hook].bits, plan.shapes[hook].masked) == (3, 1)
    for texts in (["event=openat"], ["set=default,fs"], ["comm=x"], ["set=default", "openat.mode=0"]):
        assert not plan_of(*texts).shapes[257].bits
    for texts in (["event=security_file_open"], ["comm=x"], ["set=default", "security_file_open.flags=O_RDONLY"]):
        assert not plan_of(*texts).shapes[hook].bits
