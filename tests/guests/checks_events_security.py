"""Events of security hooks that tell of one thing each: a capability, a limit, a clock, what BPF does."""

from __future__ import annotations

import os

from tests.guests.checks import check, equal, in_guest
from tests.guests.eventkit import argument, arguments, deeds

DEEDS = """
import resource, time
os.chown(folder, 1, 1)
resource.setrlimit(resource.RLIMIT_CORE, (4096, 8192))
now = time.clock_gettime_ns(time.CLOCK_REALTIME)
if guest:
    time.clock_settime_ns(time.CLOCK_REALTIME, now)
told(now=now, pid=os.getpid())
libc.prctl(15, b"renamed", 0, 0, 0)
libc.prctl(38, 1, 0, 0, 0)
sys.path[:0] = tree.split(":")
from pybpf import abi, kernel
fd = kernel.map_create(abi.MAP_TYPE_ARRAY, 4, 8, 16, name="of_a_check")
code = bytes([0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])
program = kernel.prog_load(abi.PROG_TYPE_SOCKET_FILTER, code, "GPL", name="checked")
"""
EVENTS = (
    *("cap_capable", "security_bpf", "security_bpf_map", "security_bpf_prog", "security_task_setrlimit"),
    *("security_settime64", "security_task_prctl"),
)
CAP_CHOWN, CAP_SYS_TIME = 0, 25
PR_SET_NAME, PR_SET_NO_NEW_PRIVS = 15, 38


@check(timeout=90.0)
def check_security_hooks_of_one_thing():
    with deeds(EVENTS, DEEDS) as (found, _, facts):
        used = {argument(event, "cap") for event in found["cap_capable"]}
        assert used >= ({CAP_CHOWN, CAP_SYS_TIME} if in_guest() else {CAP_CHOWN}), used
        equal(
            arguments(found["security_task_setrlimit"][0]),
            {"target_host_pid": facts["pid"], "resource": 4, "new_rlim_cur": 4096, "new_rlim_max": 8192},
        )
        if in_guest():
            (set_time,) = map(arguments, found["security_settime64"])
            equal((set_time["tv_sec"], set_time["tv_nsec"]), divmod(facts["now"], 10**9))
        options = {argument(event, "option"): arguments(event) for event in found["security_task_prctl"]}
        assert {PR_SET_NAME, PR_SET_NO_NEW_PRIVS} <= options.keys(), options
        equal((options[PR_SET_NO_NEW_PRIVS]["arg2"], options[PR_SET_NO_NEW_PRIVS]["vma_name"]), (1, ""))
        commands = {argument(event, "cmd") for event in found["security_bpf"]}
        assert {0, 5} <= commands, commands
        assert "of_a_check" in {argument(event, "map_name") for event in found["security_bpf_map"]}
        loaded = [arguments(event) for event in found["security_bpf_prog"]]
        (checked,) = [event for event in loaded if event["name"] == "checked"]
        equal((checked["type"], checked["load"]), (1, 1))
        assert checked["id"] > 0, checked
        assert os.getpid() != facts["pid"]
