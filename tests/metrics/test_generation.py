import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.metrics import generation
from firstspike.metrics.generation import (
    feature_diversity,
    frechet_distance,
    frechet_from_moments,
    kernel_distance,
    nearest_distances,
    prdc,
)
from firstspike.support import InputError

PAIR_FUNCTIONS = [frechet_distance, kernel_distance, prdc, feature_diversity]


def normal(seed: int, count: int, features: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, features))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "_ROWS", 7)


# Frechet distance


def test_frechet_of_shifted_means_is_the_squared_shift() -> None:
    covariance = np.cov(normal(0, 50).T)
    shift = np.array([3.0, -4.0, 0, 0, 0, 12.0])
    distance = frechet_from_moments(np.zeros(6), covariance, shift, covariance)
    assert distance == pytest.approx(169, rel=1e-12)


def test_frechet_of_a_shifted_set_is_the_squared_shift() -> None:
    a = normal(0, 100)
    assert frechet_distance(a, a + 2) == pytest.approx(6 * 4, rel=1e-12)


def test_frechet_of_diagonal_covariances_is_the_squared_difference_of_deviations() -> None:
    deviations1, deviations2 = np.array([1.0, 2, 3, 0]), np.array([4.0, 2, 0.5, 7])
    distance = frechet_from_moments(
        np.zeros(4), np.diag(deviations1**2), np.zeros(4), np.diag(deviations2**2)
    )
    assert distance == pytest.approx(np.square(deviations1 - deviations2).sum(), rel=1e-12)


def test_frechet_of_one_feature_is_the_closed_form() -> None:
    a, b = np.array([[0.0], [2.0], [4.0]]), np.array([[1.0], [1.0], [7.0]])
    expected = (2 - 3) ** 2 + (2 - math.sqrt(12)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_frechet_agrees_with_the_matrix_square_root() -> None:
    from scipy.linalg import sqrtm

    cov1, cov2 = np.cov(normal(1, 30).T), np.cov(normal(2, 30).T) * 3
    expected = np.trace(cov1 + cov2 - 2 * sqrtm(cov1 @ cov2).real)
    assert frechet_from_moments(np.zeros(6), cov1, np.zeros(6), cov2) == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 5, 200])
def test_frechet_of_identical_sets_is_zero_even_where_the_covariance_is_singular(
    count: int,
) -> None:
    a = np.maximum(normal(3, count, 64) * 10, 0)
    a[:, 10:20] = 0
    a[:, 30] = a[:, 31]
    distance = frechet_distance(a, a)
    assert 0 <= distance < 1e-9 * a.var(0).sum()


def test_frechet_of_rank_one_covariances_is_the_closed_form() -> None:
    # sqrt(u u^T v v^T) has the trace |u.v|.
    u, v = np.array([1.0, 2, 3]), np.array([-2.0, 0, 5])
    distance = frechet_from_moments(np.zeros(3), np.outer(u, u), np.zeros(3), np.outer(v, v))
    assert distance == pytest.approx(u @ u + v @ v - 2 * abs(u @ v), rel=1e-12)


def test_frechet_of_a_point_is_its_squared_distance_and_the_variance() -> None:
    a = normal(4, 40)
    point = np.tile(np.full(6, 5.0), (10, 1))
    expected = np.square(a.mean(0) - 5).sum() + a.var(0, ddof=1).sum()
    assert frechet_distance(a, point) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(2, 30), st.integers(1, 12))
def test_frechet_is_symmetric_and_blind_to_rotation_and_shift(
    seed: int, count_a: int, count_b: int, features: int
) -> None:
    a, b = normal(seed, count_a, features), normal(seed + 1, count_b, features) * 2
    rotation, _ = np.linalg.qr(normal(seed + 2, features, features))
    distance = frechet_distance(a, b)
    assert distance >= 0
    assert frechet_distance(b, a) == pytest.approx(distance, abs=1e-9)
    assert frechet_distance(a @ rotation + 3, b @ rotation + 3) == pytest.approx(distance, abs=1e-9)


