"""From a specification to kernel objects: maps, BTF, CO-RE, relocations, programs; all or nothing."""

from __future__ import annotations

import sys
from errno import EINVAL, ENOENT, EPERM
from struct import pack

from btf.errors import BtfError, BtfNotFound
from pybpf import abi, kernel, linker
from pybpf.errors import Error, LoadError, NotSupported, ObjectError, SyscallError
from pybpf.maps import Map
from pybpf.object.spec import KCONFIG, RELOC_DATA
from pybpf.program import Program, Request
from pybpf.sections import parse_section
from pybpf.target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from btf.reader import Btf
    from pybpf.externs import Symbols
    from pybpf.inkernel import Strings
    from pybpf.kernel import Fd
    from pybpf.linker import Symbol
    from pybpf.object.spec import MapSpec, ObjectSpec, ProgramSpec
    from pybpf.sections import Section

    Functions = dict[str, list[ProgramSpec]]

__all__ = ["Collection", "Program"]

_ENUM_VALUES = (10, 11)  # BPF_CORE_ENUMVAL_EXISTS, BPF_CORE_ENUMVAL_VALUE


class Collection:
    """Some programs of an object, loaded, with the maps that they use.

    ``programs`` names those to load. Only maps that they refer to are created;
    ``maps`` gives existing ones to use instead, by name, which stay the
    caller's. ``btf`` is the kernel's BTF when the caller has it open. Without it, the
    kernel is asked to relocate the programs itself (5.17), and /sys/kernel/btf/vmlinux
    is opened if it cannot or refuses them. ``log_level``
    asks for the verifier's log even of a success (``Program.log``).

    ``fold`` says whether code that CO-RE, frozen data or externs prove dead is
    deleted before the kernel sees it, with the maps that only it uses: True
    always, False never, None if the kernel refuses the programs as they are.

    ``targets`` gives loaded programs whose functions the programs of these names
    replace (freplace) or trace (fentry, fexit): the section names the function.

    ``target`` is what other collections of the same object were loaded with, and stays the caller's; ``btf``
    is then its.

    ``again`` reads an object that was read without its lines once more with them, after a rejection, so
    that this can name the source.

    ``programs`` and ``maps`` map names to objects. ``btf_error`` tells why the
    object's own BTF was not accepted, None if it was: programs are then loaded
    without function and line information.

    Raises ObjectError, BtfError (CoreError), LoadError, VerifierError,
    NotSupported or MapError, with everything closed that was made.
    """

    def __init__(
        self,
        spec: ObjectSpec,
        programs: Iterable[str],
        *,
        btf: Btf | None = None,
        maps: Mapping[str, Map] | None = None,
        log_level: int = 0,
        fold: bool | None = None,
        targets: Mapping[str, Program] | None = None,
        target: Target | None = None,
        again: Callable[[], ObjectSpec] | None = None,
    ) -> None:
        if spec.byteorder != sys.byteorder:
            raise ObjectError(f"object is {spec.byteorder}-endian, this machine is {sys.byteorder}-endian")
        self.programs: dict[str, Program] = {}
        self.maps: dict[str, Map] = {}
        self.btf_error: SyscallError | None = None
        self._spec = spec
        self._given = dict(maps or {})
        self._targets = dict(targets or {})
        self._again = again
        self._log_level = log_level
        self._interpreting: bool | None = None  # known when it matters
        self._own_target = target is None
        self._target = target or Target(spec.btf, btf)
        self._code: dict[str, bytes] = {}
        self._object_btf: Fd | None = None
        self._symbols: dict[str, Symbol] = {}
        self._resolver: Symbols | None = None
        self._settings: bytes | None = None  # contents of .kconfig
        self._folded: dict[str, ProgramSpec] = {}
        self._strings: Strings | None = None  # set while the kernel is to relocate
        try:
            self._load({name: linker.functions_of(spec, name) for name in programs}, fold)
        except BaseException:
            self.close()
            raise
        finally:
            self._close_btf()

    # --- steps, in order ------------------------------------------------------

    def _load(self, functions: Functions, fold: bool | None) -> None:
        sections = {name: parse_section(parts[0].section) for name, parts in functions.items()}
        if not fold and self._load_by_kernel(functions, sections):
            return
        # All that needs the kernel's BTF comes first, so that its megabytes (where it
        # cannot be mapped) are free again when maps and the verifier ask for memory.
        if self._spec.externs:
            self._resolve_externs(functions)
        for parts in functions.values():
            for function in parts:
                self._relocated(function)
        hooks = {name: section for name, section in sections.items() if self._is_hooked(name, section)}
        ids = {name: self._attach_id(name, section) for name, section in hooks.items()}
        if self._own_target:
            self._target.release()
        if self._object_btf is None and self.btf_error is None:
            self._load_btf()
        if fold:
            functions = self._without_dead_code(functions) or functions
        try:
            self._make(functions, sections, ids)
        except SyscallError as error:
            # What stands behind a guard may be beyond this kernel, even if it never runs.
            folded = self._without_dead_code(functions) if fold is None and error.errno != EPERM else None
            if folded is None:
                raise
            self._unmake()
            self._make(folded, sections, ids)

    def _load_by_kernel(self, functions: Functions, sections: Mapping[str, Section]) -> bool:
        """Load with relocations and ids of hooks left to the kernel; False, with nothing made, if that fails.

        What the kernel refuses is worth trying with our own relocations: they
        explain better, and can be folded. Externs need the kernel's BTF here anyway.
        """
        every = [function for parts in functions.values() for function in parts]
        hooks = {name: section for name, section in sections.items() if self._is_hooked(name, section)}
        if self._target.given is not None or linker.externs_of(every) or not self._spec.btf:
            return False
        if not hooks and not any(function.core_relos for function in every):
            return False
        from pybpf import inkernel

        if not inkernel.relocates():
            return False
        found = inkernel.find_ids([*(_btf_name(section) for section in hooks.values()), *self._enums(every)])
        if found is None:
            return False
        self._load_btf()
        if self._object_btf is None:
            return False
        self._strings = inkernel.Strings(self._spec.btf)
        try:
            self._make(functions, sections, dict(zip(hooks, found)))
        except SyscallError:
            self._unmake()
            return False
        finally:
            self._strings = None
        return True

    def _enums(self, functions: list[ProgramSpec]) -> list[tuple[str, int]]:
        """Name and kind of the enums whose values code asks for, the kernel's own ``bpf_`` ones of 32 bits apart.

        Unlike libbpf and btf.core, the kernel takes 32-bit and 64-bit enums for different
        things: values of one that is of the other kind in the object would seem to be absent.
        """
        from btf.format import KIND_ENUM, essential_name

        found = []
        for id in sorted({type_id for f in functions for _, type_id, _, kind in f.core_relos if kind in _ENUM_VALUES}):
            local = self._target.local()
            name, kind = essential_name(local.name(id)), local.kind(id)
            if kind != KIND_ENUM or not name.startswith("bpf_"):
                found.append((name, kind))
        return found

    def _make(self, functions: Functions, sections: Mapping[str, Section], ids: Mapping[str, int]) -> None:
        """Create the maps and load the programs."""
        linked = {
            name: linker.Linked(parts, self._relocated, self._spec.byteorder) for name, parts in functions.items()
        }
        relos = {name: self._kernel_relos(program) for name, program in linked.items()}
        needed: set[str] = set()
        for parts in functions.values():
            needed |= linker.maps_of(parts)
        # The object's order, so that what the kernel shows does not depend on hashing.
        for name in [*(n for n in self._spec.maps if n in needed), *sorted(needed - self._spec.maps.keys())]:
            self._add_map(name)
        fds = {name: map.fd for name, map in {**self.maps, **self._given}.items()}
        for name, program in linked.items():
            program.bind(fds, self._symbols)
            self.programs[name] = self._load_program(name, program, sections[name], ids.get(name, 0), relos[name])

    def _without_dead_code(self, functions: Functions) -> Functions | None:
        """``functions`` without what is proven dead; None if that is nothing."""
        from pybpf.fold import fold

        spec = self._spec
        constants = {
            name: bytes(map.contents).ljust(map.value_size, b"\0")
            for name, map in spec.maps.items()
            if map.frozen and map.contents is not None and name not in self._given
        }
        if self._settings is None:
            constants.pop(KCONFIG, None)
        else:
            constants[KCONFIG] = self._settings
        symbols = {name: symbol.kind != "missing" for name, symbol in self._symbols.items()}
        seen = set()
        for parts in functions.values():
            for function in parts:
                if function.name not in seen:
                    seen.add(function.name)
                    folded = fold(function, self._relocated(function), constants, symbols, spec.byteorder)
                    if folded is not None:
                        self._folded[function.name] = folded
        if not self._folded:
            return None
        return {name: linker.functions_of(spec, name, self._folded) for name in functions}

    def _resolve_externs(self, functions: Functions) -> None:
        """What the externs that the functions refer to come to in this kernel."""
        from pybpf import externs

        spec = self._spec
        every = [function for parts in functions.values() for function in parts]
        names = linker.externs_of(every)
        if names:
            self._resolver = externs.Symbols(self._target.local, self._target.running)
            self._symbols = self._resolver.resolve([spec.externs[name] for name in sorted(names)])
        places = {r.addend for f in every for r in f.relocs if r.kind == RELOC_DATA and r.target == KCONFIG}
        if places and KCONFIG not in self._given:
            used = {
                name
                for name, extern in spec.externs.items()
                if extern.section == KCONFIG and [1 for at in places if 0 <= at - extern.offset < extern.size]
            }
            self._settings = externs.kconfig(spec, used)

    def _load_btf(self) -> None:
        try:
            self._object_btf = self._target.loaded()
        except SyscallError as error:
            # Old kernels know fewer kinds. BTF is a description; programs run without.
            self.btf_error = error

    def _add_map(self, name: str) -> None:
        spec = self._spec.maps.get(name)
        given = self._given.get(name)
        if given is not None:
            if spec is not None:
                _check_same(spec, given)
            self.maps[name] = given
            return
        if spec is None:
            raise ObjectError(f"a program uses map {name!r}, which the object does not define")
        contents = self._settings if name == KCONFIG else None
        self.maps[name] = create_map(spec, self._object_btf.fd if self._object_btf is not None else 0, contents)

    def _relocated(self, function: ProgramSpec) -> bytes:
        """The function's code with CO-RE applied; once, however many programs call it."""
        if not function.core_relos or self._strings is not None or self._folded.get(function.name) is function:
            return function.insns
        code = self._code.get(function.name)
        if code is None:
            from btf.core_patch import relocate

            raw = bytearray(function.insns)
            target = self._target
            relocate(raw, function.core_relos, function.name, self._spec.byteorder, target.resolve, target.describe)
            code = self._code[function.name] = bytes(raw)
        return code

    def _kernel_relos(self, linked: linker.Linked) -> bytes:
        """The relocations that the kernel is to apply; none when that has been done here."""
        if self._strings is None:
            return b""
        from pybpf.inkernel import records

        relos = records(linked, self._strings)
        if relos is None:
            raise NotSupported(f"program {linked.name!r} lacks what the kernel needs to relocate it", EINVAL)
        return relos

    def _load_program(
        self, name: str, linked: linker.Linked, section: Section, attach_btf_id: int, core_relos: bytes
    ) -> Program:
        if self._interpreting is None:
            self._interpreting = kernel.is_interpreting()
        if self._interpreting:
            from pybpf.interpreted import refuse_what_crashes

            refuse_what_crashes(linked.name, linked.insns)
        request = Request(linked.name, section, linked.insns, self._spec.license)
        request.attach_btf_id = attach_btf_id
        target = self._targets.get(name)
        if target is not None:
            from pybpf.proginfo import function_id

            request.attach_prog_fd = target.fd
            request.attach_btf_id = function_id(target, section.target)
        request.core_relos = core_relos
        if self._resolver is not None and self._resolver.fds:
            request.fd_array = pack(f"={len(self._resolver.fds) + 1}i", 0, *self._resolver.fds)
        if self._object_btf is not None:
            request.btf_fd = self._object_btf.fd
            request.func_info = linked.func_info()
            request.line_info = linked.line_info()
        return request.load(self._log_level, self._locator(linked), self._field_namer(linked))

    # --- BTF --------------------------------------------------------------------

    def _is_hooked(self, name: str, section: Section) -> bool:
        """Whether the program's hook is a type of the kernel."""
        return section.btf is not None and name not in self._targets

    def _attach_id(self, program: str, section: Section) -> int:
        """The kernel's BTF type id of the hook: a function's, or the typedef of a tracepoint's signature."""
        try:
            return self._target.find_id(*_btf_name(section))
        except BtfNotFound as error:
            prefix, typedef = section.btf or ("", False)
            noun = "tracepoint" if typedef else "LSM hook" if prefix else "function"
            raise NotSupported(
                f"program {program!r} ({section.name}): this kernel has no {noun} {section.target!r}",
                ENOENT,
                str(error),
            ) from None

    def _close_btf(self) -> None:
        """Let go of what only loading needs; the kernel keeps the object's BTF with the programs."""
        if self._own_target:
            self._target.close()
        if self._resolver is not None:
            self._resolver.close()
        self._object_btf = self._resolver = self._again = None
        self._code = {}
        self._folded = {}
        del self._spec, self._target  # a tracer has dozens of collections, each as large as its part of an object

    # --- explanations of a rejection ----------------------------------------------

    def _locator(self, linked: linker.Linked) -> Callable[[int], str]:
        def locate(slot: int) -> str:
            function, index = linked.function_at(slot)
            best = None
            for record in self._lines_of(function):
                if record[0] <= index and (best is None or record[0] >= best[0]):
                    best = record
            if best is None or not self._spec.btf:
                return ""
            try:
                return f"{self._target.local().string(best[1])}:{best[3] >> 10}"
            except BtfError:
                return ""

        return locate

    def _lines_of(self, function: ProgramSpec) -> list[tuple[int, int, int, int]]:
        """Where a function's instructions come from; folded ones are no longer those of the object."""
        lines = function.line_info
        if lines or self._again is None or self._folded.get(function.name) is function:
            return lines
        try:
            described = self._again().programs.get(function.name)
            return described.line_info if described is not None else []
        except (Error, OSError):
            return []  # the rejection is what matters

    def _field_namer(self, linked: linker.Linked) -> Callable[[int], str]:
        def field(slot: int) -> str:
            function, index = linked.function_at(slot)
            for at, type_id, access, kind in function.core_relos:
                if at == index:
                    return self._target.describe(type_id, access, kind)
            for reloc in function.relocs:
                if reloc.index == index and reloc.target in self._symbols:
                    return f"kfunc {reloc.target!r}"
            return ""

        return field

    # --- life -------------------------------------------------------------------

    def _unmake(self) -> None:
        self.close()
        self.programs, self.maps = {}, {}

    def close(self) -> None:
        """Close programs and maps; maps given by the caller stay open."""
        for program in self.programs.values():
            program.close()
        for name, map in self.maps.items():
            if name not in self._given:
                map.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def create_map(spec: MapSpec, btf_fd: int = 0, contents: bytes | None = None) -> Map:
    """Create a map with its initial contents (or these instead), frozen if ``spec`` says so.

    A frozen map is also read-only for programs, which lets the verifier treat
    its contents as constants and drop the branches that they disable. Raises
    LoadError or MapError.
    """
    if spec.inner is not None:
        # The kernel wants a map as a pattern; it keeps its properties, not the map.
        with Map.create(spec.inner, btf_fd) as pattern:
            return Map.create(spec, btf_fd, inner_fd=pattern.fd)
    map = Map.create(spec, btf_fd, extra_flags=abi.F_RDONLY_PROG if spec.frozen else 0)
    try:
        value = contents if contents is not None else spec.contents
        if value is not None:
            if len(value) > spec.value_size:
                raise ObjectError(f"{map}: {len(value)} bytes of contents in a value of {spec.value_size}")
            # A new array is zero already.
            if value.strip(b"\0"):
                map.update(bytes(spec.key_size), bytes(value).ljust(spec.value_size, b"\0"))
        if spec.frozen:
            map.freeze()
    except BaseException:
        map.close()
        raise
    return map


def _btf_name(section: Section) -> tuple[str, int]:
    """Name and kind of the kernel's BTF type that a hook stands for."""
    from btf.format import KIND_FUNC, KIND_TYPEDEF

    prefix, typedef = section.btf or ("", False)
    return prefix + section.target, KIND_TYPEDEF if typedef else KIND_FUNC


def _check_same(spec: MapSpec, given: Map) -> None:
    wanted = (spec.type, spec.key_size, spec.value_size)
    actual = (given.type, given.key_size, given.value_size)
    if wanted != actual:
        raise LoadError(
            f"{given} given for {spec.name!r} has (type, key size, value size) {actual}, the object wants {wanted}",
            EINVAL,
        )
