"""A kernel that was changed: hooked tables, a hidden module, functions called by ftrace, odd directories and pipes."""

from __future__ import annotations

import binascii
import os
import sys
from struct import unpack_from

from tests.guests.checks import check, equal, skip
from tests.guests.modulekit import LOADED, act, need, seen, symbol, values

KEYCTL = 250  # on x86-64


@check(timeout=90.0)
def check_hooked_system_call():
    """An entry of the table leads into a module: seen when another is loaded, told once in each way."""
    need()
    place = symbol("sys_call_table") + 8 * KEYCTL
    # A table that was hooked before the run is told at its start.
    script = f"{LOADED} && {act(hex(place))}"
    after = f"{act('restore')}; rmmod deeds"
    os.system(script)
    try:
        found = seen("hooked_syscall,hooked_syscalls", "true")
        function = symbol("replaced", "deeds")
    finally:
        os.system(after)
    (event,) = found["hooked_syscall"]
    equal(values(event, "syscall", "address", "function", "owner"), ("keyctl", f"{function:x}", "replaced", "deeds"))
    (every,) = found["hooked_syscalls"]
    equal(values(every, "hooked_syscalls"), ([{"SymbolName": "keyctl", "ModuleOwner": "deeds"}],))
    equal(seen("hooked_syscall,hooked_syscalls", "true"), {})


@check(timeout=90.0)
def check_bytes_of_a_symbol():
    """The table itself, with the address of the module's function in the place that was hooked."""
    need()
    place = symbol("sys_call_table")
    os.system(f"{LOADED} && {act(hex(place + 8 * KEYCTL))}")
    try:
        wanted = ("print_mem_dump.symbol_name=sys_call_table", "print_mem_dump.length=4096")
        found = seen("print_mem_dump", "true", *wanted)
        function = symbol("replaced", "deeds")
    finally:
        os.system(f"{act('restore')}; rmmod deeds")
    (event,) = found["print_mem_dump"]
    names = ("address", "length", "arch", "symbol_name", "symbol_owner")
    equal(values(event, *names), (place, 4096, "x86_64", "sys_call_table", "system"))
    data = binascii.a2b_base64(event["args"][0]["valueBytes"])
    equal((len(data), unpack_from("=Q", data, 8 * KEYCTL)[0]), (4096, function))


@check(timeout=90.0)
def check_table_that_is_hooked_meanwhile():
    """What a module hooked is seen when the next one is loaded; its owner may be gone into hiding by then."""
    need()
    place = symbol("sys_call_table") + 8 * KEYCTL
    # What is there to see must not be there yet when the first module has just been loaded, and must stay until the
    # records are read that say when to look: the kernel's symbols are read before, which takes a slow guest seconds.
    hooked = [LOADED, "sleep 6", act(hex(place)), act("hide"), "insmod /mnt/modules/other.ko"]
    script = " && ".join(["sleep 3", *hooked, "sleep 12", act("show"), act("restore")])
    try:
        found = seen("hooked_syscall,hidden_kernel_module", script)
    finally:
        os.system("rmmod other; rmmod deeds")
    (event,) = found["hooked_syscall"]
    equal((values(event, "syscall", "owner"), event["processName"]), (("keyctl", "hidden"), "insmod"))
    (hidden,) = found["hidden_kernel_module"]
    address, *rest = values(hidden, "address", "name", "srcversion")
    equal(rest, ["deeds", "0123456789ABCDEF"])
    equal(int(address, 16) > 1 << 63, True)


@check(timeout=90.0)
def check_hooked_list_of_sockets():
    """A function behind /proc/net/tcp."""
    need()
    place = symbol("tcp4_seq_ops") + 24
    os.system(f"{LOADED} && {act(hex(place))}")
    try:
        found = seen("hooked_seq_ops", "true")
    finally:
        os.system(f"{act('restore')}; rmmod deeds")
    (event,) = found["hooked_seq_ops"]
    wanted = {"tcp4_seq_ops_show": {"SymbolName": "replaced", "ModuleOwner": "deeds"}}
    equal(values(event, "hooked_seq_ops"), (wanted,))


@check(timeout=90.0)
def check_hooked_directory_of_processes():
    """The functions of /proc itself, replaced: told once, when somebody lists it."""
    need()
    # One ls looks at every entry, and complains of the one that is not there.
    listed = [LOADED, act("proc"), "{ ls /proc; ls /proc; } 2>/dev/null; true", act("q")]
    found = seen("hooked_proc_fops", " && ".join([*listed, "sleep 3", "rmmod deeds"]))
    (event,) = found["hooked_proc_fops"]
    wanted = [{"SymbolName": "iterate_shared", "ModuleOwner": "deeds"}]
    equal((values(event, "hooked_fops_pointers"), event["processName"]), ((wanted,), "ls"))


