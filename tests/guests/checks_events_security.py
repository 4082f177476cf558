"""Events of security hooks that tell of one thing each: a capability, a limit, a clock, what BPF does."""

from __future__ import annotations

import os
import sys

from tests.guests.checks import check, equal, figure, in_guest, skip
from tests.guests.eventkit import argument, arguments, deeds, encoded, one

DEEDS = """
import resource, time
os.chown(folder, 1, 1)
resource.setrlimit(resource.RLIMIT_CORE, (4096, 8192))
now = time.clock_gettime_ns(time.CLOCK_REALTIME)
if guest:
    time.clock_settime_ns(time.CLOCK_REALTIME, now)
    # By number: musl passes no zone on.
    settimeofday = {"x86_64": 164, "armv7l": 79, "s390x": 79}.get(os.uname().machine, 170)
    libc.syscall(settimeofday, None, (ctypes.c_int * 2)(-60, 1))
    libc.syscall(settimeofday, None, (ctypes.c_int * 2)(0, 0))
told(now=now, pid=os.getpid())
libc.prctl(15, b"renamed", 0, 0, 0)
libc.prctl(38, 1, 0, 0, 0)
libc.prctl(0x7eadbeef, 2, 3, 4, 5)
sys.path[:0] = tree.split(":")
from pybpf import abi, kernel
fd = kernel.map_create(abi.MAP_TYPE_ARRAY, 4, 8, 16, name="of_a_check")
told(map=[int(line.split()[1]) for line in open(f"/proc/self/fdinfo/{fd.fd}") if line.startswith("map_id:")][0])
code = bytes([0x85, 0, 0, 0, 5, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])  # return ktime_get_ns()
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
            set_time, zone, _ = map(arguments, found["security_settime64"])
            equal((set_time["tv_sec"], set_time["tv_nsec"]), divmod(facts["now"], 10**9))
            equal(zone, {"tv_sec": 0, "tv_nsec": 0, "tz_minuteswest": -60, "tz_dsttime": 1})
        options = {argument(event, "option"): arguments(event) for event in found["security_task_prctl"]}
        assert {PR_SET_NAME, PR_SET_NO_NEW_PRIVS} <= options.keys(), options
        unknown = {"option": 0x7EADBEEF, "arg2": 2, "arg3": 3, "arg4": 4, "arg5": 5, "vma_name": ""}
        equal(options[0x7EADBEEF], unknown)
        equal((options[PR_SET_NO_NEW_PRIVS]["arg2"], options[PR_SET_NO_NEW_PRIVS]["vma_name"]), (1, ""))
        commands = {argument(event, "cmd") for event in found["security_bpf"]}
        assert {0, 5} <= commands, commands
        one(found, "security_bpf_map", map_name="of_a_check", map_id=facts["map"])
        loaded = [arguments(event) for event in found["security_bpf_prog"]]
        (checked,) = [event for event in loaded if event["name"] == "checked"]
        figure("helpers of a verified program", str(checked["helpers"]))
        equal((checked["type"], checked["load"], checked["helpers"]), (1, 1, [1 << 5, 0, 0, 0]))
        assert checked["id"] > 0, checked
        assert os.getpid() != facts["pid"]


STARTS = """
with open(folder + "/script", "w") as file:
    file.write("#!/proc/self/exe -S\\n")
os.chmod(folder + "/script", 0o755)
os.mkdir(folder + "/m")
result = libc.mount(b"of_a_check", (folder + "/m").encode(), b"tmpfs", 0x2 | 0x8, b"size=16k")
if not result:
    libc.umount2((folder + "/m").encode(), 2)
told(script=os.stat(folder + "/script"), exe=os.path.realpath("/proc/self/exe"), file=os.stat("/proc/self/exe"))
os.spawnv(os.P_WAIT, folder + "/script", ["script"])
told(result=result)
"""


@check(timeout=60.0)
def check_programs_and_mounts():
    """A script and the program that runs it, each asked about; a file system that is mounted."""
    with deeds(("security_bprm_check", "security_sb_mount"), STARTS) as (found, folder, facts):
        programs = [*map(arguments, found["security_bprm_check"])][-2:]
        wanted = []
        for name, path in (("script", f"{folder}/script"), ("file", facts["exe"])):
            _, inode, device, *_ = facts[name]
            wanted.append({"pathname": path, "dev": encoded(device), "inode": inode})
        equal(programs, wanted)
        equal(facts["result"], 0)
        mounted = one(found, "security_sb_mount")
        equal(mounted, {"dev_name": "of_a_check", "path": f"{folder}/m", "type": "tmpfs", "flags": 0x2 | 0x8})


CREDENTIALS = """
libc.unshare(0x04000000)  # CLONE_NEWUTS
told(pid=os.getpid(), uts=int(os.readlink("/proc/self/ns/uts")[5:-1]), net=int(os.readlink("/proc/self/ns/net")[5:-1]))
told(children=int(os.readlink("/proc/self/ns/pid_for_children")[5:-1]))
told(ipc=int(os.readlink("/proc/self/ns/ipc")[5:-1]), cgroup=int(os.readlink("/proc/self/ns/cgroup")[8:-1]))
told(mnt=int(os.readlink("/proc/self/ns/mnt")[5:-1]), user=int(os.readlink("/proc/self/ns/user")[6:-1]))
import signal
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.signal(signal.SIGUSR1, signal.SIG_DFL)
with open(folder + "/bad", "w") as file:
    file.write("no program")
