"""What loading needs to know of the kernel's types: values of relocations, ids of hooks; from the cheapest source."""

from __future__ import annotations

from errno import ENOENT

from btf.errors import BtfNotFound
from pybpf.errors import NotSupported, ObjectError, SyscallError
from pybpf.kernel import btf_load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from btf.core import Relocator
    from btf.core_patch import Resolution
    from btf.reader import Btf
    from pybpf.corecache import Cache
    from pybpf.kernel import Fd

MODULES = "/sys/kernel/btf"


class Target:
    """The running kernel as an object with the BTF ``local`` sees it.

    ``given`` is its BTF when the caller has it open, which stays the caller's: the
    kernel's own, or one made for kernels without. Otherwise answers come from the
    cache, and the kernel's BTF is opened for those that it lacks; that of modules for
    types that the kernel itself has not. One target may serve several loads of an object, which then
    ask for nothing twice.
    """

    def __init__(self, local: bytes, given: Btf | None = None) -> None:
        self.given = given
        self._bytes = local
        self._local: Btf | None = None
        self._running: Btf | None = None
        self._modules: dict[str, Btf] = {}
        self._relocator: Relocator | None = None
        self._cache: Cache | None = None
        self._asked = given is not None  # for the cache
        self._cacheable = True
        self._loaded: Fd | None = None
        self._refusal: SyscallError | None = None

    def sees(self, local: bytes) -> bool:
        """Whether this is the BTF that it was made for."""
        return self._bytes == local

    def local(self) -> Btf:
        """The object's own BTF."""
        if self._local is None:
            if not self._bytes:
                raise ObjectError("object has CO-RE relocations but no .BTF section")
            from btf.reader import Btf

            self._local = Btf(self._bytes)
        return self._local

    def running(self) -> Btf:
        """The kernel's own BTF, the one whose ids it knows. Raises BtfError or NotSupported."""
        from btf.reader import VMLINUX, Btf

        given = self.given
        if given is not None and given.path == VMLINUX:
            return given
        if self._running is None:
            try:
                self._running = Btf.kernel()
            except BtfNotFound:
                if given is None:
                    raise
                # As libbpf has it: a file stands in for the kernel's BTF in relocations alone.
                raise NotSupported(
                    "this kernel has no BTF of its own, which hooks and symbols by type need; no file replaces it",
                    ENOENT,
                ) from None
        return self._running

    def resolve(self, type_id: int, access: str, kind: int) -> Resolution:
        """What a relocation comes to. Raises CoreError, BtfError or ObjectError."""
        cache = self._stored()
        found = cache.values.get((type_id, access, kind)) if cache is not None else None
        if found is None:
            found = self._core().resolve(type_id, access, kind)
            if cache is not None:
                cache.add(type_id, access, kind, found)
        return found

    def describe(self, type_id: int, access: str, kind: int) -> str:
        """A relocation in words."""
        return self._core().describe(type_id, access, kind)

    def find_id(self, name: str, kind: int) -> int:
        """Id of the kernel's type of that name and kind. Raises BtfNotFound."""
        cache = self._stored()
        found = cache.ids.get((name, kind)) if cache is not None else None
        if found is None:
            found = self.running().find_id(name, kind)
            if cache is not None:
                cache.add_id(name, kind, found)
        return found

    def loaded(self) -> Fd | None:
        """The object's own BTF in the kernel, brought there once; None without any. Raises LoadError."""
        if self._refusal is not None:
            raise self._refusal
        if self._loaded is None and self._bytes:
            try:
                self._loaded = self._load()
            except SyscallError as error:
                self._refusal = error
                raise
        return self._loaded

    def _load(self) -> Fd:
        try:
            return btf_load(self._bytes)
        except SyscallError as refusal:
            from pybpf import loadbtf

            return loadbtf.load_simpler(self._bytes, refusal)

    def release(self) -> None:
        """Let go of the kernel's BTF, and keep what it said for the next time."""
        if self._cache is not None and self._cacheable:
            self._cache.store()
        self._cache, self._asked = None, True
        for module in self._modules.values():
            module.close()
        if self._running is not None:
            self._running.close()
        self._modules = {}
        self._running = self._relocator = None

    def close(self) -> None:
        """Let go of everything but the caller's."""
        self.release()
        if self._local is not None:
            self._local.close()
            self._local = None
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    def _stored(self) -> Cache | None:
        if not self._asked:
            from pybpf.corecache import Cache

            self._asked = True
            self._cache = Cache.open(self._bytes)
        return self._cache

    def _core(self) -> Relocator:
        if self._relocator is None:
            local = self.local()
            from btf.core import Relocator

            given = self.given
            self._relocator = Relocator(local, given or self.running(), None if given else self._modules_with)
        return self._relocator

    def _modules_with(self, name: str) -> Iterator[Btf]:
        """BTF of those modules (5.11) that may have a type of that name or a flavour of it.

        There may be hundreds: each is read, and parsed and kept only if the name, or a
        reference to it among the kernel's strings, stands in it.
        """
        import os
        from struct import pack

        from btf.reader import Btf

        self._cacheable = False  # the answer holds as long as the modules are the same
        kernel = self.running()
        needles = [name.encode(), *(pack("=I", offset) for offset in kernel.name_offsets(name))]
        try:
            found = sorted(set(os.listdir(MODULES)) - {"vmlinux"})
        except OSError:
            return
        for module in found:
            if module in self._modules:
                yield self._modules[module]
                continue
            try:
                with open(os.path.join(MODULES, module), "rb") as file:
                    data = file.read()
            except OSError:  # unloaded meanwhile
                continue
            if any(needle in data for needle in needles):
                self._modules[module] = Btf(data, kernel)
                yield self._modules[module]
