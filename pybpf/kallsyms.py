"""The kernel's symbols: names to addresses and back, without ever holding the 100,000 lines of /proc/kallsyms."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from errno import EPERM

from pybpf.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PATH = "/proc/kallsyms"
_CHUNK = 1 << 16
_TEXT = b"tTwW"


def blocks(path: str = PATH) -> Iterator[bytes]:
    """The file in pieces of whole lines. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        rest = b""
        while True:
            piece = file.read(_CHUNK)
            if not piece:
                break
            block = rest + piece
            cut = block.rfind(b"\n") + 1
            rest = block[cut:]
            yield block[:cut]
        if rest:
            yield rest + b"\n"


class Symbol:
    """A line of kallsyms. ``kind`` is nm's letter; ``module`` empty for the kernel's own; ``address`` 0 if hidden."""

    __slots__ = ("address", "kind", "module", "name")

    def __init__(self, address: int, kind: str, name: str, module: str = "") -> None:
        self.address = address
        self.kind = kind
        self.name = name
        self.module = module

    def __repr__(self) -> str:
        return f"<Symbol {self.name}{f' [{self.module}]' if self.module else ''} {self.kind} {self.address:#x}>"


def _symbol(line: bytes) -> Symbol:
    fields = line.split()
    module = fields[3].strip(b"[]").decode() if len(fields) > 3 else ""
    return Symbol(int(fields[0], 16), fields[1].decode(), fields[2].decode(errors="replace"), module)


def find(names: Iterable[str], path: str = PATH) -> dict[str, list[Symbol]]:
    """All symbols of each name; a name that the kernel has not is left out. Raises OSError."""
    wanted = [(name, b" " + name.encode()) for name in names]
    found: dict[str, list[Symbol]] = {}
    for block in blocks(path):
        for name, pattern in wanted:
            at = block.find(pattern)
            while at >= 0:
                end = at + len(pattern)
                # The letter stands between two spaces, so that a hit there is a name.
                if block[end : end + 1] in (b"\n", b"\t"):
                    start = block.rfind(b"\n", 0, at) + 1
                    found.setdefault(name, []).append(_symbol(block[start : block.find(b"\n", end)]))
                at = block.find(pattern, end)
    return found


class Addresses:
    """What function an address lies in, for stacks and for kprobes at addresses.

    Holds 8 bytes for each function (half a megabyte) and no name: a name is read
    from the file again, for all addresses of one question at once.
    """

    def __init__(self, path: str = PATH) -> None:
        """Raises OSError, or NotSupported when the kernel hides its addresses."""
        self._path = path
        self._starts = array("Q", sorted(self._read()))
        if not self._starts or not self._starts[-1]:
            raise NotSupported(f"{path} shows no addresses: kernel.kptr_restrict hides them from this process", EPERM)

    def _read(self) -> array[int]:
        starts = array("Q")
        for block in blocks(self._path):
            for line in block.split(b"\n"):
                at = line.find(b" ")
                if at > 0 and line[at + 1 : at + 2] in (b"t", b"T", b"w", b"W"):
                    starts.append(int(line[:at], 16))
        return starts

    def __len__(self) -> int:
        return len(self._starts)

    def start(self, address: int) -> int | None:
        """Where the function begins that ``address`` lies in or after; None before the first one."""
        index = bisect_right(self._starts, address)
        return self._starts[index - 1] if index else None

    def names(self, addresses: Iterable[int]) -> dict[int, tuple[Symbol, int]]:
        """``address: (symbol, offset in it)`` for those that lie in some function. Raises OSError."""
        where: dict[int, list[int]] = {}
        for address in addresses:
            start = self.start(address)
            if start is not None:
                where.setdefault(start, []).append(address)
        wanted = {b"%0*x" % (16 if start >> 32 else 8, start): start for start in where}
        found: dict[int, tuple[Symbol, int]] = {}
        for block in blocks(self._path):
            for text, start in wanted.items():
                at = block.find(text)
                while at >= 0:
                    line = block[at : block.find(b"\n", at)]
                    if (not at or block[at - 1 : at] == b"\n") and line[len(text) + 1 : len(text) + 2] in _TEXT:
                        for address in where[start]:
                            found.setdefault(address, (_symbol(line), address - start))
                        break
                    at = block.find(text, at + 1)
        return found