os.chmod(folder + "/bad", 0o755)
told(bad=os.stat(folder + "/bad"), input=os.stat("/proc/self/fd/0"), input_path=os.readlink("/proc/self/fd/0"))
os.chdir(folder)
try:
    os.execve("./bad", ["one", "two"], {"A": "b"})
except OSError:
    pass
os.setresgid(1001, 1002, 1003)
os.setresuid(1004, 1005, 1006)
"""


@check(timeout=60.0)
def check_processes_change():
    """Other credentials, namespaces, handlers of signals; a program that is none."""
    names = ("commit_creds", "switch_task_ns", "do_sigaction", "process_execute_failed", "do_exit")
    with deeds(names, CREDENTIALS, "-o", "option:exec-env") as (found, folder, facts):
        (uids,) = [event for event in map(arguments, found["commit_creds"]) if event["new_cred"]["Suid"] == 1006]
        old, new = uids["old_cred"], uids["new_cred"]
        equal([new[name] for name in ("Uid", "Euid", "Suid", "Fsuid")], [1004, 1005, 1006, 1005])
        equal([new[name] for name in ("Gid", "Egid", "Sgid", "Fsgid")], [1001, 1002, 1003, 1002])
        equal((old["Uid"], new["UserNamespace"], old["UserNamespace"]), (0, facts["user"], facts["user"]))
        assert old["CapEffective"] > new["CapEffective"] == 0, (old, new)
        equal(new["CapBounding"], old["CapBounding"])
        namespaces = one(found, "switch_task_ns", pid=facts["pid"])
        equal(
            [namespaces[f"new_{name}"] for name in ("uts", "net", "mnt", "pid", "ipc", "cgroup")],
            [facts[name] for name in ("uts", "net", "mnt", "children", "ipc", "cgroup")],
        )
        set_to = [event for event in map(arguments, found["do_sigaction"]) if event["sig"] == 10]
        first, second, third = [event for event in set_to if event["is_sa_initialized"]][:3]
        equal((first["sa_handle_method"], first["sa_handler"], first["old_sa_handle_method"]), (1, 0, 0))
        equal((second["sa_handle_method"], second["old_sa_handle_method"]), (2, 1))
        assert second["sa_handler"] > 4096, second
        for name in ("flags", "mask", "handle_method", "handler"):
            equal((name, third[f"old_sa_{name}"]), (name, second[f"sa_{name}"]))
        equal((third["is_old_sa_initialized"], third["sa_handle_method"], third["sa_mask"]), (1, 0, 0))
        failed = one(found, "process_execute_failed", pathname="./bad")
        _, inode, device, changed, _ = facts["bad"]
        equal(
            (failed["binary.path"], failed["binary.inode_number"], failed["binary.ctime"]),
            (f"{folder}/bad", inode, changed),
        )
        equal((failed["dirfd"], failed["binary.inode_mode"], failed["kernel_invoked"]), (-100, 0o100755, 0))
        equal((failed["flags"], failed["binary.device_id"]), (0, encoded(device)))
        equal((failed["stdin_type"], failed["stdin_path"]), (facts["input"][0], facts["input_path"]))
        equal((failed["argv"], failed["envp"]), (["one", "two"], ["A=b"]))
        equal([event["returnValue"] for event in found["process_execute_failed"]], [-8])
        assert facts["pid"] in {event["threadId"] for event in found["do_exit"]}


GROUPS = """
top = output[: output.rindex("/")] + "/groups"
os.mkdir(top)
kind = b"cgroup2"
result = libc.mount(b"none", top.encode(), kind, 0, None)
told(result=result)
if not result:
    made = top + "/of_a_check_%d" % os.getpid()
    os.mkdir(made)
    told(name=os.path.basename(made), id=os.stat(made).st_ino, pid=os.getpid())
    with open(top + "/cgroup.procs") as file:
        pass
    with open("/proc/self/cgroup") as file:
        home = [line[3:].strip() for line in file if line.startswith("0::")]
    with open(made + "/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    with open(top + home[0] + "/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    os.rmdir(made)
    libc.umount2(top.encode(), 2)
"""


@check(timeout=60.0)
def check_control_groups():
    """A group is made, entered and removed."""
    with deeds(("cgroup_mkdir", "cgroup_attach_task", "cgroup_rmdir"), GROUPS) as (found, _, facts):
        if facts["result"]:
            skip("there are no control groups of version 2 here")
        made = one(found, "cgroup_mkdir")
        equal((made["cgroup_id"], made["hierarchy_id"]), (facts["id"], 0))  # version 2
        assert made["cgroup_path"].endswith("/" + facts["name"]), made
        equal(one(found, "cgroup_rmdir"), made)
        entered = one(found, "cgroup_attach_task", cgroup_path=made["cgroup_path"])
        equal((entered["pid"], entered["comm"]), (facts["pid"], os.path.basename(sys.executable)[:15]))
