"""The scikit-learn estimator: scikit-learn's own checks, and what the network behind it does."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import firstspike as fs
from firstspike.sklearn import FirstSpikeClassifier

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
@parametrize_with_checks([FirstSpikeClassifier()])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def wine():
    return load_wine(return_X_y=True)


@pytest.fixture(scope="module")
def fitted(wine):
    X, y = wine
    return FirstSpikeClassifier(random_state=0).fit(X[::2], y[::2])


def test_it_is_a_public_module():
    assert fs.sklearn.FirstSpikeClassifier is FirstSpikeClassifier


def test_it_learns(wine, fitted):
    X, y = wine
    assert fitted.score(X[1::2], y[1::2]) > 0.93


def test_the_first_output_spike_is_the_class_and_its_step_the_decisions(wine, fitted):
    X, _ = wine
    net = fitted.network_
    low, high = X[::2].min(0), X[::2].max(0)
    shares = np.clip((X - low) / (high - low), 0, 1)
    with torch.no_grad():
        out = net(net.encode(shares))
    named = fitted.predict(X)
    assert all(out.times[k, named[k]] == out.first()[k] for k in range(len(X)))
    assert fitted.network_.windows == [32, 32, 32]
    np.testing.assert_array_equal(fitted.predict_steps(X), 64 + out.first().numpy())
    assert len(set(fitted.predict_steps(X))) > 3


def test_ties_and_silence_go_to_the_larger_membrane(wine):
    """Outputs all silent, then all at step 0."""
    X, y = wine
    model = FirstSpikeClassifier(random_state=0, epochs=1).fit(X, y)
    for shift, step in ((-100.0, 96), (100.0, 64)):
        with torch.no_grad():
            model.network_[1].bias.copy_(torch.tensor([0.0, 1.0, -1.0]) + shift)
        assert set(model.predict(X)) == {1}
        assert set(model.predict_steps(X)) == {step}
        np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)


def test_figures_agree_with_each_other(wine, fitted):
    X, _ = wine
    proba, scores = fitted.predict_proba(X), fitted.decision_function(X)
    np.testing.assert_array_equal(proba.argmax(1), scores.argmax(1))
    np.testing.assert_allclose(np.log(proba[:, 0] / proba[:, 2]), 10 * (scores[:, 0] - scores[:, 2]))
    two = FirstSpikeClassifier(random_state=0, epochs=5).fit(X[:130], load_wine().target[:130])
    scores = two.decision_function(X[:130])
    assert scores.shape == (130,)
    np.testing.assert_array_equal(two.predict(X[:130]), (scores > 0).astype(int))


def test_labels_of_any_type(wine, fitted):
    X, y = wine
    names = np.array(["red", "rosé", "white"])[y]
    model = clone(fitted).fit(X[::2], names[::2])
    assert list(model.classes_) == ["red", "rosé", "white"]
    np.testing.assert_array_equal(model.predict(X), np.array(["red", "rosé", "white"])[fitted.predict(X)])


def test_a_seed_gives_the_same_network_and_leaves_torchs_random_state(wine, fitted):
    X, y = wine
    state = torch.random.get_rng_state()
    again = clone(fitted).fit(X[::2], y[::2])
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))
    other = clone(fitted).set_params(random_state=1).fit(X[::2], y[::2])
    assert not np.array_equal(other.decision_function(X), fitted.decision_function(X))


def test_it_survives_pickle(wine, fitted):
    X, _ = wine
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.decision_function(X), fitted.decision_function(X))
    np.testing.assert_array_equal(copy.predict_steps(X), fitted.predict_steps(X))


def test_several_hidden_layers_or_none():
    X, y = load_iris(return_X_y=True)
    for hidden, depth in (((20, 10), 3), ([], 1), (np.int64(7), 2)):
        model = FirstSpikeClassifier(hidden, epochs=np.int64(20), random_state=0).fit(X, y)
        assert len(model.network_) == depth
        assert model.score(X, y) > 0.6


def test_a_constant_feature_and_values_outside_the_range(wine, fitted):
    X, y = wine
    wider = np.hstack([X, np.full((len(X), 1), 7.0)])
    model = clone(fitted).fit(wider[::2], y[::2])
    assert model.score(wider[1::2], y[1::2]) > 0.9
    far = np.where(np.median(X, 0) < X, 1e12, -1e12)
    edge = np.where(far > 0, X[::2].max(0), X[::2].min(0))
    np.testing.assert_array_equal(fitted.decision_function(far), fitted.decision_function(edge))


def test_it_works_in_a_search_and_in_threads(wine):
    X, y = wine
    search = GridSearchCV(FirstSpikeClassifier(random_state=0, epochs=2), {"steps": [4, 16]}, cv=2)
    assert search.fit(X, y).best_params_["steps"] in (4, 16)
    model = FirstSpikeClassifier(random_state=0, epochs=2)
    with ThreadPoolExecutor(3) as pool:
        scores = [f.result() for f in [pool.submit(cross_val_score, model, X, y, cv=2) for _ in range(3)]]
    assert len({tuple(score) for score in scores}) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 1}, "steps must be in 2 ... 65535, found 1"),
        ({"hidden_features": 0}, "hidden_features must be an integer, 1 or more, found 0"),
        ({"hidden_features": [20, 1.5]}, "hidden_features must be an integer, 1 or more, found 1.5"),
        ({"epochs": 0}, "epochs must be an integer, 1 or more, found 0"),
        ({"epochs": 2.5}, "epochs must be an integer, 1 or more, found 2.5"),
        ({"batch_size": -1}, "batch_size must be an integer, 1 or more, found -1"),
        ({"rate": 0}, "rate must be a finite number above 0, found 0"),
        ({"weight_decay": -1}, "weight_decay must be a finite number of 0 or more, found -1"),
    ],
)
def test_a_number_out_of_range_is_named_as_the_estimator_names_it(wine, wrong, message):
    with pytest.raises(ValueError) as caught:
        FirstSpikeClassifier(**wrong).fit(*wine)
    assert str(caught.value).removeprefix("FirstSpikeClassifier.") == message
