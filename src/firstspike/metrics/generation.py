"""How near a set of generated images is to real ones: distances between sets of feature vectors.

Every function takes feature arrays ``(samples, features)``, numpy or torch, and computes in
float64; `nearest_distances` alone takes images. None of these figures means anything without its
controls: held-out real images, and the independent pixels of
`firstspike.metrics.controls.mean_image_control`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from firstspike.support import InputError

Array = NDArray[np.float64]
FeatureArray = NDArray[np.floating] | Tensor

# Rows of a distance or kernel matrix held at once: 512 x 10,000 float64 are 40 MB.
_ROWS = 512


def frechet_distance(a: FeatureArray, b: FeatureArray) -> float:
    """Return the squared Frechet distance between Gaussians fitted to two feature sets, >= 0.

    The covariances are the unbiased ones (``n - 1``). With few samples the distance of two samples
    of one distribution is well above 0, so compare only figures of equal sample counts.

    Args:
        a: features ``(samples_a, features)``.
        b: features ``(samples_b, features)``.

    Raises:
        InputError: fewer than 2 samples, NaN or infinity, or unequal numbers of features.

    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6.
    """
    x, y = _checked_pair(a, b, names=("a", "b"))
    return frechet_from_moments(
        x.mean(0), np.atleast_2d(np.cov(x.T)), y.mean(0), np.atleast_2d(np.cov(y.T))
    )


def frechet_from_moments(
    mean1: FeatureArray, cov1: FeatureArray, mean2: FeatureArray, cov2: FeatureArray
) -> float:
    """Return ``|mean1 - mean2|^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2))``, >= 0.

    Right for singular covariances too. Rounding below 0 is returned as 0.

    Args:
        mean1: ``(features,)``.
        cov1: ``(features, features)``, symmetric positive semi-definite.
        mean2: ``(features,)``.
        cov2: ``(features, features)``, symmetric positive semi-definite.

    Raises:
        InputError: NaN or infinity.
        ValueError: shapes that do not agree, or a covariance that is not symmetric positive
            semi-definite.
    """
    m1, m2 = _finite(mean1, "mean1"), _finite(mean2, "mean2")
    c1, c2 = _finite(cov1, "cov1"), _finite(cov2, "cov2")
    if m1.ndim != 1 or m1.shape != m2.shape or not c1.shape == c2.shape == m1.shape * 2:
        raise ValueError(
            "moments must be (features,), (features, features) twice with one number of features, "
            f"found {m1.shape}, {c1.shape}, {m2.shape}, {c2.shape}"
        )
    # (c1 c2)^(1/2) has the trace of (r1 c2 r1)^(1/2), r1 = c1^(1/2), which is symmetric: nothing
    # complex comes up. That is the sum of the singular values of r1 r2; taking those, not the
    # roots of eigenvalues, keeps rounding at 1e-16 of the variance instead of 1e-8.
    root = np.linalg.svd(_root(c1, "cov1") @ _root(c2, "cov2"), compute_uv=False).sum()
    distance = np.square(m1 - m2).sum() + np.trace(c1) + np.trace(c2) - 2 * root
    return max(float(distance), 0.0)


def _root(covariance: Array, name: str) -> Array:
    scale = np.abs(covariance).max(initial=0.0)
    values, vectors = np.linalg.eigh(covariance)
    if np.abs(covariance - covariance.T).max(initial=0.0) > 1e-8 * scale:
        raise ValueError(f"{name} must be symmetric")
    if values.min(initial=0.0) < -1e-8 * scale:
        raise ValueError(f"{name} must be positive semi-definite, found {values.min():g}")
    # What is left of a zero eigenvalue is rounding; its root would be 1e-8 of the scale.
    values[values < len(values) * np.finfo(np.float64).eps * values.max(initial=0.0)] = 0.0
    return (vectors * np.sqrt(values)) @ vectors.T


def kernel_distance(
    a: FeatureArray,
    b: FeatureArray,
    *,
    subset_size: int | None = None,
    subsets: int = 100,
    seed: int = 0,
) -> float:
    """Return the kernel distance (KID): unbiased squared MMD, kernel ``(x.y / features + 1)^3``.

    Being unbiased it may be slightly negative, and its mean over two samples of one distribution
    is 0.

    Args:
        a: features ``(samples_a, features)``.
        b: features ``(samples_b, features)``.
        subset_size: None takes both sets whole; else the mean over random subsets of this size.
        subsets: how many subsets.
        seed: of the subsets.

    Raises:
        InputError: fewer than 2 samples, NaN or infinity, unequal numbers of features, or a
            `subset_size` outside 2 ... the smaller set.
        ValueError: `subsets` below 1.

    Source: Binkowski et al. 2018, "Demystifying MMD GANs", section 4.
    """
    x, y = _checked_pair(a, b, names=("a", "b"))
    if subset_size is None:
        return _mmd2(x, y)
    smaller = min(len(x), len(y))
    if not 2 <= subset_size <= smaller:
        raise InputError(f"subset_size must be in 2 ... {smaller}, found {subset_size}")
    if subsets < 1:
        raise ValueError(f"subsets must be at least 1, found {subsets}")
    rng = np.random.default_rng(seed)
    draws = [
        _mmd2(
            x[rng.choice(len(x), subset_size, replace=False)],
            y[rng.choice(len(y), subset_size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return float(np.mean(draws))


def _mmd2(x: Array, y: Array) -> float:
    def kernel_sum(rows: Array, columns: Array) -> float:
        blocks = (block @ columns.T for block in _blocks(rows))
        return float(sum(((block / x.shape[1] + 1) ** 3).sum() for block in blocks))

    def kernel_mean_of_pairs(z: Array) -> float:
        of_itself = ((np.square(z).sum(1) / z.shape[1] + 1) ** 3).sum()
        return (kernel_sum(z, z) - float(of_itself)) / (len(z) * (len(z) - 1))

    across = kernel_sum(x, y) / (len(x) * len(y))
    return kernel_mean_of_pairs(x) + kernel_mean_of_pairs(y) - 2 * across


@dataclass(frozen=True)
class Prdc:
    """Fidelity (precision, density) and variety (recall, coverage) of a generated set.

    Density may exceed 1; the other three are fractions.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: FeatureArray, fake: FeatureArray, k: int = 5) -> Prdc:
    """Return precision, recall, density and coverage of `fake` against `real`.

    A sample's ball reaches to its `k`-th nearest neighbour in its own set, the edge not included
    (as in the authors' code), its centre always: a set that is a copy of the other scores 1 on all four
    (more density where points coincide), a set that is one image over and over recalls that image only.

    - precision: fraction of `fake` inside some real ball
    - recall: fraction of `real` inside some fake ball
    - density: real balls that hold a fake sample, mean over `fake`, over `k`
    - coverage: fraction of real balls that hold a fake sample

    Args:
        real: features ``(samples_real, features)``.
        fake: features ``(samples_fake, features)``.
        k: neighbours that set the size of a ball.

    Raises:
        InputError: fewer than ``k + 1`` samples, NaN or infinity, unequal numbers of features.
        ValueError: `k` below 1.

    Source: Kynkaanniemi et al. 2019, "Improved precision and recall metric", equations 1, 2;
    Naeem et al. 2020, "Reliable fidelity and diversity metrics", equations 6, 8.
    """
    from scipy.spatial.distance import cdist

    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    x, y = _checked_pair(real, fake, names=("real", "fake"), minimum=k + 1)
    real_radii, fake_radii = _neighbour_radii(x, k), _neighbour_radii(y, k)
    balls_around_fake = np.zeros(len(y), dtype=np.int64)
    recalled, covered, start = 0, 0, 0
    for rows in _blocks(x):
        distances = cdist(rows, y)
        same = distances == 0
        inside_real = same | (distances < real_radii[start : start + len(rows), None])
        balls_around_fake += inside_real.sum(0)
        covered += int(inside_real.any(1).sum())
        recalled += int((same | (distances < fake_radii)).any(1).sum())
        start += len(rows)
    return Prdc(
        precision=float((balls_around_fake > 0).mean()),
        recall=recalled / len(x),
        density=float(balls_around_fake.mean()) / k,
        coverage=covered / len(x),
    )


