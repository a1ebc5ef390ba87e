"""``firstspike convert``: an ONNX file becomes a run that other verbs take."""

import json
import os
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import contents
from torch import nn

import firstspike as fs
from firstspike.data import load
from firstspike.training.run_folder import RunFolder

pytest.importorskip("onnx")


def trained() -> nn.Module:
    """A small network of images 1 x 8 x 8 after some steps of training on the digits."""
    digits = load("digits", "train")
    images = digits.images.unsqueeze(1).float() / 255
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 10),
        )
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), digits.labels).backward()
        optimizer.step()
    return net.eval()


def export(net: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given, axes = torch.zeros(2, *shape), {"x": {0: "n"}}
        torch.onnx.export(net, (given,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)


class Trap:
    """What makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("trap",)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Networks as ONNX files, and what they are calibrated on."""
    folder = tmp_path_factory.mktemp("files")
    digits = load("digits", "train")
    images, labels = digits.images.numpy(), digits.labels.numpy()
    export(trained(), (1, 8, 8), folder / "net.onnx")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rows = nn.Sequential(nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))
        grey = nn.Sequential(nn.Flatten(), *rows)
        colour = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        odd = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 10))
        dead = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        dead[0].bias.data.fill_(-100.0)
    export(rows, (64,), folder / "rows.onnx")
    export(grey, (8, 8), folder / "grey.onnx")
    export(colour, (3, 8, 8), folder / "colour.onnx")
    export(odd, (1, 8, 8), folder / "odd.onnx")
    export(dead, (1, 8, 8), folder / "dead.onnx")
    (folder / "damaged.onnx").write_bytes((folder / "net.onnx").read_bytes()[:-200])
    (folder / "text.onnx").write_text("no network")
    torch.save(rows, folder / "pickle.onnx")
    floats, some = images.astype(np.float64) / 255, images[:200]
    red = np.random.default_rng(0).random((50, 8, 8, 3))
    for name, arrays in {
        "some": {"x": some},
        "all": {"images": images},
        "float": {"whatever": floats[:200].astype(np.float32)},
        "labelled": {"x_train": images, "y_train": labels, "x": 1 - floats},
        "tested": {
            "x_train": images[:600],
            "y_train": labels[:600],
            "x_validation": images[600:700],
            "y_validation": labels[600:700],
            "x_test": images[700:800],
            "y_test": labels[700:800],
        },
        "unlabelled": {"x_train": some, "x": images[300:]},
        "colour": {"x": red},
        "first": {"x": red.transpose(0, 3, 1, 2)},
        "table": {"x": floats[:200].reshape(200, 64)},
        "classes": {"x_train": floats.reshape(-1, 64), "y_train": labels},
        "larger": {"x": np.zeros((20, 9, 9), np.uint8)},
        "negative": {"x": floats[:20] - 0.5},
        "nan": {"x": np.full((20, 8, 8), np.nan)},
        "int": {"x": some.astype(np.int64)},
        "one": {"x": images[:1]},
        "none": {"x": images[:0]},
        "numbers": {"x": np.zeros(5)},
        "two": {"a": some, "b": some},
        "gap": {"x_train": some, "y_train": labels[:200] * 2},
        "half": {"y_train": labels},
        "many": {"x_train": some, "y_train": np.arange(200) % 11},
        "thing": {"x": np.array([Trap(), Trap()], object)},
    }.items():
        np.savez(folder / f"{name}.npz", **arrays)
    (folder / "cut.npz").write_bytes((folder / "some.npz").read_bytes()[:-200])
    return folder


@pytest.fixture
def convert(firstspike, files):
    """The verb on files of the fixture."""

    def call(model, calibration, *options):
        given = ("--calibration", files / f"{calibration}.npz")
        return firstspike("convert", files / f"{model}.onnx", *given, *options)

    return call


def same(run, net, images):
    loaded = RunFolder.open(run).load()
    with torch.no_grad():
        (one, membrane), (two, other) = (each.read(each.encode(images)) for each in (loaded, net))
    return torch.equal(membrane, other) and all(
        torch.equal(a.times, b.times) and a.steps == b.steps for a, b in zip(one, two, strict=True)
    )


