"""Result files: closed forms of the spread, the page made from them, and where they came from."""

import json
import statistics
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from firstspike.experiments.results import (
    markdown_table,
    provenance,
    read_results,
    renew_readme,
    results_page,
    show,
    spread,
    summarise,
    with_headlines,
    write_results,
)
from firstspike.support import InputError, command_line


def test_spread_of_a_known_sample():
    # Deviations -3 -1 1 3: 20 / 3 with the sample's n - 1.
    assert spread([1, 3, 5, 7]) == {"mean": 4.0, "sd": pytest.approx((20 / 3) ** 0.5)}


def test_one_seed_has_no_spread():
    assert spread([0.97]) == {"mean": 0.97, "sd": None}
    assert show(spread([0.97]), 2) == "0.97"
    with pytest.raises(statistics.StatisticsError):
        spread([])


@given(
    values=st.lists(st.floats(-100, 100), min_size=2, max_size=10),
    scale=st.floats(0.1, 10),
    offset=st.floats(-10, 10),
)
def test_spread_follows_scale_and_offset(values, scale, offset):
    one, other = spread(values), spread([scale * value + offset for value in values])
    assert other["mean"] == pytest.approx(scale * one["mean"] + offset, abs=1e-6)
    assert other["sd"] == pytest.approx(scale * one["sd"], abs=1e-6)


def test_summaries_hold_every_number_that_all_runs_have():
    runs = [
        {
            "seed": 0,
            "accuracy": 0.9,
            "count": 10,
            "rule": "first",
            "by_class": [1],
            "met": True,
            "kid": 1.0,
        },
        {
            "seed": 1,
            "accuracy": 0.8,
            "count": 10,
            "rule": "first",
            "by_class": [2],
            "met": True,
            "kid": None,
        },
    ]
    assert summarise(runs) == {
        "accuracy": {"mean": pytest.approx(0.85), "sd": pytest.approx(0.1 / 2**0.5)},
        "count": {"mean": 10.0, "sd": 0.0},
    }
    assert summarise([]) == {}


def test_digits_of_one_seed_are_averaged_before_the_spread_over_seeds():
    runs = [
        {"seed": seed, "digit": digit, "recall": value}
        for seed, digit, value in [(0, 1, 0.2), (0, 2, 0.4), (1, 1, 0.6), (1, 2, 0.4)]
    ]
    # Means 0.3 and 0.5.
    assert summarise(runs) == {"recall": {"mean": pytest.approx(0.4), "sd": pytest.approx(0.2 / 2**0.5)}}


@pytest.mark.parametrize(
    ("figure", "digits", "scale", "expected"),
    [
        ({"mean": 0.98456, "sd": 0.0012}, 2, 100, "98.46 ± 0.12"),
        ({"mean": 23.96, "sd": 0.0}, 1, 1, "24.0 ± 0.0"),
        ({"mean": 9377.9, "sd": 120.0}, 1, 1e-3, "9.4 ± 0.1"),
        ({"mean": 28562.4, "sd": 1800.2}, 0, 1, "28,562 ± 1,800"),
        (0.25, 1, 100, "25.0"),
        (26_175, 1, 1, "26,175"),
        (2_000_000, 2, 1e-6, "2.00"),
    ],
)
def test_a_figure_is_shown_with_its_spread(figure, digits, scale, expected):
    assert show(figure, digits, scale) == expected


def test_a_table_in_markdown():
    assert markdown_table(["", "a"], [["x", "1"], ["y", "2"]]) == (
        "|  | a |\n| --- | --- |\n| x | 1 |\n| y | 2 |\n"
    )


def test_provenance_names_command_seeds_and_machine_but_no_folder_of_it():
    assert provenance((0, 1))["command"] is None
    token = command_line.set(
        "firstspike reproduce spiking-gan --data-dir /home/me/data --out=/home/me/out --epochs 3"
    )
    origin = provenance((0, 1))
    command_line.reset(token)
    assert origin["command"] == "firstspike reproduce spiking-gan --data-dir data --out=out --epochs 3"
    assert origin["seeds"] == [0, 1]
    assert origin["versions"].keys() == {"python", "torch", "numpy", "numba"}
    assert f"CPU ({torch.backends.cpu.get_cpu_capability()}), " in origin["machine"]
    json.dumps(origin)


def document(title, rows):
    return {
        "title": title,
        "provenance": [
            {
                "command": f"firstspike reproduce {title}",
                "seeds": [0, 1, 2],
                "versions": {"python": "3.11.7", "torch": "2.13.0"},
                "machine": "x86_64 CPU, 2 cores, no GPU",
            }
        ],
        "tables": [
            {
                "caption": f"Table of {title}",
                "columns": ["preset", "accuracy"],
                "rows": rows,
                "notes": ["A."],
            },
            {"caption": "Another", "columns": ["x"], "rows": [["1"]]},
        ],
        "headlines": [[f"headline of {title}", "1", "2"]],
        "runs": {"a": [{"seed": 0, "call": 0, "accuracy": 0.9}]},
    }