def _neighbour_radii(x: Array, k: int) -> Array:
    from scipy.spatial.distance import cdist

    # A sample is its own nearest at distance 0, so index k is the k-th other one.
    return np.concatenate([np.partition(cdist(rows, x), k, axis=1)[:, k] for rows in _blocks(x)])


def feature_diversity(fake: FeatureArray, real: FeatureArray) -> float:
    """Return the mean distance between two `fake` samples over that between two `real` ones.

    1 is the variety of the real set, 0 a generator that draws one image only.

    Args:
        fake: features ``(samples_fake, features)``.
        real: features ``(samples_real, features)``.

    Raises:
        InputError: fewer than 2 samples, NaN or infinity, unequal numbers of features, or all
            `real` samples equal.
    """
    y, x = _checked_pair(fake, real, names=("fake", "real"))
    spread = _mean_pair_distance(x)
    if spread == 0:
        raise InputError("real samples are all equal: diversity against them is not defined")
    return _mean_pair_distance(y) / spread


def _mean_pair_distance(x: Array) -> float:
    from scipy.spatial.distance import cdist

    total = sum(float(cdist(rows, x).sum()) for rows in _blocks(x))
    return total / (len(x) * (len(x) - 1))


def nearest_distances(images: Tensor, train: Tensor) -> Array:
    """Return the distance of every image to its nearest training image, float64 ``(count,)``.

    Euclidean over pixels scaled to 0 ... 1, exact. Near 0 the generator has copied a training
    image: compare with the same figure for held-out real images. Memory stays bounded (about
    30 MB for 28x28), whatever the counts.

    Args:
        images: uint8 ``(count, height, width)``.
        train: uint8 ``(train_count, height, width)``.

    Raises:
        TypeError: not uint8 tensors.
        InputError: no image in a set, or image sizes that differ.
    """
    for name, value in (("images", images), ("train", train)):
        check_images(value, name)
    if images.shape[1:] != train.shape[1:]:
        raise InputError(
            f"images and train must have one size, found {tuple(images.shape[1:])} and "
            f"{tuple(train.shape[1:])}"
        )
    pixels = images[0].numel()
    # Centred bytes lie in -128 ... 127. Up to 1,024 pixels their products sum to integers
    # within float32's exact 2^24, whatever the order: half the cost of float64, nothing lost.
    exact = np.float32 if pixels * 128**2 <= 2**24 else np.float64
    nearest = np.full(len(images), np.iinfo(np.int64).max)
    for other in train.cpu().split(4 * _ROWS):
        y = other.flatten(1).numpy().astype(exact) - 128
        y_squared = np.square(y).sum(1).astype(np.int64)
        for start in range(0, len(images), _ROWS):
            rows = slice(start, start + _ROWS)
            x = images[rows].cpu().flatten(1).numpy().astype(exact) - 128
            half_without_x = (y_squared - 2 * (x @ y.T).astype(np.int64)).min(1)
            squared = half_without_x + np.square(x).sum(1).astype(np.int64)
            nearest[rows] = np.minimum(nearest[rows], squared)
    return np.sqrt(nearest) / 255


