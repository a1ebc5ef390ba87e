"""A report as one HTML file: it opens anywhere, years later, without a network."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from firstspike.reproduce._page import render_page
from firstspike.reproduce.results import Spread, show
from firstspike.support import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["text", "number", "paper", "target", "measured"]
_KINDS = ("text", "number", "paper", "target", "measured")
_VERDICTS = {"met": "✓", "missed": "✗"}


@dataclass(frozen=True)
class Column:
    """A table column: its title, and what stands in it.

    Args:
        title: heading of the column.
        kind: "paper" and "target" stand back, "measured" stands out; all but "text" are aligned as
            numbers.
    """

    title: str
    kind: Kind = "text"

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {_KINDS}, found {self.kind!r}")


@dataclass(frozen=True)
class Cell:
    """A table cell with more to it than its value.

    Args:
        value: what is shown, see `format_value`.
        verdict: marks a measured value as having met or missed its target.
        note: a footnote under the table; equal notes of one table share a number.
    """

    value: Any
    verdict: Literal["met", "missed"] | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if self.verdict is not None and self.verdict not in _VERDICTS:
            raise ValueError(f"verdict must be one of {tuple(_VERDICTS)}, found {self.verdict!r}")


class Report:
    """A page built block by block, in the order of the calls; each call returns the report.

    All texts are plain: markup in them is shown, not obeyed. Only ```code``` between backticks is
    set as code.

    >>> report = Report("Result").heading("Accuracy").text("Run with `firstspike evaluate`.")
    >>> "<code>firstspike evaluate</code>" in report.html()
    True

    Args:
        title: name of the page.
        subtitle: one line under it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._blocks: list[str] = []
        self._sections: list[tuple[str, str]] = []
        self._tables = 0

    def heading(self, text: str, level: int = 2) -> Self:
        """Add a heading; those of level 2 form the contents.

        Raises:
            ValueError: `level` is not 2, 3 or 4.
        """
        if level not in (2, 3, 4):
            raise ValueError(f"level must be 2, 3 or 4, found {level}")
        key = ""
        if level == 2:
            self._sections.append((f"section-{len(self._sections) + 1}", text))
            key = f' id="{self._sections[-1][0]}"'
        self._blocks.append(f"<h{level}{key}>{_inline(text)}</h{level}>")
        return self

    def text(self, text: str) -> Self:
        """Add paragraphs, separated in `text` by empty lines."""
        for paragraph in re.split(r"\n\s*\n", text.strip()):
            self._blocks.append(f"<p>{_inline(paragraph)}</p>")
        return self

    def accuracy_targets(self, targets: Mapping[str, float], measured: Mapping[str, Spread]) -> Self:
        """Add what each preset should reach beside the accuracy that was `measured`."""
        self.heading("Targets")
        rows = []
        for name, target in targets.items():
            met = measured[name]["mean"] >= target
            rows.append([name, f">= {target:g}", Cell(show(measured[name], 4), "met" if met else "missed")])
        return self.table(["preset", Column("target", "target"), Column("accuracy", "measured")], rows)

    def result_tables(self, tables: Sequence[Mapping[str, Any]]) -> Self:
        """Add tables as they stand in a result file, each under its caption, with its notes."""
        for table in tables:
            self.heading(table["caption"])
            self.table([column.replace("`", "") for column in table["columns"]], table["rows"])
            for note in table.get("notes", []):
                self.text(note)
        return self

    def table(
        self,
        columns: Sequence[str | Column],
        rows: Sequence[Sequence[Any]],
        caption: str = "",
    ) -> Self:
        """Add a table whose first column names the rows.

        Args:
            columns: titles, or `Column` where a title is not enough.
            rows: a value or `Cell` for each column.
            caption: stands above the table.

        Raises:
            ValueError: a row has more or fewer cells than there are columns.
        """
        self._tables += 1
        heads = [Column(column) if isinstance(column, str) else column for column in columns]
        notes: list[str] = []
        body = []
        for number, row in enumerate(rows):
            if len(row) != len(heads):
                raise ValueError(
                    f"row {number} must have {len(heads)} cells, one per column, found {len(row)}"
                )
            cells = []
            for index, (head, value) in enumerate(zip(heads, row, strict=True)):
                tag, scope = ("th", ' scope="row"') if index == 0 else ("td", "")
                content = self._cell(value if isinstance(value, Cell) else Cell(value), notes)
                cells.append(f'<{tag}{scope} class="{head.kind}">{content}</{tag}>')
            body.append(f"<tr>{''.join(cells)}</tr>")
        titles = "".join(
            f'<th scope="col" class="{head.kind}">{_inline(head.title)}</th>' for head in heads
        )
        above = f"<caption>{_inline(caption)}</caption>" if caption else ""
        below = "".join(
            f'<li id="note-{self._tables}-{number}">{_inline(note)}</li>'
            for number, note in enumerate(notes, 1)
        )
        self._blocks.append(
            f'<div class="table"><div class="scroll"><table>{above}<thead><tr>{titles}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>"
            + (f'<ol class="notes">{below}</ol>' if notes else "")
            + "</div>"
        )
        return self

    def figure(self, source: "str | Path | Figure", caption: str, *, alt: str = "") -> Self:
        """Add a picture, stored inside the page.

        Args:
            source: a matplotlib figure, or a PNG or GIF file.
            caption: stands under the picture.
            alt: what the picture shows, for those who cannot see it; the caption by default.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is neither PNG nor GIF.
        """
        content = _picture_bytes(source)
        kind, width, height = _picture_facts(content, source)
        data = b64encode(content).decode("ascii")
        plain = (alt or caption).replace("`", "")
        self._blocks.append(
            f'<figure><img src="data:image/{kind};base64,{data}" alt="{escape(plain)}" '
            f'width="{width}" height="{height}">'
            f"<figcaption>{_inline(caption)}</figcaption></figure>"
        )
        return self

    def facts(self, facts: Mapping[str, Any]) -> Self:
        """Add names and values: command, seeds, versions, machine, decision rule.

        A sequence is shown as its items with commas between them.
        """
        items = "".join(
            f"<dt>{_inline(name)}</dt><dd>{_inline(format_value(value))}</dd>"
            for name, value in facts.items()
        )
        self._blocks.append(f"<dl>{items}</dl>")
        return self

    def html(self) -> str:
        """Return the page."""
        return render_page(self.title, self.subtitle, self._sections, self._blocks)

    def write(self, path: str | Path) -> Path:
        """Write the page whole or not at all, and return its path.

        Raises:
            OSError: the file cannot be written; an existing one is left as it was.
        """
        write_text(Path(path), self.html())
        return Path(path)

    def _cell(self, cell: Cell, notes: list[str]) -> str:
        content = _inline(format_value(cell.value))
        if cell.verdict:
            content += (
                f'<span class="mark {cell.verdict}" role="img" '
                f'aria-label="target {cell.verdict}">{_VERDICTS[cell.verdict]}</span>'
            )
        if cell.note:
            if cell.note not in notes:
                notes.append(cell.note)
            number = notes.index(cell.note) + 1
            content += f'<sup><a href="#note-{self._tables}-{number}">{number}</a></sup>'
        return content


def format_value(value: Any) -> str:
    """Return `value` as people write it: 26,175, 0.9842, yes; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(format_value(item) for item in value)
    return str(value)


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _picture_bytes(source: "str | Path | Figure") -> bytes:
    if isinstance(source, str | Path):
        return Path(source).read_bytes()
    from firstspike.plot import png_bytes

    return png_bytes(source)


def _picture_facts(content: bytes, source: Any) -> tuple[str, int, int]:
    """Return the picture's format, width and height.

    One pixel is one CSS pixel on the page, so that sample grids stay crisp.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(content)) as image:
            kind, size = image.format, image.size
    except UnidentifiedImageError:
        kind = None
    if kind not in ("PNG", "GIF"):
        raise ValueError(f"{source} is not a PNG or GIF picture")
    return kind.lower(), *size