def test_a_file_becomes_a_run_that_is_measured(convert, firstspike, files):
    answer = convert("net", "some", "--dataset", "digits", "--out", "runs/mine")
    assert (answer.status, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert [line.rsplit(maxsplit=1) for line in lines[:-1]] == [
        ["layers", "3"],
        ["neurons", "650"],
        ["steps to the end of the output", "544"],
        ["calibration images", "200"],
    ]
    assert lines[-1] == "runs/mine"
    with np.load(files / "some.npz") as file:
        images = torch.from_numpy(file["x"]).unsqueeze(1)
    net = fs.from_onnx(files / "net.onnx", images)
    test = load("digits", "test")
    assert same(lines[-1], net, test.images)
    figures = json.loads(firstspike("evaluate", "runs/mine", "--json").out)
    expected = fs.report(net, test.images.unsqueeze(1), test.labels)
    assert figures["accuracy"] == expected.accuracy > 0.9
    assert figures["synops"] == expected.synops
    assert (figures["dataset"], figures["count"]) == ("digits", 300)
    assert "accuracy" in firstspike("evaluate", "runs/mine").out
    config = json.loads(Path("runs/mine/config.json").read_text())
    assert config["command"].startswith("firstspike convert ")


def test_every_option_is_from_onnx_s(convert, files):
    with np.load(files / "float.npz") as file:
        images = torch.from_numpy(file["whatever"]).unsqueeze(1)
    rest = ("--steps", 8, "--output-steps", 100, "--mean", "0.1", "--std", "0.9", "--ranges", "0.99")
    assert convert("net", "float", *rest, "--out", "run").status == 0
    how = {"steps": 8, "output_steps": 100, "mean": 0.1, "std": 0.9, "ranges": 0.99}
    assert same("run", fs.from_onnx(files / "net.onnx", images, **how), images)
    assert convert("net", "float", "--ranges", "maximum", "--out", "widest").status == 0
    assert same("widest", fs.from_onnx(files / "net.onnx", images, ranges="maximum"), images)


@pytest.mark.parametrize(
    ("model", "calibration"),
    [("rows", "some"), ("rows", "table"), ("grey", "some"), ("colour", "colour"), ("colour", "first")],
)
def test_images_are_given_as_the_network_takes_them(convert, files, model, calibration):
    (values,) = np.load(files / f"{calibration}.npz").values()
    images = torch.from_numpy(values)
    if model == "colour":
        images = images if calibration == "first" else images.permute(0, 3, 1, 2)
        mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
        options = ("--mean", "0.5,0.4,0.3", "--std", "0.2,0.3,0.4")
        net = fs.from_onnx(files / "colour.onnx", images.float(), mean=mean, std=std)
    else:
        options = ()
        images = (images if images.dtype == torch.uint8 else images.float()).clone()
        given = images.flatten(1) if model == "rows" else images
        net = fs.from_onnx(files / f"{model}.onnx", given)
    assert convert(model, calibration, *options, "--out", "run").status == 0
    assert same("run", net, images if model == "colour" else images.flatten(1))


def test_at_most_a_thousand_images_evenly_chosen(convert, files):
    answer = convert("net", "all", "--out", "run")
    assert "calibration images              1,000\n" in answer.out
    images = load("digits", "train").images
    chosen = images[[k * len(images) // 1000 for k in range(1000)]].unsqueeze(1)
    assert same("run", fs.from_onnx(files / "net.onnx", chosen), images[:100])


def test_labelled_data_are_what_it_is_measured_on_but_not_what_calibrates(convert, firstspike, files):
    for name, count in (("labelled", 179), ("tested", 100)):
        assert convert("net", name, "--out", name).status == 0
        data = RunFolder.open(name).config.dataset
        assert (data.path, data.test) == (str(files / f"{name}.npz"), count)
        train = data.load("train")
        net = fs.from_onnx(files / "net.onnx", train.images.unsqueeze(1))
        assert same(name, net, train.images[:100])
        figures = json.loads(firstspike("evaluate", name, "--json").out)
        assert (figures["dataset"], figures["count"]) == (name, count)
        assert figures["accuracy"] > 0.85
    # Labels of one file, others to be measured on.
    assert convert("net", "labelled", "--data", files / "tested.npz", "--out", "run").status == 0
    assert RunFolder.open("run").config.dataset.name == "tested"


def test_labelled_plain_numbers(convert, firstspike, files):
    assert convert("rows", "classes", "--out", "run").status == 0
    train = RunFolder.open("run").config.dataset.load("train").images.squeeze(1)
    assert same("run", fs.from_onnx(files / "rows.onnx", train), train)
    assert json.loads(firstspike("evaluate", "run", "--json").out)["count"] == 179


def test_x_train_comes_before_x(convert):
    assert "calibration images              200\n" in convert("net", "unlabelled", "--out", "run").out


def test_without_labels_evaluate_is_told_the_data(convert, firstspike, files):
    assert convert("net", "some", "--out", "run").status == 0
    refusal = firstspike("evaluate", "run").refusal
    assert refusal == (
        "the run names no data set; name labelled images by --data, or save it with one: "
        "save_network(path, net, data)"
    )
    figures = json.loads(firstspike("evaluate", "run", "--data", files / "tested.npz", "--json").out)
    assert (figures["dataset"], figures["count"]) == ("tested", 100)


def test_other_verbs_refuse_it_in_one_line(convert, firstspike, tmp_path):
    assert convert("net", "some", "--out", "run").status == 0
    before = contents(tmp_path)
    refusal = firstspike("sample", "run", "--count", 3, "--out", "a.png").refusal
    assert "generates nothing" in refusal
    words = ("train", "aggressive-ttfs-window", "--dataset", "digits", "--out", "run")
    refusal = firstspike(*words, "--resume").refusal
    assert refusal == "run holds a converted network, which is not trained; give another --out"
    assert "holds a run already" in firstspike(*words).refusal
    assert "unknown preset 'converted'" in firstspike("train", "converted").refusal
    assert contents(tmp_path) == before


# The model, the calibration, more words, and what stands in the refusal.
REFUSED = {
    "no model": ("nowhere some", "nowhere.onnx is no file; give an ONNX file"),
    "damaged": ("damaged some", "damaged.onnx is damaged or no ONNX file"),
    "text": ("text some", "text.onnx is damaged or no ONNX file"),
    "pickle": ("pickle some", "pickle.onnx is a pickled file of torch, which can run code"),
    "operator": ("odd some", "(Sigmoid) cannot be converted"),
    "dead": ("dead some", "never active on the calibration images"),
    "no calibration": ("net nowhere", "nowhere.npz is no file; name an .npz file with images"),
    "cut": ("net cut", "is no .npz file, or a truncated one"),
    "size": ("net larger", "takes 1 x 8 x 8, found calibration images of 1 x 9 x 9"),
    "colours": ("net colour", "takes 1 x 8 x 8, found calibration images of 3 x 8 x 8"),
    "numbers": ("net table", "takes 1 x 8 x 8, found calibration images of 64"),
    "negative": ("net negative", "negative.npz: x must lie in 0 ... 1, found -0.5"),
    "NaN": ("net nan", "nan.npz: x holds NaN, first in sample 0"),
    "int64": ("net int", "int.npz: x must be uint8 0 ... 255 or floats 0 ... 1, found int64"),
    "one image": ("net one", "calibration must be two images or more"),
    "no image": ("net none", "none.npz: x must be (count, height, width)"),
    "one axis": ("net numbers", "numbers.npz: x must be (count, height, width)"),
    "no array": ("net two", "holds a, b; expected images as x_train, x, images or as the only array"),
    "labels": ("net gap", "must be 0 ... n - 1 without a gap"),
    "labels only": ("net half", "lacks x_train"),
    "objects": ("net thing", "x cannot be read: Object arrays cannot be loaded"),
    "steps 1": ("net some --steps 1", "--steps: expected an integer, 2 ... 65,535, found '1'"),
    "steps 0": ("net some --steps 0", "--steps: expected an integer, 2 ... 65,535, found '0'"),
    "steps 1.5": ("net some --steps 1.5", "--steps: expected an integer, 2 ... 65,535, found '1.5'"),
    "output": ("net some --output-steps 1", "--output-steps: expected an integer, 2 ... 65,535"),
    "ranges": ("net some --ranges 2", "expected error, maximum or a share in 0.5 ... 1, found '2'"),
    "no ranges": ("net some --ranges nan", "expected error, maximum or a share in 0.5 ... 1, found 'nan'"),
    "mean": ("net some --mean 1,x", "--mean: expected a number, found 'x'"),
    "means": ("net some --mean 1,2", "mean must be one number or 1, one a channel"),
    "std": ("net some --std 0", "std above 0"),
    "data set": ("net some --dataset digit", "unknown data set 'digit'"),
    "its images": ("net some --dataset mnist", "does not take the images of mnist"),
    "data": ("net some --data nowhere", "nowhere does not exist"),
    "both": ("net some --data a --dataset digits", "not allowed with argument"),
}


@pytest.mark.parametrize(("line", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_one_line_and_leaves_nothing(convert, tmp_path, line, message):
    model, calibration, *options = line.split()
    assert message in convert(model, calibration, *options, "--out", "new/run").refusal
    assert contents(tmp_path) == {}


def test_data_that_do_not_fit_are_refused_before_the_work(convert, files, monkeypatch):
    monkeypatch.setattr("firstspike.models.convert.from_onnx", lambda *_, **__: pytest.fail("converted"))
    refusal = convert("net", "some", "--dataset", "mnist", "--out", "run").refusal
    assert "images of mnist: they are 1 x 28 x 28, those of the calibration 1 x 8 x 8" in refusal
    refusal = convert("net", "some", "--data", files / "many.npz", "--out", "run").refusal
    assert refusal == "the network gives 10 outputs, many has 11 classes; name other data"


def test_a_missing_package_is_named(convert, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert 'pip install "firstspike[onnx]"' in convert("net", "some", "--out", "run").refusal
    assert contents(tmp_path) == {}


def test_where_it_goes_is_named_and_free(convert, files, tmp_path):
    assert "--out" in convert("net", "some").refusal
    assert contents(tmp_path) == {}
    Path("full").mkdir()
    shutil.copy(files / "some.npz", "full/file")
    before = contents(tmp_path)
    for out in ("full", "full/file"):
        # Before anything is read.
        refusal = convert("nowhere", "nowhere", "--out", out).refusal
        assert refusal == f"{out} holds something already; give another folder"
    assert contents(tmp_path) == before


def test_help_fits_80_columns(firstspike, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = firstspike("convert", "--help").out
    assert max(map(len, text.splitlines())) <= 80
    assert "of more than 1,000 so many are used, evenly chosen" in " ".join(text.split())
