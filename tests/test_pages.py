"""Every example of the README and of the pages runs, and prints what stands below it."""

import re
import shlex
from pathlib import Path

import pytest

from firstspike.cli import command_parser, main

ROOT = Path(__file__).parent.parent
NUMBER = r"\d+(?:\.\d+)?"
BLOCK = re.compile(r"^```(python|console|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# A word in capitals stands for something of the reader's own.
PLACEHOLDER = re.compile(r"[A-Z]+[A-Z./]*")
# The demo has tests of its own.
TAKES_LONG = ("reproduce", "bench", "demo")


def examples(page: Path) -> list[tuple[str, str, str]]:
    """Return kind, code and expected output, "" where none is shown, of a page's blocks in order."""
    found: list[tuple[str, str, str]] = []
    text, end = page.read_text(encoding="utf-8"), 0
    for block in BLOCK.finditer(text):
        (kind, code), between, end = block.groups(), text[end : block.start()], block.end()
        if kind == "text":
            if not between.strip() and found and found[-1][0] == "python":
                found[-1] = ("python", found[-1][1], code)
        elif kind == "python":
            found.append((kind, code, ""))
        else:
            for command in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
                line, _, output = command.replace("\\\n", "").partition("\n")
                found.append((kind, line, output))
    return found


PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if examples(page)]


def run_command(line: str) -> None:
    """Run a line of the command line; one for the reader's own files, or of minutes, is only parsed."""
    name, *words = shlex.split(line, comments=True)
    if name != "firstspike":
        return
    if words[0] in TAKES_LONG or any(PLACEHOLDER.fullmatch(word) for word in words):
        command_parser().parse_args(words)
    else:
        assert main(words) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_example_runs_and_prints_what_stands_below_it(tmp_path, monkeypatch, capsys, page):
    monkeypatch.chdir(tmp_path)
    # As for a reader who has named no folder: on the embedded digits, within seconds.
    monkeypatch.delenv("FIRSTSPIKE_DATA", raising=False)
    names: dict = {"__name__": "__main__"}
    for kind, code, expected in examples(page):
        if kind == "python":
            exec(compile(code, str(page), "exec"), names)
        else:
            run_command(code)
        found = capsys.readouterr().out
        if expected:
            assert re.sub(NUMBER, "0", found) == re.sub(NUMBER, "0", expected)
            # Another processor rounds otherwise, and a training of a second goes another way.
            near = pytest.approx([float(one) for one in re.findall(NUMBER, expected)], rel=0.1, abs=2)
            assert [float(one) for one in re.findall(NUMBER, found)] == near


def test_the_readmes_first_example_shows_its_output():
    kind, _, expected = examples(ROOT / "README.md")[0]
    assert kind == "python"
    assert "accuracy" in expected
