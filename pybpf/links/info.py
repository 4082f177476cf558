"""What the kernel knows of links; links opened by their pin or id."""

from __future__ import annotations

from errno import EINVAL
from struct import pack_into, unpack_from

from pybpf import abi, attrs, commands, kernel, syscalls
from pybpf.errors import LinkError
from pybpf.links.base import Link

# enum bpf_link_type: names, and the structure behind the common head of bpf_link_info.
TYPES = {
    1: "raw_tracepoint",
    2: "tracing",
    3: "cgroup",
    4: "iter",
    5: "netns",
    6: "xdp",
    7: "perf_event",
    8: "kprobe_multi",
    9: "struct_ops",
    10: "netfilter",
    11: "tcx",
    12: "uprobe_multi",
    13: "netkit",
    14: "sockmap",
    15: "tracing_multi",
}
_HEAD, _SIZE = 16, 64
_PLAIN = ("tracing", "cgroup", "netns", "xdp", "netfilter", "tcx", "netkit", "sockmap", "struct_ops")
# enum bpf_perf_event_type (6.6). Each has a pointer to a text and its size at 24 and 32, then, by offset:
_PERF_TYPES = {
    1: ("uprobe", (("offset", 36, "I"), ("cookie", 40, "Q"))),
    2: ("uretprobe", (("offset", 36, "I"), ("cookie", 40, "Q"))),
    3: ("kprobe", (("offset", 36, "I"), ("address", 40, "Q"), ("missed", 48, "Q"), ("cookie", 56, "Q"))),
    4: ("kretprobe", (("offset", 36, "I"), ("address", 40, "Q"), ("missed", 48, "Q"), ("cookie", 56, "Q"))),
    5: ("tracepoint", (("cookie", 40, "Q"),)),
}
_TEXT = 4096


class LinkInfo:
    """``id`` and ``program_id`` (0 once detached); ``type`` is a name of ``TYPES``; ``fields`` what that type tells.

    What a kernel does not tell yet is 0 or missing in ``fields``: names and cookies of
    perf events came with 6.6, addresses of kprobe.multi with 6.6, places of uprobe.multi with 6.8.
    """

    __slots__ = ("fields", "id", "program_id", "type")

    def __init__(self, fd: int, what: str = "link") -> None:
        """Ask about the link that ``fd`` is. Raises LinkError."""
        raw = _ask(fd, bytearray(_SIZE), what)
        type, self.id, self.program_id = unpack_from("=III", raw)
        self.type = TYPES.get(type, f"type {type}")
        body = raw[_HEAD:]
        self.fields: dict[str, int | str | list[int]] = {}
        if self.type in _PLAIN:
            layout = f"bpf_link_info_{self.type}"
            for name in attrs.fields(layout):
                self.fields[name] = attrs.number(layout, body, name)
        elif self.type in ("raw_tracepoint", "iter"):
            self.fields["name"] = _text(fd, _HEAD, _HEAD + 8, what)
            if self.type == "raw_tracepoint":
                self.fields["cookie"] = attrs.number("bpf_link_info_raw_tracepoint", body, "cookie")
        elif self.type == "perf_event":
            self._perf_event(fd, raw, what)
        elif self.type == "kprobe_multi":
            self._multi(fd, raw, what, 24, 28, (("addresses", 16), ("cookies", 40)))
            self.fields["missed"] = attrs.number("bpf_link_info_kprobe_multi", body, "missed")
        elif self.type == "uprobe_multi":
            self._multi(fd, raw, what, 52, 56, (("offsets", 24), ("cookies", 40)))
            self.fields["path"] = _text(fd, 16, 48, what)
            self.fields["pid"] = attrs.number("bpf_link_info_uprobe_multi", body, "pid")

    def _perf_event(self, fd: int, raw: bytearray, what: str) -> None:
        (type,) = unpack_from("=I", raw, _HEAD)
        if type not in _PERF_TYPES:
            return
        self.fields["kind"], numbers = _PERF_TYPES[type]
        self.fields["name"] = _text(fd, 24, 32, what)
        for name, at, code in numbers:
            (self.fields[name],) = unpack_from("=" + code, raw, at)

    def _multi(
        self, fd: int, raw: bytearray, what: str, count_at: int, flags_at: int, arrays: tuple[tuple[str, int], ...]
    ) -> None:
        (count,) = unpack_from("=I", raw, count_at)
        self.fields["count"] = count
        self.fields["returns"] = unpack_from("=I", raw, flags_at)[0] & abi.F_MULTI_RETURN
        for name, at in arrays:
            values = bytearray(8 * count)
            if not count:
                continue
            question = bytearray(_SIZE)
            pack_into("=Q", question, at, kernel.address(values))
            pack_into("=I", question, count_at, count)
            try:
                _ask(fd, question, what)
            except LinkError as error:  # cookies came later than the rest
                if error.errno != EINVAL:
                    raise
                continue
            self.fields[name] = list(memoryview(values).cast("Q"))

    def __repr__(self) -> str:
        return f"<LinkInfo {self.id} {self.type} program {self.program_id} {self.fields}>"


def _ask(fd: int, question: bytearray, what: str) -> bytearray:
    attr = attrs.build("info", bpf_fd=fd, info_len=len(question), info=question)
    result = syscalls.bpf(abi.OBJ_GET_INFO_BY_FD, attr)
    if result < 0:
        raise kernel.failure(LinkError, "BPF_OBJ_GET_INFO_BY_FD", what, -result)
    return question


def _text(fd: int, pointer_at: int, size_at: int, what: str) -> str:
    """A text that the kernel copies to where the structure points."""
    text, question = bytearray(_TEXT), bytearray(_SIZE)
    pack_into("=Q", question, pointer_at, kernel.address(text))
    pack_into("=I", question, size_at, len(text))
    try:
        _ask(fd, question, what)
    except LinkError as error:  # a kernel that does not tell this
        if error.errno != EINVAL:
            raise
    return text.partition(b"\0")[0].decode(errors="replace")


def open_by_id(id: int) -> Link:
    """The link with this id (5.8). It stays attached when this is closed, as long as somebody else has it.

    Raises SyscallError.
    """
    return Link(f"link id {id}", commands.link_get_fd_by_id(id), mechanism="opened by id")


def open_pinned(path: str) -> Link:
    """The link pinned as ``path``; ``os.unlink`` removes the pin. Raises SyscallError."""
    fd = commands.obj_get(path)
    try:
        link = Link(f"link pinned as {path}", fd, mechanism="opened by its pin")
        link.info()  # says so if it is something else
        return link
    except BaseException:
        fd.close()
        raise
