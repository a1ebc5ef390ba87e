"""``firstspike sample``: pictures and arrays from a trained generator."""

import json

import numpy as np
import pytest
import torch
from commands import contents
from PIL import Image

from firstspike import Linear, Stack, Window, first_spike_cross_entropy, fit, load
from firstspike.metrics.sampling import sample


def arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def sampled(firstspike, run, out, *options):
    """Sample into `out` and return its arrays, after a check of their names, shapes and types."""
    count = 25
    answer = firstspike("sample", run, "--count", count, "--out", out, *options)
    assert (answer.status, answer.out, answer.err) == (0, f"{out}\n", "")
    found = arrays(out)
    assert {name: (array.shape, array.dtype) for name, array in found.items()} == {
        "images": ((count, 8, 8), np.uint8),
        "labels": ((count,), np.int64),
        "spikes": ((count,), np.int64),
    }
    return found


def test_arrays_of_a_conditional_gan_take_all_classes_in_turn(firstspike, gan_run):
    found = sampled(firstspike, gan_run, "a.npz")
    assert found["labels"].tolist() == [index % 10 for index in range(25)]
    config = json.loads((gan_run / "config.json").read_text())["config"]
    neurons = config["noise_size"] + 1 + config["hidden_features"] + 64
    assert (found["spikes"] > 0).all()
    assert (found["spikes"] <= neurons).all()
    # An image's pixels above black are among its spikes.
    assert (found["spikes"] >= (found["images"] > 0).sum((1, 2))).all()


def test_a_label_is_asked_of_every_image(firstspike, gan_run):
    of_four = sampled(firstspike, gan_run, "four.npz", "--label", 4)
    assert (of_four["labels"] == 4).all()
    in_turn = sampled(firstspike, gan_run, "turn.npz")
    same = (of_four["images"] == in_turn["images"]).all((1, 2))
    assert same.tolist() == [index % 10 == 4 for index in range(25)]


def test_a_trained_gan_draws_in_other_windows(firstspike, gan_run):
    few = sampled(firstspike, gan_run, "few.npz", "--set", "steps=5")
    assert set(np.unique(few["images"])) <= {255 * value // 5 for value in range(6)}
    generator = load(gan_run, windows={"steps": 5})
    assert generator.stack.steps == 5
    assert np.array_equal(few["images"], sample(generator, 25).images.numpy())


def test_an_unconditional_gan_has_no_labels(firstspike, digit_gan_run):
    assert (sampled(firstspike, digit_gan_run, "a.npz")["labels"] == -1).all()


def test_an_ordinary_gan_has_no_spikes(firstspike, ann_gan_run):
    found = sampled(firstspike, ann_gan_run, "a.npz")
    assert (found["labels"] == -1).all()
    assert (found["spikes"] == -1).all()


def test_a_seed_chooses_the_images(firstspike, digit_gan_run):
    one = sampled(firstspike, digit_gan_run, "one.npz", "--seed", 7)
    same = sampled(firstspike, digit_gan_run, "same.npz", "--seed", 7)
    other = sampled(firstspike, digit_gan_run, "other.npz", "--seed", 8)
    assert all((one[name] == same[name]).all() for name in one)
    assert not (one["images"] == other["images"]).all((1, 2)).any()


def test_a_picture_opens_and_shows_every_image(firstspike, gan_run, tmp_path):
    answer = firstspike("sample", gan_run, "--count", 25, "--out", "new/folder/a.png")
    assert (answer.status, answer.out) == (0, "new/folder/a.png\n")
    with Image.open(tmp_path / "new/folder/a.png") as picture:
        assert picture.format == "PNG"
        # Ten to a row, so three rows.
        assert picture.width > 2 * picture.height
        assert len(picture.convert("L").getcolors()) > 10
    assert [path.name for path in (tmp_path / "new/folder").iterdir()] == ["a.png"]


def test_many_images_are_about_a_square(firstspike, gan_run, tmp_path):
    assert firstspike("sample", gan_run, "--count", 350, "--out", "a.png").status == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert 1 < picture.width / picture.height < 1.25


def test_more_than_a_picture_holds_are_refused_before_they_are_drawn(firstspike, gan_run, tmp_path):
    answer = firstspike("sample", gan_run, "--count", 10_001, "--out", "a.png")
    assert answer.refusal == "a .png holds 10,000 images at most; lower --count or write a .npz"
    assert contents(tmp_path) == {}


def test_an_older_file_is_replaced(firstspike, digit_gan_run, tmp_path):
    (tmp_path / "a.npz").write_text("old")
    replaced = sampled(firstspike, digit_gan_run, "a.npz")
    fresh = sampled(firstspike, digit_gan_run, "b.npz")
    assert np.array_equal(replaced["images"], fresh["images"])
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["a.npz", "b.npz"]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("digit_gan_run", ["--label", 3], "this generator takes no label; leave out --label"),
        ("digit_gan_run", ["--label", "three"], "this generator takes no label; leave out --label"),
        ("classifier_run", ["--label", "three"], "holds a classifier, which generates nothing"),
        ("gan_run", ["--label", 99], "--label must be 0 ... 9, found 99"),
        ("gan_run", ["--label", -1], "--label must be 0 ... 9, found -1"),
        *(
            ("gan_run", ["--label", value], f"expected an integer, 0 ... 9, found {value!r}")
            for value in ("nan", "inf", "1_0", "\u0663", "9" * 31, "")
        ),
        ("classifier_run", [], "holds a classifier, which generates nothing; give the folder of a GAN"),
    ],
)
def test_what_the_gan_cannot_make_is_refused(firstspike, request, tmp_path, kind, options, message):
    (tmp_path / "a.npz").write_text("old")
    before = contents(tmp_path)
    run = request.getfixturevalue(kind)
    assert message in firstspike("sample", run, "--count", 3, "--out", "a.npz", *options).refusal
    assert contents(tmp_path) == before


@pytest.mark.parametrize("suffix", ["png", "npz"])
def test_a_place_that_cannot_be_written_is_refused(firstspike, digit_gan_run, tmp_path, suffix):
    (tmp_path / "file").write_text("precious")
    (tmp_path / f"folder.{suffix}").mkdir()
    before = contents(tmp_path)
    for out, message in (
        (f"file/a.{suffix}", "file: File exists; name another path"),
        (f"file/deep/a.{suffix}", "file/deep: Not a directory; name another path"),
        (f"folder.{suffix}", f"folder.{suffix}: Is a directory; name another path"),
    ):
        assert firstspike("sample", digit_gan_run, "--count", 3, "--out", out).refusal == message
    assert contents(tmp_path) == before


def test_a_folder_that_is_no_run_is_refused(firstspike, tmp_path):
    assert "is not a run folder" in firstspike("sample", tmp_path, "--count", 3, "--out", "a.npz").refusal
    assert contents(tmp_path) == {}


def test_a_label_of_a_run_of_fit_does_not_hide_what_the_run_is(firstspike, tmp_path):
    net = Stack(Linear(4, 2, Window()), steps=8)
    data = (net.encode(torch.rand(4, 4)), torch.tensor([0, 1, 0, 1]))
    fit(net, data, loss=first_spike_cross_entropy, out=tmp_path / "run", epochs=1, show_progress=False)
    refusal = firstspike("sample", "run", "--count", 3, "--label", 1, "--out", "a.npz").refusal
    assert "this run holds the weights of a module Stack" in refusal
    assert not (tmp_path / "a.npz").exists()
