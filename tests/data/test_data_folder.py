import pytest
from idx_files import make_dataset, write_tiny

from firstspike.data.folder import NotHereError, find_files

TINY = make_dataset()


@pytest.mark.parametrize("place", ["", "tiny", "Tiny/raw"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dotted", [True, False])
def test_every_usual_layout_is_found(tmp_path, place, zipped, dotted):
    written = write_tiny(tmp_path / place, zipped=zipped, dotted=dotted)
    found = find_files(tmp_path, TINY, TINY.train)
    assert found == [written["train-images"], written["train-labels"]]
    assert find_files(tmp_path, TINY, TINY.test)[1] == written["t10k-labels"]


def test_the_folder_with_the_sets_name_comes_before_flat_files(tmp_path):
    write_tiny(tmp_path)
    named = write_tiny(tmp_path / "tiny")
    assert find_files(tmp_path, TINY, TINY.train)[0] == named["train-images"]


def test_the_uncompressed_file_comes_first(tmp_path):
    write_tiny(tmp_path, zipped=True)
    raw = write_tiny(tmp_path, zipped=False)
    assert find_files(tmp_path, TINY, TINY.train)[0] == raw["train-images"]


def test_images_and_labels_are_never_taken_from_two_places(tmp_path):
    images = write_tiny(tmp_path / "tiny", only="train-images")["train-images"]
    labels = write_tiny(tmp_path / "Tiny/raw", only="train-labels")["train-labels"]
    with pytest.raises(NotHereError, match=f"found only {images}, {labels};"):
        find_files(tmp_path, TINY, TINY.train)
    flat = write_tiny(tmp_path)
    assert find_files(tmp_path, TINY, TINY.train)[0] == flat["train-images"]


def test_a_folder_without_the_set_lists_what_was_looked_for(tmp_path):
    with pytest.raises(NotHereError) as caught:
        find_files(tmp_path, TINY, TINY.train)
    message = str(caught.value)
    for part in (
        "no tiny here",
        "train-images-idx3-ubyte and train-labels-idx1-ubyte",
        str(tmp_path / "tiny"),
        str(tmp_path / "Tiny" / "raw"),
        "found none of them",
        "name another folder",
    ):
        assert part in message
    assert "\n" not in message


def test_a_missing_folder(tmp_path):
    with pytest.raises(NotHereError, match=r"expected a folder .* tiny .* found nothing"):
        find_files(tmp_path / "nowhere", TINY, TINY.train)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotHereError, match=r"expected a folder .* found a file"):
        find_files(tmp_path / "file", TINY, TINY.train)


def test_folders_named_like_files_are_no_files(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    written = write_tiny(tmp_path)
    assert find_files(tmp_path, TINY, TINY.train)[0] == written["train-images"]
