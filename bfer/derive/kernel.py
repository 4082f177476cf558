"""The kernel's memory, symbols and modules, as the sources of derived events see them.

Memory is read by a program that never hangs anywhere: user space runs it (BPF_PROG_TEST_RUN of a raw tracepoint's
program, Linux 5.10) with an address and takes the bytes out of a map.
"""

from __future__ import annotations

from struct import pack, unpack_from
from sys import byteorder

from btf.errors import Error
from pybpf.errors import NotSupported
from pybpf.kallsyms import Addresses, blocks, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybpf.kallsyms import Symbol
    from pybpf.loader import Collection

PIECE = 4096
"""Bytes that are read at a time, at most."""
_KEY = bytes(4)
_MODULES = "/proc/modules"
_NAMES_MAX = 64
_STEPS_MAX = 4096  # of a walk along a list


class Layout:
    """Places of members in the kernel's structures, in bytes; in the order of the program ``layout``."""

    __slots__ = (
        *("module_list", "module_name", "module_srcversion", "kset_list", "kobject_entry"),
        *("mkobj_kobj", "mkobj_mod", "has_tree", "tree_roots", "tree_node", "text_base", "text_size"),
    )

    module_list: int
    module_name: int
    module_srcversion: int
    kset_list: int
    kobject_entry: int
    mkobj_kobj: int
    mkobj_mod: int
    has_tree: int
    tree_roots: int
    tree_node: int
    text_base: int
    text_size: int

    def __init__(self, words: tuple[int, ...]) -> None:
        for name, word in zip(self.__slots__, words):
            setattr(self, name, word)


class Kernel:
    """Reads through ``collection``, which holds the programs ``PROGRAMS`` of programs/integrity.py."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._peeked = collection.maps["peeked"]
        self._layout: Layout | None = None
        self._symbols: dict[str, int] = {}
        self._text: tuple[int, int] | None = None

    # --- memory -------------------------------------------------------------------------

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes (at most PIECE) of the kernel's memory; empty when there is none at that address."""
        ran = self._collection.programs["peek"].test_run(ctx=pack("=QQ", address & ((1 << 64) - 1), size))
        if not ran.retval:
            return b""
        return bytes(self._peeked.lookup(_KEY) or b"")[:size]

    def word(self, address: int) -> int:
        """8 bytes as a number; 0 when there is no memory."""
        data = self.read(address, 8)
        return int(unpack_from("=Q", data)[0]) if data else 0

    def string(self, address: int, limit: int = 128) -> str:
        """A NUL-terminated string; memory may end less than ``limit`` bytes on."""
        for size in (limit, 16):
            data = self.read(address, size)
            if data:
                return data.partition(b"\0")[0].decode(errors="replace")
        return ""

    @property
    def layout(self) -> Layout:
        if self._layout is None:
            self._collection.programs["layout"].test_run(ctx=bytes(8))
            self._layout = Layout(unpack_from("=32Q", self._peeked.lookup(_KEY) or bytes(256)))
        return self._layout

    def started(self) -> None:
        """Have a record written that says who this is. Raises SyscallError."""
        self._collection.programs["begun"].test_run(ctx=bytes(8))

    # --- symbols and modules ----------------------------------------------------------------

    def symbols(self, names: tuple[str, ...]) -> dict[str, int]:
        """Addresses of the kernel's own symbols; names that it has not are left out. Raises Error if all is hidden."""
        unknown = [name for name in names if name not in self._symbols]
        if unknown:
            try:
                found = find(unknown)
            except OSError as error:
                raise Error(f"cannot read the kernel's symbols: {error.strerror}") from None
            for name, all in found.items():
                own = [symbol.address for symbol in all if not symbol.module]
                if own and not own[0]:
                    raise Error("the kernel hides its addresses (kernel.kptr_restrict)")
                if own:
                    self._symbols[name] = own[0]
        return {name: self._symbols[name] for name in names if name in self._symbols}

    def symbol(self, name: str) -> int:
        """The address of one symbol. Raises Error, saying which there is none of."""
        address = self.symbols((name,)).get(name)
        if address is None:
            raise Error(f"this kernel shows no symbol {name} (CONFIG_KALLSYMS_ALL)")
        return address

    def extent(self, address: int) -> int:
        """Bytes from a symbol's address to the next symbol's. Raises Error."""
        start, following = b"%016x" % address, b"g"
        try:
            for block in blocks():
                for line in block.split(b"\n"):
                    if start < line[:16] < following:
                        following = line[:16]
        except OSError as error:
            raise Error(f"cannot read the kernel's symbols: {error.strerror}") from None
        return int(following, 16) - address if following != b"g" else 0

    def is_text(self, address: int) -> bool:
        """Does the address lie in the kernel's own code? Raises Error."""
        if self._text is None:
            self._text = (self.symbol("_stext"), self.symbol("_etext"))
        return self._text[0] <= address < self._text[1]

    def chain(self, head: int) -> Iterator[int]:
        """The elements of a list of struct list_head."""
        at = self.word(head)
        for _ in range(_STEPS_MAX):
            if at in (head, 0):
                return
            yield at
            at = self.word(at)

    def code_of_modules(self) -> list[tuple[str, int, int]]:
        """Name, size and address of the code of the modules in the kernel's list; none where it cannot be found.

        What /proc/modules tells is the size of all, whose parts are kept apart since 6.4.
        """
        head = self.symbols(("modules",)).get("modules")
        layout = self.layout
        found = []
        for at in self.chain(head) if head is not None else ():
            module = at - layout.module_list
            size = int.from_bytes(self.read(module + layout.text_size, 4), byteorder)
            found.append((self.string(module + layout.module_name, 56), size, self.word(module + layout.text_base)))
        return found

    def owners(self, addresses: Iterable[int]) -> dict[int, tuple[str, str]]:
        """Of code at these addresses: the function (empty if none is known) and the module it lies in.

        The module is ``hidden`` when none says that the code is its own, and empty for the kernel itself.
        """
        wanted = list(addresses)[:_NAMES_MAX]
        places = self.code_of_modules() or modules()
        named: dict[int, tuple[Symbol, int]] = {}
        if wanted:
            try:
                named = Addresses().names(wanted)
            except (OSError, NotSupported):
                pass
        found = {}
        for address in wanted:
            owner = "hidden"
            if self.is_text(address):
                owner = ""
            for name, size, start in places:
                if start <= address < start + size:
                    owner = name
            symbol = named[address][0] if address in named else None
            known = symbol is not None and symbol.module == owner
            found[address] = (symbol.name if symbol is not None and known else "", owner)
        return found


def modules(path: str = _MODULES) -> list[tuple[str, int, int]]:
    """Name, size in bytes and address of the modules that /proc shows."""
    found = []
    try:
        with open(path, "rb") as file:
            for line in file:
                fields = line.split()
                found.append((fields[0].decode(), int(fields[1]), int(fields[5], 16)))
    except (OSError, IndexError, ValueError):
        pass
    return found
