"""The text of ``bfer --help``."""

from __future__ import annotations

HELP = """\
usage: bfer trace [OPTION...] [EXPRESSION...] [-- COMMAND ARG...]
       bfer list [events|sets|filters] [--json]
       bfer list --functions PATTERN   what event=kprobe:NAME can trace (--tracepoints: tp:)
       bfer explain EVENT              its arguments, their values by name, where it hooks here
       bfer doctor [--json]            what can be traced on this system and what not, and why
       bfer archive OUT.pyz [--pyc]    all of bfer as one executable file (--pyc: byte
                                       code only, starts faster, this Python version only)
       bfer --help | --version

Trace system calls of processes: who, when, with which arguments and result.
Needs root (or CAP_BPF and CAP_PERFMON). `bfer --trace ...` is `bfer trace --trace ...`.

With a COMMAND, run it, trace it and its descendants, and stop with it; the exit
status is the command's.

options:
  -t, --trace EXPRESSION  the same as the bare EXPRESSION; so are -f, --filter and -s, --scope
  -e, --events EVENTS     events and sets, separated by commas; -NAME leaves one out; also an
                          EXPRESSION
  -o, --output OUTPUT     how and where events are written, see below; can be repeated
      --duration TIME     stop after TIME: 10, 10s, 500ms, 2m, 1h
      --buffer SIZE       buffer between kernel and bfer: 16K to 1G, a power of two
                          (default 1M; of memory up to 128M: 256K, from 2G on: 8M)
      --btf FILE          the kernel's BTF, where /sys/kernel/btf/vmlinux is missing: a file, or a
                          folder or archive with RELEASE.btf in it
  -q, --quiet             no header, no summary, no notes
      --debug             tell more about what goes wrong
      --explain           tell which hooks were tried, and what came of it
  -l, --list              list the events of this machine and their arguments
  -h, --help              show this text
      --version           show the version

expressions (ANDed; several VALUEs after one = are ORed: VALUE,VALUE):
  event=NAME event!=NAME  which events; NAME* for all that begin so
  events=NAME,SET,-NAME   the same in one
  set=NAME (or tag=)      all events of a set
  comm=NAME comm!=NAME    name of the calling thread, at most 15 bytes
  binary=PATH binary!=PATH
                          file that the process runs: PATH, PATH* or *PATH; also exec, executable
  uid=N uid!=N uid<N uid>N uid<=N uid>=N
                          user, by number or name
  pid=N tid=N ... (as uid)
                          process, thread
  pid=new pid!=new        processes that started after bfer, or before
  mntns=N pidns=N ... (as uid)
                          namespace, by inode number
  uts=NAME uts!=NAME      host name
  container !container    processes of containers, or none (not-container)
  container=ID container!=ID container=new container!=new
                          of one container, of those that are made later, or before
  tree=PID tree!=PID      a process and its descendants
  follow                  and all descendants of any process that was ever selected
  EVENT.ARG=VALUE EVENT.ARG!=VALUE
                          argument of an event: VALUE, VALUE* (begins), *VALUE (ends),
                          *VALUE* (contains); numbers also as names: openat.flags=O_RDWR,
                          and with < > <= >=; also EVENT.data.ARG, EVENT.args.ARG
  EVENT.retval=N (also != < > <= >=)
                          returned value: a number or an error such as -ENOENT
  EVENT.scope.FIELD=VALUE who called, for one event: EVENT.scope.uid=0
  event, set, uid, pid, container and follow can be cut short (e=open*). Without event and
  set, the events that ARG and retval filters name are traced, or else the set `default`.

outputs:
  table                   columns for people (default)
  table-verbose           the same with host, namespaces and parent
  json                    one JSON object a line, with Tracee's members
  xml                     one document, an <event> a line, with the same members
  csv                     RFC 4180, with the same members; arguments as JSON
  template=TEXT           TEXT for each event; {processName} is a member, {args.fd} an argument
  template:FILE           the same, TEXT from FILE
  json:FILE table:FILE    a format, to a file
  gotemplate=FILE         the same, a Go template that prints fields only: {{.EventName}}
  out-file:FILE           the file for a format given without one; folders are made
  err-file:FILE           the file for notes and errors, instead of standard error
  none                    no events at all
  option:parse-arguments      JSON, XML and CSV: flags and modes as text
  option:parse-arguments-fds  and file descriptors with their files: 3=/etc/passwd
  option:structures           JSON, XML, CSV: what is behind pointers to structures; with parse-
                              arguments, or a table, it is on
  option:exec-env             the environment of programs that are executed
  option:exec-hash            the SHA-256 of programs that are executed (sched_process_exec)
  option:stack-addresses      JSON, XML, CSV: where in the process a call came from, 20 addresses
  option:executable           JSON, XML, CSV: the file that the process runs
  option:resolve-paths        relative paths from the root, too, as the kernel has their folder
  option:detect-syscall       the system call behind events of the kernel's hooks
  option:sort-events          in the order of time, 50 ms late
  option:relative-time        time since the start instead of time of day

examples:
  bfer trace event=openat 'openat.pathname=/tmp/login*'
  bfer trace 'event=unlink*' 'uid>=1000' --output json:/tmp/events.json
  bfer trace 'openat.retval<0' -- cat /etc/nothing

exit status: 0, or the command's; 1 something failed; 2 wrong usage;
126 and 127 the command cannot be run.
"""


def section(title: str) -> str:
    """The part of the text that begins with this title."""
    start = HELP.index(f"\n{title}") + 1
    return HELP[start : HELP.index("\n\n", start) + 1]
