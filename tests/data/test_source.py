"""One split for all sets, and the layouts in which their files are found."""

import os
from pathlib import Path

import numpy as np
import pytest
from idx_files import make_files, tiny_files, write_tiny

from firstspike.data import NotHereError, load
from firstspike.data._source import find, listed, roots, split
from firstspike.data.mnist import load_idx
from firstspike.support import InputError

TINY = make_files()
BELOW = ("tiny", "raw")
IMAGES, LABELS = (file.names for file in TINY.train)


def find_tiny(folder, wanted=(IMAGES, LABELS)):
    return find("tiny", wanted, [folder], below=BELOW, advice="name another folder")


@pytest.mark.parametrize(("count", "num_validation"), [(10, 3), (7, 0), (1, 0), (60_000, 5_000)])
def test_the_split_is_the_end_of_one_permutation(count, num_validation):
    parts = split(count, num_validation)
    order = np.random.default_rng(0).permutation(count)
    assert len(parts["validation"]) == num_validation
    assert np.concatenate([parts["train"], parts["validation"]]).tolist() == order.tolist()


@pytest.mark.parametrize("place", ["", "tiny", "Tiny", "TINY", "Tiny/raw", "raw", "tiny/Tiny/raw"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dotted", [True, False])
def test_every_usual_layout_is_found(tmp_path, place, zipped, dotted):
    written = write_tiny(tmp_path / place, zipped=zipped, dotted=dotted)
    assert find_tiny(tmp_path) == [written["train-images"], written["train-labels"]]
    assert len(load_idx(TINY, "test", tmp_path)) == 8
    # The folder of the files itself, or any above it, may be named.
    assert find_tiny(tmp_path / place) == [written["train-images"], written["train-labels"]]


@pytest.mark.parametrize("dotted", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_kaggles_folders_of_the_files_own_names(tmp_path, dotted, zipped):
    for name, stored in tiny_files(zipped=zipped, dotted=dotted).values():
        folder = tmp_path / name.removesuffix(".gz")
        folder.mkdir()
        (folder / name).write_bytes(stored)
    assert len(load_idx(TINY, "train", tmp_path)) == 25


def test_the_folder_with_the_sets_name_comes_before_flat_files(tmp_path):
    write_tiny(tmp_path)
    named = write_tiny(tmp_path / "tiny")
    assert find_tiny(tmp_path)[0] == named["train-images"]


def test_the_uncompressed_file_comes_first(tmp_path):
    write_tiny(tmp_path, zipped=True)
    raw = write_tiny(tmp_path, zipped=False)
    assert find_tiny(tmp_path)[0] == raw["train-images"]


def test_images_and_labels_are_never_taken_from_two_places(tmp_path):
    images = write_tiny(tmp_path / "tiny", only="train-images")["train-images"]
    labels = write_tiny(tmp_path / "raw", only="train-labels")["train-labels"]
    with pytest.raises(NotHereError, match=f"found only {images}, {labels};"):
        find_tiny(tmp_path)
    flat = write_tiny(tmp_path)
    assert find_tiny(tmp_path)[0] == flat["train-images"]


def test_folders_named_like_files_are_no_files(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    written = write_tiny(tmp_path)
    assert find_tiny(tmp_path)[0] == written["train-images"]


@pytest.mark.parametrize(
    ("name", "shown"), [("", ""), ("nowhere", r" \(which does not exist\)"), ("file", r" \(a file\)")]
)
def test_what_is_missing_is_one_line(tmp_path, name, shown):
    (tmp_path / "file").touch()
    folder = tmp_path / name
    with pytest.raises(NotHereError, match=f"^tiny: .* in {folder}{shown}, or") as caught:
        find_tiny(folder)
    message = str(caught.value)
    for part in (*(names[0] for names in (IMAGES, LABELS)), *BELOW, "none of them", "name another"):
        assert part in message
    assert "\n" not in message


def test_roots_are_searched_in_their_order(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    wanted = [("x",)]
    two.mkdir()
    (two / "x").touch()
    assert find("set", wanted, [one, two], below=(), advice="") == [two / "x"]
    one.mkdir()
    (one / "x").touch()
    assert find("set", wanted, [one, two], below=(), advice="") == [one / "x"]
    assert find("set", [("two",)], [tmp_path], below=(), advice="", is_there=Path.is_dir) == [two]


def test_a_folder_in_a_folder_of_its_name(tmp_path):
    (tmp_path / "Train" / "Train").mkdir(parents=True)
    found = find("set", [("Train",)], [tmp_path], below=(), advice="", is_there=Path.is_dir)
    assert found == [tmp_path / "Train" / "Train"]


def test_a_named_folder_is_the_only_root(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("FIRSTSPIKE_DATA", "~/default")
    assert roots(tmp_path) == [tmp_path]
    assert roots(str(tmp_path)) == [tmp_path]
    assert roots("~/sets") == [Path.home() / "sets"]
    assert roots(None) == [Path.home() / "default", cache]
    monkeypatch.setenv("FIRSTSPIKE_DATA", "")
    assert roots(None) == [cache]


@pytest.mark.skipif(os.name != "posix", reason="~name is a home folder on POSIX systems only")
@pytest.mark.parametrize("name", ["mnist", "cifar-10", "tiny-imagenet", "n-mnist", "dvs-gesture"])
def test_the_home_of_nobody_is_one_clear_line(monkeypatch, name):
    with pytest.raises(InputError, match=r"~nosuchuser/x: .*~nosuchuser;") as caught:
        load(name, "test", "~nosuchuser/x")
    assert "\n" not in str(caught.value)
    for variable in ("FIRSTSPIKE_DATA", "FIRSTSPIKE_CACHE"):
        monkeypatch.delenv("FIRSTSPIKE_DATA", raising=False)
        monkeypatch.setenv(variable, "~nosuchuser/x")
        with pytest.raises(InputError, match="~nosuchuser"):
            load(name, "test")


def test_listed_files_have_one_order_and_no_hidden_ones(tmp_path):
    for name in ("b/B.x", "b/a.x", "B/a.x", "a/z.x", "a/._z.x", "a/z.y"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    if len(list(tmp_path.iterdir())) == 3:
        found = [path.relative_to(tmp_path).as_posix() for path in listed(tmp_path, "*/*.x")]
        assert found == ["B/a.x", "a/z.x", "b/B.x", "b/a.x"]
