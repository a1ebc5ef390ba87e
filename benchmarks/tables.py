"""Accuracy of `firstspike.sklearn.FirstSpikeClassifier` on scikit-learn's own tables, by cross-validation.

Beside it two of scikit-learn's classifiers with their defaults, on the same folds. Prints the table of
``docs/sklearn.md``.
"""

import argparse
import time
import warnings
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from firstspike.sklearn import FirstSpikeClassifier

TABLES = {"iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer, "digits": load_digits}


def models(seed: int) -> dict[str, Any]:
    """Return the classifiers by name, freshly made."""
    return {
        "first spike": FirstSpikeClassifier(random_state=seed),
        "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
        "MLP": make_pipeline(StandardScaler(), MLPClassifier(random_state=seed)),
    }


def measure(name: str, seeds: list[int]) -> str:
    """Return a table's line: accuracy of each, mean over the seeds and their standard deviation."""
    X, y = TABLES[name](return_X_y=True)
    right: dict[str, list[float]] = {model: [] for model in models(0)}
    steps, seconds = [], []
    for seed in seeds:
        named = {model: np.empty_like(y) for model in right}
        for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y):
            for model, fitted in models(seed).items():
                began = time.perf_counter()
                fitted.fit(X[train], y[train])
                if model == "first spike":
                    seconds.append(time.perf_counter() - began)
                    steps.append(fitted.predict_steps(X[test]).mean())
                named[model][test] = fitted.predict(X[test])
        for model, labels in named.items():
            right[model].append(100 * float((labels == y).mean()))
    cells = [f"{np.mean(values):.1f} ({np.std(values, ddof=1):.1f})" for values in right.values()]
    size = f"{X.shape[0]:,} x {X.shape[1]}, {len(set(y))}"
    row = [name, size, *cells, f"{np.mean(steps):.0f}", f"{np.median(seconds):.1f}"]
    return f"| {' | '.join(row)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    columns = ["table", "samples x features, classes", *models(0), "steps to decision", "seconds to fit"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name in TABLES:
        print(measure(name, options.seeds), flush=True)


if __name__ == "__main__":
    main()
