"""
Write your own neuron, loss and recipe
======================================

You will write a neuron that the library does not have, check it as the library checks its own, train it
with a loss of your own, and put all of it into a *recipe*, a value that holds every setting of a run.
Such a recipe trains into a run folder and is evaluated as the built-in ones are. All of this is Python in
your own file.

You need to know PyTorch, and that a spike time is an integer time step from 0 to ``T - 1`` while ``T``
means silent (:doc:`/tutorials/02_spike_times`).
"""

# %%
# A neuron
# --------
# The threshold of this neuron falls over time. During the window of its inputs the neuron sums them up to
# a membrane :math:`u`. Then its own window begins: the threshold halves every ``half_life`` steps, written
# :math:`h`, and the neuron fires in the first step in which the membrane is not below it. So a spike time
# is a logarithm, rounded, and small membranes are told apart in proportion as finely as large ones:
#
# .. math:: t = \mathrm{round}\left(h \log_2 \frac{\mathrm{start}}{u}\right)
#
# An input spike at step :math:`t` stands for the value :math:`2^{-t/h}`, and silence for 0. Thresholds that
# decay exponentially were used for one spike per neuron in T2FSNN (Park et al., DAC 2020).
import json
import math
import shutil
from dataclasses import dataclass
from functools import partial

import torch
from matplotlib.figure import Figure

import firstspike as fs

torch.set_num_threads(1)  # small networks are fastest on one thread


@dataclass(frozen=True, kw_only=True)
class Falling(fs.Neuron):
    """A neuron whose threshold halves every `half_life` steps."""

    start: float = 2.0
    half_life: float = 2.0

    def threshold(self, step):
        """Return the threshold in a step of the neuron's window; half a step on, so that times round."""
        return self.start * 2.0 ** (-(step + 0.5) / self.half_life)

    def membrane(self, connection, spikes):
        values = 2.0 ** (-spikes.times / self.half_life)
        return connection(torch.where(spikes.silent, 0.0, values))

    def fire(self, connection, spikes):
        lowest = self.start * 2.0 ** (-spikes.steps / self.half_life)
        membrane = self.membrane(connection, spikes).clamp(lowest, self.start)
        times = self.half_life * torch.log2(self.start / membrane)
        return fs.Spikes(fs.round_ste(times), spikes.steps)

    def waits(self, steps):
        """Return when the neuron's own window begins: when that of its inputs has ended."""
        return steps

    def additions(self, steps, *, biased):
        """Return the operations without a spike: a comparison in each step, counted as an addition."""
        return steps

    def encode(self, images, steps):
        """Return intensities as the spikes that this neuron reads."""
        values = images.double() / (255 if images.dtype == torch.uint8 else 1)
        times = (-self.half_life * torch.log2(values)).round().clamp(0, steps)
        return fs.Spikes(times.float(), steps)

    def simulate(self, connection, spikes):
        """Return the spikes of a walk through both windows, step by step."""
        membrane = connection(torch.zeros_like(spikes.times))
        for step, arriving in enumerate(spikes.raster().to(membrane.dtype)):
            membrane = membrane + connection(arriving, bias=0) * 2.0 ** (-step / self.half_life)
        times = torch.full_like(membrane, spikes.steps)
        for step in reversed(range(spikes.steps)):
            times = torch.where(membrane >= self.threshold(step), float(step), times)
        return fs.Spikes(times, spikes.steps)


# %%
# Only ``membrane`` and ``fire`` are required; the other questions that a neuron answers have defaults.
# ``connection(values)`` returns ``b + W x`` whatever the wiring is, so the class works in fully connected
# layers and in convolutions. ``fs.round_ste`` rounds, and the gradient passes straight through.
figure = Figure(figsize=(7.2, 2.6), layout="constrained")
left, right = figure.subplots(1, 2)
neuron, steps, inputs = Falling(), torch.arange(16), torch.linspace(0.01, 2, 500)
left.step(steps, neuron.threshold(steps), where="post", color="black")
for value, step in ((1.1, 2), (0.4, 5), (0.1, 9)):
    left.plot([0, step], [value, value], marker="o", markevery=[1])
left.set(xlabel="step of the neuron's window", ylabel="threshold and membranes", title="When it fires")
right.step(inputs, (2 * torch.log2(2 / inputs)).round(), where="post", label="Falling()")
right.step(inputs, fs.Window(high=2.0).quantise(inputs, 16).times, where="post", label="Window(high=2)")
right.set(
    xlabel="membrane", ylabel="spike time", xticks=[0, 0.5, 1, 1.5, 2], title="What a spike time says"
)
right.legend(frameon=False)
picture = fs.plot.save_figure(figure, "falling.png")

# %%
# Check it
# --------
# The library compares each of its neurons with a walk through the time steps that shares no formula with
# ``fire``; here that walk is ``simulate``. A second check is an invariance: weights and threshold that are
# multiplied by one factor change no spike. The third compares the gradient with the derivative of the
# formula, :math:`\partial t / \partial u = -h / (u \ln 2)` between both ends of the window.
torch.manual_seed(0)
train, validation, test = (fs.data.load("digits", split) for split in ("train", "validation", "test"))
spikes = neuron.encode(test.images.unsqueeze(1), steps=16).to(torch.float64)
for layer in (fs.Conv2d(1, 8, 3, neuron).double(), fs.Linear(64, 50, neuron).double()):
    different = layer(spikes).times != layer.simulate(spikes).times
    print(f"{type(layer).__name__}: {different.sum()} of {different.numel()} spike times differ")

