"""The filters, for people: what ``bfer list filters`` prints; the grammar itself is in bfer.expr."""

from __future__ import annotations


class Filter:
    """One filter: ``other`` names that it has, ``operators``, ``values``, what it is about, and an example."""

    __slots__ = ("about", "example", "name", "operators", "other", "values")

    def __init__(self, name: str, other: str, operators: str, values: str, about: str, example: str) -> None:
        self.name = name
        self.other = other
        self.operators = operators
        self.values = values
        self.about = about
        self.example = example

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "synonyms": self.other.split(),
            "operators": self.operators.split(),
            "values": self.values,
            "about": self.about,
            "example": self.example,
        }


_EQUAL, _ALL = "= !=", "= != < > <= >="

FILTERS = tuple(
    Filter(*fields)
    for fields in (
        ("event", "e ev eve even", _EQUAL, "NAME NAME*", "which events", "event=openat,unlink*"),
        ("events", "", "=", "NAME NAME* SET -NAME", "which events, and which not", "events=fs,-open*"),
        ("set", "tag s se", "=", "SET", "all events of a set", "set=fs"),
        ("comm", "", _EQUAL, "NAME", "name of the calling thread, at most 15 bytes", "comm=sh,cat"),
        ("binary", "executable exec bin", _EQUAL, "PATH PATH* *PATH", "file that the process runs", "binary=*/curl"),
        ("uid", "u ui", _ALL, "N USER", "real user, by number or name", "uid>=1000"),
        ("pid", "p pi", _ALL, "N new", "process, or those that start after bfer", "pid=new"),
        ("tid", "", _ALL, "N", "thread", "tid=1234"),
        ("mntns", "", _ALL, "N", "mount namespace, by inode number", "mntns!=4026531841"),
        ("pidns", "", _ALL, "N", "pid namespace, by inode number", "pidns=4026531836"),
        ("uts", "", _EQUAL, "NAME", "host name", "uts=board"),
        ("container", "c co con cont", "= !=", "(nothing) ID new", "processes of containers", "container=3f0a"),
        ("!container", "not-container !c", "", "(nothing)", "processes outside of containers", "!container"),
        ("tree", "", _EQUAL, "PID", "a process and its descendants", "tree=1234"),
        ("follow", "f fo fol", "", "(nothing)", "and all descendants of any process that ever matched", "follow"),
        (
            *("EVENT.ARG", "EVENT.data.ARG EVENT.args.ARG", _ALL, "VALUE VALUE* *VALUE *VALUE*"),
            *("argument of an event; < > <= >= for numbers", "openat.pathname=/etc/*"),
        ),
        ("EVENT.retval", "", _ALL, "N -ERROR", "result of an event", "openat.retval=-ENOENT"),
        ("EVENT.scope.FIELD", "", _ALL, "VALUE", "who called, for one event only", "openat.scope.uid=0"),
    )
)