@check(timeout=90.0)
def check_entry_without_an_inode():
    """A name in a directory whose inode's number was taken away, under both names of the event."""
    need()
    major = "major=$(grep deeds_device /proc/devices | cut -d' ' -f1)"
    script = f"{LOADED} && {act('make')} && {major} && mknod /tmp/deeds c $major 0"
    os.system(script)
    read = (
        "import ctypes, os; b = ctypes.create_string_buffer(256); "
        "ctypes.CDLL(None).syscall(217, os.open('/tmp/deeds', os.O_RDONLY), b, 256)"
    )
    try:
        found = seen("hidden_inodes,zeroed_inodes", f'{sys.executable} -S -c "{read}"')
    finally:
        os.system("rm /tmp/deeds; rmmod deeds")
    ((hidden,), (zeroed,)) = found["hidden_inodes"], found["zeroed_inodes"]
    equal(values(hidden, "hidden_process") + values(zeroed, "dirent_name"), ("unseen", "unseen"))


@check(timeout=90.0)
def check_pipe_that_may_still_be_written_to():
    """A splice that leaves its buffer in the pipe as one that later writes are merged into."""
    need()
    major = "major=$(grep deeds_device /proc/devices | cut -d' ' -f1)"
    os.system(f"{LOADED} && {act('make')} && {major} && mknod /tmp/deeds c $major 0")
    splice = (
        "import ctypes, os; r, w = os.pipe(); os.write(w, b'x'); "
        "f = os.open('/tmp/deeds', os.O_RDONLY); print('inodes', os.fstat(f).st_ino, os.fstat(w).st_ino, "
        "ctypes.CDLL(None).splice(f, None, w, None, 10, 0), flush=True); "
        "g = os.open('/etc/passwd', os.O_RDONLY); ctypes.CDLL(None).splice(g, None, w, None, 10, 0)"
    )
    try:
        found = seen("dirty_pipe_splice", f'{sys.executable} -S -c "{splice}" >/tmp/told')
        with open("/tmp/told") as file:
            _, source, target, count = file.read().split()
    finally:
        os.system("rm /tmp/deeds /tmp/told; rmmod deeds")
    equal(count, "1")
    (event,) = found["dirty_pipe_splice"]
    names = ("inode_in", "in_file_path", "exposed_data_len", "inode_out", "out_pipe_last_buffer_flags")
    equal(values(event, *names), (int(source), "/tmp/deeds", 1, int(target), 0x10))
    equal(values(event, "in_file_type")[0] & 0o170000, 0o020000)


TRACEFS = "/sys/kernel/tracing"
# What makes ftrace call somebody at proc_create, and how it ends.
PROBE = (
    f"echo p:deeds_probe proc_create >>{TRACEFS}/kprobe_events; echo 1 >{TRACEFS}/events/kprobes/enable",
    f"echo 0 >{TRACEFS}/events/kprobes/enable; echo -:deeds_probe >>{TRACEFS}/kprobe_events",
)
FUNCTION_TRACER = (
    f"echo proc_create >{TRACEFS}/set_ftrace_filter && echo function >{TRACEFS}/current_tracer",
    f"echo nop >{TRACEFS}/current_tracer; echo >{TRACEFS}/set_ftrace_filter",
)


def listed():
    """The lines of the functions that somebody is called at."""
    try:
        with open(f"{TRACEFS}/enabled_functions") as file:
            return [line for line in file if line.startswith("proc_create ")]
    except PermissionError as error:  # lockdown
        return skip(str(error))


@check(timeout=90.0)
def check_functions_called_by_ftrace():
    """A probe that was there before the run, or else the function tracer; not what the run itself hangs up."""
    if not os.path.exists(f"{TRACEFS}/enabled_functions"):
        skip("tracefs has no enabled_functions (CONFIG_DYNAMIC_FTRACE)")
    # Where a probe is a breakpoint (CONFIG_KPROBES_ON_FTRACE is not set), ftrace has no part in it.
    for begin, end in (PROBE, FUNCTION_TRACER):
        try:
            os.system(begin)
            lines = listed()
            found = seen("ftrace_hook,security_file_open", "true") if lines else {}
        finally:
            os.system(end)
        if lines:
            break
    else:
        skip("neither a probe nor the function tracer makes ftrace list proc_create")
    (event,) = found["ftrace_hook"]
    # Without trampolines of its own, the kernel does not list who is called.
    callback = next((name for name in ("kprobe_ftrace_handler", "function_trace_call") if name in lines[0]), "")
    equal(values(event, "symbol", "callback", "count"), ("proc_create", callback, 1))
    trampoline, flags = values(event, "trampoline", "flags")
    equal(flags, "".join(lines[0].partition(")")[2].partition("\t")[0].split()))
    equal(trampoline in lines[0], True)


@check(timeout=60.0)
def check_namespaces_of_the_first_process():
    """As /proc has them."""
    (event,) = seen("init_namespaces", "true")["init_namespaces"]
    for item in event["args"]:
        path = f"/proc/1/ns/{item['name']}"
        equal(item["value"], os.stat(path).st_ino if os.path.exists(path) else 0)
