"""Clocks and timers."""

from __future__ import annotations

from bfer.names import CHOICE, FLAGS, Kind

KINDS = {
    "clock": Kind(
        CHOICE,
        (
            ("CLOCK_REALTIME", 0),
            ("CLOCK_MONOTONIC", 1),
            ("CLOCK_PROCESS_CPUTIME_ID", 2),
            ("CLOCK_THREAD_CPUTIME_ID", 3),
            ("CLOCK_MONOTONIC_RAW", 4),
            ("CLOCK_REALTIME_COARSE", 5),
            ("CLOCK_MONOTONIC_COARSE", 6),
            ("CLOCK_BOOTTIME", 7),
            ("CLOCK_REALTIME_ALARM", 8),
            ("CLOCK_BOOTTIME_ALARM", 9),
            ("CLOCK_SGI_CYCLE", 10),
            ("CLOCK_TAI", 11),
        ),
    ),
    "timer_abs": Kind(
        FLAGS,
        (("TIMER_ABSTIME", 1),),
    ),
    "itimer": Kind(
        CHOICE,
        (
            ("ITIMER_REAL", 0),
            ("ITIMER_VIRTUAL", 1),
            ("ITIMER_PROF", 2),
        ),
    ),
    "timerfd_create": Kind(
        FLAGS,
        (
            ("TFD_NONBLOCK", 0x800),
            ("TFD_CLOEXEC", 0x80000),
        ),
    ),
    "timerfd_settime": Kind(
        FLAGS,
        (
            ("TFD_TIMER_ABSTIME", 1),
            ("TFD_TIMER_CANCEL_ON_SET", 2),
        ),
    ),
}
