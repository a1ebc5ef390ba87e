"""The demo, shortened to one epoch: everything is there, and nothing is done twice."""

import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from firstspike.experiments.demo import by_class, demo
from firstspike.support import InputError

PICTURES = {
    "samples.png",
    "comparison.png",
    "raster.png",
    "decision.gif",
    "curves-spiking-gan-conditional.png",
    "curves-ann-gan-conditional.png",
    "curves-aggressive-ttfs-window.png",
}


class Page(HTMLParser):
    """Collects texts and pictures."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.pictures = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "demo"
    assert demo(path, epochs=1, threads=torch.get_num_threads()) == path / "report.html"
    return path


def test_runs_pictures_and_report_are_there(out):
    assert {path.name for path in out.iterdir()} == {
        "gan",
        "ann-gan",
        "classifier",
        "pictures",
        "report.html",
    }
    assert {path.name for path in (out / "pictures").iterdir()} == PICTURES
    for name in ("gan", "ann-gan", "classifier"):
        assert (out / name / "model.safetensors").exists()
    for path in (out / "pictures").iterdir():
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 50
            assert len(picture.convert("RGB").getcolors(10**6)) > 5
    with Image.open(out / "pictures" / "decision.gif") as animation:
        assert animation.n_frames > 5


def test_the_report_holds_every_picture_and_needs_no_network(out):
    html = (out / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert len(page.pictures) == len(PICTURES)
    assert all(source.startswith("data:image/") for source in page.pictures)
    assert not re.search(r"https?:|<script|<link", html)
    texts = " ".join(page.texts)
    for expected in (
        "Every neuron spikes at most once",
        "FD, digits-CNN features",
        "first spike; ties wrong; silence wrong",
        "single-spike GAN",
        "mean image",
        "firstspike",
        "digits, 1 x 8 x 8, 10 classes; batch_size 32, epochs 1, ",
        "hidden_features 200, min_intensity 0.0",
        "A grey block is a layer's window",
        "Yellow fires now",
    ):
        assert expected in texts


def test_a_second_demo_needs_resume_and_then_trains_nothing(out, monkeypatch):
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="holds a run already; give another out, or resume"):
        demo(out, epochs=1, threads=torch.get_num_threads())
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def unwanted(*_, **__):
        raise AssertionError("a finished run is not trained again")

    monkeypatch.setattr("firstspike.training.run.train_recipe", unwanted)
    demo(out, epochs=1, threads=torch.get_num_threads(), resume=True)
    for path, content in before.items():
        if path.suffix in (".safetensors", ".json", ".png"):
            assert path.read_bytes() == content, path


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(InputError, match="not empty and holds no demo; give another out"):
        demo(tmp_path, epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "mine"


def test_a_demo_of_other_epochs_is_not_mixed_in(out):
    with pytest.raises(InputError, match="epochs 1 there, 2 asked for"):
        demo(out, epochs=2, threads=torch.get_num_threads(), resume=True)


def test_the_first_image_of_each_class():
    images = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1)
    assert by_class(images, torch.tensor([2, 0, 2, 5, 0, 5])).flatten().tolist() == [1, 0, 3]
