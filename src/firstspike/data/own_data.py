"""A user's own data, from arrays, a torch data set, an ``.npz`` or a folder of images, as a `Dataset`."""

import hashlib
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from firstspike.data import _source, pictures
from firstspike.data.description import SPLITS, Dataset, Folder
from firstspike.data.images import ImageSet, as_tensor
from firstspike.spikes import Spikes
from firstspike.support import InputError, expanded, one_line

# Percent of each class that validates, and that tests, where a split is not given.
HELD_OUT = 15
# Maps of an image; more along an axis is a side.
_MAX_CHANNELS = 4
# Where images without labels are looked for.
_UNLABELLED = ("x_train", "x", "images")

# A path, a pair of arrays or tensors, an ImageSet, or a map-style torch.utils.data.Dataset: whatever has a
# length and gives (input, label) for an index, which no type says.
Source = str | os.PathLike[str] | ImageSet | tuple[Any, Any] | Any
_Part = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class OwnData(Dataset):
    """Data of a user's own, as `own` found them; a run's configuration holds these fields.

    Attributes:
        path: where they lie; None for arrays, which only Python can give again, and in what
            `firstspike.hub` writes.
        class_names: those of the folders, else the classes' numbers.
        train, validation, test: how many samples each split has.
        sha256: of all samples and labels, split by split. Other data are refused by it.
    """

    classes: int = field(init=False)
    load: Callable[[str, Folder], ImageSet] = field(init=False, repr=False, compare=False)
    summary: str = field(init=False, default="data of a user's own")
    where: Literal["embedded", "download", "folder"] = field(init=False, default="folder")
    path: str | None
    class_names: tuple[str, ...]
    train: int
    validation: int
    test: int
    sha256: str

    recorded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", len(self.class_names))
        object.__setattr__(self, "load", self._load)
        super().__post_init__()

    @property
    def identity(self) -> str:
        """How many samples there are, and the beginning of the SHA-256, whatever the name."""
        counts = f"{self.train:,} + {self.validation:,} + {self.test:,}"
        return f"own data ({counts} samples, {self.classes} classes, SHA-256 {self.sha256[:16]})"

    def _load(self, split: str, data_dir: Folder = None) -> ImageSet:
        images, labels = self._parts[split]
        return ImageSet(self.name, split, images, labels, self.classes)

    @cached_property
    def _parts(self) -> dict[str, _Part]:
        """What was read, read again where the description came from a run's configuration."""
        if self.path is None:
            raise InputError(
                "the run does not say where its data lie, as one on arrays from Python or from a hub: "
                f"{self.identity}; name them by evaluate --data PATH, or give the same again by data"
            )
        if not Path(self.path).exists():
            raise InputError(
                f"{self.path}, where the run's data lay, does not exist any more; name their new place by "
                "--data"
            )
        found = own(self.path)
        if found.sha256 != self.sha256:
            raise InputError(
                f"{self.path} has changed since the run was started: expected {self.identity}, found "
                f"{found.identity}; put it back, or train anew"
            )
        return found._parts


