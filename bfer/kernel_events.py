"""Events that are no system calls, as data: where they hook, arguments with their C types, sets.

A line is ``NAME PLACE ID HOOKS: TYPE NAME[:KIND], ...``. The program of programs/hooks.py has the event's
name, and its number there is HOOKS + PLACE; ID is Tracee's number. HOOKS are the
kinds of programs that there are, best first: the first has the plain name, another the suffix ``__KIND``.
``[SET ...]`` heads the lines of events that belong to these sets.
"""

from __future__ import annotations

# ruff: noqa: E501

TABLE = """
[default lsm_hooks fs fs_file_ops]
security_file_open 0 722 fentry,kprobe: const char* pathname, int flags:open, dev_t dev, unsigned long inode, unsigned long ctime
[default proc]
sched_process_exec 1 707 tp_btf,raw_tp: const char* cmdpath, const char* pathname
"""
