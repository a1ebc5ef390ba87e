import dataclasses
import gzip
import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from idx_files import compress, encode_idx, make_files, tiny_arrays, tiny_files, write_tiny

from firstspike.data import mnist
from firstspike.data.mnist import load_idx
from firstspike.support import InputError

TINY = make_files()


def indices(image_set) -> list[int]:
    """The numbers that the made images carry in their first pixel."""
    return image_set.images[:, 0, 0].tolist()


@pytest.fixture
def served(server, cache):
    """The made data set, with a mirror that serves it into an empty cache."""
    for name, stored in tiny_files().values():
        server.files[f"/{name}"] = stored
    return make_files((server.url,))


class TestSplits:
    def test_training_and_validation_part_the_official_training_set(self, tmp_path):
        write_tiny(tmp_path)
        train = load_idx(TINY, "train", tmp_path)
        validation = load_idx(TINY, "validation", tmp_path)
        assert (len(train), len(validation)) == (25, 5)
        assert sorted(indices(train) + indices(validation)) == list(range(30))
        order = np.random.default_rng(0).permutation(30).tolist()
        assert indices(train) + indices(validation) == order

    def test_the_test_set_keeps_its_order(self, tmp_path):
        write_tiny(tmp_path)
        assert indices(load_idx(TINY, "test", tmp_path)) == list(range(100, 108))

    @pytest.mark.parametrize("split", ["train", "validation", "test"])
    def test_images_keep_their_labels_and_types(self, tmp_path, split):
        write_tiny(tmp_path)
        found = load_idx(TINY, split, tmp_path)
        assert found.labels.tolist() == [index % 100 % 10 for index in indices(found)]
        assert (found.images.dtype, found.labels.dtype) == (torch.uint8, torch.int64)
        assert found.images.shape[1:] == (2, 3)
        assert (found.name, found.split, found.num_classes) == ("tiny", split, 10)

    def test_the_official_split_is_the_same_with_every_numpy(self):
        """NumPy does not promise its generators for ever; results here rest on this one."""
        order = np.random.default_rng(0).permutation(60_000).astype("<i4")
        assert hashlib.sha256(order.tobytes()).hexdigest() == (
            "0971109112e9d087acb0ef64e5e1195f5ac6b39d9df137a1796cfbb959fa7c8a"
        )

    def test_only_the_files_of_the_split_are_needed_or_read(self, tmp_path, served, server):
        for stem in ("train", "t10k"):
            write_tiny(tmp_path / stem, only=stem)
        other = write_tiny(tmp_path / "damaged")
        for stem in ("t10k-images", "t10k-labels"):
            other[stem].write_bytes(b"unreadable")
        assert len(load_idx(TINY, "train", tmp_path / "train")) == 25
        assert len(load_idx(TINY, "validation", tmp_path / "damaged")) == 5
        assert len(load_idx(TINY, "test", tmp_path / "t10k")) == 8
        load_idx(served, "train")
        assert all("train-" in path for path, _ in server.requests)


class TestWhereFilesComeFrom:
    def test_without_a_folder_the_set_is_downloaded_once(self, served, server, cache):
        first = load_idx(served, "train")
        server.files.clear()
        again = load_idx(served, "train")
        assert torch.equal(first.images, again.images)
        assert len(server.requests) == 2
        assert (cache / "tiny" / "train-images-idx3-ubyte.gz").is_file()

    def test_a_given_folder_comes_first(self, served, server, tmp_path, monkeypatch):
        write_tiny(tmp_path / "given")
        monkeypatch.setenv("FIRSTSPIKE_DATA", str(tmp_path / "missing"))
        load_idx(served, "train", str(tmp_path / "given"))
        assert server.requests == []

    def test_a_given_folder_without_the_set_is_never_replaced(self, served, server, tmp_path):
        with pytest.raises(InputError, match="tiny: expected train-images"):
            load_idx(served, "train", tmp_path)
        assert server.requests == []

    def test_the_variable_comes_before_the_cache(self, served, server, tmp_path, monkeypatch):
        write_tiny(tmp_path / "default" / "tiny")
        monkeypatch.setenv("FIRSTSPIKE_DATA", str(tmp_path / "default"))
        load_idx(served, "train")
        assert server.requests == []

    @pytest.mark.parametrize("default", ["", "missing", "empty"])
    def test_a_variable_of_no_use_leads_to_the_cache(self, served, tmp_path, monkeypatch, default):
        (tmp_path / "empty").mkdir()
        monkeypatch.setenv("FIRSTSPIKE_DATA", default and str(tmp_path / default))
        assert len(load_idx(served, "train")) == 25

    def test_a_variable_of_no_use_is_warned_of_once(self, served, cache, tmp_path, monkeypatch, caplog):
        missing = tmp_path / "missing"
        monkeypatch.setenv("FIRSTSPIKE_DATA", str(missing))
        for split in ("train", "validation", "test"):
            load_idx(served, split)
        warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert warnings == [
            f"FIRSTSPIKE_DATA={missing} lacks files of tiny; those of {cache / 'tiny'} serve"
        ]

    def test_a_warning_reaches_a_user_who_set_up_no_logging(self):
        code = "from firstspike.data.mnist import _warn_once as w; w('one'); w('one')"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("", "one\n")

    def test_a_damaged_file_under_the_variable_is_not_passed_over(
        self, served, server, tmp_path, monkeypatch
    ):
        write_tiny(tmp_path)["train-labels"].write_bytes(b"damaged")
        monkeypatch.setenv("FIRSTSPIKE_DATA", str(tmp_path))
        with pytest.raises(InputError, match=r"train-labels.*expected an IDX file"):
            load_idx(served, "train")
        assert server.requests == []

    def test_a_tilde_is_the_home_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        write_tiny(tmp_path / "sets")
        assert len(load_idx(TINY, "test", "~/sets")) == 8

    def test_no_network_tells_everything_in_one_line(self, cache, tmp_path, monkeypatch, dead_mirror):
        monkeypatch.setenv("FIRSTSPIKE_DATA", str(tmp_path / "typo"))
        with pytest.raises(InputError) as caught:
            load_idx(make_files((dead_mirror,)), "train")
        message = str(caught.value)
        for part in (
            "tiny: cannot download train-images-idx3-ubyte.gz",
            "pass --data-dir DIR or set FIRSTSPIKE_DATA=DIR",
            "FIRSTSPIKE_DATA was of no use: ",
            f"{tmp_path / 'typo'} (which does not exist)",
        ):
            assert part in message
        assert "\n" not in message