def own(
    data: Source, validation: Source = None, test: Source = None, *, name: str | None = None
) -> OwnData:
    """Return the description of your own data, to be used wherever the name of a data set is taken.

    A source is one of

    * a path of an ``.npz`` with ``x_train`` and ``y_train``, and, if you like, ``x_validation`` and
      ``y_validation``, ``x_test`` and ``y_test``. Nothing in it is unpickled;
    * a path of a folder with a sub-folder of PNG or JPEG images for each class, numbered in the order of
      their names; or of one with such folders in ``train/``, ``validation/`` (or ``val/``) and ``test/``.
      Hidden files are left out. All images have one size. Palettes are looked up, what is transparent shows
      black behind it; where some images are grey, they get three equal channels, and where all are, the set
      is grey;
    * inputs and labels, as arrays or tensors, or an `ImageSet`;
    * a map-style ``torch.utils.data.Dataset`` of ``(input, label)``; its inputs are tensors, arrays or PIL
      images. It is read once, item by item: one that changes its items at random gives these for the whole
      training. Let the recipe's `augmentation` do it, which draws anew for each epoch.

    Images are uint8 or floats in 0 ... 1, ``(count, height, width)``, ``(count, height, width, channels)``
    or ``(count, channels, height, width)``; floats are rounded to 256 intensities. Plain numbers
    ``(count, features)`` in 0 ... 1 stay float32. Labels are integers ``0 ... classes - 1``, each of
    which the training data have.

    Where test or validation data are not given, 15 % of each class of the training data, rounded and one at
    least, are held out for each. Which ones is drawn from a fixed seed: it depends on the order of the
    samples alone, and is the same on every machine and for every seed of a training. The training data come
    in an order in which every stretch has the classes of the whole.

    Everything is held in memory, one byte for each intensity of an image (four for plain numbers), and
    twice that while it is split.

    Args:
        data: the training data, or a path that holds all splits.
        validation, test: beside training data that are no path.
        name: in messages and of run folders; by default that of the path, or "own".

    Raises:
        InputError: there is nothing to read, or it cannot be used; the line says what and where.
        OSError: a file cannot be read.

    >>> images, labels = torch.rand(40, 8, 8), torch.arange(40) % 2
    >>> found = own((images, labels))
    >>> found.shape, found.classes, found.train, found.validation, found.test
    ((1, 8, 8), 2, 28, 6, 6)
    """
    path = None
    names: tuple[str, ...] | None = None
    if isinstance(data, str | os.PathLike):
        if validation is not None or test is not None:
            raise InputError(f"{data} holds all splits; leave validation and test out, or give arrays")
        path = Path(os.path.abspath(expanded(data, "data")))
        arrays, names, said = _read(path)
        name = name or (path.name if path.is_dir() else path.stem)
    else:
        sources = {"train": data, "validation": validation, "test": test}
        arrays = {
            split: pair(source)
            for split, source in sources.items()
            if split == "train" or source is not None
        }
        said = {split: (f"x_{split}", f"y_{split}") for split in arrays}
    parts = {split: _checked(*arrays[split], *said[split]) for split in arrays}
    classes = _classes({split: (part[1], said[split][1]) for split, part in parts.items()})
    for split, (images, _) in parts.items():
        expected, found = (tuple(t.shape[1:]) for t in (parts["train"][0], images))
        if expected != found:
            raise InputError(
                f"{said[split][0]} holds samples of shape {found}, {said['train'][0]} of {expected}; let "
                "them agree"
            )
    names = names or tuple(map(str, range(classes)))
    parts = _split(parts, names, path or "the data")
    grey = parts["train"][0].dim() == 3
    made = OwnData(
        name=name or "own",
        shape=(1 if grey else parts["train"][0].shape[1], *parts["train"][0].shape[-2:]),
        path=None if path is None else str(path),
        class_names=names,
        **{split: len(labels) for split, (_, labels) in parts.items()},
        sha256=fingerprint([tensor for split in SPLITS for tensor in parts[split]]),
    )
    # Read already; only a description that comes from a file reads again.
    vars(made)["_parts"] = parts
    return made


