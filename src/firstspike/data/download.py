"""Downloading one file into the cache: checksum, several mirrors, progress, resume."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from firstspike.support import InputError

if TYPE_CHECKING:
    import requests

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 16
_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 30


def fetch(filename: str, md5: str, mirrors: Sequence[str], folder: Path) -> Path:
    """Return the path of a file in `folder`, downloaded first unless it is there already.

    The file gets its name only after its checksum was right. What an interrupted download had
    received stays beside it as ``<filename>.part``, and the next call goes on from there. Of
    several processes that want the same file, one downloads and the others wait.

    Args:
        filename: name below each mirror and in `folder`.
        md5: checksum of the file.
        mirrors: addresses that end in a slash, tried in order.
        folder: made if it is missing.

    Raises:
        InputError: no mirror gave the file; the message tells what each one answered.
        OSError: `folder` cannot be written, or the disk is full.
    """
    import pooch
    import requests
    from filelock import FileLock

    path = folder / filename
    # Before the lock, so that a cache without write permission serves what it has.
    if path.is_file() and pooch.file_hash(str(path), alg="md5") == md5:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    with FileLock(folder / f"{filename}.lock"), _quiet(pooch.get_logger()):
        for mirror in mirrors:
            _log.info("fetching %s from %s", filename, mirror)
            try:
                pooch.retrieve(
                    mirror + filename,
                    known_hash=f"md5:{md5}",
                    fname=filename,
                    path=folder,
                    downloader=ResumingDownloader(folder / f"{filename}.part"),
                )
                return path
            except requests.HTTPError as error:
                reason = str(error)
            except requests.RequestException as error:
                reason = type(error).__name__
            except ValueError:
                reason = "wrong checksum"
            failures.append(f"{urlsplit(mirror).netloc}: {reason}")
    raise InputError(
        f"cannot download {filename} ({'; '.join(failures)}): check the network, or pass "
        f"--data-dir DIR or set FIRSTSPIKE_DATA=DIR to a folder that holds the files"
    )


@dataclass(frozen=True)
class ResumingDownloader:
    """A downloader for pooch that continues where an interrupted download stopped.

    Args:
        part: the file that gathers the bytes and outlives an interruption.
    """

    part: Path

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Bring `url` to `output_file`, asking only for the bytes that `part` lacks.

        Raises:
            requests.RequestException: the server cannot be reached, refuses, or breaks off.
        """
        import requests

        offset = self.part.stat().st_size if self.part.exists() else 0
        # "identity": a .gz file must arrive as it is stored.
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        timeout = (_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S)
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
            # 416, nothing beyond the offset: the part is whole, or wrong and the checksum tells.
            if not (offset and response.status_code == requests.codes.range_not_satisfiable):
                if not response.ok:
                    raise requests.HTTPError(f"HTTP status {response.status_code}")
                resumed = response.status_code == requests.codes.partial_content
                self._receive(response, offset if resumed else 0)
        self.part.replace(output_file)

    def _receive(self, response: "requests.Response", start: int) -> None:
        import requests
        import urllib3
        from tqdm import tqdm  # type: ignore[import-untyped]

        length = response.headers.get("Content-Length")
        with (
            open(self.part, "ab" if start else "wb") as file,
            tqdm(
                desc=self.part.stem,
                initial=start,
                total=start + int(length) if length else None,
                unit="B",
                unit_scale=True,
                disable=None,  # shown on a terminal only
            ) as progress,
        ):
            try:
                # Not decoded: some servers call a stored .gz file an encoding of its content.
                for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                    file.write(chunk)
                    progress.update(len(chunk))
            except urllib3.exceptions.HTTPError as error:
                raise requests.ConnectionError(error) from error


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch's notices off stderr, where a failed command must leave one line only."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
