"""Events that are no system calls: the security hooks and tracepoints of the kernel.

Each event has programs of several kinds for the same hook, of which the tracer attaches the first
that the kernel takes. Their numbers follow those of the system calls.
"""

from __future__ import annotations

from programs.common import *
from programs.fields import *
from programs.paths import *
from programs.records import *
from pybpf.ktypes import file, linux_binprm, task_struct
from pybpf.lang import *

hook_scratch = PerCpuArray(FieldRecord, 2)


@inline
def clear(record):
    """Begin a record without numbers and fields."""
    for i in unroll(range(ARGS)):
        record.args[i] = 0
    record.status = PATH_OK
    record.end = 0


@inline
def send(record, task, shape, event):
    """Hand over the record, if its numbers meet the event's filters."""
    if call_is_selected(record, shape, event, 0):
        finish(record, task, event, 0, offsetof(FieldRecord, "data") + min(record.end, FIELDS_SIZE))


@inline
def put_number(record, arg, value):
    """A number for which the record's head has no place."""
    end = record.end
    if end <= FIELDS_FULL:
        field = cast(Ptr[Field], addr(record.data[end]))
        cast(Ptr[u64], addr(field[1]))[0] = value
        close_field(record, field, arg, FORM_NUMBER, 8)


@inline
def put_kernel_string(record, shape, arg, address):
    """A string of the kernel's; False when the event's filter does not want it."""
    end = record.end
    if end > FIELDS_FULL:
        return True
    field = cast(Ptr[Field], addr(record.data[end]))
    text = cast(Ptr[PathText], addr(field[1]))
    n = read_kernel_str(text.data, address)
    length: u64 = 0
    if n > 0:
        length = n
    if shape.path == arg:
        if not path_is_selected(shape, addr(field.size), length):
            return False
    if n <= 0:
        add_pointer(record, field, arg, address)
    else:
        close_field(record, field, arg, FORM_STRING, u64(n) - 1)
    return True


SECURITY_FILE_OPEN = HOOKS + 0
SCHED_PROCESS_EXEC = HOOKS + 1


@hook("fentry/security_file_open", "kprobe/security_file_open")
def security_file_open(ctx, opened: Ptr[file]):
    record = hook_scratch.lookup(0)
    task = current_task()
    shape = shapes.lookup(SECURITY_FILE_OPEN)
    if not record or not shape or not is_selected(task):
        return 0
    clear(record)
    node = opened.f_inode
    record.args[1] = opened.f_flags
    record.args[2] = node.i_sb.s_dev
    record.args[3] = node.i_ino
    record.args[4] = change_time(node)
    if put_path(record, shape, 0, u64(opened.f_path.dentry), u64(opened.f_path.mnt)):
        send(record, task, shape, SECURITY_FILE_OPEN)
    return 0


@hook("tp_btf/sched_process_exec", "raw_tp/sched_process_exec")
def sched_process_exec(ctx, task: Ptr[task_struct], old_pid: i32, program: Ptr[linux_binprm]):
    record = hook_scratch.lookup(0)
    shape = shapes.lookup(SCHED_PROCESS_EXEC)
    if not record or not shape or not is_selected(task):
        return 0
    clear(record)
    opened = program.file
    if not put_kernel_string(record, shape, 0, u64(program.filename)):
        return 0
    if put_path(record, shape, 1, u64(opened.f_path.dentry), u64(opened.f_path.mnt)):
        send(record, task, shape, SCHED_PROCESS_EXEC)
    return 0
