"""A finished run's figures on the test set. The only place besides the experiments that opens it."""

from pathlib import Path
from typing import Any

from firstspike.training.run_folder import RunFolder


def evaluate(run: RunFolder, data_dir: str | Path | None = None) -> dict[str, Any]:
    """Return every figure of `run` on the test set, ready for JSON.

    Raises:
        InputError: the run is not finished or damaged, or its data set is not to be had.
    """
    # A run without usable weights is refused before data is fetched or a feature network trained.
    model = run.load()
    recipe = run.config
    data_dir = None if data_dir is None else Path(data_dir)
    figures = recipe.report(model, recipe.data("test", data_dir), data_dir)
    return {
        "run": str(run.path),
        "preset": run.preset,
        "seed": run.seed,
        "dataset": str(recipe.dataset),
        "split": "test",
        **figures.as_dict(),
    }
