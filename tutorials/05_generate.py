"""
Generate digits
===============

You will draw digits with a trained generator whose neurons spike at most once, look at the spike times of
one picture, and train a small generator of your own on the 8 x 8 digits that scikit-learn ships.

You need to know what a GAN is: a generator turns noise into images, a discriminator learns to tell them
from real ones, and each is trained against the other. :doc:`/tutorials/02_spike_times` explains spike
times.
"""

# %%
# The built-in generator
# ----------------------
# ``mnist-generator`` comes with the package. It is *conditional*: it is told which digit to draw. Its
# inputs are 64 noise neurons, whose spike times are random, and 10 neurons for the digits, of which one
# fires at step 0. Transposed convolutions make maps of 7 x 7, 14 x 14 and 28 x 28 neurons of them, with
# windows of 8 steps, and a convolution one neuron for each of the 784 pixels, with 32.
import shutil

import torch
from matplotlib.figure import Figure

import firstspike as fs

torch.set_num_threads(1)  # small networks are fastest on one thread

generator = fs.load("mnist-generator")
noise = generator.noise(50, torch.Generator().manual_seed(0))
labels = torch.arange(50) % 10
with torch.no_grad():
    traced = generator.trace(noise, labels)  # the spikes of input, hidden layers and pixels
pixels = traced[-1]
print(pixels)

# %%
# ``images`` decodes the spike times: a pixel that fires at step ``t`` has the intensity ``1 - t / T``, so
# an early one is bright, and a silent one, whose time is ``T``, is black.
images = generator.images(pixels)
picture = fs.plot.save_figure(fs.plot.sample_grid(images, 10), "generated.png")
print("spike times", pixels.times[3, 0, 8, 13:21].int().tolist())
print("intensities", images[3][8, 13:21].tolist())

# %%
# One picture, spike by spike
# ---------------------------
# On the left the spike times of the pixels of one picture (white: silent), on the right how many neurons
# of each layer have fired by each step. The windows follow one another; ``offsets`` are their first steps.
one = 3
times = pixels.times[one, 0].masked_fill(pixels.silent[one, 0], float("nan"))
figure = Figure(figsize=(9, 3.4), layout="constrained")
left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
shown = left.imshow(times.numpy(), cmap="viridis_r", vmin=0, vmax=pixels.steps)
figure.colorbar(shown, ax=left, label="step of the pixels' window")
left.set_axis_off()
names = "noise and digit", "maps of 7 x 7", "maps of 14 x 14", "maps of 28 x 28", "pixels"
for name, spikes, offset in zip(names, traced, generator.stack.offsets, strict=True):
    fired = spikes.times[one][~spikes.silent[one]].sort().values
    right.step(fired + offset, range(1, len(fired) + 1), where="post", label=name)
right.set(xlabel="step", ylabel="neurons that have fired", xlim=(0, generator.stack.last_step))
right.legend()
picture = fs.plot.save_figure(figure, "one-picture.png")

# %%
# How many spikes does a picture take? At most one for each neuron; black pixels take none.
counts = [(~spikes.silent).flatten(1).float().sum(1).mean() for spikes in traced]
for name, spikes, count in zip(names, traced, counts, strict=True):
    print(f"{name:16} {count:7.1f} spikes of {spikes.times[0].numel():6} neurons")
print(f"{'a picture':16} {sum(counts):7.1f} spikes")

# %%
# The command line draws too; from an ``.npz`` you get images, labels and the spikes of each image:
#
# .. code-block:: console
#
#    $ firstspike sample mnist-generator --count 64 --out digits.png
#    $ firstspike sample mnist-generator --count 64 --label 3 --out threes.npz
#
# Train one
# ---------
# The preset ``spiking-gan-conditional`` is a GAN of window neurons, which ``firstspike demo`` trains on
# the 8 x 8 digits for 100 epochs. Here are 30, with higher learning rates and a shorter moving average of
# the weights to match. The discriminator has two output neurons, one for "fake" and one for "real"; the
# right one is trained to fire at step 0 and the other to stay silent.
preset = fs.preset("spiking-gan-conditional")
changes = {"generator_rate": "2e-3", "discriminator_rate": "2e-3", "ema": "0.99"}
config = preset.configure(dataset="digits", epochs=30, changes=changes)
shutil.rmtree("runs/generate", ignore_errors=True)  # of an earlier call
run = fs.train("runs/generate", preset.name, config, seed=0, show_progress=False)

real = fs.data.load("digits", "train")
rows = {
    "real": torch.stack([real.of_class(digit).images[0] for digit in range(10)]),
    "generated": run.config.sample(run.load(), 30, seed=0).images,
}
picture = fs.plot.save_figure(fs.plot.sample_comparison(rows, 10), "small-generator.png")

# %%
# Is it any good?
# ---------------
# ``fs.evaluate`` compares the test images with as many generated ones. The *Frechet distance* compares
# both sets by their features; lower is better. The features are those of a small CNN that the package
# trains on the same digits, once, so a figure compares only with others of the same features. *Recall* is
# the share of real images that lie near generated ones. The *controls* say what the figures are worth:
# real training images, and "mean image", whose pixels are drawn independently from the mean image of a
# class; nobody would take it for a digit.
figures = fs.evaluate(run, show_progress=False)
for name, measured in {"generated": figures, **figures["controls"]}.items():
    distance, recall = measured["frechet_distance"], measured["recall"]
    print(f"{name:11} Frechet distance {distance:4.1f}, recall {recall:.2f}")
print(f"spikes per image {figures['spikes_per_image']:.0f}, steps per image {figures['steps_per_image']}")

# %%
# Note the recall of the mean image: one figure alone is no proof of quality.
#
# What next
# ---------
# - :doc:`/play` has the built-in generator in your browser.
# - :doc:`/results` has the figures on MNIST, beside the ANN GAN of the same size.
# - :doc:`/tutorials/03_own_data` trains on images of your own; GAN presets take grey ones.
