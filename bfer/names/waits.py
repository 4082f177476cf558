"""Flags of the calls that wait for files and watch them: poll, inotify, fanotify, io_uring."""

from __future__ import annotations

from bfer.names import CHOICE, CUSTOM, FLAGS, Kind, flags, hexadecimal

# include/uapi/linux/fanotify.h
_FANOTIFY_CLASSES = ("FAN_CLASS_NOTIF", "FAN_CLASS_CONTENT", "FAN_CLASS_PRE_CONTENT", "0xc")
_FANOTIFY = (
    ("FAN_CLOEXEC", 1),
    ("FAN_NONBLOCK", 2),
    ("FAN_UNLIMITED_QUEUE", 0x10),
    ("FAN_UNLIMITED_MARKS", 0x20),
    ("FAN_ENABLE_AUDIT", 0x40),
    ("FAN_REPORT_PIDFD", 0x80),
    ("FAN_REPORT_TID", 0x100),
    ("FAN_REPORT_FID", 0x200),
    ("FAN_REPORT_DIR_FID", 0x400),
    ("FAN_REPORT_NAME", 0x800),
    ("FAN_REPORT_TARGET_FID", 0x1000),
    ("FAN_REPORT_FD_ERROR", 0x2000),
    ("FAN_REPORT_MNT", 0x4000),
)


def _fanotify_init(value: int) -> str:
    """Two of the bits are one of three classes."""
    rest = value & ~0xC
    name = _FANOTIFY_CLASSES[value >> 2 & 3]
    return f"{name}|{flags(rest, _FANOTIFY)}" if rest else name


# include/uapi/linux/io_uring.h
_REGISTER = (
    ("IORING_REGISTER_BUFFERS", 0),
    ("IORING_UNREGISTER_BUFFERS", 1),
    ("IORING_REGISTER_FILES", 2),
    ("IORING_UNREGISTER_FILES", 3),
    ("IORING_REGISTER_EVENTFD", 4),
    ("IORING_UNREGISTER_EVENTFD", 5),
    ("IORING_REGISTER_FILES_UPDATE", 6),
    ("IORING_REGISTER_EVENTFD_ASYNC", 7),
    ("IORING_REGISTER_PROBE", 8),
    ("IORING_REGISTER_PERSONALITY", 9),
    ("IORING_UNREGISTER_PERSONALITY", 10),
    ("IORING_REGISTER_RESTRICTIONS", 11),
    ("IORING_REGISTER_ENABLE_RINGS", 12),
    ("IORING_REGISTER_FILES2", 13),
    ("IORING_REGISTER_FILES_UPDATE2", 14),
    ("IORING_REGISTER_BUFFERS2", 15),
    ("IORING_REGISTER_BUFFERS_UPDATE", 16),
    ("IORING_REGISTER_IOWQ_AFF", 17),
    ("IORING_UNREGISTER_IOWQ_AFF", 18),
    ("IORING_REGISTER_IOWQ_MAX_WORKERS", 19),
    ("IORING_REGISTER_RING_FDS", 20),
    ("IORING_UNREGISTER_RING_FDS", 21),
    ("IORING_REGISTER_PBUF_RING", 22),
    ("IORING_UNREGISTER_PBUF_RING", 23),
    ("IORING_REGISTER_SYNC_CANCEL", 24),
    ("IORING_REGISTER_FILE_ALLOC_RANGE", 25),
    ("IORING_REGISTER_PBUF_STATUS", 26),
    ("IORING_REGISTER_NAPI", 27),
    ("IORING_UNREGISTER_NAPI", 28),
    ("IORING_REGISTER_CLOCK", 29),
    ("IORING_REGISTER_CLONE_BUFFERS", 30),
    ("IORING_REGISTER_SEND_MSG_RING", 31),
    ("IORING_REGISTER_ZCRX_IFQ", 32),
    ("IORING_REGISTER_RESIZE_RINGS", 33),
    ("IORING_REGISTER_MEM_REGION", 34),
    ("IORING_REGISTER_QUERY", 35),
    ("IORING_REGISTER_ZCRX_CTRL", 36),
)
_REGISTERED = ("IORING_REGISTER_USE_REGISTERED_RING", 1 << 31)


def _register(value: int) -> str:
    operation = value & ~(1 << 31)
    name = next((name for name, known in _REGISTER if known == operation), hexadecimal(operation))
    return f"{name}|{_REGISTERED[0]}" if value >> 31 else name