def check_images(images: Tensor, name: str) -> Tensor:
    """Return `images` unchanged after checking that they are uint8 ``(count >= 1, height, width)``.

    Of colour they are ``(count, channels, height, width)``.

    Raises:
        TypeError: not a uint8 tensor.
        InputError: another number of axes, or no image.
    """
    import torch

    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        found = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{name} must be a uint8 tensor of images, found {found}")
    if images.dim() not in (3, 4) or images.numel() == 0:
        raise InputError(
            f"{name} must hold at least one image as (count, height, width) or (count, channels, height, "
            f"width), found the shape {tuple(images.shape)}"
        )
    return images


def _checked_pair(
    a: FeatureArray, b: FeatureArray, *, names: tuple[str, str], minimum: int = 2
) -> tuple[Array, Array]:
    x, y = _checked(a, names[0], minimum), _checked(b, names[1], minimum)
    if x.shape[1] != y.shape[1]:
        raise InputError(
            f"{names[0]} and {names[1]} must have equal numbers of features, "
            f"found {x.shape[1]} and {y.shape[1]}"
        )
    return x, y


def _checked(features: FeatureArray, name: str, minimum: int) -> Array:
    x = _finite(features, name)
    if x.ndim != 2 or x.shape[1] == 0:
        raise InputError(f"{name} must be features (samples, features), found the shape {x.shape}")
    if len(x) < minimum:
        raise InputError(f"{name} must hold at least {minimum} samples, found {len(x)}")
    return x


def _finite(values: FeatureArray, name: str) -> Array:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    x = np.asarray(values, dtype=np.float64)
    if not np.isfinite(x).all():
        raise InputError(f"{name} holds {int((~np.isfinite(x)).sum())} values that are not finite")
    return x


def _blocks(x: Array) -> Iterator[Array]:
    for start in range(0, len(x), _ROWS):
        yield x[start : start + _ROWS]