def test_frechet_from_moments_refuses_what_is_no_covariance() -> None:
    zero, eye = np.zeros(2), np.eye(2)
    with pytest.raises(ValueError, match="cov1 must be symmetric"):
        frechet_from_moments(zero, np.array([[1.0, 0.5], [0, 1]]), zero, eye)
    with pytest.raises(ValueError, match="cov2 must be positive semi-definite"):
        frechet_from_moments(zero, eye, zero, np.diag([1.0, -1]))
    with pytest.raises(ValueError, match=r"moments must be .* found \(2,\), \(2, 2\), \(3,\)"):
        frechet_from_moments(zero, eye, np.zeros(3), np.eye(3))
    with pytest.raises(InputError, match="mean1 holds 1 values that are not finite"):
        frechet_from_moments(np.array([0, np.nan]), eye, zero, eye)


# Kernel distance


def naive_mmd2(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(p: np.ndarray, q: np.ndarray) -> float:
        return (sum(pi * qi for pi, qi in zip(p, q, strict=True)) / len(p) + 1) ** 3

    m, n = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j)
    within_y = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j)
    across = sum(kernel(x[i], y[j]) for i in range(m) for j in range(n))
    return within_x / (m * (m - 1)) + within_y / (n * (n - 1)) - 2 * across / (m * n)


def test_kernel_distance_by_hand() -> None:
    # One feature, k(p, q) = (p q + 1)^3: k(0, 1) = 1, k(2, 3) = 343, across 1, 1, 27, 64.
    a, b = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    assert kernel_distance(a, b) == pytest.approx(1 + 343 - 2 * (1 + 1 + 27 + 64) / 4)


@pytest.mark.parametrize(("count_a", "count_b"), [(2, 2), (5, 9), (20, 15)])
def test_kernel_distance_is_that_of_explicit_loops(count_a: int, count_b: int, small_blocks: None) -> None:
    a, b = normal(1, count_a, 3), normal(2, count_b, 3) + 0.5
    assert kernel_distance(a, b) == pytest.approx(naive_mmd2(a, b), rel=1e-9)


def test_kernel_distance_of_one_distribution_has_mean_zero() -> None:
    draws = [kernel_distance(normal(2 * s, 40), normal(2 * s + 1, 40)) for s in range(300)]
    error = np.std(draws) / math.sqrt(len(draws))
    assert abs(np.mean(draws)) < 3 * error
    assert min(draws) < 0
    assert kernel_distance(normal(0, 40), normal(1, 40) + 1) > 10 * max(draws)


def test_kernel_distance_over_subsets_is_seeded_and_near_the_whole() -> None:
    a, b = normal(1, 200), normal(2, 150) + 1
    over_subsets = kernel_distance(a, b, subset_size=50, subsets=50)
    assert over_subsets == kernel_distance(a, b, subset_size=50, subsets=50)
    assert over_subsets != kernel_distance(a, b, subset_size=50, subsets=50, seed=1)
    assert over_subsets == pytest.approx(kernel_distance(a, b), rel=0.1)
    whole = kernel_distance(a[:150], b, subset_size=150, subsets=1)
    assert whole == pytest.approx(kernel_distance(a[:150], b))


@pytest.mark.parametrize("subset_size", [1, 151])
def test_kernel_distance_refuses_a_subset_size_out_of_range(subset_size: int) -> None:
    with pytest.raises(InputError, match=r"subset_size must be in 2 \.\.\. 150"):
        kernel_distance(normal(1, 200), normal(2, 150), subset_size=subset_size)


def test_kernel_distance_refuses_no_subsets() -> None:
    with pytest.raises(ValueError, match="subsets must be at least 1, found 0"):
        kernel_distance(normal(1, 20), normal(2, 20), subset_size=5, subsets=0)


# Precision, recall, density, coverage


def naive_prdc(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float, float, float]:
    def distance(p: np.ndarray, q: np.ndarray) -> float:
        return math.dist(p.tolist(), q.tolist())

    def radius(points: np.ndarray, i: int) -> float:
        others = sorted(distance(points[i], points[j]) for j in range(len(points)) if j != i)
        return others[k - 1]

    inside_real = [
        [distance(real[i], fake[j]) < radius(real, i) for j in range(len(fake))] for i in range(len(real))
    ]
    inside_fake = [
        [distance(real[i], fake[j]) < radius(fake, j) for j in range(len(fake))] for i in range(len(real))
    ]
    by_fake = list(zip(*inside_real, strict=True))
    return (
        sum(any(column) for column in by_fake) / len(fake),
        sum(any(row) for row in inside_fake) / len(real),
        sum(sum(column) for column in by_fake) / (k * len(fake)),
        sum(any(row) for row in inside_real) / len(real),
    )


