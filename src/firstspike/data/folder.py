"""Finding the files of a data set in a folder that the user already has."""

from collections.abc import Sequence
from pathlib import Path

from firstspike.data.catalog import IdxDataset, IdxFile
from firstspike.support import InputError


class NotHereError(InputError):
    """A folder does not hold the data set that was asked for."""


def find_files(folder: Path, dataset: IdxDataset, files: Sequence[IdxFile]) -> list[Path]:
    """Return where `files` lie in `folder`, all of them from the same place.

    Tried in turn: ``folder/<name>``, torchvision's ``folder/<Name>/raw``, `folder` itself; in each
    the uncompressed file before the ``.gz``, and the ``-idx3-`` spelling before ``.idx3-``.
    Contents are not looked at: two data sets have the same file names, so check the sums after.

    Raises:
        NotHereError: `folder` is missing or is not a folder, or no place in it holds all `files`.
    """
    if not folder.is_dir():
        raise NotHereError(
            f"{folder}: expected a folder with the {dataset.name} files, "
            f"found {'a file' if folder.exists() else 'nothing'}; name an existing folder"
        )
    places = [folder / dataset.name, folder / dataset.torchvision_folder / "raw", folder]
    partial: list[Path] = []
    for place in places:
        found = [path for file in files if (path := _first_spelling(place, file)) is not None]
        if len(found) == len(files):
            return found
        partial += found
    names = " and ".join(file.name for file in files)
    found_here = "only " + ", ".join(map(str, partial)) if partial else "none of them"
    raise NotHereError(
        f"{folder}: no {dataset.name} here: expected {names} (or .gz, or with a dot before 'idx') "
        f"together in {places[0]}, {places[1]} or {places[2]}, found {found_here}; "
        f"put the files there or name another folder"
    )


def _first_spelling(place: Path, file: IdxFile) -> Path | None:
    dotted = file.name.replace("-idx", ".idx")
    for name in (file.name, f"{file.name}.gz", dotted, f"{dotted}.gz"):
        if (place / name).is_file():
            return place / name
    return None
