"""docs/filters.md: every example is valid, and means what stands beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bfer import expr
from bfer.catalogue import Catalogue
from bfer.errors import UsageError
from bfer.filters import FILTERS
from bfer.policy import Numbers
from bfer.scopes import SCOPE

TEXT = (Path(__file__).parents[2] / "docs" / "filters.md").read_text()
X86 = Catalogue("x86_64")
BEFORE, _, NEVER = TEXT.partition("## What cannot be")
NAMES = "|".join([*expr.FIELDS, *expr.SYNONYMS, "e", r"[a-z_]+\.[a-zA-Z.]+"])
EXAMPLE = re.compile(rf"`(?:(?:{NAMES})(?:!=|<=|>=|=|<|>)[^`]+|(?:!container|not-container|container|follow|c|!c))`")
PACKETS = ("`net=wlan0`", "`set=network_events`")


def examples(text: str) -> list[str]:
    return list(dict.fromkeys(found for found in EXAMPLE.findall(text) if found not in PACKETS))


def words(example: str) -> list[str]:
    return [word.strip("'").replace("\\|", "|") for word in example.strip("`").split(" ")]


def test_there_are_examples_of_every_filter() -> None:
    found = " ".join(examples(BEFORE))
    assert len(examples(BEFORE)) > 45
    for filter in FILTERS:
        assert "EVENT" in filter.name or filter.name in found


@pytest.mark.parametrize("example", examples(BEFORE))
def test_examples_are_valid(example: str) -> None:
    assert expr.parse(words(example), X86).events


@pytest.mark.parametrize("example", examples(NEVER.partition("## Compared")[0]))
def test_what_cannot_be(example: str) -> None:
    with pytest.raises(UsageError, match=r"^nothing can ever match "):
        expr.parse(words(example), X86)


@pytest.mark.parametrize("example", PACKETS)
def test_packets(example: str) -> None:
    with pytest.raises(UsageError, match=r"^packets are not traced yet"):
        expr.parse(words(example), X86)


def numbers(*texts: str) -> Numbers:
    policy = expr.parse(texts, X86)
    if "uid" in policy.numbers:
        return policy.numbers["uid"]
    bounds = policy.filters["lseek"].args["offset"][1].bounds
    assert bounds is not None
    return bounds


@pytest.mark.parametrize(
    ("texts", "passing"),
    [
        (("uid=0", "uid>=1000"), [0, 1000, 1001, 1002, 4096, 4097]),
        (("uid>=1000", "uid!=1001"), [1000, 1002, 4096, 4097]),
        (("lseek.offset>0", "lseek.offset<=4096"), [1, 1000, 1001, 1002, 4096]),
    ],
)
def test_the_table_of_conditions(texts: tuple[str, ...], passing: list[int]) -> None:
    assert f"`{' '.join(texts)}`" in TEXT
    assert [n for n in (0, 1, 1000, 1001, 1002, 4096, 4097) if numbers(*texts).matches(n)] == passing


def test_scopes_are_all_there() -> None:
    line = next(line for line in TEXT.splitlines() if "openat.scope.uid" in line)
    shown = set(re.findall(r"`([a-zA-Z]+)`", line))
    assert shown == {name for name in SCOPE if name in shown}
    assert {SCOPE[name] for name in shown} == set(SCOPE.values())
