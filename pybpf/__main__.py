"""``python -m pybpf``: build object files from DSL modules or assembly text, say what is in them, and look at BTF."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Sequence

    from pybpf.object.spec import ObjectSpec

# The package that `build` compiles by default: OBJECTS names the object files beside its modules, and what goes in.
PROGRAMS = "programs"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for an error (one line on stderr), 2 for wrong usage."""
    from btf.errors import Error

    options = _parser().parse_args(argv)
    if sys.stdin is None or sys.stdout is None:
        # Closed by the caller (``>&-``): the next file that is opened would take its number.
        print("pybpf: standard input and output must be open; /dev/null will do", file=sys.stderr)
        return 1
    try:
        status: int = options.run(options)
        return status
    except Error as error:
        print(f"pybpf: {error}", file=sys.stderr)
        if error.details:
            print(error.details, file=sys.stderr)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(("btf.", "pybpf.")):
            raise
        # What a device gets has no tools that print (bfer archive).
        print(f"pybpf: this copy comes without {error.name}: use a checkout or the whole package", file=sys.stderr)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(f"pybpf: {name}{error.strerror or error}", file=sys.stderr)
    return 1


def _parser() -> ArgumentParser:
    from argparse import ArgumentParser

    from pybpf.btftool import add_commands
    from pybpf.features import tool as features

    parser = ArgumentParser(prog="pybpf", description="eBPF toolkit in pure Python.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="compile DSL modules into one eBPF object")
    build.add_argument(
        "files", nargs="*", metavar="FILE.py", help="DSL sources (default: the package of bfer's programs)"
    )
    build.add_argument("-o", "--output", metavar="OUT.o", help="object file to write")
    build.set_defaults(run=_build)
    info = commands.add_parser("info", help="list what an eBPF object holds")
    info.add_argument("object", metavar="OBJECT", help="ELF object made by pybpf or clang; - is standard input")
    info.set_defaults(run=_info)
    asm = commands.add_parser("asm", help="assemble text into machine code or an object")
    asm.add_argument("file", metavar="FILE", help="assembly text; - is standard input")
    asm.add_argument("-o", "--output", metavar="OUT", default="-", help="file to write; - is standard output (default)")
    asm.add_argument("--elf", action="store_true", help="write an ELF object (default: the bare instructions)")
    asm.add_argument(
        "--long-jumps", action="store_true", help="reach far labels with gotol (cpu v4, Linux 6.6), not over islands"
    )
    asm.set_defaults(run=_asm)
    disasm = commands.add_parser("disasm", help="show an object or machine code as assembly text")
    disasm.add_argument("file", metavar="FILE", help="ELF object or bare instructions; - is standard input")
    disasm.set_defaults(run=_disasm)
    for command in (asm, disasm):
        command.add_argument(
            "--dialect",
            choices=("llvm", "mnemonic"),
            default="llvm",
            help="llvm: r0 = *(u32 *)(r1 + 4); mnemonic: ldxw %%r0, [%%r1+4] (default: llvm)",
        )
        command.add_argument(
            "--byteorder", choices=("little", "big"), default="little", help="of bare code and of what is written"
        )
    btf = commands.add_parser("btf", help="print, compare and search BTF")
    add_commands(btf)
    features.add_command(commands)
    return parser


# --- build ---


def compile_programs(lines: bool = True) -> list[tuple[str, bytes]]:
    """The default object files: paths beside the ``programs`` package's modules, and their bytes.

    Without ``lines`` they know nothing of their sources. Nothing is written. What there is
    to compile says ``programs.OBJECTS``.
    """
    from importlib import import_module

    from pybpf.errors import ObjectError

    try:
        package = import_module(PROGRAMS)
    except ModuleNotFoundError as error:
        if error.name != PROGRAMS:
            raise
        raise ObjectError(f"no package {PROGRAMS!r} here: run from a checkout, or name the files to build") from None
    if not hasattr(package, "OBJECTS"):
        raise ObjectError(f"package {PROGRAMS!r} ({package.__file__}) is not the one of bfer's programs")
    folder = os.path.dirname(package.__file__ or "")
    paths = [(os.path.join(folder, name), modules) for name, modules in package.OBJECTS.items()]
    return [(path, _compile(modules, path, lines)) for path, modules in paths]


def _build(options: Namespace) -> int:
    from pybpf.errors import ObjectError

    if options.files:
        output = options.output or os.path.splitext(options.files[0])[0] + ".bpf.o"
        results = [(output, _compile([_load(path) for path in options.files], output))]
    else:
        results = compile_programs()
        if options.output:
            raise ObjectError("build -o: name the file to build, for there are several objects of bfer's own")
    for output, data in results:
        write_file(output, data)
        spec = _read(data)
        slots = sum(len(program.insns) for program in spec.programs.values()) // 8
        entries = sum(program.section != ".text" for program in spec.programs.values())
        print(f"{output}: {len(data)} bytes, {entries} program{'s' * (entries != 1)}, {slots} instructions")
    return 0


def _compile(modules: Sequence[str], output: str, lines: bool = True) -> bytes:
    from pybpf.lang import compile_modules

    return compile_modules(modules, os.path.basename(output), lines=lines)


def _load(path: str) -> str:
    """Import the file ``path`` as a module named after it; returns that name."""
    from importlib.util import module_from_spec, spec_from_file_location

    from btf.errors import Error
    from pybpf.errors import CompileError, ObjectError

    name = os.path.splitext(os.path.basename(path))[0]
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ObjectError(f"{path}: not a Python file (its name must end in .py)")
    if name in sys.modules:
        raise ObjectError(f"{path}: a module named {name!r} is loaded already: rename the file")
    module = sys.modules[name] = module_from_spec(spec)
    directory = os.path.dirname(os.path.abspath(path))
    # The file may import its neighbours, as a script may.
    sys.path.insert(0, directory)
    try:
        spec.loader.exec_module(module)
    except CompileError as error:
        line = _line_in(path, error)
        if not line or type(error) is not CompileError or str(error).startswith(f"{path}:"):
            raise  # it names its place itself
        raise CompileError(f"{path}:{line}: {error}", error.details) from error
    except (Error, OSError):
        raise
    except SyntaxError as error:
        raise ObjectError(f"{error.filename}:{error.lineno}:{error.offset}: {error.msg}") from error
    except Exception as error:
        raise ObjectError(f"{path}:{_line_in(path, error)}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(directory)
    return name


def _line_in(path: str, error: Exception) -> int:
    """The line of the file ``path`` at which ``error`` came up."""
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def write_file(path: str, data: bytes) -> None:
    """Replace ``path`` whole, so that nobody sees half an object."""
    partial = f"{path}.{os.getpid()}.tmp"
    try:
        with open(partial, "wb") as file:
            file.write(data)
        os.replace(partial, path)
    except OSError as error:
        if os.path.exists(partial):
            os.unlink(partial)
        raise OSError(error.errno, error.strerror, path) from None


# --- info ---


def _read(data: bytes) -> ObjectSpec:
    from pybpf.object.reader import read_object

    return read_object(data)


def _info(options: Namespace) -> int:
    from pybpf.asmtool import read_input
    from pybpf.errors import ObjectError

    data = read_input(options.object)
    try:
        spec = _read(data)
    except ObjectError as error:
        name = "<stdin>" if options.object == "-" else options.object
        raise ObjectError(f"{name}: {error}", error.details) from error
    print(f"{spec.byteorder}-endian, license {spec.license or '(none)'}, BTF {len(spec.btf)} bytes")
    for program in spec.programs.values():
        relos = f", {len(program.core_relos)} CO-RE relocations" if program.core_relos else ""
        print(f"program {program.name} [{program.section}]: {len(program.insns) // 8} instructions{relos}")
    for item in spec.maps.values():
        print(
            f"map {item.name}: type {item.type}, key {item.key_size}, value {item.value_size},"
            f" entries {item.max_entries}, flags {item.flags:#x}"
        )
    for variable in spec.variables.values():
        print(f"variable {variable.name} [{variable.section}+{variable.offset}]: {variable.size} bytes")
    return 0


# --- asm, disasm ---


def _asm(options: Namespace) -> int:
    from pybpf.asmtool import run_asm

    return _quietly(run_asm, options)


def _disasm(options: Namespace) -> int:
    from pybpf.asmtool import run_disasm

    return _quietly(run_disasm, options)


def _quietly(run: Callable[[Namespace], int], options: Namespace) -> int:
    """``run(options)``, which ends without a word when whoever reads its output has gone."""
    try:
        status = run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer must not fail once more at exit.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
