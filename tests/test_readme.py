"""Examples of the README and a page print what stands below them; its figures are those of its tables."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = r"\d+(?:\.\d+)?"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("page", ["README.md", "docs/conversion.md", "docs/own-data.md", "docs/export.md"])
def test_every_python_example_prints_what_stands_below_it(tmp_path, monkeypatch, capsys, page):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", text, re.DOTALL)
    assert len(examples) == text.count("```python")
    names: dict = {"__name__": "__main__"}
    for code, expected in examples:
        exec(compile(code, page, "exec"), names)
        found = capsys.readouterr().out
        assert re.sub(NUMBER, "0", found) == re.sub(NUMBER, "0", expected)
        # Another processor rounds otherwise, and a training of a second goes another way.
        near = pytest.approx([float(number) for number in re.findall(NUMBER, expected)], rel=0.1, abs=2)
        assert [float(number) for number in re.findall(NUMBER, found)] == near


def test_headline_figures_are_those_of_the_tables():
    headline, tables = re.findall(r"## Results\n(.*?)<!-- results -->(.*?)<!-- end", README, re.DOTALL)[0]
    figures = re.findall(r"\d+\.\d+", headline)
    assert len(figures) > 8
    assert [figure for figure in figures if figure not in tables] == []