def calibration(path: Path) -> tuple[Tensor, OwnData | None]:
    """Return images of an ``.npz`` that show what a network is given, and the data that they are part of.

    A file with ``y_train`` is one that `own` takes: the images are its training split, so none by which a
    network is tested. Of another, whose labels are not known, they are the array ``x_train``, else ``x``,
    else ``images``, else the only one.

    Args:
        path: of the file. Nothing in it is unpickled.

    Returns:
        uint8, or float32 in 0 ... 1, ``(count, height, width)``, ``(count, channels, height, width)`` or,
        plain numbers, ``(count, features)``; and the data, None without labels.

    Raises:
        InputError: there is no such file or array, or it holds no images.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file; name an .npz file with images")
    there = _keys(path)
    if "y_train" in there:
        found = own(path)
        images = found._parts["train"][0]
        return images.squeeze(1) if found.is_table else images, found
    key = next((key for key in (*_UNLABELLED, *(there if len(there) == 1 else [])) if key in there), None)
    if key is None:
        raise InputError(
            f"{path} holds {', '.join(there) or 'no arrays'}; expected images as {', '.join(_UNLABELLED)} "
            "or as the only array"
        )
    said = f"{path}: {key}"
    images = _numbers(_npz(path, [key])[key], said)
    if images.dim() not in (2, 3, 4) or not images.numel():
        raise InputError(
            f"{said} must be (count, height, width), with channels, or (count, features), found "
            f"{tuple(images.shape)}"
        )
    images = _intensities(images, said)
    return _channels_first(images, said) if images.dim() == 4 else images, None


def described(data: Source) -> Dataset:
    """Return a `Dataset` as it is, anything else as `own` describes it."""
    return data if isinstance(data, Dataset) else own(data)


def pair(source: Any) -> tuple[Any, Any]:
    """Return inputs and targets of arrays or tensors, an `ImageSet`, or a map-style torch data set.

    Arrays become tensors, those of float64 in torch's default type; the items of a data set are stacked,
    PIL images as uint8 ``(height, width)`` or ``(3, height, width)``. What is no array stays as it is.

    Raises:
        InputError: `source` is none of these, or the items do not fit each other.
    """
    if isinstance(source, ImageSet):
        return source.images, source.labels
    if isinstance(source, tuple):
        if len(source) != 2:
            raise InputError(f"expected data as a pair of inputs and labels, found {len(source)} values")
        inputs, targets = (_array(values) for values in source)
        return inputs, targets
    indexed = hasattr(source, "__len__") and hasattr(source, "__getitem__")
    if not indexed or isinstance(source, Mapping | np.ndarray | Tensor):
        raise InputError(
            "expected data as a path, a pair of inputs and labels, an ImageSet or a map-style torch data "
            f"set, found {type(source).__name__}"
        )
    items = [source[index] for index in range(len(source))]
    if not items:
        raise InputError("the data set is empty")
    for index, item in enumerate(items):
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InputError(
                f"item {index} of the data set must be (input, label), found {type(item).__name__}"
            )
    return _stacked([item[0] for item in items], "input"), _stacked([item[1] for item in items], "label")


def fingerprint(tensors: list[Tensor]) -> str:
    """Return the SHA-256 of tensors: types, shapes and values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _array(values: Any) -> Any:
    if not isinstance(values, np.ndarray | list):
        return values
    try:
        tensor = as_tensor(values)
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def _stacked(values: list[Any], what: str) -> Any:
    """One tensor of a data set's inputs or labels; of spikes, `Spikes`."""
    tensors: list[Tensor] = []
    windows = {value.steps if isinstance(value, Spikes) else None for value in values}
    if len(windows) > 1:
        raise InputError(f"{what}s must be spikes of one window or no spikes, found several kinds")
    (steps,) = windows
    for index, value in enumerate(values):
        if isinstance(value, Spikes):
            value = value.times
        elif isinstance(value, Image.Image):
            grey = pictures.is_grey(value, f"item {index}")
            value = pictures.pixels(value, grey=grey)
        elif isinstance(value, int | float | np.generic):
            value = np.asarray(value)
        tensor = _array(value)
        if not isinstance(tensor, Tensor):
            raise InputError(
                f"{what} of item {index} must be numbers or a picture, found {type(value).__name__}"
            )
        if tensors and tensor.shape != tensors[0].shape:
            one, two = (tuple(t.shape) for t in (tensors[0], tensor))
            raise InputError(f"{what}s must have one shape: that of item 0 is {one}, of item {index} {two}")
        tensors.append(tensor.detach().cpu())
    stacked = torch.stack(tensors)
    return stacked if steps is None else Spikes.trusted(stacked, steps)


