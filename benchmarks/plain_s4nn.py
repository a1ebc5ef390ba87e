"""S4NN's online learning as published (arXiv 1910.09495) in plain NumPy, beside which our epoch is timed.

One image and one update at a time. Like the authors' script, each layer writes its input out on a time
axis, multiplies all weights with all ``T + 1`` steps in one matrix product, sums along the time and looks
for the first crossing. That is the quicker of the plain ways: a loop of one matrix-vector product per step
reads all weights T times.
"""

from typing import Protocol

import numpy as np


class Rule(Protocol):
    """The numbers of the rule; `firstspike.online.S4NNRule` has them."""

    steps: int
    thresholds: tuple[float, ...]
    gamma: float
    rate: float
    weight_decay: float


def learn(times: np.ndarray, labels: np.ndarray, weights: list[np.ndarray], rule: Rule) -> np.ndarray:
    """Learn from every image in turn, changing `weights` in place; return what the outputs did.

    Args:
        times: spike times ``(images, in_features)``, T silent.
        labels: ``(images,)``.
        weights: one ``(out_features, in_features)`` per layer.
        rule: relative targets and errors divided by their L2 norm, as published.

    Returns:
        output times ``(images, classes)``, each with the weights that the image met.
    """
    seen = np.empty((len(times), len(weights[-1])))
    for image, (pixels, label) in enumerate(zip(times, labels, strict=True)):
        fired = [pixels]
        for weight, threshold in zip(weights, rule.thresholds, strict=True):
            fired.append(fire(fired[-1], weight, threshold, rule.steps))
        seen[image] = fired[-1]
        error = (targets(fired[-1], int(label), rule) - fired[-1]) / rule.steps
        for weight, before, after in zip(weights[::-1], fired[-2::-1], fired[:0:-1], strict=True):
            # One row per neuron: its error where the input came before it.
            change = unit(error)[:, np.newaxis] * (before < after[:, np.newaxis])
            weight -= rule.rate * change
            weight -= rule.rate * rule.weight_decay * weight
            if before is not pixels:
                # With the weights already updated.
                error = (change * weight).sum(0)
    return seen


def fire(times: np.ndarray, weight: np.ndarray, threshold: float, steps: int) -> np.ndarray:
    """Return the times of a layer: one step after ``V > threshold``, and T for those that never cross."""
    raster = np.zeros((len(times), steps + 1), dtype=weight.dtype)
    raster[np.arange(len(times)), times.astype(np.int64)] = 1
    membrane = np.cumsum(weight @ raster, axis=1)
    membrane[:, steps] = threshold + 1
    return np.minimum((membrane > threshold).argmax(1) + 1, steps)


def targets(times: np.ndarray, label: int, rule: Rule) -> np.ndarray:
    """Return the relative target times of one image."""
    first = times.min()
    if first == rule.steps:
        wanted = np.full(len(times), rule.steps, dtype=np.float64)
        wanted[label] = rule.steps - rule.gamma
        return wanted
    wanted = times.astype(np.float64)
    wanted[times - first < rule.gamma] = min(first + rule.gamma, rule.steps)
    wanted[label] = first
    return wanted


def unit(error: np.ndarray) -> np.ndarray:
    """Return `error` divided by its L2 norm; as it is where that is 0."""
    norm = np.linalg.norm(error)
    return error / norm if norm else error