def test_the_page_links_figures_of_conversion_only_where_their_page_is(tmp_path):
    folder = tmp_path / "docs" / "results"
    link = "(conversion.md#what-it-costs-in-accuracy)"
    write_results(folder, "one", document("first", []))
    assert link not in (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    (tmp_path / "docs" / "conversion.md").touch()
    write_results(folder, "one", document("first", []))
    head, _ = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8").split("## first")
    assert link in head


def test_the_page_holds_every_result_file_in_order(tmp_path):
    folder = tmp_path / "docs" / "results"
    write_results(folder, "two", document("second", [["`b`", "97.0 ± 0.1"]]))
    page = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    assert "## second" in page
    assert "## first" not in page
    write_results(folder, "one", document("first", [["`a`", "98.5 ± 0.2"]]))
    page = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    assert page == results_page(read_results(folder), "results")
    lines = page.splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# Results",
        "## At a glance",
        "## first",
        "## second",
    ]
    assert "| headline of first | 1 | 2 |" in lines
    for expected in (
        "| `a` | 98.5 ± 0.2 |",
        "| `b` | 97.0 ± 0.1 |",
        "**Table of first**",
        "A.",
        "Command: `firstspike reproduce second`  ",
        "Seeds: 0, 1, 2  ",
        "Machine: x86_64 CPU, 2 cores, no GPU; python 3.11.7, torch 2.13.0",
        "Figures: [`one.json`](results/one.json)",
    ):
        assert expected in lines
    assert json.loads((folder / "one.json").read_text()) == document("first", [["`a`", "98.5 ± 0.2"]])
    assert sorted(path.name for path in folder.iterdir()) == ["one.json", "two.json"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["results", "results.md"]


def test_the_page_says_which_call_measured_which_rows(tmp_path):
    both = document("first", [])
    (origin,) = both["provenance"]
    both["provenance"].append(origin | {"command": "firstspike reproduce first --rows b", "seeds": [4]})
    both["runs"] = {"a": [{"call": 0}, {"call": 1}], "b": [{"call": 1}], "c": [{"call": 0}]}
    write_results(tmp_path / "results", "one", both)
    lines = (tmp_path / "results.md").read_text(encoding="utf-8").splitlines()
    first = lines.index("Command: `firstspike reproduce first`  ")
    assert lines[first + 1 : first + 3] == ["Rows: a, c  ", "Seeds: 0, 1, 2  "]
    second = lines.index("Command: `firstspike reproduce first --rows b`  ")
    assert lines[second + 1 : second + 3] == ["Rows: a, b  ", "Seeds: 4  "]


def test_a_second_writing_renews_the_page(tmp_path):
    for figure in ("1", "2"):
        write_results(tmp_path / "results", "one", document("first", [["a", figure]]))
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| a | 2 |" in page
    assert "| a | 1 |" not in page


def test_links_lead_into_the_folder_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "figures", "one", document("first", []))
    assert "[`one.json`](figures/one.json)" in (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "(results/" not in (tmp_path / "results.md").read_text(encoding="utf-8")


README = "# A\n<!-- results -->\nold\n<!-- end of results -->\nthe rest\n"


def test_the_readmes_table_is_renewed_only_when_asked(tmp_path):
    """Figures of a quick look in a folder of the clone must not reach its README."""
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    folder = tmp_path / "docs" / "results"
    write_results(folder, "two", document("second", []))
    write_results(folder, "one", document("first", []))
    assert readme.read_text(encoding="utf-8") == README
    renew_readme(folder)
    lines = readme.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == README.splitlines()[:2]
    assert lines[4:] == [
        "| headline of first | 1 | 2 |",
        "| headline of second | 1 | 2 |",
        *README.splitlines()[-2:],
    ]


def test_a_readme_keeps_the_rows_that_it_names(tmp_path):
    folder = tmp_path / "docs" / "results"
    write_results(folder, "one", document("first", []))
    write_results(folder, "two", document("second", []))
    named = README.replace("old", "| headline of second | old | figures |")
    expected = ["| headline of second | 1 | 2 |", *README.splitlines()[-2:]]
    assert with_headlines(named, read_results(folder)).splitlines()[4:] == expected


def test_a_readme_without_the_table_stays_as_it_is(tmp_path, monkeypatch):
    folder = tmp_path / "docs" / "results"
    write_results(folder, "one", document("first", []))
    monkeypatch.chdir(tmp_path)
    renew_readme(Path("docs/results"))
    assert not (tmp_path / "README.md").exists()
    assert with_headlines("# Mine\n", read_results(folder)) == "# Mine\n"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"provenance": 3}'])
def test_another_json_file_is_named(tmp_path, text):
    folder = tmp_path / "results"
    write_results(folder, "one", document("first", []))
    page = (tmp_path / "results.md").read_bytes()
    (folder / "other.json").write_text(text)
    with pytest.raises(InputError, match=r"other\.json is no result file of firstspike .* move it out"):
        write_results(folder, "one", document("changed", []))
    assert (tmp_path / "results.md").read_bytes() == page