def _read(
    path: Path,
) -> tuple[dict[str, tuple[Any, Any]], tuple[str, ...] | None, dict[str, tuple[str, str]]]:
    """Inputs and labels by split, names of the classes if there are, and what to call both in messages."""
    if path.is_dir():
        parts, names = pictures.read_folder(path)
        return dict(parts), names, {split: (f"{path} ({split})",) * 2 for split in parts}
    if not path.exists():
        raise InputError(
            f"{path} does not exist; name an .npz file, or a folder of images (a data set of firstspike's "
            "own is named by --dataset, in Python by firstspike.data.dataset)"
        )
    arrays = _npz(path, [key for key in _keys(path) if key.startswith(("x_", "y_"))])
    keys = {split: (f"x_{split}", f"y_{split}") for split in SPLITS}
    wanted = [key for pairs in keys.values() for key in pairs]
    strange = [key for key in arrays if key.startswith(("x_", "y_")) and key not in wanted]
    if strange:
        raise InputError(
            f"{path} holds {', '.join(strange)}; rename to one of {', '.join(wanted)}, or remove"
        )
    for split, pairs in keys.items():
        missing = [key for key in pairs if key not in arrays]
        if missing and (split == "train" or len(missing) == 1):
            raise InputError(
                f"{path} lacks {' and '.join(missing)}, found {', '.join(arrays) or 'nothing'}; expected "
                "x_train and y_train, if you like x_validation and y_validation, x_test and y_test"
            )
    there = {split: pairs for split, pairs in keys.items() if pairs[0] in arrays}
    said = {split: (f"{path}: {x}", f"{path}: {y}") for split, (x, y) in there.items()}
    return {split: (arrays[x], arrays[y]) for split, (x, y) in there.items()}, None, said


def _keys(path: Path) -> list[str]:
    """The names of the arrays of an ``.npz``."""
    # Opened here first: a missing permission is no damage.
    path.open("rb").close()
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is no .npz file, or a truncated one; write it by numpy.savez")
    with _reading(path, "its list of arrays"), np.load(path, allow_pickle=False) as file:
        return list(file.files)


