"""Getting a BTF file into memory in the cheapest way the kernel offers."""

from __future__ import annotations

from btf.errors import BtfError, BtfNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mmap import mmap

_PIECE = 1 << 16


def map_file(path: str) -> mmap | bytearray:
    """The contents of a file: mapped where possible, else read.

    /sys/kernel/btf/vmlinux can be mapped from Linux 6.16 on, privately only,
    and then costs no memory; before, mmap() fails with ENODEV and read()
    returns at most a page at a time.
    """
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
        return _read(fd, size)
    except OSError as error:
        raise BtfError(f"cannot read {path}: {error.strerror}") from None
    finally:
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
