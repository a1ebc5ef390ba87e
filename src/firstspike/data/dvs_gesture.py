"""DVS128 Gesture (Amir et al. 2017) in the layout of tonic: one file per gesture."""

import os
import tokenize
from pathlib import Path

import numpy as np
import torch

from firstspike.data.events import EventSet, Recording, check_recording
from firstspike.data.mnist import DATA_VARIABLE
from firstspike.support import InputError, cache_dir

SENSOR = (128, 128)
NUM_CLASSES = 11
# A gesture repeats; its first events all come at once, so a longer view would not tell more.
HEARD_US = 1_500_000
_FOLDERS = ("", "DVSGesture", "dvs-gesture")
_VALIDATION_SHARE = 0.15


def read_dvs_gesture(path: Path) -> Recording:
    """Return the events of one ``.npy`` file: columns x, y, polarity and milliseconds.

    Times count from the first event.

    Raises:
        InputError: the file is damaged, no table of numbers, or holds an event off the sensor.
        OSError: it cannot be read.
    """
    try:
        # Not np.load, which also opens archives.
        with path.open("rb") as file:
            table = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, MemoryError, tokenize.TokenError) as error:
        raise InputError(f"{path}: damaged ({error}); fetch the file again") from error
    if table.ndim != 2 or table.shape[1] != 4 or table.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: expected numbers (events, 4), found {table.dtype} {table.shape}; fetch the file again"
        )
    odd = ~((np.abs(table) < 2**31) & (table == np.floor(table))).all(1)
    if odd.any():
        at = int(odd.argmax())
        raise InputError(
            f"{path}: event {at} is {table[at].tolist()}, expected whole numbers; fetch the file again"
        )
    x, y, polarity, milliseconds = table.T.astype(np.int64)
    milliseconds = milliseconds - milliseconds[:1]
    return check_recording(Recording(x, y, polarity, milliseconds * 1000, SENSOR), path)


def load_dvs_gesture(split: str, data_dir: str | os.PathLike[str] | None = None) -> EventSet:
    """Return one split of DVS128 Gesture.

    Training and validation recordings are those of the 23 training users in the order of
    ``numpy.random.default_rng(0).permutation(count)``, the last 15 % of which validate. Where no files are
    found tonic fetches them, if it is installed (``pip install 'firstspike[events]'``).

    Args:
        split: "train", "validation" or "test".
        data_dir: a folder that holds ``ibmGestureTrain`` and ``ibmGestureTest``, itself or in
            ``DVSGesture``. Without it the folder that FIRSTSPIKE_DATA names is searched, then the download
            cache.

    Raises:
        InputError: no recordings, or a damaged one.
        OSError: a file cannot be read.
    """
    part = "ibmGestureTest" if split == "test" else "ibmGestureTrain"
    folder = _find(part, data_dir) or _fetch(part, data_dir)
    paths = sorted(folder.glob("user*/[!.]*.npy"))
    labelled = [path for path in paths if path.stem.isdigit() and int(path.stem) < NUM_CLASSES]
    if not paths or len(labelled) < len(paths):
        raise InputError(f"{folder}: expected user.../<class 0 ... {NUM_CLASSES - 1}>.npy; fetch it again")
    if split != "test":
        order = np.random.default_rng(0).permutation(len(paths))
        num_train = len(paths) - int(_VALIDATION_SHARE * len(paths))
        chosen = order[:num_train] if split == "train" else order[num_train:]
        paths = [paths[k] for k in chosen]
    labels = torch.tensor([int(path.stem) for path in paths], dtype=torch.int64)
    recordings = tuple(map(read_dvs_gesture, paths))
    return EventSet("dvs-gesture", split, recordings, labels, NUM_CLASSES, HEARD_US)


def _roots(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    named = os.environ.get(DATA_VARIABLE) if data_dir is None else os.fspath(data_dir)
    return ([Path(named).expanduser()] if named else []) + ([cache_dir()] if data_dir is None else [])


def _find(part: str, data_dir: str | os.PathLike[str] | None) -> Path | None:
    places = (root / folder / part for root in _roots(data_dir) for folder in _FOLDERS)
    return next((place for place in places if place.is_dir()), None)


def _fetch(part: str, data_dir: str | os.PathLike[str] | None) -> Path:
    missing = f"dvs-gesture: no {part} in {' or '.join(map(str, _roots(data_dir)))} or in DVSGesture below"
    if data_dir is not None:
        raise InputError(f"{missing}; name the folder into which tonic unpacked it by --data-dir")
    try:
        from tonic.datasets import DVSGesture
    except ImportError as error:
        raise InputError(
            f"{missing}; pip install 'firstspike[events]' to fetch it, or name its folder by --data-dir"
        ) from error
    try:
        DVSGesture(save_to=str(cache_dir()), train=part.endswith("Train"))
    except Exception as error:
        # Whatever a download runs into.
        raise InputError(f"{missing}, and tonic could not fetch it ({error})") from error
    found = _find(part, None)
    if found is None:
        raise InputError(f"{missing}, and tonic did not leave it in {cache_dir()}")
    return found
