"""DVS128 Gesture (Amir et al. 2017) in the layout of tonic: one file per gesture."""

from pathlib import Path

import numpy as np
import torch

from firstspike.data import _source
from firstspike.data._source import NotHereError
from firstspike.data.description import Dataset, Folder
from firstspike.data.events import EventSet, Recording, check_recording
from firstspike.data.images import ImageSet
from firstspike.support import InputError, cache_dir

SENSOR = (128, 128)
NUM_CLASSES = 11
# A gesture repeats, and its first events come early: later ones add no first events.
DURATION_US = 1_500_000
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
    except OSError:
        raise
    except Exception as error:
        # numpy evaluates the header as an expression, which can go wrong in any way.
        raise InputError(f"{path}: damaged ({error}); fetch the file again") from error
    if table.ndim != 2 or table.shape[1] != 4 or table.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: expected numbers (events, 4), found {table.dtype} {table.shape}; fetch the file again"
        )
    # float64 holds every number within the limits, and the limits themselves.
    exact = table.astype(np.float64)
    odd = ~((np.abs(exact) < 2**31) & (exact == np.floor(exact))).all(1)
    if odd.any():
        at = int(odd.argmax())
        raise InputError(
            f"{path}: event {at} is {table[at].tolist()}, expected integers; fetch the file again"
        )
    x, y, polarity, milliseconds = table.T.astype(np.int64)
    milliseconds = milliseconds - milliseconds[:1]
    return check_recording(Recording(x, y, polarity, milliseconds * 1000, SENSOR), path)


def load_dvs_gesture(split: str, data_dir: Folder = None) -> EventSet:
    """Return one split of DVS128 Gesture.

    Training and validation recordings are those of the 23 training users in the order of
    `_source.split`, the last 15 % of which validate. Where no folder is named and no files are found tonic
    fetches them, if it is installed (``pip install 'firstspike[events]'``).

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
    try:
        folder = _find(part, data_dir)
    except NotHereError as missing:
        if data_dir is not None:
            raise
        folder = _fetch(part, missing)
    paths = _source.listed(folder, "user*/*.npy")
    labelled = [path for path in paths if path.stem.isdigit() and int(path.stem) < NUM_CLASSES]
    if not paths or len(labelled) < len(paths):
        raise InputError(f"{folder}: expected user.../<class 0 ... {NUM_CLASSES - 1}>.npy; fetch it again")
    if split != "test":
        chosen = _source.split(len(paths), int(_VALIDATION_SHARE * len(paths)))[split]
        paths = [paths[k] for k in chosen]
    labels = torch.tensor([int(path.stem) for path in paths], dtype=torch.int64)
    recordings = tuple(map(read_dvs_gesture, paths))
    return EventSet("dvs-gesture", split, recordings, labels, NUM_CLASSES, DURATION_US)


def _find(part: str, data_dir: Folder) -> Path:
    (folder,) = _source.find(
        "dvs-gesture",
        [(part,)],
        _source.roots(data_dir),
        below=("dvs-gesture",),
        advice="name the folder into which tonic unpacked it by --data-dir",
        is_there=Path.is_dir,
    )
    return folder


def _fetch(part: str, missing: NotHereError) -> Path:
    try:
        from tonic.datasets import DVSGesture
    except ImportError as error:
        raise NotHereError(f"{missing}, or pip install 'firstspike[events]' to fetch it") from error
    try:
        DVSGesture(save_to=str(cache_dir()), train=part.endswith("Train"))
    except Exception as error:
        # Whatever a download runs into.
        raise InputError(f"{missing}; tonic could not fetch it ({error})") from error
    return _find(part, None)


def _first_spikes(split: str, data_dir: Folder) -> ImageSet:
    return load_dvs_gesture(split, data_dir).first_spikes()


DATASET = Dataset(
    "dvs-gesture",
    shape=(2, *SENSOR),
    classes=NUM_CLASSES,
    load=_first_spikes,
    summary="11 gestures before an event camera, first events (Amir et al. 2017)",
    where="download",
)
