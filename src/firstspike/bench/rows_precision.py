"""The row of the precision that a deep preset trains in where nothing is asked for."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import torch

from firstspike.bench.harness import Skipped
from firstspike.bench.setting import Measured, Setting
from firstspike.models.precision import Precision, fast_precision
from firstspike.recipes import preset
from firstspike.recipes.base import DeepClassifier

_PRESET, _BATCH = "window-fashion-mnist", 128


def precision(setting: Setting) -> Measured:
    """A training step in the precision that "auto" chooses, against one in bfloat16.

    Raises:
        Skipped: bfloat16 is what "auto" chooses.
    """
    chosen = fast_precision("cpu")
    if chosen == "bfloat16":
        raise Skipped(
            "this processor does bfloat16 well, so both sides are one; "
            "set ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 for a processor that does not"
        )
    pairs = setting.compare(_step(chosen), _step("bfloat16"))
    ours, theirs = (_BATCH / float(np.median(side)) for side in (pairs.ours, pairs.theirs))
    return Measured(
        pairs.scaled(1e3),
        f"{_PRESET}, batch {_BATCH}, without augmentation; {ours:,.0f} images a second in {chosen}, "
        f"{theirs:,.0f} in bfloat16",
    )


def _step(forced: Precision) -> Callable[[], None]:
    recipe = replace(cast(DeepClassifier, preset(_PRESET).recipe), precision=forced)
    shape, classes = recipe.sizes()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = recipe.build(shape, classes)
        images = torch.randint(0, 256, (_BATCH, *shape)).to(torch.uint8)
    labels = torch.arange(_BATCH) % classes
    optimizer = recipe.optimizers(network)["optimizer"]

    def descend(name: str, loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def step() -> None:
        recipe.step(network, images, labels, descend)

    return step
