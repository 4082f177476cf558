"""Getting a BTF file into memory in the cheapest way the kernel offers."""

from __future__ import annotations

from btf.errors import BtfError, BtfNotFound
from btf.format import NATIVE, Header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mmap import mmap
    from typing import Any

_PIECE = 1 << 16
_PAGE = 4096  # what the kernel gives at once
_WORDS = _PAGE // 4
_MAX_PAGES = 16
_LARGE = 1 << 20


class Sparing:
    """A BTF file of which only what comes before the types is in memory, as ``head``; the rest is read when asked for.

    Of a kernel's BTF, megabytes, little is ever looked at twice. Behaves like the
    whole file's bytes where ``btf.reader`` uses them. It is read by the page, since
    that is what the kernel gives at once, and the last few pages stay. Raises BtfError.
    """

    __slots__ = ("_fd", "_pages", "_size", "head")

    def __init__(self, fd: int, head: bytearray, size: int) -> None:
        self.head = head
        self._fd = fd  # ours from now on
        self._size = size
        self._pages: dict[int, bytes] = {}

    def __len__(self) -> int:
        return self._size if self._fd >= 0 else 0

    def _page(self, number: int) -> bytes:
        page = self._pages.get(number)
        if page is None:
            page = self._read(number * _PAGE, _PAGE)
            if len(self._pages) >= _MAX_PAGES:
                del self._pages[next(iter(self._pages))]
            self._pages[number] = page
        return page

    def _read(self, start: int, size: int) -> bytes:
        import os

        try:
            return os.pread(self._fd, size, start)
        except OSError as error:
            raise BtfError(f"cannot read BTF: {error.strerror}") from None

    def __getitem__(self, at: Any) -> Any:
        if not isinstance(at, slice):
            page = self._page(at // _PAGE)
            if at % _PAGE >= len(page):
                raise BtfError("BTF ends before its end: the file has become shorter")
            return page[at % _PAGE]
        start, stop, step = at.indices(self._size)
        first, last = start // _PAGE, (stop - 1) // _PAGE
        if first == last:
            return self._page(first)[start % _PAGE : stop - first * _PAGE : step]
        out = bytearray()
        while start + len(out) < stop:
            piece = self._read(start + len(out), stop - start - len(out))
            if not piece:
                break
            out += piece
        return bytes(out[::step] if step != 1 else out)

    def find(self, needle: bytes, start: int, end: int) -> int:
        """As bytes.find()."""
        end = min(end, self._size)
        extra = len(needle) - 1
        while start + extra < end:
            stop = min(end, (start // _PAGE + 1) * _PAGE)
            at: int = self[start : min(end, stop + extra)].find(needle)
            if at >= 0:
                return start + at
            start = stop
        return -1

    def rfind(self, needle: bytes, start: int, end: int) -> int:
        """As bytes.rfind(), of one byte."""
        end = min(end, self._size)
        while end > start:
            begin = max(start, (end - 1) // _PAGE * _PAGE)
            at: int = self[begin:end].rfind(needle)
            if at >= 0:
                return begin + at
            end = begin
        return -1

    def close(self) -> None:
        """Let go of the file and of what was read."""
        import os

        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._pages = {}
        self.head = bytearray()


class Words:
    """The 32-bit words of a file's type section. Behaves like a memoryview of them where ``btf.reader`` uses one.

    Positions start at word ``start`` of the section; ``window()`` is for going through many words in order.
    """

    __slots__ = ("_data", "_offset", "_pages", "_size", "_start")

    def __init__(self, data: Sparing, offset: int, size: int, start: int = 0) -> None:
        """``size`` words from byte ``offset`` of the file on."""
        self._data = data
        self._offset = offset
        self._size = size
        self._start = start
        self._pages: dict[int, memoryview[int]] = {}

    def __len__(self) -> int:
        return self._size - self._start

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            first, last, step = at.indices(len(self))
            assert step == 1
            if at.stop is None:
                return Words(self._data, self._offset, self._size, self._start + first)
            return self.window(first, last - first)
        at += self._start
        page = self._pages.get(at // _WORDS)
        if page is None:
            page = self._page(at // _WORDS)
        return page[at % _WORDS]

    def _page(self, number: int) -> memoryview[int]:
        if not 0 <= number * _WORDS < self._size:
            raise IndexError
        if len(self._pages) >= _MAX_PAGES:
            del self._pages[next(iter(self._pages))]
        page = self._pages[number] = self._read(number * _WORDS, _WORDS)
        return page

    def window(self, at: int, size: int) -> memoryview[int]:
        """``size`` words from position ``at`` on, or as many as there are."""
        return self._read(self._start + at, size)

    def _read(self, at: int, size: int) -> memoryview[int]:
        end = min(at + size, self._size)
        raw = self._data[self._offset + 4 * at : self._offset + 4 * end]
        if len(raw) != 4 * (end - at):
            raise BtfError("BTF ends before its end: the file has become shorter")
        return memoryview(raw).cast("I")

    def release(self) -> None:
        """Let go of what was read."""
        self._pages.clear()


def map_file(path: str) -> mmap | bytearray:
    """The contents of a file: mapped where possible, else read.

    /sys/kernel/btf/vmlinux can be mapped from Linux 6.16 on, privately only,
    and then costs no memory; before, mmap() fails with ENODEV and read()
    returns at most a page at a time.
    """
    data = _get(path, False)
    assert not isinstance(data, Sparing)
    return data


def spare_file(path: str) -> mmap | bytearray | Sparing:
    """Like map_file(), but a large file that cannot be mapped is read by the page, when asked for."""
    return _get(path, True)


def _get(path: str, sparing: bool) -> mmap | bytearray | Sparing:
    import os

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BtfNotFound(f"{path}: no such file") from None
    except OSError as error:
        raise BtfError(f"cannot open {path}: {error.strerror}") from None
    try:
        size = os.fstat(fd).st_size
        if size:
            from mmap import MAP_PRIVATE, PROT_READ, mmap

            try:
                return mmap(fd, size, flags=MAP_PRIVATE, prot=PROT_READ)
            except OSError:
                pass
        if sparing and size >= _LARGE:
            try:
                head = Header(_read(fd, _PAGE), size)
            except BtfError as error:
                raise BtfError(f"{path}: {error}") from None
            if head.byteorder == NATIVE:
                os.lseek(fd, 0, os.SEEK_SET)
                own = fd
                fd = -1
                # What a layout section says stands behind the types: then all of it is read at once.
                return Sparing(own, _read(own, head.str_off if head.layout_len else head.type_off), size)
            os.lseek(fd, 0, os.SEEK_SET)
        return _read(fd, size)
    except OSError as error:
        raise BtfError(f"cannot read {path}: {error.strerror}") from None
    finally:
        if fd >= 0:
            os.close(fd)


def _read(fd: int, size: int) -> bytearray:
    """Read all of ``fd`` into one buffer, which is not grown when the size is known."""
    import os

    data = bytearray(size)
    done = 0
    with memoryview(data) as view:
        while done < size:
            got = os.readv(fd, [view[done : done + _PIECE]])
            if not got:
                break
            done += got
    del data[done:]
    while not size:
        piece = os.read(fd, _PIECE)
        if not piece:
            break
        data += piece
    return data
