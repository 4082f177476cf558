"""Reading BTF lazily: 126,000 types cost a walk of 10 ms and no memory.

A type has no object and no entry in a list. Its record is found by walking
from the nearest of the *marks*, one for each 256 types. Marks are made as far
as they are needed. A name is looked up in the string section, and the types
that bear it are found either during the walk or by scanning the type section
for the name's offset; what such a scan finds counts only when the walk from
the mark before it lands on it, because a member, a parameter or an enumerator
may look like the header of a type.
"""

from __future__ import annotations

from btf.errors import BtfError, BtfNotFound
from btf.format import (
    COMPOSITES,
    ENUMS,
    KFLAG,
    KIND_ARRAY,
    KIND_DATASEC,
    KIND_DECL_TAG,
    KIND_ENUM64,
    KIND_FLOAT,
    KIND_FUNC,
    KIND_FUNC_PROTO,
    KIND_INT,
    KIND_MASK,
    KIND_PTR,
    KIND_SHIFT,
    KIND_VAR,
    MODIFIERS,
    NATIVE,
    VLEN_MASK,
    Header,
    Lengths,
    kind_name,
    native_words,
    printable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from mmap import mmap
    from types import TracebackType
    from typing import Union

    from btf.names import NameIndex
    from btf.source import Sparing, Words

    Data = Union[bytes, bytearray, memoryview, mmap]

VMLINUX = "/sys/kernel/btf/vmlinux"

_BLOCK = 256  # types a mark stands for
_SMALL = 3 * _BLOCK  # words of types that make no whole block
_FEW = 1 << 14  # words of types, as of an object, that are not worth a faster walk
_UNROLLED = range(_BLOCK // 8)
_SPAN = 1 << 14  # words looked at at a time where they are not in memory
_MAX_HOPS = 64  # typedefs, modifiers and arrays that may follow each other
_MAX_SIZE = 0xFFFFFFFF
_MAX_CACHE = 4096
MAX_NAME = 4096  # bytes; the kernel takes 511
_MAX_STRING = 1 << 20
_VOID = memoryview(bytes(12)).cast("I")
_LENGTHS = Lengths([])  # of the kinds that all BTF has: the same info words come again in every blob
_SIZED = (*COMPOSITES, *ENUMS, KIND_INT, KIND_FLOAT, KIND_DATASEC)
# What C compilers call an integer as wide as a pointer (determine_ptr_size() of libbpf).
_LONG = frozenset(
    (
        "long",
        "long int",
        "int long",
        "unsigned long",
        "long unsigned",
        "unsigned long int",
        "unsigned int long",
        "long unsigned int",
        "long int unsigned",
        "int unsigned long",
        "int long unsigned",
    )
)


class Btf:
    """The types of one BTF blob, and of ``base`` below it (split BTF of a module).

    ``data`` is bytes, bytearray or an mmap, which then belongs to the Btf and
    is closed with it. Id 0 is void. Malformed data raises BtfError, here or
    when the broken type is reached; an id that does not exist BtfNotFound.
    """

    def __init__(self, data: Data | Sparing, base: Btf | None = None) -> None:
        self.path = ""  # the file that it was read from, if any
        self._owner: mmap | Sparing | None = None
        spare: Sparing | None = None
        if isinstance(data, (bytes, bytearray)):
            plain: bytes | bytearray | mmap = data
        elif isinstance(data, memoryview):
            plain = bytes(data)
        else:
            from btf.source import Sparing  # of files only

            self._owner = data
            if isinstance(data, Sparing):
                plain, spare = data.head, data
            else:
                plain = data
        head = Header(plain, len(spare) if spare is not None else 0)
        self.base = base
        self.byteorder = head.byteorder
        self.header = head
        if base is not None and base.byteorder != head.byteorder:
            raise BtfError(f"BTF is {head.byteorder}-endian, its base is {base.byteorder}-endian")
        if base is not None and not head.layout:
            head.layout = base.header.layout
        self._data: bytes | bytearray | mmap | Sparing = plain if spare is None else spare
        self._str_off = head.str_off
        self._str_end = head.str_off + head.str_len
        self._check_strings()
        # Ids and string offsets of split BTF go on where those of the base end.
        self.first_id = 1 if base is None else base.type_count
        self._str_base = 0 if base is None else base.string_size
        self._raw: bytes | bytearray | mmap | Sparing = self._data
        self._raw_off = head.type_off
        if head.byteorder != NATIVE:
            with memoryview(plain) as view:
                self._raw = native_words(view[head.type_off : head.type_off + head.type_len], head.byteorder)
            self._raw_off = 0
        self._words: memoryview[int] | Words
        if spare is not None and len(plain) < head.type_off + head.type_len:
            from btf.source import Words

            self._words = Words(spare, head.type_off, head.type_len // 4)
        else:
            with memoryview(plain if head.byteorder == NATIVE else self._raw) as view:  # type: ignore[arg-type]
                self._words = view[self._raw_off : self._raw_off + head.type_len].cast("I")
        self._info: memoryview[int] | Words = self._words[1:]
        self._lengths = Lengths(head.layout) if head.layout else _LENGTHS
        self._marks = [0]
        self._count = -1  # own types; known when the walk is complete
        self._cache: dict[int, int] = {}  # where records start
        self._pointer_size = 0
        self._datasecs: dict[str, int] | None = None
        self._index: NameIndex | None = None

    def _check_strings(self) -> None:
        data, start, end = self._data, self._str_off, self._str_end
        if start == end:
            if self.base is None:
                raise BtfError("BTF has no string section")
        elif data[end - 1]:
            raise BtfError("BTF string section does not end in a NUL")
        elif self.base is None and data[start]:
            raise BtfError("BTF string section does not start with the empty string")

    @classmethod
    def kernel(cls, path: str = VMLINUX) -> Btf:
        """BTF of the running kernel (Linux 5.4, CONFIG_DEBUG_INFO_BTF)."""
        try:
            return cls.open(path)
        except BtfNotFound:
            raise BtfNotFound(
                f"this kernel has no BTF ({path} is missing): it needs CONFIG_DEBUG_INFO_BTF=y, "
                "or give the BTF of the very same kernel with --btf FILE"
            ) from None

    @classmethod
    def open(cls, path: str, base: Btf | None = None) -> Btf:
        """Read a file of raw BTF; ``base`` as for the constructor (modules: /sys/kernel/btf/NAME)."""
        from btf.source import spare_file

        data = spare_file(path)
        try:
            btf = cls(data, base)
            btf.path = path
            return btf
        except BtfError as error:
            if not isinstance(data, bytearray):
                data.close()
            raise BtfError(f"{path}: {error}") from None

    def close(self) -> None:
        """Release the data; nothing may be read afterwards. A base stays open. A second call does nothing."""
        if not self._data:
            return
        self._cache.clear()
        self._index = None
        self._info.release()
        self._words.release()
        if self._owner is not None:
            self._owner.close()
        self._data = self._raw = b""

    def __enter__(self) -> Btf:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- where a type is ----------------------------------------------------------

    @property
    def type_count(self) -> int:
        """Number of ids, void and the base's included: the first id that does not exist."""
        if self._count < 0:
            self._walk(1 << 32)
        return self.first_id + self._count

    @property
    def string_size(self) -> int:
        """Bytes of strings, the base's included."""
        return self._str_base + self._str_end - self._str_off

    def _walk(self, blocks: int) -> None:
        """Set the marks of the first ``blocks`` blocks and the one after them, or of all."""
        if self._count >= 0:
            return
        if len(self._words) < _SMALL:
            self._walk_tail()
            return
        marks, words = self._marks, self._lengths
        for view, base in self._windows():
            info, end, at = view[1:], len(view), marks[-1] - base
            try:
                while len(marks) <= blocks:
                    for _ in _UNROLLED:
                        at += words[info[at]]
                        at += words[info[at]]
                        at += words[info[at]]
                        at += words[info[at]]
                        at += words[info[at]]
                        at += words[info[at]]
                        at += words[info[at]]
                        at += words[info[at]]
                    if at > end:
                        break
                    marks.append(base + at)
                else:
                    return
            except IndexError:
                pass
            except BtfError:
                break
        self._walk_tail()

    def _windows(self) -> Iterator[tuple[memoryview[int], int]]:
        """The words from the last mark on, by and by, and the position of each window's first.

        A block of types that was not whole comes again, in a window that holds it.
        """
        words, marks = self._words, self._marks
        if isinstance(words, memoryview):
            yield words, 0
            return
        total, size, base = len(words), _SPAN, -1
        while base + size < total:
            size = 2 * size if marks[-1] == base else _SPAN
            base = marks[-1]
            yield words.window(base, size), base

    def _walk_tail(self) -> list[int]:
        """Finish the walk from the last mark, with every check; returns the positions passed."""
        info, words, end = self._info, self._lengths, len(self._words)
        at = self._marks[-1]
        passed: list[int] = []
        number = self.first_id + (len(self._marks) - 1) * _BLOCK
        try:
            while at < end:
                passed.append(at)
                at += words[info[at]]
        except IndexError:
            at = end + 1
        except BtfError as error:
            raise BtfError(f"BTF type [{number + len(passed) - 1}]: {error}") from None
        if at > end:
            raise BtfError(f"BTF type [{number + len(passed) - 1}] goes past the end of the type section")
        self._count = number - self.first_id + len(passed)
        # At most a block: all types of a small object, which are then found without a walk.
        self._cache.update(enumerate(passed, number))
        return passed

    def locate(self, id: int) -> tuple[memoryview[int] | Words, int]:
        """The words that hold a type's record, and the index of its first."""
        place = self._cache.get(id)
        if place is not None:
            return self._words, place
        number = id - self.first_id
        if number < 0:
            if id == 0:
                return _VOID, 0
            if self.base is None or id < 0:
                raise BtfNotFound(f"there is no BTF type [{id}]")
            return self.base.locate(id)
        block = number // _BLOCK
        marks = self._marks
        if len(marks) <= block + 1 and self._count < 0:
            self._walk(block + 1)
            if id in self._cache:
                return self._words, self._cache[id]
        if 0 <= self._count <= number or len(marks) <= block:
            raise BtfNotFound(f"there is no BTF type [{id}], the last is [{self.type_count - 1}]")
        info, words, at = self._info, self._lengths, marks[block]
        for _ in range(number % _BLOCK):
            at += words[info[at]]
        if len(self._cache) >= _MAX_CACHE:
            self._cache.clear()
        self._cache[id] = at
        return self._words, at

    # ---- the record ---------------------------------------------------------------

    def kind(self, id: int) -> int:
        """KIND_* of a type; 0 for void."""
        words, at = self.locate(id)
        return words[at + 1] >> KIND_SHIFT & KIND_MASK

    def name(self, id: int) -> str:
        """Name of a type; empty for void and whatever is anonymous."""
        words, at = self.locate(id)
        return self._string(words[at])

    def vlen(self, id: int) -> int:
        """Number of entries (of a FUNC: its linkage)."""
        words, at = self.locate(id)
        return words[at + 1] & VLEN_MASK

    def kflag(self, id: int) -> bool:
        """The kind flag: bit-fields (struct), signed (enum), union (fwd), attribute (tags)."""
        words, at = self.locate(id)
        return words[at + 1] >= KFLAG

    def type(self, id: int) -> int:
        """Id that a pointer, modifier, typedef, var, tag, function or prototype refers to."""
        words, at = self.locate(id)
        if words[at + 1] >> KIND_SHIFT & KIND_MASK in _SIZED:
            raise BtfError(f"BTF type {self.label(id)} refers to no type")
        return words[at + 2]

    def size(self, id: int) -> int:
        """Size in bytes, through typedefs, modifiers, variables, arrays and pointers."""
        count = 1
        for _ in range(_MAX_HOPS):
            words, at = self.locate(id)
            kind = words[at + 1] >> KIND_SHIFT & KIND_MASK
            if kind in _SIZED:
                size = count * words[at + 2]
            elif kind == KIND_PTR:
                size = count * self.pointer_size
            elif kind in MODIFIERS or kind in (KIND_VAR, KIND_DECL_TAG):
                id = words[at + 2]
                continue
            elif kind == KIND_ARRAY:
                id = words[at + 3]
                count *= words[at + 5]
                if count <= _MAX_SIZE:
                    continue
                size = count
            else:
                raise BtfError(f"BTF type {self.label(id)} has no size")
            if size > _MAX_SIZE:
                raise BtfError(f"BTF type {self.label(id)} is too large: {size} bytes")
            return size
        raise BtfError(f"BTF type [{id}] refers to itself, or is nested too deep")

    def resolve(self, id: int) -> int:
        """Id of the type behind typedefs, const, volatile, restrict and type tags."""
        for _ in range(_MAX_HOPS):
            words, at = self.locate(id)
            if words[at + 1] >> KIND_SHIFT & KIND_MASK not in MODIFIERS:
                return id
            id = words[at + 2]
        raise BtfError(f"BTF type [{id}] refers to itself, or is nested too deep")

    def resolved(self, id: int) -> tuple[int, memoryview[int] | Words, int]:
        """Kind, words and place of the type that resolve() finds: for those who read many."""
        for _ in range(_MAX_HOPS):
            words, at = self.locate(id)
            kind = words[at + 1] >> KIND_SHIFT & KIND_MASK
            if kind not in MODIFIERS:
                return kind, words, at
            id = words[at + 2]
        raise BtfError(f"BTF type [{id}] refers to itself, or is nested too deep")

    def members(self, id: int) -> list[tuple[str, int, int, int]]:
        """Members of a struct or union: ``(name, type id, offset in bits, size in bits)``.

        The size is that of a bit-field, and 0 for any other member.
        """
        words, at, vlen = self._entries(id, *COMPOSITES)
        string = self._string
        found = words[at + 3 : at + 3 + 3 * vlen].tolist()
        rows = zip(found[0::3], found[1::3], found[2::3])
        if words[at + 1] >= KFLAG:
            return [(string(name), type, offset & 0xFFFFFF, offset >> 24) for name, type, offset in rows]
        return [(string(name), type, offset, 0) for name, type, offset in rows]

    def enumerators(self, id: int) -> list[tuple[str, int]]:
        """``(name, value)`` of an enum; signed when the enum says so (kflag)."""
        words, at, vlen = self._entries(id, *ENUMS)
        string = self._string
        info = words[at + 1]
        if info >> KIND_SHIFT & KIND_MASK == KIND_ENUM64:
            half, found = 1 << 63, words[at + 3 : at + 3 + 3 * vlen].tolist()
            rows = [(name, low | high << 32) for name, low, high in zip(found[0::3], found[1::3], found[2::3])]
        else:
            half, found = 1 << 31, words[at + 3 : at + 3 + 2 * vlen].tolist()
            rows = list(zip(found[0::2], found[1::2]))
        if info >= KFLAG:
            return [(string(name), (value ^ half) - half) for name, value in rows]
        return [(string(name), value) for name, value in rows]

    def params(self, id: int) -> list[tuple[str, int]]:
        """``(name, type id)`` of a FUNC_PROTO; ``("", 0)`` at the end stands for ``...``."""
        words, at, vlen = self._entries(id, KIND_FUNC_PROTO)
        found = words[at + 3 : at + 3 + 2 * vlen].tolist()
        return [(self._string(name), type) for name, type in zip(found[0::2], found[1::2])]

    def array(self, id: int) -> tuple[int, int, int]:
        """``(element type id, index type id, number of elements)``."""
        words, at, _ = self._entries(id, KIND_ARRAY)
        return words[at + 3], words[at + 4], words[at + 5]

    def vars(self, id: int) -> list[tuple[int, int, int]]:
        """``(variable's id, offset in bytes, size in bytes)`` of a DATASEC."""
        words, at, vlen = self._entries(id, KIND_DATASEC)
        found = words[at + 3 : at + 3 + 3 * vlen].tolist()
        return list(zip(found[0::3], found[1::3], found[2::3]))

    def datasecs(self) -> dict[str, int]:
        """Ids of the DATASECs of this blob by the section that they describe, the first of each name."""
        if self._datasecs is None:
            self._datasecs = {}
            for id in self._all_of(KIND_DATASEC):
                self._datasecs.setdefault(self.name(id), id)
        return self._datasecs

    def _all_of(self, kind: int) -> list[int]:
        """Ids of all types of a kind, ascending."""
        if len(self._words) >= _FEW:
            return self._names.all_of(kind)
        info, lengths, at = self._info, self._lengths, 0
        found = []
        for id in range(self.first_id, self.type_count):
            word = info[at]
            if word >> KIND_SHIFT & KIND_MASK == kind:
                found.append(id)
            at += lengths[word]
        return found

    def int_encoding(self, id: int) -> int:
        """INT_SIGNED, INT_CHAR and INT_BOOL bits of an integer."""
        words, at, _ = self._entries(id, KIND_INT)
        return words[at + 3] >> 24 & 0xF

    def int_bits(self, id: int) -> tuple[int, int]:
        """``(offset, size)`` in bits of an integer; offset is 0 but for old-style bit-fields."""
        words, at, _ = self._entries(id, KIND_INT)
        return words[at + 3] >> 16 & 0xFF, words[at + 3] & 0xFF

    def linkage(self, id: int) -> int:
        """LINKAGE_* of a function or variable."""
        words, at, vlen = self._entries(id, KIND_FUNC, KIND_VAR)
        return vlen if words[at + 1] >> KIND_SHIFT & KIND_MASK == KIND_FUNC else words[at + 3]

    def component(self, id: int) -> int:
        """Member or parameter that a DECL_TAG is about; -1 when it is the whole."""
        words, at, _ = self._entries(id, KIND_DECL_TAG)
        return (words[at + 3] ^ 0x80000000) - 0x80000000

    def _entries(self, id: int, *kinds: int) -> tuple[memoryview[int] | Words, int, int]:
        words, at = self.locate(id)
        info = words[at + 1]
        if info >> KIND_SHIFT & KIND_MASK not in kinds:
            wanted = " or ".join(kind_name(kind) for kind in kinds)
            raise BtfError(f"BTF type {self.label(id)} is not {wanted}")
        return words, at, info & VLEN_MASK

    def label(self, id: int) -> str:
        """``[7] struct pid``: how messages name a type."""
        return f"[{id}] {kind_name(self.kind(id))} {printable(self.name(id)) or '<anon>'}"

    @property
    def pointer_size(self) -> int:
        """4 or 8: the size of an integer named ``long`` (8 when there is none); can be set."""
        if not self._pointer_size:
            self._pointer_size = self.base.pointer_size if self.base is not None else self._guess_pointer_size()
        return self._pointer_size

    @pointer_size.setter
    def pointer_size(self, size: int) -> None:
        self._pointer_size = size

    def _guess_pointer_size(self) -> int:
        info, words, length, at = self._info, self._words, self._lengths, 0
        try:
            while True:
                head = info[at]
                if head >> KIND_SHIFT & KIND_MASK == KIND_INT:
                    size = words[at + 2]
                    if size in (4, 8) and self._string(words[at]) in _LONG:
                        return size
                at += length[head]
        except (IndexError, BtfError):
            return 8

    # ---- strings and names ----------------------------------------------------------

    def string(self, offset: int, limit: int = _MAX_STRING) -> str:
        """The string at an offset of the string section; bytes that are not UTF-8 show as ``\\xNN``."""
        at = offset - self._str_base
        if at < 0:
            if self.base is None:
                raise BtfError(f"BTF string offset {offset} is negative")
            return self.base.string(offset, limit)
        data = self._data
        at += self._str_off
        if at >= self._str_end:
            if offset == 0:
                return ""
            raise BtfError(f"BTF string offset {offset} is past the string section ({self.string_size} bytes)")
        end = data.find(b"\0", at, at + limit + 1)
        if end < 0:
            # Thousands of types could share the tails of one enormous string.
            raise BtfError(f"BTF string at offset {offset} is longer than {limit} bytes")
        return str(data[at:end], "utf-8", "backslashreplace")

    def _string(self, offset: int) -> str:
        return self.string(offset, MAX_NAME)

    @property
    def _names(self) -> NameIndex:
        # It refers back to this object: made for those who look for names only, it leaves no cycle to others.
        index = self._index
        if index is None:
            from btf.names import NameIndex

            index = self._index = NameIndex(self)
        return index

    def string_contains(self, name: str) -> bool:
        """Whether ``name`` is one of the strings: if not, nothing here bears it."""
        return self._names.contains(name)

    def names_starting(self, text: str) -> list[str]:
        """The strings, the base's included, that begin so: names of types, members, parameters, enumerators."""
        found = [] if self.base is None else self.base.names_starting(text)
        needle = b"\0" + text.encode("utf-8", "backslashreplace")
        at = self._data.find(needle, self._str_off, self._str_end)
        while at >= 0:
            found.append(self._string(at + 1 - self._str_off + self._str_base))
            at = self._data.find(needle, at + 1, self._str_end)
        return found

    def find(self, name: str, kinds: Sequence[int], own: bool = False) -> list[int]:
        """Ids of all types of these kinds that bear ``name``, ascending; without the base's if ``own``."""
        ids = [] if own or self.base is None else self.base.find(name, kinds)
        return ids + self._names.find(name, kinds)

    def find_flavours(self, name: str, kinds: Sequence[int], own: bool = False) -> list[int]:
        """Like find(), but compares essential names: ``name`` and its flavours ``name___x``."""
        ids = [] if own or self.base is None else self.base.find_flavours(name, kinds)
        return ids + self._names.find(name, kinds, flavours=True)

    def name_offsets(self, name: str) -> list[int]:
        """String offsets by which a type, here or in BTF that stands on this, may bear ``name`` or a flavour of it."""
        return self._names.offsets(name, flavours=True)

    def find_id(self, name: str, kind: int) -> int:
        """First type of that kind and name; raises BtfNotFound."""
        ids = self.find(name, (kind,))
        if not ids:
            raise BtfNotFound(f"BTF has no {kind_name(kind)} '{name}'")
        return ids[0]

    def find_enumerator(self, name: str) -> int:
        """Value of the first enumerator of that name, in anonymous enums as well; raises BtfNotFound."""
        found = self._names.enumerators(name)
        if found:
            id, index = found[0]
            return self.enumerators(id)[index][1]
        if self.base is None:
            raise BtfNotFound(f"BTF has no enumerator '{name}'")
        return self.base.find_enumerator(name)

    def prefetch(self, names: Iterable[str], kinds: Sequence[int]) -> None:
        """Look up many names in one go, so that find() then has the answers.

        Five names one by one may cost 2 ms each in a kernel's BTF; together
        they cost little more than the walk that is needed anyway.
        """
        names = list(names)
        if self.base is not None:
            self.base.prefetch(names, kinds)
        self._names.prefetch(names, kinds)
