"""A report as one HTML file: it opens anywhere, years later, without a network."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from firstspike.experiments._page import render_page
from firstspike.support import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VERDICTS = {"met": "✓", "missed": "✗"}
# A column of nothing else is aligned as numbers are.
_NUMBERS = re.compile(r"[-–+<>=±().,/%\d ]*")


@dataclass(frozen=True)
class Cell:
    """A measured value that has met or missed its target.

    Args:
        value: what is shown, see `format_value`.
        verdict: marks it.
    """

    value: Any
    verdict: Literal["met", "missed"]


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

    def heading(self, text: str) -> Self:
        """Add a heading; the headings form the contents."""
        self._sections.append((f"section-{len(self._sections) + 1}", text))
        self._blocks.append(f'<h2 id="{self._sections[-1][0]}">{_inline(text)}</h2>')
        return self

    def text(self, text: str) -> Self:
        """Add paragraphs, separated in `text` by empty lines."""
        for paragraph in re.split(r"\n\s*\n", text.strip()):
            self._blocks.append(f"<p>{_inline(paragraph)}</p>")
        return self

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Self:
        """Add a table whose first column names the rows.

        Args:
            columns: titles.
            rows: a value or `Cell` for each column.

        Raises:
            ValueError: a row has more or fewer cells than there are columns.
        """
        for number, row in enumerate(rows):
            if len(row) != len(columns):
                raise ValueError(
                    f"row {number} must have {len(columns)} cells, one per column, found {len(row)}"
                )
        texts = [[format_value(v.value if isinstance(v, Cell) else v) for v in row] for row in rows]
        kinds = [
            "number" if k and all(_NUMBERS.fullmatch(row[k]) for row in texts) else "text"
            for k in range(len(columns))
        ]
        body = ""
        for row, written in zip(rows, texts, strict=True):
            cells = []
            for index, (kind, value, text) in enumerate(zip(kinds, row, written, strict=True)):
                tag, scope = ("th", ' scope="row"') if index == 0 else ("td", "")
                mark = _mark(value.verdict) if isinstance(value, Cell) else ""
                cells.append(f'<{tag}{scope} class="{kind}">{_inline(text)}{mark}</{tag}>')
            body += f"<tr>{''.join(cells)}</tr>"
        titles = "".join(
            f'<th scope="col" class="{kind}">{_inline(title)}</th>'
            for kind, title in zip(kinds, columns, strict=True)
        )
        self._blocks.append(
            f'<div class="table"><div class="scroll"><table><thead><tr>{titles}</tr></thead>'
            f"<tbody>{body}</tbody></table></div></div>"
        )
        return self

    def figure(self, source: "str | Path | Figure", caption: str) -> Self:
        """Add a picture, stored inside the page.

        Args:
            source: a matplotlib figure, or a PNG or GIF file.
            caption: stands under the picture, and for it where it cannot be seen.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is neither PNG nor GIF.
        """
        content = _picture_bytes(source)
        kind, width, height = _picture_facts(content, source)
        data = b64encode(content).decode("ascii")
        plain = caption.replace("`", "")
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


def _mark(verdict: str) -> str:
    return (
        f'<span class="mark {verdict}" role="img" aria-label="target {verdict}">{_VERDICTS[verdict]}</span>'
    )


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
