"""A recipe of a user's own, in one class: trained, saved, loaded, evaluated."""

import json
from dataclasses import dataclass

import torch
from builders import refused

from firstspike.losses import first_spike_cross_entropy
from firstspike.neurons import Window
from firstspike.nn import Linear, Stack
from firstspike.recipes.base import Classifier
from firstspike.recipes.fields import Count, Positive, Rate
from firstspike.spikes import encode_latency
from firstspike.support import InputError
from firstspike.training.evaluation import evaluate
from firstspike.training.run import train
from firstspike.training.run_folder import RunFolder

NEURON = Window(steps=32, saturation="one_sided")


@dataclass(frozen=True, kw_only=True)
class OneLayer(Classifier):
    """Window neurons without a hidden layer."""

    dataset: str = "digits"
    steps: Count = 8
    neuron: Window = NEURON
    sharpness: Positive = 12.0
    rate: Rate = 1e-2
    batch_size: Count = 32
    epochs: Count = 3

    def build(self, shape, classes):
        channels, height, width = shape
        return Stack(Linear(channels * height * width, classes, self.neuron), steps=self.steps)

    def batch_loss(self, model, images, labels):
        out = model(encode_latency(images.flatten(1), self.steps))
        return first_spike_cross_entropy(out, labels, sharpness=self.sharpness)


def test_it_trains_and_is_evaluated_from_its_folder(tmp_path):
    recipe = OneLayer(sharpness=10)
    made = train(tmp_path / "run", "mine", recipe, 0, threads=1, show_progress=False)
    run = RunFolder.open(made.path)
    assert run.config == recipe
    records = run.load_state().records
    assert max(record["validation_accuracy"] for record in records) > 0.8
    figures = evaluate(run)
    assert figures["preset"] == "mine"
    assert figures["accuracy"] > 0.8
    assert figures["spikes_to_decision"] > 0
    with refused(InputError, "generates nothing", "give the folder of a GAN"):
        recipe.sample(run.load(), 3)
    with refused(InputError, "sharpness 10 there, 12.0 asked for", "give another --out"):
        train(tmp_path / "run", "mine", OneLayer(), 0, resume=True)


def test_a_run_of_a_class_that_is_not_imported_says_so(tmp_path):
    run = RunFolder.create(tmp_path / "run", "mine", OneLayer(), 0)
    document = json.loads((run.path / "config.json").read_text())
    document["config"]["type"] = "Elsewhere"
    (run.path / "config.json").write_text(json.dumps(document))
    with refused(InputError, "'Elsewhere'", "import the module"):
        RunFolder.open(run.path)


def test_loading_draws_no_random_numbers(tmp_path):
    run = train(tmp_path / "run", "mine", OneLayer(epochs=1), 0, threads=1, show_progress=False)
    before = torch.random.get_rng_state()
    run.load()
    assert torch.random.get_rng_state().equal(before)
