"""One decision, step by step, as an animation."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from firstspike.plot._arrays import ArrayLike, to_image, to_numpy
from firstspike.plot._layers import place_layers
from firstspike.plot._palette import find_palette, limit_colors
from firstspike.plot._scene import Scene
from firstspike.plot._style import styled
from firstspike.spikes import Spikes
from firstspike.support import atomic_path

_PLAY_MS = 6_000
_HOLD_MS = 2_500


@styled()
def decision_animation(
    image: ArrayLike,
    layers: Mapping[str, Spikes],
    path: str | Path,
    *,
    offsets: Mapping[str, int] | None = None,
    membranes: ArrayLike | None = None,
    labels: Sequence[Any] | None = None,
    max_frames: int = 48,
) -> Path:
    """Write a GIF of a decision being made and return its path.

    Pixels light up as they spike, then hidden neurons, until the first output spike decides. What
    spiked since the frame before is yellow. The animation stops at the decision: nobody waits for
    the rest. Where no output spikes it runs to the end and says so; outputs that spike together
    are all marked, as a tie.

    Args:
        image: uint8 ``(height, width)``.
        layers: at least input and output, in order: spikes ``(neurons,)`` of one sample. The first
            has one neuron per pixel, the last one per class.
        path: file to write, ending in ``.gif``.
        offsets: step at which a layer's window starts, 0 where left out.
        membranes: membrane of the outputs in units of their threshold, ``(steps, classes)``,
            row ``s`` after step ``s`` of the output's window; drawn as bars. Without it the outputs
            are drawn as time lines.
        labels: name of each class; its index by default.
        max_frames: upper limit of frames; a long window is shown in strides.

    Raises:
        TypeError: the image is not uint8.
        ValueError: a shape, a time or a name does not fit, or `path` does not end in ``.gif``.
        OSError: the file cannot be written; an existing one is left as it was.
    """
    picture = to_image(image)
    placed = place_layers(layers, offsets)
    target = Path(path)
    if target.suffix.lower() != ".gif":
        raise ValueError(f"decision_animation writes GIF, found {target.name!r}")
    if len(placed) < 2:
        raise ValueError("layers must hold at least the input and the output layer")
    if len(placed[0].times) != picture.size:
        raise ValueError(
            f"{placed[0].name!r} must have one neuron per pixel, {picture.size}, "
            f"found {len(placed[0].times)}"
        )
    output = placed[-1]
    if max_frames < 2:
        raise ValueError(f"max_frames must be 2 or more, found {max_frames}")
    if labels is not None and len(labels) != len(output.times):
        raise ValueError(f"labels must hold {len(output.times)} names, found {len(labels)}")
    potentials = None if membranes is None else to_numpy(membranes)
    expected = (output.steps, len(output.times))
    if potentials is not None and potentials.shape != expected:
        raise ValueError(f"membranes must be {expected}, found {potentials.shape}")
    names = [str(label) for label in (labels or range(len(output.times)))]

    last = int(min(output.clock().min(), max(layer.end for layer in placed) - 1))
    steps = frame_steps(last, max_frames)
    scene = Scene(picture, placed, names, potentials, last)
    frames = [scene.draw(step, before) for before, step in zip([-1, *steps], steps, strict=False)]
    content = _gif(frames)
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
    return target


def frame_steps(last: int, max_frames: int) -> list[int]:
    """Return at most `max_frames` evenly spread steps of ``0 ... last``, both ends included."""
    count = min(last + 1, max_frames)
    return [round(index * last / max(1, count - 1)) for index in range(count)]


def _gif(frames: list[Image.Image]) -> bytes:
    # One palette for all frames: colours hold still, and only what changed is stored. First, middle
    # and last frame hold between them all colours of the others.
    chosen = (frames[0], frames[len(frames) // 2], frames[-1])
    sample = Image.new("RGB", (frames[0].width, 3 * frames[0].height))
    for index, frame in enumerate(chosen):
        sample.paste(frame, (0, index * frame.height))
    palette = find_palette(sample)
    small = [limit_colors(frame, palette) for frame in frames]
    pace = int(np.clip(_PLAY_MS / len(frames), 60, 400)) // 10 * 10
    content = BytesIO()
    small[0].save(
        content,
        format="GIF",
        save_all=True,
        append_images=small[1:],
        duration=[pace] * (len(small) - 1) + [_HOLD_MS],
        loop=0,
        optimize=True,
    )
    return content.getvalue()