def as_tuple(result: generation.Prdc) -> tuple[float, float, float, float]:
    return (result.precision, result.recall, result.density, result.coverage)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(4, 25), st.integers(4, 25), st.integers(1, 3))
def test_prdc_is_that_of_explicit_loops(seed: int, reals: int, fakes: int, k: int) -> None:
    real, fake = normal(seed, reals, 2), normal(seed + 1, fakes, 2) * 0.7 + 0.3
    assert as_tuple(prdc(real, fake, k)) == pytest.approx(naive_prdc(real, fake, k))


def test_prdc_in_blocks_is_that_of_explicit_loops(small_blocks: None) -> None:
    real, fake = normal(5, 30, 2), normal(6, 23, 2) + 0.5
    assert as_tuple(prdc(real, fake, 3)) == pytest.approx(naive_prdc(real, fake, 3))


def test_prdc_of_a_copy_is_one() -> None:
    real = normal(0, 200)
    assert as_tuple(prdc(real, real[::-1].copy())) == pytest.approx((1, 1, 1, 1))


def test_prdc_of_a_copy_of_points_that_coincide_is_one() -> None:
    result = prdc(np.ones((20, 3)), np.ones((20, 3)))
    assert (result.precision, result.recall, result.coverage) == (1, 1, 1)
    twice = np.repeat(normal(0, 10), 10, axis=0)
    result = prdc(twice, twice)
    assert (result.precision, result.recall, result.coverage) == (1, 1, 1)


def test_prdc_of_sets_far_apart_is_zero() -> None:
    assert as_tuple(prdc(normal(0, 50), normal(1, 50) + 1000)) == (0, 0, 0, 0)


def test_prdc_of_a_generator_that_knows_half_the_modes() -> None:
    real = normal(0, 400)
    real[200:] += 1000
    result = prdc(real, normal(1, 400), k=10)
    assert result.precision > 0.9
    assert result.recall == pytest.approx(0.5, abs=0.05)
    assert result.coverage == pytest.approx(0.5, abs=0.05)


def test_prdc_of_one_image_over_and_over_has_full_precision_and_no_recall() -> None:
    real = normal(0, 100)
    result = prdc(real, np.tile(real.mean(0), (100, 1)))
    assert result.precision == 1
    assert result.recall == 0


def test_prdc_of_one_distribution_has_density_about_one() -> None:
    assert prdc(normal(0, 1000), normal(1, 1000)).density == pytest.approx(1, abs=0.1)


def test_prdc_needs_more_samples_than_neighbours() -> None:
    assert prdc(normal(0, 6), normal(1, 6), k=5)
    with pytest.raises(InputError, match="real must hold at least 6 samples, found 5"):
        prdc(normal(0, 5), normal(1, 6), k=5)
    with pytest.raises(InputError, match="fake must hold at least 6 samples, found 5"):
        prdc(normal(0, 6), normal(1, 5), k=5)
    with pytest.raises(ValueError, match="k must be at least 1, found 0"):
        prdc(normal(0, 6), normal(1, 6), k=0)


# Diversity


def test_diversity_is_that_of_explicit_loops(small_blocks: None) -> None:
    def spread(x: np.ndarray) -> float:
        pairs = [math.dist(x[i], x[j]) for i in range(len(x)) for j in range(i)]
        return sum(pairs) / len(pairs)

    fake, real = normal(0, 20) * 2, normal(1, 30)
    assert feature_diversity(fake, real) == pytest.approx(spread(fake) / spread(real))


def test_diversity_scales_with_the_features_and_vanishes_for_one_image() -> None:
    real = normal(0, 30)
    assert feature_diversity(real, real) == pytest.approx(1)
    assert feature_diversity(real / 4 + 9, real) == pytest.approx(0.25)
    assert feature_diversity(np.tile(real[0], (30, 1)), real) == 0


