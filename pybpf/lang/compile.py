"""From modules to an object file."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType

from pybpf.errors import CompileError
from pybpf.lang import ir
from pybpf.lang.btfgen import TypeTable
from pybpf.lang.callchain import check_chains
from pybpf.lang.contexts import global_context
from pybpf.lang.emitter import STACK
from pybpf.lang.externs import Extern, Kfunc
from pybpf.lang.flow import Frame
from pybpf.lang.ir import Function
from pybpf.lang.lower_function import Lowering
from pybpf.lang.maps import Map, ProgArray
from pybpf.lang.source import Routine, Sources
from pybpf.lang.surface import PROGRAMS, Inline, Kind, Program, Subprog
from pybpf.lang.types import ConfigBase, PtrType, Scalar, StructType, Type, i32, u64

_STATIC, _GLOBAL = 0, 1
_STACKS = (STACK, 320, 192)
# So many new objects at least between two searches for cycles: some megabytes, of which compiling leaves few behind.
_COLLECT_AFTER = 50_000


def compile_modules(names: Sequence[str], object_name: str = "pybpf.bpf.o", *, lines: bool = True) -> bytes:
    """Import the modules and compile every program that they define into one ELF object.

    The object holds the maps and settings that the programs use, and depends on
    nothing but the sources. A module that says ``LICENSE = "..."`` sets the licence
    that the kernel is told (default: GPL, without which it refuses most tracing
    helpers). ``object_name`` stands in messages. Without ``lines`` the object is smaller, and
    a rejection by the verifier cannot be shown at the source. Raises CompileError, whose
    message starts with ``file:line:column``.
    """
    programs: list[Program] = []
    licenses: dict[str, str] = {}
    for name in names:
        module = importlib.import_module(name)
        programs += PROGRAMS.get(name, {}).values()
        if hasattr(module, "LICENSE"):
            licenses[str(module.LICENSE)] = name
    if len(licenses) > 1:
        raise CompileError(
            f"{object_name}: an object has one licence, but "
            + ", ".join(f"{name} says {text!r}" for text, name in licenses.items())
        )
    if not programs:
        raise CompileError(f"{object_name}: no programs are defined in {', '.join(names) or 'no modules'}")
    return compile_functions(programs, object_name, license=next(iter(licenses), "GPL"), lines=lines)


def compile_functions(
    programs: Iterable[Program], object_name: str = "pybpf.bpf.o", *, license: str = "GPL", lines: bool = True
) -> bytes:
    """Compile programs into one ELF object; see compile_modules()."""
    with _collecting_seldom():
        return _compile(list(programs), license, lines)


def _compile(programs: list[Program], license: str, lines: bool) -> bytes:
    """What compiling takes is given back here, before the garbage collector would look through it."""
    from pybpf.lang.backend import generate
    from pybpf.object.image import assemble

    problem: CompileError | None = None
    for stack in _STACKS:
        unit = Compilation(stack)
        for program in programs:
            unit.add(program)
        externs = unit.sorted_externs()
        units = [generate(function, keep=False) for function in unit.functions]
        # Functions that call each other share the stack: if it is too small, more of their objects go to maps.
        problem = check_chains(unit.functions, units, unit.later)
        if problem is None:
            break
    if problem is not None:
        raise problem
    maps = [(map.name, *unit.types.map_definition(map)) for map in unit.sorted_maps()]
    return assemble(
        *(units, unit.func_ids, maps, unit.data_sections(), license, unit.types.builder),
        externs=externs,
        lines=lines,
    )


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """The garbage collector searches less often: among a compiler's many small objects it costs a tenth of the time."""
    first, *others = gc.get_threshold()
    if 0 < first < _COLLECT_AFTER:
        gc.set_threshold(_COLLECT_AFTER, *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)


