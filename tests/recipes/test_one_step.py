"""One-step networks in the training loop: they learn, resume, mix images and bound gradients."""

import dataclasses

import pytest
import torch
from builders import refused

from firstspike.data import ImageSet
from firstspike.models.patches.settings import PatchCarry
from firstspike.recipes.augmentation import Augmentation
from firstspike.recipes.one_step import OneStepRecipe, mix
from firstspike.recipes.optimizers import Sgd
from firstspike.support import InputError
from firstspike.training.evaluation import evaluate
from firstspike.training.loop import train_recipe
from firstspike.training.run import train as train_run
from firstspike.training.run_folder import RunFolder

# A core that is shared makes two threads wait for each other.
pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = OneStepRecipe(
    dataset="digits", layout="16C3-D-16C3-24G-24C3", head_size=2, epochs=3, batch_size=32, rate=1e-2
)


def trained(path, config, train, validation):
    run = RunFolder.create(path, "x", config, 0, resume=True)
    train_recipe(run, train, validation, show_progress=False)
    return run


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        dataclasses.replace(SMALL, layout="16L3-8B-16C3", precision="float32", epochs=5),
        dataclasses.replace(SMALL, neuron=PatchCarry(grid=1, projection="sine_layer")),
        dataclasses.replace(SMALL, neuron=PatchCarry(fractional=True), dropout=0.1),
        dataclasses.replace(SMALL, optimizer=Sgd(), rate=0.1, mixup=0.1, clip_norm=20, label_smoothing=0.1),
    ],
    ids=["cnn", "lstm", "swapped", "fractions", "sgd"],
)
def test_it_learns_the_digits(tmp_path, config, train, validation):
    run = trained(tmp_path / "run", config, train, validation)
    best = max(record["validation_accuracy"] for record in run.load_state().records)
    assert best > 0.8
    report = run.config.report(run.load(), validation)
    assert report.accuracy == pytest.approx(best)
    assert 0 < report.spikes_per_neuron < 1


def test_a_run_goes_on_to_the_same_bits(tmp_path, train, validation):
    few = ImageSet("digits", "train", train.images[:150], train.labels[:150], 10)
    config = dataclasses.replace(
        SMALL, epochs=3, optimizer=Sgd(), mixup=0.2, augmentation=Augmentation(shift_px=1, flip=True)
    )
    whole = trained(tmp_path / "whole", config, few, validation)
    parts = RunFolder.create(tmp_path / "parts", "x", config, 0, resume=True)

    def stop(epoch, model):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_recipe(parts, few, validation, show_progress=False, watch=stop)
    assert parts.load_state().epoch == 1
    parts = trained(tmp_path / "parts", config, few, validation)
    one, two = whole.load_state(), parts.load_state()
    assert one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)


def test_mixed_labels_are_the_shares_of_the_mixed_images():
    torch.manual_seed(0)
    images = torch.zeros(6, 1, 4, 4, dtype=torch.uint8)
    images[:3] = 200
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    for _ in range(20):
        mixed, shares = mix(images, labels, 1.0, 2)
        torch.testing.assert_close(shares.sum(1), torch.ones(6))
        # Only images of class 0 are bright.
        brightness = mixed.float().mean((1, 2, 3)) / 200
        torch.testing.assert_close(brightness, shares[:, 0], atol=0.01, rtol=0)
        # Floats in 0 ... 1 stay floats.
        mixed, shares = mix(images.float() / 255, labels, 1.0, 2)
        torch.testing.assert_close(mixed.mean((1, 2, 3)) * 255 / 200, shares[:, 0])
    same, shares = mix(images, labels, 0.0, 2)
    assert torch.equal(same, images)
    assert torch.equal(shares.argmax(1), labels)


def test_gradients_are_bounded_before_each_step(train):
    config = dataclasses.replace(SMALL, optimizer=Sgd(), clip_norm=0.5, weight_decay=0.0)
    torch.manual_seed(0)
    model = config.build((1, 8, 8), train.num_classes)
    optimizer = config.optimizers(model)["optimizer"]
    before = [p.detach().clone() for p in model.parameters()]
    (1e4 * config.batch_loss(model, train.images[:32], train.labels[:32])).backward()
    optimizer.step()
    moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(model.parameters(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.5 * config.rate, rel=1e-3)


def test_evaluate_reports_the_run(tmp_path, train, validation):
    run = trained(tmp_path / "run", dataclasses.replace(SMALL, epochs=1), train, validation)
    figures = evaluate(run)
    assert figures["split"] == "test"
    assert figures["steps_to_decision"] == 1
    assert "no spike decision" in figures["decision_rule"]


def test_diagnose_is_refused_for_one_step(tmp_path):
    with refused(InputError, "--diagnose", "leave it out"):
        train_run(tmp_path / "run", "x", SMALL, 0, diagnose=print)


@pytest.mark.parametrize(
    ("layout", "named"),
    [
        ("8C3-F9", "F9"),
        ("D-8C3", "first"),
        ("8C3s2-D", "nG"),
        ("8C3-A2", "Ek behind nCk"),
        ("8L3-E2", "Ek behind nCk"),
        ("W2-E2-8C3", "Ek behind nCk"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(layout, named):
    with refused(InputError, "layout", named):
        OneStepRecipe(layout=layout)