class TestFilesThatAreNotTheSet:
    def test_another_checksum_is_refused(self, tmp_path):
        paths = write_tiny(tmp_path)
        changed = tiny_arrays()["train-images"] + 1
        paths["train-images"].write_bytes(compress(encode_idx(changed)))
        with pytest.raises(InputError) as caught:
            load_idx(TINY, "train", tmp_path)
        found = hashlib.md5(encode_idx(changed)).hexdigest()
        assert str(caught.value) == (
            f"{paths['train-images']}: checksum (MD5 of the uncompressed file) expected "
            f"{TINY.train[0].content_md5}, found {found}; delete the file or fetch it again"
        )

    def test_the_same_content_compressed_by_someone_else_is_fine(self, tmp_path):
        paths = write_tiny(tmp_path)
        content = gzip.decompress(paths["t10k-images"].read_bytes())
        paths["t10k-images"].write_bytes(gzip.compress(content, 1, mtime=7))
        assert len(load_idx(TINY, "test", tmp_path)) == 8

    @pytest.mark.parametrize(
        ("stem", "spoil", "match"),
        [
            ("train-images", lambda c: c[:-1], "truncated"),
            ("train-images", lambda c: c + b"!", "bytes after the end"),
            ("train-labels", lambda c: b"\0\0\x08\x03" + c[4:], "expected an IDX file of uint8"),
            ("train-labels", lambda c: b"<html>", "found first bytes"),
        ],
    )
    def test_a_damaged_file_is_refused_with_its_damage(self, tmp_path, stem, spoil, match):
        paths = write_tiny(tmp_path, zipped=False)
        paths[stem].write_bytes(spoil(paths[stem].read_bytes()))
        with pytest.raises(InputError, match=f"^{paths[stem]}: .*{match}"):
            load_idx(TINY, "train", tmp_path)

    @pytest.mark.parametrize(
        ("labels", "match"),
        [
            (np.arange(29) % 10, "expected 30 labels"),
            (np.arange(30), r"found 10 at image 10"),
        ],
    )
    def test_labels_that_do_not_fit_are_refused(self, tmp_path, labels, match):
        content = encode_idx(labels)
        file = dataclasses.replace(TINY.train[1], content_md5=hashlib.md5(content).hexdigest())
        write_tiny(tmp_path)["train-labels"].write_bytes(content)
        with pytest.raises(InputError, match=match):
            load_idx(dataclasses.replace(TINY, train=(TINY.train[0], file)), "train", tmp_path)

    @pytest.fixture
    def twin(self, served, server, monkeypatch):
        """A set with the file names of "tiny" and other images, served by the mirror."""
        content = encode_idx(255 - tiny_arrays()["train-images"])
        server.files["/train-images-idx3-ubyte.gz"] = compress(content)
        images = dataclasses.replace(
            TINY.train[0],
            gzip_md5=hashlib.md5(compress(content)).hexdigest(),
            content_md5=hashlib.md5(content).hexdigest(),
        )
        monkeypatch.setattr(mnist, "_KNOWN", (TINY,))
        return dataclasses.replace(served, name="twin", train=(images, TINY.train[1]))

    @pytest.mark.parametrize("place", ["", "twin"])
    def test_files_of_another_known_set_are_recognised(self, twin, server, tmp_path, place):
        path = write_tiny(tmp_path / place)["train-images"]
        with pytest.raises(InputError) as caught:
            load_idx(twin, "train", tmp_path)
        assert str(caught.value) == (
            f"{path}: expected train-images of twin, found a file of tiny; "
            f"ask for tiny or name the folder of twin"
        )
        assert server.requests == []

    def test_a_variable_with_another_set_leads_to_the_cache(self, twin, tmp_path, monkeypatch):
        write_tiny(tmp_path)
        monkeypatch.setenv("FIRSTSPIKE_DATA", str(tmp_path))
        found = load_idx(twin, "train")
        assert found.images[:, 1, 1].unique().tolist() == [255]
