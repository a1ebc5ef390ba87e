"""Figures to files: small PNGs, written whole or not at all."""

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from firstspike.plot._palette import limit_colors
from firstspike.plot._style import DPI, styled
from firstspike.support import atomic_path


def save_figure(figure: Figure, path: str | Path, dpi: int = DPI) -> Path:
    """Write `figure` as a small PNG, see `png_bytes`, and return its path.

    Args:
        figure: any matplotlib figure.
        path: file to write, ending in ``.png``; an existing one is replaced.
        dpi: dots per inch. The default keeps the pixels of sample grids whole, and so does every
            multiple of it.

    Raises:
        ValueError: `path` does not end in ``.png``.
        OSError: the file cannot be written; an existing one is left as it was.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ValueError(
            f"save_figure writes PNG, found {target.name!r}; "
            f"name it {target.stem}.png, or call figure.savefig for another format"
        )
    content = png_bytes(figure, dpi)
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
    return target


@styled()
def png_bytes(figure: Figure, dpi: int = DPI) -> bytes:
    """Return `figure` as a PNG.

    It has a palette of at most 255 colours, which takes a third of the usual size; pictures in colour keep
    all of theirs.
    """
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    image = Image.open(drawn).convert("RGB")
    pictures = [shown.get_array() for axes in figure.axes for shown in axes.images]
    if not any(picture is not None and picture.ndim == 3 for picture in pictures):
        image = limit_colors(image)
    small = BytesIO()
    image.save(small, format="PNG", optimize=True, dpi=(dpi, dpi))
    return small.getvalue()
