"""A finished run's figures on the test set. The only place besides the experiments that opens it."""

from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

from firstspike.data import Source
from firstspike.data.own_data import described
from firstspike.training.progress import measuring
from firstspike.training.run_folder import RunFolder


def evaluate(
    run: RunFolder | str | Path,
    data_dir: str | Path | None = None,
    *,
    data: Source = None,
    windows: Mapping[str, Any] | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Return every figure of `run` on the test set, ready for JSON.

    Args:
        run: a finished run, or the path of its folder.
        data_dir: folder with the files of a data set that has a name.
        data: your own data that the run was trained on, as `firstspike.train` takes them, if they were
            arrays or have moved; those at a path are found again without.
        windows: other lengths of the network's windows, in steps by the names of the recipe's fields, as
            ``{"steps": 8}``; its weights are as they were trained.
        show_progress: draw a bar on stderr where that is a terminal and it takes long.

    Raises:
        InputError: there is no run, it is not finished or damaged, its data set is not to be had, or `data`
            are others than those that it was trained on; or it has no such window.
    """
    if not isinstance(run, RunFolder):
        run = RunFolder.open(run)
    run = run.with_windows(windows or {})
    # A run without usable weights is refused before data is fetched or a feature network trained.
    model = run.load()
    if data is not None:
        run = run.on(described(data))
    recipe = run.config
    data_dir = None if data_dir is None else Path(data_dir)
    test = recipe.data("test", data_dir)
    with measuring(run.path.name, len(test), show=show_progress) as progress:
        figures = recipe.report(model, test, data_dir, progress)
    return {
        "run": str(run.path),
        "preset": run.preset,
        "seed": run.seed,
        "dataset": str(recipe.dataset),
        "split": "test",
        **({"windows": {name: attrgetter(name)(recipe) for name in run.windows}} if run.windows else {}),
        **figures.as_dict(),
    }