KINDS = {
    "poll": Kind(
        FLAGS,
        (
            ("POLLIN", 0x1),
            ("POLLPRI", 0x2),
            ("POLLOUT", 0x4),
            ("POLLERR", 0x8),
            ("POLLHUP", 0x10),
            ("POLLNVAL", 0x20),
            ("POLLRDNORM", 0x40),
            ("POLLRDBAND", 0x80),
            ("POLLWRNORM", 0x100),
            ("POLLWRBAND", 0x200),
            ("POLLMSG", 0x400),
            ("POLLREMOVE", 0x1000),
            ("POLLRDHUP", 0x2000),
            ("POLL_BUSY_LOOP", 0x8000),
        ),
    ),
    "epoll": Kind(
        FLAGS,
        (
            ("EPOLLIN", 0x1),
            ("EPOLLPRI", 0x2),
            ("EPOLLOUT", 0x4),
            ("EPOLLRDNORM", 0x40),
            ("EPOLLRDBAND", 0x80),
            ("EPOLLWRNORM", 0x100),
            ("EPOLLWRBAND", 0x200),
            ("EPOLLMSG", 0x400),
            ("EPOLLERR", 0x8),
            ("EPOLLHUP", 0x10),
            ("EPOLLNVAL", 0x20),
            ("EPOLLRDHUP", 0x2000),
            ("EPOLLEXCLUSIVE", 1 << 28),
            ("EPOLLWAKEUP", 1 << 29),
            ("EPOLLONESHOT", 1 << 30),
            ("EPOLLET", 1 << 31),
        ),
    ),
    "inotify": Kind(
        FLAGS,
        (
            ("IN_ACCESS", 1),
            ("IN_MODIFY", 2),
            ("IN_ATTRIB", 4),
            ("IN_CLOSE_WRITE", 8),
            ("IN_CLOSE_NOWRITE", 0x10),
            ("IN_OPEN", 0x20),
            ("IN_MOVED_FROM", 0x40),
            ("IN_MOVED_TO", 0x80),
            ("IN_CREATE", 0x100),
            ("IN_DELETE", 0x200),
            ("IN_DELETE_SELF", 0x400),
            ("IN_MOVE_SELF", 0x800),
            ("IN_UNMOUNT", 0x2000),
            ("IN_Q_OVERFLOW", 0x4000),
            ("IN_IGNORED", 0x8000),
            ("IN_ONLYDIR", 0x1000000),
            ("IN_DONT_FOLLOW", 0x2000000),
            ("IN_EXCL_UNLINK", 0x4000000),
            ("IN_MASK_CREATE", 0x10000000),
            ("IN_MASK_ADD", 0x20000000),
            ("IN_ISDIR", 0x40000000),
            ("IN_ONESHOT", 0x80000000),
        ),
    ),
    "inotify_init": Kind(
        FLAGS,
        (
            ("IN_NONBLOCK", 0x800),
            ("IN_CLOEXEC", 0x80000),
        ),
    ),
    "fanotify_init": Kind(CUSTOM, (*zip(_FANOTIFY_CLASSES, (0, 4, 8)), *_FANOTIFY), _fanotify_init),
    "fanotify_mark": Kind(
        FLAGS,
        (
            ("FAN_MARK_INODE", 0),
            ("FAN_MARK_MNTNS", 0x110),
            ("FAN_MARK_ADD", 1),
            ("FAN_MARK_REMOVE", 2),
            ("FAN_MARK_DONT_FOLLOW", 4),
            ("FAN_MARK_ONLYDIR", 8),
            ("FAN_MARK_MOUNT", 0x10),
            ("FAN_MARK_IGNORED_MASK", 0x20),
            ("FAN_MARK_IGNORED_SURV_MODIFY", 0x40),
            ("FAN_MARK_FLUSH", 0x80),
            ("FAN_MARK_FILESYSTEM", 0x100),
            ("FAN_MARK_EVICTABLE", 0x200),
            ("FAN_MARK_IGNORE", 0x400),
        ),
    ),
    "fanotify_mask": Kind(
        FLAGS,
        (
            ("FAN_ACCESS", 1),
            ("FAN_MODIFY", 2),
            ("FAN_ATTRIB", 4),
            ("FAN_CLOSE_WRITE", 8),
            ("FAN_CLOSE_NOWRITE", 0x10),
            ("FAN_OPEN", 0x20),
            ("FAN_MOVED_FROM", 0x40),
            ("FAN_MOVED_TO", 0x80),
            ("FAN_CREATE", 0x100),
            ("FAN_DELETE", 0x200),
            ("FAN_DELETE_SELF", 0x400),
            ("FAN_MOVE_SELF", 0x800),
            ("FAN_OPEN_EXEC", 0x1000),
            ("FAN_Q_OVERFLOW", 0x4000),
            ("FAN_FS_ERROR", 0x8000),
            ("FAN_OPEN_PERM", 0x10000),
            ("FAN_ACCESS_PERM", 0x20000),
            ("FAN_OPEN_EXEC_PERM", 0x40000),
            ("FAN_DIR_MODIFY", 0x80000),
            ("FAN_PRE_ACCESS", 0x100000),
            ("FAN_MNT_ATTACH", 0x1000000),
            ("FAN_MNT_DETACH", 0x2000000),
            ("FAN_EVENT_ON_CHILD", 0x8000000),
            ("FAN_RENAME", 0x10000000),
            ("FAN_ONDIR", 0x40000000),
        ),
    ),
    "epoll_ctl": Kind(
        CHOICE,
        (
            ("EPOLL_CTL_ADD", 1),
            ("EPOLL_CTL_DEL", 2),
            ("EPOLL_CTL_MOD", 3),
        ),
    ),
    "epoll_create": Kind(
        FLAGS,
        (("EPOLL_CLOEXEC", 0x80000),),
    ),
    "io_uring_enter": Kind(
        FLAGS,
        (
            ("IORING_ENTER_GETEVENTS", 1),
            ("IORING_ENTER_SQ_WAKEUP", 2),
            ("IORING_ENTER_SQ_WAIT", 4),
            ("IORING_ENTER_EXT_ARG", 8),
            ("IORING_ENTER_REGISTERED_RING", 0x10),
            ("IORING_ENTER_ABS_TIMER", 0x20),
            ("IORING_ENTER_EXT_ARG_REG", 0x40),
            ("IORING_ENTER_NO_IOWAIT", 0x80),
        ),
    ),
    "io_uring_register": Kind(CUSTOM, (*_REGISTER, _REGISTERED), _register),
}
