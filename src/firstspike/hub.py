"""Runs on the Hugging Face hub: a finished run as a folder that can be uploaded, and back."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from firstspike.data import OwnData
from firstspike.metrics.report import table
from firstspike.support import (
    InputError,
    atomic_folder,
    expanded,
    json_text,
    one_line,
    read_metrics,
    write_text,
)
from firstspike.training.fit import Fit
from firstspike.training.run_folder import RunFolder

_UNTRAINED = """\
# A network whose neurons spike at most once

Made by firstspike without a training of its own, as by `firstspike convert`. `config.json` describes all of
its layers; `firstspike evaluate --data` measures it.
"""
# What is read of a repository; nothing else is fetched.
_FILES = ["config.json", "metrics.jsonl", "model.safetensors"]
# Not ./name, ../name and ~/name, which are folders.
_REPOSITORY = re.compile(r"\w[\w.-]*/[\w.-]+")


def save(run: str | Path | RunFolder, out: str | Path) -> Path:
    """Write a finished run as a folder for the hub and return the folder.

    It holds ``config.json`` without what may name folders of this machine (the command line, the path of
    your own data), ``metrics.jsonl`` of a training, ``model.safetensors`` and a model card ``README.md``
    made of the run's figures. It is a run folder itself; ``firstspike evaluate --data PATH`` measures it on
    your own data.

    Args:
        run: the run or its folder.
        out: a folder that is empty or not there yet.

    Raises:
        InputError: the run is not finished or damaged; `out` holds something.
        OSError: a file cannot be read or written.
    """
    run, out = _opened(run), Path(out)
    with atomic_folder(out) as made:
        _fill(run, made)
    return out


def push(run: str | Path | RunFolder, repo_id: str, *, private: bool = False) -> str:
    """Upload a finished run, as `save` writes it, to the Hugging Face hub and return its address.

    Needs a login by ``hf auth login`` or the environment variable HF_TOKEN.

    Args:
        run: the run or its folder.
        repo_id: such as ``user/name``; it is made if it is not there.
        private: of a new one.

    Raises:
        InputError: the run is not finished or damaged, huggingface_hub is not installed, or the upload
            failed.
    """
    run, hub = _opened(run), _hub()
    with tempfile.TemporaryDirectory() as temporary, _reported(f"{repo_id} could not be written"):
        folder = save(run, Path(temporary) / "run")
        address = str(hub.create_repo(repo_id, private=private, exist_ok=True))
        hub.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=f"Add {run.preset}")
    return address


def load(source: str | Path, *, revision: str | None = None) -> RunFolder:
    """Return the run in a local folder or in a repository of the Hugging Face hub.

    ``load(...).load()`` is the trained network; that of `firstspike.fit` goes into your own module, by
    ``load(...).load_model(module)``. Nothing that is read can run code.

    Args:
        source: a folder, or a repository as ``user/name``, which is kept in huggingface_hub's cache. The
            hub is not asked for what looks like a folder that is not there: any other form, and
            ``user/name`` without `revision` where there is a folder ``user``.
        revision: branch, tag or commit of the repository; pin a commit to get the same weights each time.

    Raises:
        InputError: there is neither, a local folder was to have a `revision`, it holds no finished run, or
            huggingface_hub is not installed or could not fetch it.
        OSError: the folder cannot be read.
    """
    path = expanded(source, "run")
    if path.exists():
        if revision is not None:
            raise InputError(f"{path} lies on this machine and has no revision {revision!r}; leave it out")
        return _opened(path)
    if not _REPOSITORY.fullmatch(str(source)):
        raise InputError(
            f"{path} does not exist; give a run's folder, or a repository of the hub as user/name"
        )
    if revision is None and path.parent.is_dir():
        raise InputError(
            f"{path} does not exist, but the folder {path.parent} does; give a run's folder, or for the "
            "repository of this name its revision, such as main"
        )
    hub = _hub()
    with _reported(f"{source} is no folder, and could not be fetched from the hub"):
        folder = hub.snapshot_download(str(source), revision=revision, allow_patterns=_FILES)
    return _opened(folder)


def _opened(run: str | Path | RunFolder) -> RunFolder:
    opened = run if isinstance(run, RunFolder) else RunFolder.open(run)
    if not opened.finished:
        raise InputError(
            f"{opened.path} holds no model.safetensors; finish the run by firstspike train --resume"
        )
    return opened


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError(f"huggingface_hub is missing ({error}); pip install 'firstspike[hub]'") from error
    return huggingface_hub


@contextmanager
def _reported(what: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # Whatever a transfer runs into.
        raise InputError(f"{what}: {one_line(str(error))}") from error


def _fill(run: RunFolder, folder: Path) -> None:
    config = json.loads((run.path / "config.json").read_text(encoding="utf-8"))
    config["command"] = None
    if isinstance(run.config.dataset, OwnData):
        config["config"]["dataset"]["path"] = None
    write_text(folder / "config.json", json_text(config, indent=2) + "\n")
    # It reads the metrics, which may be missing or damaged.
    write_text(folder / "README.md", _card(run))
    trained = ["metrics.jsonl"] if run.config.trainable else []
    for name in (*trained, "model.safetensors"):
        shutil.copyfile(run.path / name, folder / name)


def _card(run: RunFolder) -> str:
    """The model card: what the run is, and how to load it."""
    config = run.config
    load = "network = run.load()"
    if isinstance(config, Fit):
        load = f"run.load_model(network)  # your own {config.network}"
    return f"""\
---
library_name: firstspike
tags:
- spiking-neural-network
- time-to-first-spike
---

{_training(run) if config.trainable else _UNTRAINED}
```python
import firstspike as fs

run = fs.hub.load("REPOSITORY")  # this repository, or a folder
{load}
```
"""


def _training(run: RunFolder) -> str:
    """The card's part on how the run was trained, with the figures of the epoch that was kept."""
    config, records = run.config, read_metrics(run.path)
    try:
        kept = max(records, key=lambda record: (config.score(record), record["epoch"]))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{run.path / 'metrics.jsonl'} is damaged ({error}); train the run again"
        ) from error
    figures: dict[str, Any] = {
        name: value for name, value in kept.items() if name not in ("epoch", "seconds")
    }
    return f"""\
# {one_line(run.preset)} on {one_line(str(config.dataset))}

A network whose neurons spike at most once, trained by firstspike: recipe `{type(config).__name__}`,
seed {run.seed}, {config.epochs} epochs. `config.json` holds every number of it.

Figures of the epoch that was kept, {kept["epoch"]}; `firstspike evaluate` measures the test set.

```
{table(figures)}
```
"""
