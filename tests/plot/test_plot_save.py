import subprocess
import sys
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from firstspike.plot import png_bytes, sample_grid, save_figure
from firstspike.plot._palette import find_palette, limit_colors


@pytest.fixture
def figure():
    figure = Figure(figsize=(2, 1), dpi=100)
    figure.text(0.5, 0.5, "text")
    return figure


def test_writes_a_png_of_the_size_asked_for(figure, tmp_path):
    path = save_figure(figure, tmp_path / "a.png", dpi=150)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (300, 150)


def test_leaves_only_the_file(figure, tmp_path):
    save_figure(figure, tmp_path / "a.png")
    save_figure(figure, str(tmp_path / "a.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_refuses_another_format(figure, tmp_path):
    with pytest.raises(ValueError, match=r"savefig for another format"):
        save_figure(figure, tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_what_was_there(figure, tmp_path, monkeypatch):
    path = save_figure(figure, tmp_path / "a.png")
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(type(path), "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_paper_is_white_and_small():
    rng = np.random.default_rng(0)
    content = png_bytes(sample_grid(rng.integers(0, 256, (100, 28, 28)).astype(np.uint8)))
    with Image.open(BytesIO(content)) as image:
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert len(content) < 200_000


def test_settings_are_as_before(figure):
    matplotlib.rcParams["font.size"] = 13
    try:
        png_bytes(figure)
        sample_grid(np.zeros((1, 4, 4), np.uint8))
        assert matplotlib.rcParams["font.size"] == 13
    finally:
        matplotlib.rcParams["font.size"] = matplotlib.rcParamsDefault["font.size"]


def test_neither_the_package_nor_the_plots_need_pyplot():
    code = (
        "import sys, firstspike; assert 'matplotlib' not in sys.modules, 'firstspike';"
        "import firstspike.plot; assert 'matplotlib.pyplot' not in sys.modules, 'plot'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_few_colours_are_kept_exactly():
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (200, 3)).astype(np.uint8)
    pixels = colors[rng.integers(0, 200, (40, 50))]
    limited = limit_colors(Image.fromarray(pixels))
    assert np.array_equal(np.asarray(limited.convert("RGB")), pixels)


def test_many_colours_become_their_nearest():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    palette = find_palette(image)
    assert len(palette) <= 255
    limited = np.asarray(limit_colors(image, palette).convert("RGB")).astype(int)
    found = ((limited - pixels) ** 2).sum(-1)
    best = ((pixels[:, :, None].astype(int) - palette.astype(int)) ** 2).sum(-1).min(-1)
    assert np.array_equal(found, best)
