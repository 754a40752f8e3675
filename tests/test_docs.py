"""Documents that quote the program say what the program says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from voiceagent import config_table

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = ROOT / "docs" / "configuration.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_table_of_keys_is_the_generated_one() -> None:
    document = CONFIGURATION.read_text(encoding="utf-8")
    assert config_table.renew(document) == document, "run `make docs`"


def test_every_key_has_a_meaning() -> None:
    silent = [f"[{row.table}] {row.engine} {row.key}" for row in config_table.rows() if not row.meaning]
    assert not silent


def test_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="no lines"):
        config_table.renew("# Configuration\n")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_files_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_locks_have_hashes_and_name_no_place(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    packages = re.split(r"\n(?=[a-z0-9])", "\n" + text.partition("make lock")[2].strip().lstrip("#"))[1:]
    assert packages and all("==" in package and "--hash=sha256:" in package for package in packages)
    assert not re.search(r"://|@ |file:|--index|--find-links|(?<!\S)/", text)


ON_DEMAND = {"otel"}  # not what `make serve` installs


def test_versions_in_pyproject_and_locks_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {
        re.match(r"[A-Za-z0-9_.-]+", requirement)[0].lower()  # type: ignore[index]
        for group in (project["dependencies"], *(extra for name, extra in extras.items() if name not in ON_DEMAND))
        for requirement in group
    }
    locked = set(re.findall(r"^([a-z0-9_.-]+)==", (ROOT / "requirements/serve.txt").read_text(encoding="utf-8"), re.M))
    assert not wanted - locked, "run `make lock`"