def test_diversity_against_equal_real_samples_is_refused() -> None:
    with pytest.raises(InputError, match="real samples are all equal"):
        feature_diversity(normal(0, 5), np.ones((5, 6)))


# Nearest training image


def random_images(seed: int, count: int, side: int) -> torch.Tensor:
    values = np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)
    return torch.from_numpy(values)


@pytest.mark.parametrize("side", [8, 28, 33])
def test_nearest_distances_are_those_of_explicit_loops(side: int, small_blocks: None) -> None:
    images, train = random_images(0, 20, side), random_images(1, 45, side)
    found = nearest_distances(images, train)
    for image, distance in zip(images.double() / 255, found, strict=True):
        expected = min(float((image - other).norm()) for other in train.double() / 255)
        assert distance == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("side", [28, 32, 33])
def test_nearest_distances_are_exact_at_the_ends_of_the_range(side: int) -> None:
    black = torch.zeros(1, side, side, dtype=torch.uint8)
    white = torch.full_like(black, 255)
    nearly_black = black.clone()
    nearly_black[0, 0, 0] = 1
    nearly_white = white.clone()
    nearly_white[0, 3, 5] = 254
    assert nearest_distances(black, white).tolist() == [side]
    assert nearest_distances(white, torch.cat([black, nearly_white])).tolist() == [1 / 255]
    assert nearest_distances(nearly_black, torch.cat([white, black])).tolist() == [1 / 255]


def test_a_copied_training_image_has_distance_zero() -> None:
    train = random_images(1, 30, 28)
    assert nearest_distances(train[4:9], train).tolist() == [0] * 5


def test_nearest_distances_take_images_that_are_not_contiguous() -> None:
    images, train = random_images(0, 10, 8), random_images(1, 10, 8)
    turned = nearest_distances(images.transpose(1, 2), train.transpose(1, 2))
    np.testing.assert_array_equal(turned, nearest_distances(images, train))


def test_nearest_distances_refuse_other_types_sizes_and_no_images() -> None:
    images = random_images(0, 3, 8)
    with pytest.raises(TypeError, match=r"images must be a uint8 tensor .* found torch\.float32"):
        nearest_distances(images.float(), images)
    with pytest.raises(TypeError, match="train must be a uint8 tensor of images, found ndarray"):
        nearest_distances(images, images.numpy())  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"images must hold at least one image .* \(0, 8, 8\)"):
        nearest_distances(images[:0], images)
    with pytest.raises(InputError, match=r"train must hold at least one image .* \(8, 8\)"):
        nearest_distances(images, images[0])
    with pytest.raises(InputError, match=r"one size, found \(8, 8\) and \(9, 9\)"):
        nearest_distances(images, random_images(0, 3, 9))


# Common to all


@pytest.mark.parametrize("function", PAIR_FUNCTIONS)
def test_torch_and_numpy_features_give_the_same(function) -> None:  # type: ignore[no-untyped-def]
    a, b = normal(0, 20).astype(np.float32), normal(1, 20).astype(np.float32)
    with_grad = torch.from_numpy(a).requires_grad_()
    assert function(with_grad, torch.from_numpy(b)) == function(a, b)


@pytest.mark.parametrize("function", PAIR_FUNCTIONS)
def test_bad_features_are_refused(function) -> None:  # type: ignore[no-untyped-def]
    good = normal(0, 20)
    bad = good.copy()
    bad[3, 2] = np.nan
    bad[4, 2] = np.inf
    with pytest.raises(InputError, match="holds 2 values that are not finite"):
        function(good, bad)
    with pytest.raises(InputError, match="equal numbers of features, found 6 and 5"):
        function(good, good[:, :5])
    with pytest.raises(InputError, match=r"must hold at least \d samples, found 1"):
        function(good[:1], good)
    with pytest.raises(InputError, match=r"must hold at least \d samples, found 0"):
        function(good, good[:0])
    with pytest.raises(InputError, match=r"must be features .* the shape \(20,\)"):
        function(good, good[:, 0])
