import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from firstspike.experiments.report import Cell, Report, format_value
from firstspike.plot import png_bytes, sample_grid

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects tags and text, and fails on tags that are not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(png_bytes(sample_grid(np.zeros((2, 8, 8), np.uint8))))
    return path


def full_report(picture):
    return (
        Report("Spiking-GAN", "on MNIST")
        .heading("Result")
        .text("One.\n\nTwo with `code`.")
        .table(
            ["network", "paper", "measured"],
            [["784-400-10", "96.7 %", Cell("97.1 %", "met")]],
        )
        .heading("Pictures")
        .figure(picture, "two black squares")
        .heading("Provenance")
        .facts({"command": "`firstspike reproduce`", "seeds": [0, 1, 2]})
    )


def test_the_page_is_well_formed_and_declares_its_encoding(picture):
    html = full_report(picture).html()
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert '<meta charset="utf-8">' in html[:1024]
    assert [tag for tag, _ in page.tags if tag in ("h1", "h2", "h3", "table", "figure", "dl")] == [
        "h1", "h2", "table", "h2", "figure", "h2", "dl",
    ]  # fmt: skip
    assert page.texts.count("One.") == 1
    assert "code" in page.texts


def test_nothing_is_fetched(picture):
    html = full_report(picture).html()
    page = Page(html)
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not {"script", "link", "iframe", "base"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|@import|url\(", html)
    policies = [meta for meta in page.all("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in policies[0]["content"]


def test_contents_lead_to_the_sections(picture):
    page = Page(full_report(picture).html())
    links = [attributes["href"][1:] for attributes in page.all("a") if "section" in attributes["href"]]
    assert links == [attributes["id"] for attributes in page.all("h2")]
    assert len(links) == 3


def test_markup_in_every_text_is_shown_not_obeyed(picture):
    evil = '<script>alert("1")</script> & \'"><b>'
    report = (
        Report(evil, evil)
        .heading(evil)
        .heading("b")
        .heading("c")
        .text(evil)
        .table([evil, evil], [[evil, Cell(evil, "met")]])
        .figure(picture, evil)
        .facts({evil: evil})
    )
    page = Page(report.html())
    assert not page.all("script")
    assert not page.all("b")
    # Title twice, subtitle, contents, heading, paragraph, 2 x 2 table texts, figure caption,
    # name and value of a fact.
    assert "".join(page.texts).count(evil) == 13
    assert page.all("img")[0]["alt"] == evil


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_picture_is_in_the_page_byte_for_byte(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new("L", (30, 20)).save(path)
    (image,) = Page(Report("t").figure(path, "caption").html()).all("img")
    kind, data = image["src"].split(",", 1)
    assert kind == f"data:image/{suffix};base64"
    assert b64decode(data) == path.read_bytes()
    assert (image["width"], image["height"], image["alt"]) == ("30", "20", "caption")


def test_a_figure_becomes_a_picture():
    (image,) = Page(Report("t").figure(sample_grid(np.zeros((1, 8, 8), np.uint8)), "c").html()).all("img")
    with Image.open(BytesIO(b64decode(image["src"].split(",", 1)[1]))) as picture:
        assert picture.format == "PNG"
        assert str(picture.width) == image["width"]


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("no picture")
    with pytest.raises(ValueError, match="not a PNG or GIF"):
        Report("t").figure(path, "c")
    Image.new("L", (3, 3)).save(path, format="BMP")
    with pytest.raises(ValueError, match="not a PNG or GIF"):
        Report("t").figure(path, "c")
    with pytest.raises(FileNotFoundError):
        Report("t").figure(tmp_path / "missing.png", "c")


def test_a_verdict_is_told_by_sign_and_word_not_by_colour_alone():
    page = Page(Report("t").table(["x"], [[Cell(1, "met")], [Cell(2, "missed")]]).html())
    labels = [span["aria-label"] for span in page.all("span")]
    assert labels == ["target met", "target missed"]
    assert {"✓", "✗"} <= set(page.texts)


def test_a_table_names_its_rows_and_columns_and_aligns_numbers():
    page = Page(Report("t").table(["x", "y", "z"], [["a", 1, "ETTFS"], ["b", "97.7 ± 0.1", 2]]).html())
    assert [head["scope"] for head in page.all("th")] == ["col", "col", "col", "row", "row"]
    assert [cell["class"] for cell in page.all("td")] == ["number", "text", "number", "text"]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="row 1 must have 2 cells"):
        Report("t").table(["x", "y"], [[1, 2], [3]])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        (True, "yes"),
        (173_745, "173,745"),
        (173_798.36, "173,798"),
        (0.98421, "0.9842"),
        (23.5, "23.5"),
        (float("nan"), "nan"),
        (2e-05, "2e-05"),
        ("98.5 %", "98.5 %"),
        ([0, 1, 2], "0, 1, 2"),
        ((), ""),
    ],
)
def test_values_are_written_as_people_do(value, expected):
    assert format_value(value) == expected


def test_writes_utf8_and_nothing_else(tmp_path):
    path = Report("Größe ≥ 1").write(tmp_path / "report.html")
    assert "Größe ≥ 1" in path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match=r"report\.html"):
        Report("t").write(path)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
