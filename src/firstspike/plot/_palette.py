"""Fewer colours, smaller files."""

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from firstspike.plot._style import INK, MUTED

# One of the 256 entries stays free: the GIF writer uses it for "as in the frame before".
_COLORS = 255
_EXACT = 96


def limit_colors(image: Image.Image, palette: NDArray[np.uint8] | None = None) -> Image.Image:
    """Return an RGB `image` with at most 255 colours: each pixel gets the nearest one.

    Without dithering: flat areas stay flat, and thin lines stay sharp.

    Args:
        image: RGB.
        palette: what `find_palette` returned, to give several images the same colours; by default
            the image's own.
    """
    entries = find_palette(image) if palette is None else palette
    colors, inverse, _ = _count(image)
    # Pillow's own look-up rounds colours to steps of 4: white paper would turn grey.
    mine, theirs = colors.astype(np.float32), entries.astype(np.float32)
    distances = (theirs**2).sum(1) - 2 * mine @ theirs.T
    indices = distances.argmin(1).astype(np.uint8)[inverse]
    result = Image.fromarray(indices.reshape(image.height, image.width))
    result.putpalette(entries.tobytes())
    return result


def find_palette(image: Image.Image) -> NDArray[np.uint8]:
    """Return the at most 255 colours ``(colors, 3)`` that suit an RGB `image`.

    Its most frequent colours and the shades of the text are kept as they are, so that paper stays
    white and text grey; the median cut chooses the others.
    """
    colors, _, counts = _count(image)
    if len(colors) <= _COLORS:
        return colors
    frequent = colors[np.argsort(-counts, kind="stable")[:_EXACT]]
    shades = np.linspace(0, 1, 6, endpoint=False)[:, None]
    text = [
        np.round(255 * (np.array(to_rgb(color)) * (1 - shades) + shades)).astype(np.uint8)
        for color in (INK, MUTED)
    ]
    kept = np.concatenate([frequent, *text])
    cut = image.quantize(_COLORS - len(kept), dither=Image.Dither.NONE).getpalette() or []
    others = np.array(cut, np.uint8).reshape(-1, 3)[: _COLORS - len(kept)]
    return np.concatenate([kept, others])


def _count(
    image: Image.Image,
) -> tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[np.intp]]:
    """Return the colours ``(colors, 3)``, each pixel's colour index, and how often each occurs."""
    pixels = np.asarray(image).reshape(-1, 3).astype(np.uint32)
    packed = (pixels[:, 0] << 16) | (pixels[:, 1] << 8) | pixels[:, 2]
    values, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colors = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1).astype(np.uint8)
    return colors, inverse, counts
