"""
Train on your own data
======================

You will write arrays into a file, train a preset on it, train a network of your own on the same data, and
see what the library says when data cannot be used.

You need to know what an array of images and one of labels look like. Any images of one size will do, and
so will tables of numbers.
"""

# %%
# Some data
# ---------
# Here are 1,600 images of 16 x 16 pixels with four kinds of shapes, at random places and in noise. Yours
# may come from anywhere. Intensities are ``uint8``, 0 to 255, or floats in 0 to 1; labels are integers 0,
# 1, 2, ... without a gap.
import shutil
from pathlib import Path

import numpy as np
import torch

import firstspike as fs

torch.set_num_threads(1)  # small networks are fastest on one thread

draw = np.random.default_rng(0)
names = "bar", "cross", "square", "corner"
shapes = np.zeros((4, 7, 7))
shapes[0, 3] = shapes[1, 3] = shapes[1, :, 3] = 1
shapes[2, [0, -1]] = shapes[2, :, [0, -1]] = 1
shapes[3, -1] = shapes[3, :, 0] = 1

labels = np.arange(1600) % 4
images = draw.uniform(0, 0.4, (1600, 16, 16))
for image, label in zip(images, labels, strict=True):
    y, x = draw.integers(1, 9, 2)
    image[y : y + 7, x : x + 7] += 0.6 * shapes[label]
images = (255 * images).astype(np.uint8)

figure = fs.plot.sample_grid(images[:24], 12, labels=[names[label] for label in labels[:24]])
picture = fs.plot.save_figure(figure, "shapes.png")

# %%
# Into a file
# -----------
# An ``.npz`` file with the arrays ``x_train`` and ``y_train`` is enough. ``fs.data.own`` reads it and
# says what it found. Where the file has no ``x_validation`` and ``y_validation``, or no ``x_test`` and
# ``y_test``, 15 % of each class are held out for that purpose, always the same images.
folder = Path("runs/own-data")
shutil.rmtree(folder, ignore_errors=True)
folder.mkdir(parents=True)
np.savez(folder / "shapes.npz", x_train=images, y_train=labels)

data = fs.data.own(folder / "shapes.npz")
print("shape of a sample", data.shape, "classes", data.classes)
print("to train", data.train, "to validate", data.validation, "to test", data.test)

# %%
# ``fs.data.own((images, labels))`` takes the arrays as they are, and ``fs.data.own(dataset)`` a
# ``torch.utils.data.Dataset``. A folder of images works like the file. It has a sub-folder of PNG or JPEG
# images for each class, and its name becomes the name of the class:
#
# .. code-block:: text
#
#    shapes/bar/0001.png ...
#    shapes/corner/0001.png ...
#    shapes/cross/0001.png ...
#    shapes/square/0001.png ...
#
# A preset
# --------
# A *preset* is a named recipe for a training run. ``configure`` fits it to the data, which say the size of
# the images and the number of classes. ``fs.train`` trains into a *run folder*, which holds its state
# after every epoch, and ``fs.evaluate`` measures the finished run on the test images. A run on a file
# finds its data again by their path, and refuses them if they have changed.
preset = fs.preset("aggressive-ttfs-window")
config = preset.configure(dataset=data, epochs=20)
run = fs.train(folder / "preset", preset.name, config, seed=0, show_progress=False)
figures = fs.evaluate(run, show_progress=False)
for name in ("accuracy", "tie_rate", "silent_rate", "decision_rule", "spikes_to_decision"):
    print(f"{name:20}{figures[name]}")

# %%
# The accuracy is that of the first output spike; a tie (two outputs fire first in the same step) and
# silence (none fires) count as wrong.
#
# On the command line:
#
# .. code-block:: console
#
#    $ firstspike train aggressive-ttfs-window --data shapes.npz --epochs 20 --out runs/shapes
#    $ firstspike evaluate runs/shapes
#
# Change a field of the preset
# ----------------------------
# A preset was made for other data than yours, so look at its fields: ``print(config)``, or
# ``firstspike presets aggressive-ttfs-window``. This one leaves pixels darker than 128 of 255 silent,
# which is meant for MNIST and also removes the noise here. Without that the network has to learn to
# ignore the noise, for which 20 epochs are too few:
noisy = preset.configure(dataset=data, epochs=20, changes={"min_intensity": "0"})
run = fs.train(folder / "noisy", preset.name, noisy, seed=0, show_progress=False)
figures = fs.evaluate(run, show_progress=False)
print(f"accuracy {figures['accuracy']:.3f}, spikes to the decision {figures['spikes_to_decision']:.0f}")

# %%
# The values are texts, as on the command line: ``--set min_intensity=0``.
#
# A network of your own
# ---------------------
# ``fs.fit`` trains any module. A ``Stack`` takes spikes, so it is given encoded images. Convolutions find
# a shape wherever it is, here in spite of the noise, which is encoded too. The epoch with the lowest
# validation loss is kept.
train, validation, test = (fs.data.load(data, split) for split in ("train", "validation", "test"))
torch.manual_seed(0)
net = fs.Stack(
    fs.Conv2d(1, 16, 5, stride=2, padding=2, neuron=fs.Window(high=2.0, steps=8)),
    fs.Conv2d(16, 32, 3, stride=2, padding=1, neuron=fs.Window(high=2.0, steps=8)),
    fs.Linear(32 * 4 * 4, data.classes, neuron=fs.Window.output(steps=32)),
    steps=8,
)


def loss(out, labels):
    return fs.first_spike_cross_entropy(out, labels, label_delay=2)


fitted = fs.fit(
    net,
    (net.encode(train.images), train.labels),
    validation=(net.encode(validation.images), validation.labels),
    loss=loss,
    epochs=15,
    batch_size=32,
    rate=5e-3,
    out=folder / "own",
    show_progress=False,
)
with torch.no_grad():
    verdict = fs.FirstSpike().decide(net(net.encode(test.images)))
print(verdict.score(test.labels))

# %%
# Wrong decisions are worth a look. ``-`` stands for a tie or silence, which have no label.
right = verdict.right(test.labels)
chosen = torch.cat([(~right).nonzero().flatten(), right.nonzero().flatten()])[:12]
said = [names[label] if label >= 0 else "-" for label in verdict.label[chosen]]
figure = fs.plot.sample_grid(test.images[chosen], 12, labels=said, title="Decisions, the wrong ones first")
picture = fs.plot.save_figure(figure, "decisions.png")

# %%
# Messages you may meet
# ---------------------
# Data that cannot be used raise ``fs.InputError`` with one line that says what was found and what to do;
# the command line prints that line and exits with status 2.
problems = {
    "labels from 1 to 4": (images, labels + 1),
    "intensities of 16 bits": (images.astype(np.int32) * 256, labels),
    "floats above 1": (images.astype(float), labels),
}
for problem, arrays in problems.items():
    try:
        fs.data.own(arrays)
    except fs.InputError as error:
        print(f"{problem}:\n    {error}")

# %%
# A run folder is never overwritten. Give another folder, go on with ``resume=True`` (``--resume``), or
# remove it:
try:
    fs.train(folder / "preset", preset.name, config, seed=0)
except fs.InputError as error:
    print(error)

# %%
# What next
# ---------
# - :doc:`/own-data` says exactly what is read, how it is split and what is recorded.
# - :doc:`/tutorials/04_convert` converts a network that you have trained in PyTorch.
# - :doc:`/sklearn` has an estimator for tables of numbers.
