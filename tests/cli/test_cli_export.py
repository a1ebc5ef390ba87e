"""``firstspike export``: a run as C, as a page, as NIR; refusals that leave nothing behind."""

import shutil
import subprocess
from dataclasses import replace

import pytest
import torch
from commands import contents

import firstspike as fs
from firstspike.training.network import shrink

HAS_COMPILER = shutil.which("cc") is not None


@pytest.fixture(scope="module")
def causal_run(tmp_path_factory):
    net = fs.Stack(
        fs.Linear(64, 8, fs.Causal(), generator=torch.Generator().manual_seed(0)),
        fs.Linear(8, 10, fs.Causal(), generator=torch.Generator().manual_seed(1)),
        steps=16,
    )
    path = tmp_path_factory.mktemp("causal") / "run"
    fs.save_network(path, net, "digits")
    return path


@pytest.mark.skipif(not HAS_COMPILER, reason="there is no C compiler")
@pytest.mark.parametrize(
    "options", [(), ("--bits", 4), ("--per", "layer"), ("--fine-tune", 1), ("--set", "steps=12")]
)
def test_a_classifier_in_c_passes_its_own_check(firstspike, classifier_run, options):
    answer = firstspike("export", classifier_run, "--format", "c", "--out", "net", *options)
    assert answer.status == 0
    # Only a training shows its progress.
    assert bool(answer.err) == ("--fine-tune" in options)
    assert answer.out.splitlines()[-1] == "net"
    assert answer.out.startswith("flash, bytes of tables ")
    steps = next(line for line in answer.out.splitlines() if line.startswith("steps at most"))
    # The input's window, the hidden neurons' 8 and the outputs' 32.
    assert int(steps.split()[-1]) == (12 if "--set" in options else 6) + 8 + 32
    assert subprocess.run(["make", "-s", "-C", "net", "check"], check=False).returncode == 0


@pytest.mark.skipif(not HAS_COMPILER, reason="there is no C compiler")
def test_a_generator_in_c_passes_its_own_check(firstspike, gan_run):
    assert firstspike("export", gan_run, "--format", "c", "--out", "net").status == 0
    assert subprocess.run(["make", "-s", "-C", "net", "check"], check=False).returncode == 0


@pytest.mark.parametrize("run", ["classifier_run", "gan_run"])
def test_a_page_is_one_file(firstspike, run, request, tmp_path):
    folder = request.getfixturevalue(run)
    answer = firstspike("export", folder, "--format", "html", "--out", "page.html")
    assert (answer.status, answer.out, answer.err) == (0, "page.html\n", "")
    assert list(contents(tmp_path)) == ["page.html"]
    assert "default-src 'none'" in (tmp_path / "page.html").read_text()


def test_nir_comes_back_as_the_same_network(firstspike, causal_run):
    pytest.importorskip("nir")
    answer = firstspike("export", causal_run, "--format", "nir", "--out", "net.nir")
    note = "not in the file: the encoder, and the decision (first spike; ties wrong; silence wrong)"
    assert (answer.status, answer.out, answer.err) == (0, f"{note}\nnet.nir\n", "")
    net, given = fs.from_nir("net.nir"), fs.load(causal_run)
    images = fs.data.load("digits", "test").images
    assert torch.equal(net(net.encode(images)).times, given(given.encode(images)).times)


def test_refusals_name_what_to_do_and_leave_nothing(
    firstspike, classifier_run, gan_run, ann_gan_run, tmp_path
):
    def refused(*arguments):
        text = firstspike("export", *arguments).refusal
        assert sorted(contents(tmp_path)) == ["full", "full/file"]
        return text

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert "full holds something already" in refused(classifier_run, "--format", "c", "--out", "full")
    assert "full is a folder; name a file" in refused(classifier_run, "--format", "html", "--out", "full")
    assert "mnist-classifier" in refused("nowhere", "--format", "c", "--out", "net")
    assert "mnist-classifier" in refused("mnist-clasifier", "--format", "html", "--out", "page.html")
    text = refused(classifier_run, "--format", "nir", "--out", "net.nir")
    assert "Window" in text
    text = refused(classifier_run, "--format", "nir", "--bits", 4, "--out", "net.nir")
    assert "--bits" in text
    assert "leave it out" in text
    assert "2 ... 8" in refused(classifier_run, "--format", "c", "--bits", 9, "--out", "net")
    assert "--fine-tune" in refused(gan_run, "--format", "c", "--fine-tune", 1, "--out", "net")
    assert "--data-dir" in refused(gan_run, "--format", "c", "--data-dir", tmp_path, "--out", "net")
    inside = refused(classifier_run, "--format", "html", "--out", classifier_run / "model.safetensors")
    assert "lies in the run itself" in inside
    assert "exported" in refused(ann_gan_run, "--format", "c", "--out", "net")
    assert "invalid choice: 'onnx'" in refused(classifier_run, "--format", "onnx", "--out", "net")


def test_a_shrunk_run_is_measured_sampled_and_exported_alike(firstspike, classifier_run, gan_run, tmp_path):
    whole = fs.integer(fs.RunFolder.open(gan_run).load())
    small = shrink(fs.RunFolder.open(gan_run), tmp_path / "gan")
    labels = torch.arange(10)
    noise = whole.noise(10, torch.Generator().manual_seed(0))
    again = fs.integer(small.load())
    assert torch.equal(again(noise, labels).times, whole(noise, labels).times)
    for one, other in zip(again.stack.integers, whole.stack.integers, strict=True):
        assert torch.equal(one.connections[0].weight, other.connections[0].weight)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path / "gan", gan_run)]
    assert sizes[0] < sizes[1] / 3
    answer = firstspike("sample", tmp_path / "gan", "--count", 10, "--out", "digits.png")
    assert (answer.status, answer.out) == (0, "digits.png\n")
    # An encoder that leaves dark pixels out is no part of a network's description.
    run = fs.RunFolder.open(classifier_run)
    darker = replace(run, config=replace(run.config, min_intensity=100.0))
    with pytest.raises(fs.InputError, match="encoder"):
        shrink(darker, tmp_path / "classifier")
    assert not (tmp_path / "classifier").exists()


def test_a_shrunk_classifier_is_the_integer_network(causal_run, tmp_path):
    run = fs.RunFolder.open(causal_run)
    small = shrink(run, tmp_path / "small", bits=4)
    images = fs.data.load("digits", "test").images
    whole = fs.integer(run.config.exported(run.load()), bits=4)
    net = small.load()
    assert torch.equal(net(net.encode(images)).times, whole(whole.encode(images)).times)
    figures = fs.evaluate(small)
    assert figures["count"] == 300
