"""The documents name tests and files that exist, and the reference names all that is public."""

import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from firstspike.metrics.report import Report

ROOT = Path(__file__).parent.parent
BUILT = ROOT / "docs" / "_build"
DOCUMENTS = sorted(
    path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if BUILT not in path.parents
)
TESTS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}


def missing_tests(line: str) -> list[str]:
    """Return the tests that `line` names and that are not in the files it names, or in none at all."""
    files, tests = re.findall(r"`(?:[\w/]*/)?(test_\w+\.py)`", line), re.findall(r"`(test_\w+)`", line)
    sources = [TESTS.get(file, "") for file in files] or list(TESTS.values())
    return [file for file in files if file not in TESTS] + [
        test for test in tests if not any(re.search(rf"def {test}\b", source) for source in sources)
    ]


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("`test_documents.py`: `test_links_lead_somewhere`", []),
        ("`tests/test_documents.py`", []),
        ("`test_links_lead_somewhere` somewhere", []),
        ("`test_pages.py`: `test_links_lead_somewhere`", ["test_links_lead_somewhere"]),
        ("`test_of_nothing.py`", ["test_of_nothing.py"]),
    ],
)
def test_a_missing_test_is_found(line: str, missing: list[str]) -> None:
    assert missing_tests(line) == missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_that_are_named_exist(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [name for line in lines for name in missing_tests(line)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    # The build makes a tutorial's page from its script.
    made = {
        ROOT / "docs" / "tutorials" / f"{script.stem}.rst" for script in (ROOT / "tutorials").glob("*.py")
    }
    targets = {link: (path.parent / link).resolve() for link in links}
    assert [link for link, target in targets.items() if not target.exists() and target not in made] == []


# What a path in a document may start with; `x.py` is a file that a reader may add.
PARTS = sorted(path.name for path in (ROOT / "src" / "firstspike").iterdir() if path.is_dir())
PATH = re.compile(rf"`((?:src|tests|docs|benchmarks|{'|'.join(PARTS)})/[\w./-]*)`")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_of_the_tree_that_are_named_exist(path: Path) -> None:
    named = [name for name in PATH.findall(path.read_text(encoding="utf-8")) if not name.endswith("/x.py")]
    homes = (ROOT, ROOT / "src" / "firstspike")
    assert [name for name in named if not any((home / name).exists() for home in homes)] == []


REFERENCE = "\n".join(
    path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md")
)


def test_every_public_name_stands_in_the_reference() -> None:
    import firstspike

    modules = {name for name in firstspike.__all__ if isinstance(getattr(firstspike, name), ModuleType)}
    shown = set(re.findall(r"^\.\. auto\w+:: firstspike\.(?:\w+\.)*(\w+)$", REFERENCE, re.MULTILINE))
    assert set(firstspike.__all__) - modules - {"__version__"} <= shown


def test_every_figure_of_a_report_stands_in_the_reference() -> None:
    explained = set(re.findall(r"`(\w+)`", REFERENCE))
    assert {field.name for field in fields(Report)} <= explained