twice = fs.Linear(64, 50, Falling(start=4.0)).double()
twice.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})
print("same spikes after scaling:", torch.equal(layer(spikes).times, twice(spikes).times))

out, membrane = layer.read(spikes)
out.times.sum().backward()
inside = (membrane > neuron.start * 2.0 ** (-out.steps / neuron.half_life)) & (membrane < neuron.start)
expected = torch.where(inside, -neuron.half_life / (membrane * math.log(2)), 0.0).sum(0)
print("gradient of the bias as expected:", torch.allclose(layer.bias.grad, expected))

# %%
# A loss
# ------
# A loss for ``fs.fit`` is a function of what the network returns and of the labels, a mean over the batch.
# The first part of this one wants the spike of the label to be the first; the second part wants the first
# spike to be early, whichever it is.


def hasty(out, labels, haste=1.0):
    """Return the cross-entropy of the spike times, plus `haste` times the share of the window waited."""
    waited = out.first() / out.steps
    return fs.first_spike_cross_entropy(out, labels, label_delay=2) + haste * waited.mean()


# %%
# A neuron of this class gets no gradient where its membrane lies far below the thresholds, so an output
# neuron could stay silent for good. The output is therefore a ``Window.output``, which has a gradient at
# both ends of its range. Layers of different neurons fit together, since only spike times pass between
# them.
shutil.rmtree("runs/your-own", ignore_errors=True)
for haste in (0.0, 1.0):
    torch.manual_seed(0)
    net = fs.Stack(fs.Linear(64, 64, neuron), fs.Linear(64, 10, fs.Window.output(steps=32)), steps=16)
    fs.fit(
        net,
        (net.encode(train.images), train.labels),
        validation=(net.encode(validation.images), validation.labels),
        loss=partial(hasty, haste=haste),
        epochs=8,
        batch_size=32,
        rate=5e-3,
        out=f"runs/your-own/haste-{haste}",
        show_progress=False,
    )
    cost = fs.report(net, test.images, test.labels)
    print(f"haste {haste}: accuracy {cost.accuracy:.2%}, decided after {cost.steps_to_decision:.1f} steps")

# %%
# The window of the output begins in step 32, after those of the input and of the hidden layer.
#
# A recipe
# --------
# A recipe is a frozen dataclass whose fields are the settings of a run. ``build`` returns the network
# and ``batch_loss`` the loss. ``fs.Classifier`` adds the optimiser, the schedule, the choice of the best
# epoch on the validation images, and the report. A *preset* is a named recipe with what it should reach.


@dataclass(frozen=True, kw_only=True)
class OneHidden(fs.Classifier):
    """A classifier with one hidden layer of any neuron."""

    dataset: str | fs.Dataset = "digits"
    neuron: fs.Neuron = Falling()
    steps: int = 16
    haste: float = 1.0
    rate: float = 5e-3
    batch_size: int = 32
    epochs: int = 8

    def build(self, shape, classes):
        hidden = fs.Linear(math.prod(shape), 64, self.neuron)
        return fs.Stack(hidden, fs.Linear(64, classes, fs.Window.output(steps=32)), steps=self.steps)

    def batch_loss(self, model, images, labels):
        return hasty(model(model.encode(images)), labels, self.haste)


summary, source = "a hidden layer whose thresholds fall", "this tutorial"
preset = fs.Preset("falling-digits", summary, source, OneHidden(), target={"accuracy": 0.95})
print(preset.expected)

# %%
# ``configure`` changes fields by name, as ``--set`` does on the command line. ``fs.train`` trains into a
# run folder, and ``fs.evaluate`` measures the run on the test images.
variants = {"half-life-2": {}, "half-life-1": {"neuron.half_life": "1"}, "window": {"neuron": "Window"}}
for name, changes in variants.items():
    recipe = preset.configure(changes=changes)
    folder = f"runs/your-own/{name}"
    run = fs.train(folder, preset.name, recipe, seed=0, threads=1, show_progress=False)
    found = fs.evaluate(run, show_progress=False)
    print(
        f"{name:<12} accuracy {found['accuracy']:.2%}, ties {found['tie_rate']:.2%}, "
        f"{found['spikes_per_hidden_neuron']:.2f} spikes per hidden neuron, {found['energy_pj']:.0f} pJ"
    )

# %%
# This is one seed on 300 images, on which a difference of a few points says nothing. To compare neurons,
# train several seeds; ``fs.experiments`` does that and writes the table. The energy counts additions. A
# weight times :math:`2^{-t/h}` is a shift where the half-life is 1, and otherwise a multiplication, which
# is not counted here.
#
# The run folder holds the neuron as its name and fields:
config = json.loads((run.path.parent / "half-life-1" / "config.json").read_text())["config"]
print(config["type"], config["neuron"])

# %%
# Another program that opens the run must import the module with your classes first, then
# ``fs.load("runs/your-own/half-life-1")`` finds them by name. ``firstspike evaluate`` cannot know them, so
# call ``fs.evaluate`` from Python. ``Falling`` has no integer form, so ``fs.integer`` and the
# exports to C and to a page refuse it.
#
# What next
# ---------
# - :doc:`/reference/neurons` lists every question that a neuron can answer.
# - :doc:`/reference/recipes-and-experiments` has the methods of recipes and the experiments.
# - :doc:`/tutorials/08_deep_network` builds deep networks from one line of text.
