"""The pages that are written from the code, and links between all of them."""

from __future__ import annotations

import re
from pathlib import Path

from bfer import docs
from bfer.catalogue import Catalogue

ROOT = Path(__file__).parents[2]


def test_events_page_is_up_to_date() -> None:
    assert Path(docs.PAGE).read_text().partition(docs.KERNELS)[0] == docs.page(), "run python3 -m bfer.docs --write"


def test_every_event_is_on_the_page() -> None:
    page = docs.page().partition("## Sets")[0]
    for machine in ("x86_64", "aarch64"):
        for name, event in Catalogue(machine).events.items():
            (row,) = re.findall(rf"^\| `{name}` \|.*$", page, re.M)
            for arg in event.args:
                assert f" {arg.name}`" in row
            if not event.hooks and not event.is_compat:
                assert f"| {event.number} |" in row


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "examples" / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
