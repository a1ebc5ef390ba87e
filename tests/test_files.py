"""A file is there whole or not at all, whatever goes wrong while it is written."""

import errno
import json
import os
import stat
import sys

import pytest

from firstspike.support import InputError, atomic_path, expanded, json_text, one_line, write_text


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


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    """Return a function that sets the umask for the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@POSIX
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0])
def test_a_new_file_and_its_folder_have_the_mode_that_the_umask_leaves(tmp_path, umask, mask):
    umask(mask)
    write_text(tmp_path / "new" / "a.txt", "x")
    assert mode(tmp_path / "new" / "a.txt") == 0o666 & ~mask
    assert mode(tmp_path / "new") == 0o777 & ~mask


@POSIX
@pytest.mark.parametrize("kept", [0o600, 0o644, 0o664, 0o400, 0o755])
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_that_is_written_again_keeps_its_mode(tmp_path, umask, kept, mask):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(kept)
    umask(mask)
    with atomic_path(path) as temporary:
        assert mode(temporary) & ~(kept | stat.S_IWUSR) == 0
        temporary.write_text("new")
    assert (path.read_text(), mode(path)) == ("new", kept)


def test_a_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "far").mkdir()
    link = tmp_path / "a.txt"
    link.symlink_to(tmp_path / "far" / "b.txt")
    for text in ("new", "newer"):
        write_text(link, text)
        assert link.is_symlink()
        assert (tmp_path / "far" / "b.txt").read_text() == text
    assert len(list(tmp_path.rglob("*"))) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_is_written_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "x")
    assert os.read(reader, 10) == b"x"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    write_text(tmp_path / "null", "x")


@POSIX
def test_the_file_is_synced_by_a_handle_that_may_write(tmp_path, monkeypatch):
    """Windows refuses any other."""
    import fcntl

    synced = []

    def fsync(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a.txt", "four")
    assert synced == [4]


def test_the_bytes_are_the_same_everywhere(tmp_path, monkeypatch):
    written = {}
    monkeypatch.setattr(type(tmp_path), "write_text", lambda path, text, **how: written.update(how))
    write_text(tmp_path / "a.txt", "x\n")
    assert (written["encoding"], written["newline"]) == ("utf-8", "\n")


def test_a_name_that_is_no_text_is_written(tmp_path):
    write_text(tmp_path / "a.txt", os.fsdecode(b"run\xff"))
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == r"run\udcff"


def test_json_has_null_for_what_it_lacks():
    text = json_text({"a": [float("nan"), (1.5, float("-inf"))], "b": {"c": float("inf")}, "d": True})
    assert json.loads(text) == {"a": [None, [1.5, None]], "b": {"c": None}, "d": True}


def test_a_home_folder_is_put_in_place_and_an_unknown_one_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert expanded("~/x", "--out") == tmp_path / "x"
    assert expanded("a/~", "--out") == expanded("./a/~", "--out")
    if sys.platform != "win32":
        with pytest.raises(InputError, match=r"FIRSTSPIKE_CACHE ~nosuchuser/x: .*~nosuchuser"):
            expanded("~nosuchuser/x", "FIRSTSPIKE_CACHE")


def test_a_line_is_one_and_steers_no_terminal():
    assert one_line("a\n  b\tgr\u00f6\u00dfe \x1b[2J \x07\x9b") == r"a b größe \x1b[2J \x07\x9b".replace(
        r"\u00f6\u00df", "\u00f6\u00df"
    )


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
