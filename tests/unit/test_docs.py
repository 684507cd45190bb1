"""The documentation is readable and its links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("services/*/README.md")])
GENERATED = ("events.md", "metrics.md", "permissions.md", "configuration.md")
LONGEST = 140


def prose(page: Path) -> list[str]:
    """Lines outside of tables and code."""
    parts = page.read_text().split("\n```")
    return [line for part in parts[::2] for line in part.splitlines() if not line.lstrip().startswith("|")]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in GENERATED], ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_prose_fit_a_screen(page: Path) -> None:
    assert [line[:60] for line in prose(page) if len(line) > LONGEST] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", "\n".join(prose(page)))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in ROOT.glob("docs/*.md") if page.name != "README.md" and f"({page.name})" not in index] == []
