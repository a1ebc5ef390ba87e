"""A file is there whole or not at all, whatever goes wrong while it is written."""

import errno
import os

import pytest

from firstspike.support import atomic_path, write_text


def test_the_new_content_comes_at_the_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
        assert temporary.suffix == path.suffix
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_it(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_folders_above_are_made(tmp_path):
    write_text(tmp_path / "new" / "folder" / "a.txt", "größer ≥ 1\n")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == "größer ≥ 1\n".encode()


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_fault_half_way_leaves_what_was_there(tmp_path, fault, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)

    def write():
        with atomic_path(path) as temporary:
            temporary.write_text("ha")
            raise fault

    with pytest.raises(fault):
        write()
    assert [file.name for file in tmp_path.iterdir()] == (["a.txt"] if old else [])
    assert not old or path.read_text() == old


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    """The error of a failed write names no file at all, that of a failed fsync neither."""

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_text(path, "new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_named_and_kept(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match=r"a\.txt") as caught:
        write_text(tmp_path / "a.txt", "x")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "a.txt"), None)
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_above_is_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / "file" / "a.txt", "x")
    assert caught.value.filename == str(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named_by_the_file_asked_for(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError) as caught:
            write_text(tmp_path / "a.txt", "x")
    finally:
        tmp_path.chmod(0o700)
    assert caught.value.filename == str(tmp_path / "a.txt")


def test_an_error_about_another_file_keeps_its_name(tmp_path):

    def write():
        with atomic_path(tmp_path / "a.txt"):
            (tmp_path / "missing").read_text()

    with pytest.raises(FileNotFoundError) as caught:
        write()
    assert caught.value.filename == str(tmp_path / "missing")
