import hashlib
import threading

import pytest

from firstspike.data.download import fetch
from firstspike.support import InputError

# Longer than one chunk of the downloader, and nowhere like itself.
BODY = b"".join(hashlib.sha256(bytes([i, j])).digest() for i in range(64) for j in range(64))
MD5 = hashlib.md5(BODY).hexdigest()

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def serving(server):
    server.files["/file.gz"] = BODY
    return server


def names(folder) -> set[str]:
    """What lies in the cache beside locks."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_a_download_has_the_served_bytes(serving, tmp_path, capfd):
    path = fetch("file.gz", MD5, [serving.url], tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "file.gz"
    assert path.read_bytes() == BODY
    assert names(path.parent) == {"file.gz"}
    assert capfd.readouterr() == ("", "")


def test_a_present_file_is_not_fetched_again(serving, tmp_path, dead_mirror):
    fetch("file.gz", MD5, [serving.url], tmp_path)
    fetch("file.gz", MD5, [dead_mirror], tmp_path)
    assert len(serving.requests) == 1


def test_a_damaged_present_file_is_fetched_again(serving, tmp_path):
    (tmp_path / "file.gz").write_bytes(BODY[:-1])
    assert fetch("file.gz", MD5, [serving.url], tmp_path).read_bytes() == BODY


def test_an_interrupted_download_goes_on_where_it_stopped(serving, tmp_path):
    serving.cut_after = 100_000
    with pytest.raises(InputError, match="ConnectionError"):
        fetch("file.gz", MD5, [serving.url], tmp_path)
    assert names(tmp_path) == {"file.gz.part"}
    received = (tmp_path / "file.gz.part").read_bytes()
    assert received == BODY[: len(received)]
    assert 0 < len(received) <= 100_000

    serving.cut_after = None
    assert fetch("file.gz", MD5, [serving.url], tmp_path).read_bytes() == BODY
    assert serving.requests[-1] == ("/file.gz", f"bytes={len(received)}-")
    assert names(tmp_path) == {"file.gz"}


def test_another_mirror_goes_on_with_what_the_first_gave(serving, make_server, tmp_path):
    serving.cut_after = 1_000
    second = make_server()
    second.files["/file.gz"] = BODY
    assert fetch("file.gz", MD5, [serving.url, second.url], tmp_path).read_bytes() == BODY
    assert second.requests == [("/file.gz", "bytes=1000-")]


def test_a_server_that_ignores_range_gives_everything(serving, tmp_path):
    serving.supports_range = False
    (tmp_path / "file.gz.part").write_bytes(BODY[:5_000])
    assert fetch("file.gz", MD5, [serving.url], tmp_path).read_bytes() == BODY
    assert serving.requests == [("/file.gz", "bytes=5000-")]


def test_a_part_that_is_whole_already_is_taken(serving, tmp_path):
    (tmp_path / "file.gz.part").write_bytes(BODY)
    assert fetch("file.gz", MD5, [serving.url], tmp_path).read_bytes() == BODY
    assert names(tmp_path) == {"file.gz"}


@pytest.mark.parametrize("length", [10, len(BODY), len(BODY) + 10])
def test_a_part_of_something_else_is_dropped(serving, tmp_path, length):
    (tmp_path / "file.gz.part").write_bytes(b"?" * length)
    with pytest.raises(InputError, match="wrong checksum"):
        fetch("file.gz", MD5, [serving.url], tmp_path)
    assert names(tmp_path) == set()
    assert fetch("file.gz", MD5, [serving.url], tmp_path).read_bytes() == BODY


def test_the_next_mirror_serves_after_every_kind_of_failure(serving, make_server, tmp_path, dead_mirror):
    without_file, wrong_file = make_server(), make_server()
    wrong_file.files["/file.gz"] = b"<html>log in first</html>"
    mirrors = [dead_mirror, without_file.url, wrong_file.url, serving.url]
    assert fetch("file.gz", MD5, mirrors, tmp_path).read_bytes() == BODY
    assert len(without_file.requests) == len(wrong_file.requests) == 1
    assert names(tmp_path) == {"file.gz"}


def test_when_no_mirror_serves_one_line_says_why_and_what_to_do(make_server, tmp_path, dead_mirror, capfd):
    without_file, wrong_file = make_server(), make_server()
    wrong_file.files["/file.gz"] = b"something else"
    with pytest.raises(InputError) as caught:
        fetch("file.gz", MD5, [dead_mirror, without_file.url, wrong_file.url], tmp_path)
    message = str(caught.value)
    for part in (
        "cannot download file.gz",
        f"127.0.0.1:{without_file.server_port}: HTTP status 404",
        f"127.0.0.1:{wrong_file.server_port}: wrong checksum",
        "ConnectionError",
        "--data-dir DIR",
        "FIRSTSPIKE_DATA=DIR",
    ):
        assert part in message
    assert "\n" not in message
    assert names(tmp_path) == set()
    assert capfd.readouterr() == ("", "")


def test_a_gzip_encoding_header_does_not_unpack_the_file(serving, tmp_path):
    """Some servers declare a stored .gz file as an encoding of its content."""
    serving.headers["Content-Encoding"] = "x-gzip"
    assert fetch("file.gz", MD5, [serving.url], tmp_path).read_bytes() == BODY


def test_at_the_same_time_one_downloads_and_the_others_wait(serving, tmp_path):
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(fetch("file.gz", MD5, [serving.url], tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [tmp_path / "file.gz"] * 4
    assert paths[0].read_bytes() == BODY
    assert len(serving.requests) == 1


def test_a_cache_that_cannot_be_made_is_an_os_error(serving, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file"):
        fetch("file.gz", MD5, [serving.url], tmp_path / "file" / "cache")
    assert serving.requests == []