def _npz(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """These arrays of an ``.npz``."""
    arrays = {}
    for key in keys:
        with _reading(path, key), np.load(path, allow_pickle=False) as file:
            arrays[key] = file[key]
            if not isinstance(arrays[key], np.ndarray):
                raise ValueError("no array")
    return arrays


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Say in one line what of an ``.npz`` is damaged."""
    try:
        yield
    except (
        EOFError,
        KeyError,
        MemoryError,
        NotImplementedError,
        OSError,
        OverflowError,
        RuntimeError,
        SyntaxError,
        TypeError,
        ValueError,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(
            f"{path}: {what} cannot be read: {one_line(str(error))}; write plain arrays of numbers by "
            "numpy.savez"
        ) from error


def _checked(images: Any, labels: Any, images_said: str, labels_said: str) -> _Part:
    """Images as uint8 ``(count, [channels,] height, width)``, or plain numbers; labels as int64."""
    if isinstance(images, Spikes):
        raise InputError(
            f"{images_said}: recipes encode images themselves, found spikes; give the images, or give the "
            "spikes to firstspike.fit"
        )
    images, labels = _numbers(images, images_said), _numbers(labels, labels_said)
    if images.dim() not in (2, 3, 4):
        raise InputError(
            f"{images_said} must be (count, features), (count, height, width) or with channels, found "
            f"{tuple(images.shape)}"
        )
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(
            f"{labels_said} must be integers (count,), found {_type(labels)} {tuple(labels.shape)}"
        )
    if len(images) != len(labels):
        raise InputError(
            f"{images_said} holds {len(images)} samples, {labels_said} {len(labels)}; give each one label"
        )
    if not images.numel():
        raise InputError(f"{images_said} is empty")
    images = _intensities(images, images_said)
    if images.dim() == 2:
        images = images.unsqueeze(1)
    elif images.is_floating_point():
        images = (images * 255).round().to(torch.uint8)
    if images.dim() == 4:
        images = _channels_first(images, images_said)
    return images.contiguous(), labels.to(torch.int64)


def _numbers(values: Any, said: str) -> Tensor:
    try:
        return as_tensor(values).detach().cpu()
    except (TypeError, ValueError) as error:
        raise InputError(f"{said}: {error}") from error


def _intensities(images: Tensor, said: str) -> Tensor:
    """Images as uint8, or float32 in 0 ... 1."""
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise InputError(
            f"{said} must be uint8 0 ... 255 or floats 0 ... 1, found {_type(images)}; convert it, 16 bits "
            "by dividing by 65535"
        )
    images = images.to(torch.float32)
    wrong = images.flatten(1).isnan().any(1)
    if wrong.any():
        raise InputError(f"{said} holds NaN, first in sample {int(wrong.nonzero()[0])}; fill or remove it")
    low, high = (float(bound) for bound in torch.aminmax(images))
    if low < 0 or high > 1:
        raise InputError(
            f"{said} must lie in 0 ... 1, found {low:g} ... {high:g}; scale it, or give images as uint8"
        )
    return images


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _channels_first(images: Tensor, said: str) -> Tensor:
    first, last = images.shape[1] <= _MAX_CHANNELS, images.shape[3] <= _MAX_CHANNELS
    if first == last:
        raise InputError(
            f"{said} has the shape {tuple(images.shape)}; expected (count, height, width, channels) or "
            f"(count, channels, height, width) with at most {_MAX_CHANNELS} channels and larger sides"
        )
    images = images if first else images.permute(0, 3, 1, 2)
    return images.squeeze(1) if images.shape[1] == 1 else images


def _classes(labels: Mapping[str, tuple[Tensor, str]]) -> int:
    """The number of classes, after a look whether the training data have each."""
    trained, said = labels["train"]
    there = trained.unique().tolist()
    if there != list(range(len(there))):
        gap = next(number for number in range(len(there)) if number not in there)
        missing = "" if there[0] < 0 else f", {gap} missing"
        raise InputError(
            f"{said} must be 0 ... n - 1 without a gap, found {there[0]} ... {there[-1]}{missing}; number "
            "the classes anew"
        )
    if len(there) < 2:
        raise InputError(f"{said} holds one class only; expected two or more")
    for values, where in labels.values():
        strange = [label for label in values.unique().tolist() if not 0 <= label < len(there)]
        if strange:
            raise InputError(
                f"{where} holds the label {strange[0]}, which {said} has not; it has 0 ... {len(there) - 1}"
            )
    return len(there)


def _split(parts: dict[str, _Part], names: tuple[str, ...], said: Path | str) -> dict[str, _Part]:
    """All three splits: those given, and from the training data those that are not."""
    images, labels = parts["train"]
    classes = labels.numpy()
    order = _source.stratified_order(classes)
    missing = [split for split in ("test", "validation") if split not in parts]
    chosen: dict[str, list[np.ndarray]] = {split: [] for split in ("train", *missing)}
    for number, name in enumerate(names):
        # Places in the order, so that each split keeps it.
        members = np.flatnonzero(classes[order] == number)
        held = max(1, (len(members) * HELD_OUT + 50) // 100)
        if len(members) <= held * len(missing):
            raise InputError(
                f"{said}: class {name} has {len(members)} training image(s), too few to hold out "
                f"{' and '.join(missing)}; add some, or give these splits"
            )
        for split in missing:
            chosen[split].append(members[-held:])
            members = members[:-held]
        chosen["train"].append(members)
    picked = {split: torch.from_numpy(order[np.sort(np.concatenate(c))]) for split, c in chosen.items()}
    return {**parts, **{split: (images[places], labels[places]) for split, places in picked.items()}}
