"""A classifier for tables of numbers with scikit-learn's interface: one spike per value."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from firstspike.decision import FirstSpike
from firstspike.losses import first_spike_cross_entropy
from firstspike.neurons import Window
from firstspike.nn import Linear, Stack
from firstspike.spikes import Spikes
from firstspike.support import check_integer, check_number
from firstspike.training.fit import fit_in_memory

# Logit between a spike at step 0 and silence, in the loss and in the probabilities.
_SHARPNESS = 10.0


class FirstSpikeClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of window neurons that spike at most once; the class of the first output spike wins.

    Each feature is scaled to 0 ... 1 by its range in the training set and becomes one spike, the larger the
    earlier; what lies outside that range counts as its end. Outputs that spike in the same step, and
    outputs that are all silent, are told apart by their membranes, so that every sample has a class.

    Args:
        hidden_features: neurons of the hidden layer, or of each of several.
        steps: ``T`` of every window, 2 ... 65,535.
        epochs, batch_size: of the training.
        rate, weight_decay: of AdamW; the rate rises over the first twentieth and falls to 0 along a cosine.
        random_state: int, `numpy.random.RandomState` or None. With an int two fits give the same network on
            the same machine.

    Attributes:
        classes_: the labels, sorted.
        network_: the trained `firstspike.Stack`, which ``firstspike.report`` and exports take.
        scaler_: the `sklearn.preprocessing.MinMaxScaler` of the features.
        n_features_in_, feature_names_in_: scikit-learn's.

    `fit` raises ValueError for a number out of range, fewer than two classes, and data that scikit-learn
    refuses; the other methods raise `sklearn.exceptions.NotFittedError` before it.

    >>> from sklearn.datasets import load_wine
    >>> X, y = load_wine(return_X_y=True)
    >>> model = FirstSpikeClassifier(random_state=0).fit(X[::2], y[::2])
    >>> bool(model.score(X[1::2], y[1::2]) > 0.9)
    True
    """

    def __init__(
        self,
        hidden_features: int | Sequence[int] = 100,
        *,
        steps: int = 32,
        epochs: int = 30,
        batch_size: int = 32,
        rate: float = 0.02,
        weight_decay: float = 0.1,
        random_state: Any = None,
    ) -> None:
        self.hidden_features = hidden_features
        self.steps = steps
        self.epochs = epochs
        self.batch_size = batch_size
        self.rate = rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train on a table ``(samples, features)`` and labels ``(samples,)`` of any type; return itself."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs two classes or more, found one class: {classes[0]}"
            )
        owner = type(self).__name__
        given: Any = self.hidden_features
        hidden = [
            check_integer(owner, "hidden_features", size, low=1)
            for size in (given if np.ndim(given) else [given])
        ]
        settings: dict[str, Any] = {
            "epochs": check_integer(owner, "epochs", self.epochs, low=1),
            "batch_size": check_integer(owner, "batch_size", self.batch_size, low=1),
            "rate": check_number(owner, "rate", self.rate, low=0, above=True),
            "weight_decay": check_number(owner, "weight_decay", self.weight_decay, low=0),
        }
        seed = int(check_random_state(self.random_state).randint(2**31))
        generator = torch.Generator().manual_seed(seed)
        sizes = [X.shape[1], *hidden]
        network = Stack(
            *(Linear(*pair, Window(), generator=generator) for pair in pairwise(sizes)),
            Linear(sizes[-1], len(classes), Window.output(), generator=generator),
            steps=self.steps,
        )
        scaler = MinMaxScaler(clip=True).fit(X)
        fit_in_memory(
            _OfTimes(network),
            (network.encode(scaler.transform(X)).times, torch.from_numpy(labels)),
            loss=_loss,
            seed=seed,
            **settings,
        )
        # In double precision a sample's result does not depend on the rest of its batch.
        self.classes_, self.scaler_, self.network_ = classes, scaler, network.double().eval()
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the output membranes ``(samples, classes)``: the larger, the earlier the spike.

        Of two classes it is the second's less the first's, ``(samples,)``.
        """
        membrane = self._read(X)[1].numpy()
        return membrane[:, 1] - membrane[:, 0] if len(self.classes_) == 2 else membrane

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the softmax of the membranes as the loss weighs them, ``(samples, classes)``."""
        return (_SHARPNESS * self._read(X)[1]).softmax(1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Return the label of each sample ``(samples,)``."""
        winner = self._read(X)[1].argmax(1).numpy()
        return self.classes_[winner]

    def predict_steps(self, X: Any) -> np.ndarray:
        """Return the step, on the input's clock, at which each decision stands, int64 ``(samples,)``.

        It is that of the first output spike; the end of the last window where all outputs are silent.
        """
        out, _ = self._read(X)
        steps: np.ndarray = FirstSpike().decide(out).steps.to(torch.int64).numpy()
        return steps + self.network_.offsets[-1]

    @torch.no_grad()
    def _read(self, X: Any) -> tuple[Spikes, Tensor]:
        """The output's spikes and membranes."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        traced, membrane = self.network_.read(self.network_.encode(self.scaler_.transform(X)))
        return traced[-1], membrane


class _OfTimes(torch.nn.Module):
    """A stack that takes times, which the training loop can index."""

    def __init__(self, network: Stack) -> None:
        super().__init__()
        self.network = network

    def forward(self, times: Tensor) -> Spikes:
        """Return the output spikes."""
        out: Spikes = self.network(Spikes.trusted(times, self.network.steps))
        return out


def _loss(out: Spikes, labels: Tensor) -> Tensor:
    return first_spike_cross_entropy(out, labels, sharpness=_SHARPNESS)
