"""Events of kernel code that registers itself, seen when a module does all of it (deeds.c)."""

from __future__ import annotations

import json
import os

from tests.guests.checks import check, equal, skip
from tests.guests.checks_trace import argument, bfer
from tests.guests.eventkit import arguments, encoded
from tests.guests.modulekit import MODULE, deeds, need, seen, values


@check(timeout=60.0)
def check_what_a_driver_registers():
    """A file in /proc, a folder and a file of debugfs, a character device, a device, a probe."""
    found = deeds("proc_create,debugfs_create_*,device_add,register_chrdev,kprobe_attach,kallsyms_lookup_name", "make")
    (made,) = [event for event in found["proc_create"] if argument(event, "name") == "deeds_proc"]
    (folder,) = [event for event in found["debugfs_create_dir"] if argument(event, "name") == "deeds_folder"]
    equal(values(folder, "path"), ("/",))
    (file,) = [event for event in found["debugfs_create_file"] if argument(event, "file_name") == "deeds_file"]
    equal(values(file, "path", "mode"), ("/deeds_folder", 0o640))
    (number,) = found["register_chrdev"]
    equal(values(number, "requested_major_number", "char_device_name"), (0, "deeds_device"))
    granted = argument(number, "granted_major_number")
    equal((granted > 0, number["returnValue"]), (True, granted))
    (device,) = [event for event in found["device_add"] if argument(event, "name") == "deeds_root"]
    equal(values(device, "parent_name")[0] in (0, ""), True)
    (probe,) = [event for event in found["kprobe_attach"] if argument(event, "symbol_name") == "proc_mkdir"]
    addresses = [*values(probe, "pre_handler_addr", "post_handler_addr")]
    addresses += [
        argument(made, "proc_ops_addr"),
        argument(file, "proc_ops_addr"),
        argument(number, "char_device_fops"),
    ]
    # All of these are places in the area of modules, and none the same.
    assert max(addresses) - min(addresses) < 1 << 30, addresses
    equal(len(set(addresses)), 5)
    looked_up = [event for event in found["kallsyms_lookup_name"] if argument(event, "symbol_name") == "proc_mkdir"]
    with open("/proc/kallsyms") as kallsyms:
        address = next(int(line.split()[0], 16) for line in kallsyms if line.split()[2] == "proc_mkdir")
    equal(argument(looked_up[0], "symbol_address"), address)


@check(timeout=60.0)
def check_module_that_starts():
    """The module's name and versions, its neighbours in the list, and what its init returned."""
    (started,) = deeds("do_init_module")["do_init_module"]
    equal(values(started, "name", "version", "src_version"), ("deeds", "1.5", "0123456789ABCDEF"))
    equal((started["returnValue"], started["processName"]), (0, "insmod"))
    prev, following, prev_next, next_prev = values(started, "prev", "next", "prev_next", "next_prev")
    equal(prev_next, next_prev)
    equal(len({prev, following, prev_next}) >= 2, True)


# By number, for insmod may make either call. Of x86-64, which alone has the module.
LOADS = """python3 -S -c "
import ctypes
with open('{module}', 'rb') as file:
    image = file.read()
    words = {words}
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(*words) != 0:
        raise SystemExit(ctypes.get_errno())
"
"""
FINIT_MODULE = "313, file.fileno(), b'', 0"
INIT_MODULE = "175, image, ctypes.c_ulong(len(image)), b''"


@check(timeout=60.0)
def check_module_that_comes_and_goes():
    """Its name and versions, and the file that it was read from: none where it came out of memory."""
    need()
    loads = [LOADS.format(module=MODULE, words=words).strip() for words in (FINIT_MODULE, INIT_MODULE)]
    found = seen("module_load,module_free", " && ".join(f"{load} && rmmod deeds" for load in loads))
    file = os.stat(MODULE)
    names = {"name": "deeds", "version": "1.5", "src_version": "0123456789ABCDEF"}
    place = {"pathname": MODULE, "dev": encoded(file.st_dev), "inode": file.st_ino, "ctime": file.st_ctime_ns}
    nowhere = {"pathname": "", "dev": 0, "inode": 0, "ctime": 0}
    equal([*map(arguments, found["module_load"])], [{**names, **place}, {**names, **nowhere}])
    equal([event["processName"] for event in found["module_load"]], ["python3"] * 2)
    equal([*map(arguments, found["module_free"])], [names] * 2)
    equal({event["processName"] for event in found["module_free"]}, {"rmmod"})
    for path, count in (("*/deeds.ko", 1), ("*/other.ko", 0)):
        found = seen("module_load", f"{loads[0]} && rmmod deeds", f"module_load.pathname={path}")
        equal((path, len(found.get("module_load", []))), (path, count))


@check(timeout=60.0)
def check_helper_that_the_kernel_starts():
    """Its path, arguments and environment."""
    found = deeds("call_usermodehelper", "call")["call_usermodehelper"]
    (helper,) = [event for event in found if argument(event, "pathname") == "/bin/true"]
    equal(values(helper, "argv", "envp", "wait"), (["true", "deeds"], ["HOME=/nowhere"], 2))


@check(timeout=60.0)
def check_probe_attached_by_hand():
    """A probe made through tracefs is a probe like any other, and its symbol is looked up."""
    events = "/sys/kernel/tracing/kprobe_events"
    if not os.path.exists(events):
        skip("no kprobe_events in tracefs")
    at = "/sys/kernel/tracing"
    script = (
        f"echo p:deeds_probe proc_create >>{events} && echo 1 >{at}/events/kprobes/deeds_probe/enable "
        f"&& echo 0 >{at}/events/kprobes/deeds_probe/enable; echo -:deeds_probe >>{events}"
    )
    words = ("trace", "event=kprobe_attach,kallsyms_lookup_name", "-o", "json")
    status, output, errors = bfer(*words, command=["sh", "-c", script])
    if "none of the events" in errors or "is not traced" in errors:
        skip(errors.strip())
    equal((status, errors), (0, ""))
    seen = [json.loads(line) for line in output.splitlines()]
    for name in ("kprobe_attach", "kallsyms_lookup_name"):
        symbols = {argument(event, "symbol_name") for event in seen if event["eventName"] == name}
        assert "proc_create" in symbols, seen