class Compilation:
    """What the functions of one object share: sources, types, maps, settings, subprograms."""

    def __init__(self, stack: int = STACK) -> None:
        from btf.builder import Builder

        self.stack = stack  # bytes that each function's big objects may take
        self.later: set[str] = set()  # callbacks that outlive their caller
        self.sources = Sources()
        self.types = TypeTable(Builder())
        self.functions: list[Function] = []
        self.func_ids: dict[str, int] = {}
        self._maps: dict[str, Map] = {}
        self.scratches = 0  # maps made for local variables that do not fit the stack
        self.kfuncs: dict[Kfunc, tuple[str, list[tuple[str, Type | None]], Type | None]] = {}
        self._externs: dict[str, tuple[str, int, int, object]] = {}
        self._weak: set[str] = set()
        self._asking: list[Function] = []
        self._callbacks = 0
        self._under_way: list[Inline] = []
        self._open_subprogs: set[tuple[Subprog, object]] = set()
        self._suffix = ""  # of the variant that is being lowered
        self._configs: dict[type[ConfigBase], dict[str, tuple[int, Type]]] = {}
        self._rodata = bytearray()
        self._texts: dict[bytes, int] = {}
        self._variables: list[tuple[str, int, int, int]] = []
        self._subprogs: dict[tuple[Subprog, object], tuple[str, list[tuple[str, Type | None]], Scalar]] = {}

    # --- functions

    def add(self, program: Program) -> None:
        """Compile every variant of ``program`` to IR."""
        for name, section, kind in program.variants():
            self._suffix = name[len(program.name) :]
            self.lower(program.function, name, section, kind)

    def lower(self, function: FunctionType, name: str, section: str, kind: Kind) -> Function:
        """One variant of a program as IR."""
        routine = self.sources.routine(function)
        func = Function(name, section)
        self.declare(name, [("ctx", None)], i32, _GLOBAL)
        Lowering(self, func, kind, section, Frame(routine)).program()
        self.functions.append(func)
        return func

    def declare(self, name: str, params: list[tuple[str, Type | None]], result: Type, linkage: int = _STATIC) -> None:
        """Describe a function. Raises CompileError for a name used twice."""
        if name in self.func_ids:
            raise CompileError(f"two functions are called {name!r}: give one of them another name")
        self.func_ids[name] = self.types.function(name, params, result, linkage)

    def use_subprog(
        self, subprog: Subprog, kind: Kind, section: str
    ) -> tuple[str, list[tuple[str, Type | None]], Scalar]:
        """Name, parameters and result of a subprogram for programs of ``kind``, compiled when first called."""
        routine = self.sources.routine(subprog.function)
        # Without the context, kinds that read memory in the same ways can share the code.
        context = any(param.annotation is None for param in (*routine.node.args.posonlyargs, *routine.node.args.args))
        own = context or subprog.verified_alone
        key = (subprog, kind if own else (kind.typed_task, kind.sleepable))
        if key in self._open_subprogs:
            raise CompileError(f"{subprog.name} calls itself: the kernel has no recursion")
        found = self._subprogs.get(key)
        if found is not None:
            return found
        first = not any(other is subprog for other, _ in self._subprogs)
        name = subprog.name if first else f"{subprog.name}__{kind.name.replace('.', '_')}"
        func = Function(name, ".text")
        lowering = Lowering(self, func, kind, section, Frame(routine))
        node = routine.node
        params: list[tuple[str, Type | None]] = []
        arguments = [*node.args.posonlyargs, *node.args.args]
        for index, param in enumerate(arguments):
            if param.annotation is None:
                if index or param.arg != "ctx":
                    raise lowering.error(
                        param, f"parameter {param.arg!r} of a subprogram needs a type (ctx, the first, does not)"
                    )
                if subprog.verified_alone and global_context(section) is None:
                    raise lowering.error(
                        param,
                        f"a global subprogram of {kind.name} programs cannot take the context: pass its parts",
                    )
                params.append((param.arg, None))
                continue
            type = lowering.type_expr(param.annotation)
            if not isinstance(type, (Scalar, PtrType)):
                raise lowering.error(param, f"a subprogram takes numbers and pointers, not {type}: write Ptr[{type}]")
            params.append((param.arg, type))
        if len(params) > 5:
            raise lowering.error(arguments[5], "a subprogram takes at most 5 arguments")
        if node.args.defaults:
            raise lowering.error(node.args.defaults[0], "a subprogram has no default arguments")
        if node.returns is None:
            raise lowering.error(node, f"subprogram {subprog.name} needs a result type: def {subprog.name}(...) -> u64")
        result = lowering.type_expr(node.returns)
        if not isinstance(result, Scalar):
            raise lowering.error(node.returns, f"a subprogram returns a number, not {result}")
        func.nparams = len(params)
        found = self._subprogs[key] = (name, params, result)
        if subprog.verified_alone:
            self.declare(name, [(arg, _as_verified(type, section)) for arg, type in params], result, _GLOBAL)
        else:
            self.declare(name, params, result, _STATIC)
        self._open_subprogs.add(key)
        lowering.subprogram(params, result, subprog.verified_alone)
        self._open_subprogs.discard(key)
        self.functions.append(func)
        return found

    # --- what the kernel supplies

    def add_kfunc(
        self, kfunc: Kfunc, params: list[tuple[str, Type | None]], result: Type | None, context: Type | None
    ) -> tuple[str, list[tuple[str, Type | None]], Type | None]:
        """Take a kernel function into the object; ``context`` is the type that an undeclared first parameter has."""
        described = [(name, context if type is None else type) for name, type in params]
        self._add_extern(kfunc.name, ".ksyms", self.types.kernel_function(kfunc.name, described, result), 0, kfunc)
        found = self.kfuncs[kfunc] = (kfunc.name, params, result)
        return found

    def use_extern(self, extern: Extern) -> str:
        """Take a variable or setting of the kernel's into the object; its name."""
        size = extern.type.size if extern.type is not None else 0
        if extern.name not in self._externs:
            type_id = self.types.kernel_variable(extern.name, extern.type)
            self._add_extern(extern.name, extern.section, type_id, size, extern)
        elif self._externs[extern.name][3] is not extern:
            raise CompileError(f"two declarations of the kernel's {extern.name!r}: keep one")
        return extern.name

    def _add_extern(self, name: str, section: str, type_id: int, size: int, what: object) -> None:
        if name in self._externs:
            raise CompileError(f"two declarations of the kernel's {name!r}: keep one")
        self._externs[name] = (section, type_id, size, what)
        if section == ".kconfig":
            self._weak.add(name)  # a setting that is off is not written down: it reads as 0

    def may_lack(self, name: str, func: Function) -> None:
        """``func`` asks whether the kernel has that symbol."""
        self._weak.add(name)
        self._asking.append(func)

    def sorted_externs(self) -> list[tuple[str, str, int, int, bool]]:
        """What assemble() takes. A function that asks for one symbol may use others behind the same guard."""
        weak = set(self._weak)
        for func in self._asking:
            weak.update(str(ins.ref) for block in func.blocks for ins in block.ins if ins.op in (ir.CALLK, ir.KSYM))
        return [(name, *self._externs[name][:3], name in weak) for name in sorted(self._externs)]

    # --- callbacks

    def callback(self, inline: Inline, routine: Routine) -> str:
        """A name for ``inline`` as a function to be called back, which is under way until callback_done()."""
        if inline in self._under_way:
            raise CompileError(f"{inline.name} calls itself: the kernel has no recursion")
        self._under_way.append(inline)
        self._callbacks += 1
        return f"{inline.name}__{self._callbacks}"

    def callback_done(self, inline: Inline) -> None:
        """The body of a callback is lowered."""
        self._under_way.remove(inline)

    # --- maps and settings

    def use_map(self, map: Map) -> str:
        """Take a map into the object; its name.

        A program array accepts programs of one type and hook only, so each variant
        of a program has its own, with the variant's suffix.
        """
        if isinstance(map, ProgArray) and self._suffix:
            name = map.name + self._suffix
            map = self._maps.get(name) or ProgArray(map.max_entries, name=name)
        name = map.name
        if self._maps.setdefault(name, map) is not map:
            raise CompileError(f"two maps are called {name!r}: give one of them another name")
        return name

    def sorted_maps(self) -> list[Map]:
        """The maps in use, by name: the order must not depend on which program came first."""
        return [self._maps[name] for name in sorted(self._maps)]

    def setting(self, config: ConfigBase, name: str) -> tuple[int, Type]:
        """Offset in .rodata and type of a setting; takes all settings of its class into the object."""
        cls = type(config)
        found = self._configs.get(cls)
        if found is None:
            found = self._configs[cls] = {}
            for field, kind, default in cls.encoded():
                self._rodata += bytes(-len(self._rodata) % kind.align)
                offset = len(self._rodata)
                found[field] = (offset, kind)
                self._rodata += default
                if any(other == field for other, _, _, _ in self._variables):
                    raise CompileError(f"two settings are called {field!r}: give one of them another name")
                self._variables.append((field, self.types.setting(field, kind), offset, kind.size))
        if name not in found:
            raise CompileError(f"{cls.__name__} has no setting {name!r} (has: {', '.join(found) or 'none'})")
        return found[name]

    def text(self, raw: bytes) -> int:
        """Offset in .rodata of a constant string."""
        offset = self._texts.get(raw)
        if offset is None:
            offset = self._texts[raw] = len(self._rodata)
            self._rodata += raw
        return offset

    def data_sections(self) -> dict[str, tuple[bytes, Sequence[tuple[str, int, int, int]]]]:
        """What assemble() takes."""
        return {".rodata": (bytes(self._rodata), self._variables)} if self._rodata else {}

    @property
    def task_struct(self) -> StructType:
        """The kernel's task as current_task() gives it."""
        from pybpf import ktypes

        layout = ktypes.task_struct.layout
        assert isinstance(layout, StructType)
        return layout


def _as_verified(type: Type | None, section: str) -> Type | None:
    """How BTF must describe a global subprogram's parameter, which is all that the verifier knows of it.

    None is the context, a pointer to which is known by the name of what it points to.
    Plain addresses of kernel memory are numbers.
    """
    if type is None:
        context = global_context(section)
        return None if context is None else PtrType(context)
    if isinstance(type, PtrType) and isinstance(type.target, StructType) and type.target.kernel:
        return u64
    return type
