"""What events are about: a line for each, and none for what is no event."""

from __future__ import annotations

from bfer import call_descriptions, descriptions, kernel_events, syscalls
from bfer.descriptions import description


def first_words(table: str, end: str) -> list[str]:
    return [line.split(end)[0] for line in table.splitlines() if line and line[0] not in "[("]


def test_every_line_is_about_an_event() -> None:
    for texts, events in ((call_descriptions.TABLE, syscalls.TABLE), (descriptions.TABLE, kernel_events.TABLE)):
        names = first_words(texts, ": ")
        assert sorted(set(names)) == sorted(names)
        assert set(names) <= set(first_words(events, " "))
        assert max(map(len, texts.splitlines())) < 120


def test_later_forms_of_a_call() -> None:
    assert description("chown32") == description("chown") + "; ids of 32 bits"
    assert description("semtimedop_time64") == description("semtimedop") + "; times of 64 bits"
    assert description("pread64") == "read from a position in a file"  # has no first form
    assert description("no_such_call64") == ""
