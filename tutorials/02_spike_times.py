"""
Time-to-first-spike coding, in pictures
=======================================

You will turn an image into spike times and back, compute one neuron of each of two kinds by hand, and
decide by a first spike. No network is trained here.

You need to know what a weighted sum is. If you want to train first, begin with
:doc:`/tutorials/01_first_network`.
"""

# %%
# An image as spike times
# -----------------------
# In *time-to-first-spike* (TTFS) coding a neuron spikes at most once, and a large value is an early
# spike. A pixel of intensity :math:`I`, between 0 and 1, in a window of :math:`T` time steps fires at the
# *spike time* :math:`t = \lfloor (1 - I)\,T \rfloor`: a white pixel at step 0. A black one would fire at
# step :math:`T`, when the window is over; it does not fire, it is *silent*. So **a time of T means
# silent**, everywhere in firstspike.
import torch
from matplotlib.figure import Figure

import firstspike as fs

image = fs.data.load("digits", "train").images[0]
spikes = fs.encode_latency(image.unsqueeze(0), steps=16)
print(spikes)
print(spikes.times[0].int())

# %%
# ``Spikes`` holds the times, with the batch first, and the length of their window. Both stay together: a
# time of 8 is a spike in a window of 16 steps and silence in one of 8. Here is the same image as
# intensities, as spike times, and as a *raster*, in which each row is a neuron and each mark a spike.
figure = Figure(figsize=(9, 3.2), layout="constrained")
left, middle, right = figure.subplots(1, 3)
left.imshow(image.numpy(), cmap="gray")
left.set_title("image")
times = spikes.times[0].masked_fill(spikes.silent[0], float("nan"))
drawn = middle.imshow(times.numpy(), cmap="viridis_r", vmin=0, vmax=15)
middle.set_title("spike times; white: silent")
figure.colorbar(drawn, ax=middle, label="step")
right.scatter(times.flatten().numpy(), range(64), marker="|")
right.set(title="raster", xlabel="step", ylabel="pixel", xlim=(-0.5, 15.5), ylim=(64, -1))
right.set_xticks(range(0, 16, 5))
picture = fs.plot.save_figure(figure, "latency-code.png")

# %%
# Some views of a ``Spikes``: which neurons are silent, the earliest spike of each sample, the raster as
# zeros and ones with time first, and the values ``1 - t / T`` that the times stand for.
print("silent neurons:", int(spikes.silent.sum()), " first spike:", spikes.first().tolist())
print("raster:", tuple(spikes.raster().shape), " values of the third row of pixels:")
print(spikes.values[0, 2])

# %%
# A window neuron by hand
# -----------------------
# A ``Window`` neuron receives spikes during one window and fires in the next. Each input spike starts a
# constant current that lasts until the input window ends, so an early spike adds more: one at step
# :math:`t_i` of :math:`T` adds its weight times :math:`x_i = 1 - t_i / T`. When that window ends, the
# *membrane*, the quantity that decides whether and when the neuron fires, is
# :math:`u = b + \sum_i w_i x_i`. Then a constant drive carries it towards the threshold ``high``: the
# larger :math:`u`, the sooner it arrives there.
window = fs.Linear(3, 1, fs.Window(high=2.0))
with torch.no_grad():
    window.weight[:] = torch.tensor([1.0, 0.8, -0.6])
    window.bias[:] = 0.1
inputs = fs.Spikes([[0, 4, 6]], steps=8)

x = [1 - t / 8 for t in (0, 4, 6)]
u = 0.1 + 1.0 * x[0] + 0.8 * x[1] - 0.6 * x[2]
levels = int(min(max(u / 2.0, 0), 1) * 8)  # of the 8 levels between 0 and high
print(f"by hand: membrane {u:.2f}, {levels} levels, spike time {8 - levels}")
print(f"layer: membrane {window.membrane(inputs).item():.2f}, spike time {window(inputs).times.item()}")

# %%
# A membrane of 0 or less is silence, one of ``high`` or more is a spike at step 0, and in between lie 8
# levels. So a window neuron is a *ReLU*, clipped at ``high`` and rounded down to a level. That is why a
# trained ReLU network can be converted (:doc:`/tutorials/04_convert`), and why this neuron trains like a
# ReLU.
#
# A causal neuron step by step
# ----------------------------
# A ``Causal`` neuron shares one window with its inputs. A spike adds its weight to the membrane at once.
# When the membrane reaches the threshold the neuron fires, and whatever arrives later no longer matters
# to it.
causal = fs.Linear(4, 1, fs.Causal(threshold=1.0))
arrivals, weights = [1, 3, 5, 6], [0.7, -0.3, 0.8, -0.9]
with torch.no_grad():
    causal.weight[:] = torch.tensor(weights)

membrane, course = 0.0, []
for step in range(8):
    membrane += sum(w for t, w in zip(arrivals, weights, strict=True) if t == step)
    course.append(membrane)
    print(f"step {step}: membrane {membrane:.1f}{'  fires' if membrane >= 1 else ''}")
    if membrane >= 1:
        break
print("layer: spike time", int(causal(fs.Spikes([arrivals], steps=8)).times))

# %%
# Both neurons in one picture: the membrane against time, with the threshold (dashed) and the spike (dot).
# The window neuron integrates in steps 0 to 7, the grey block, and fires in the window after it, here at
# step 3 of that window, which is step 11 on the clock of the input. The causal neuron fires while its
# inputs still arrive.
figure = Figure(figsize=(9, 3), layout="constrained")
left, right = figure.subplots(1, 2)
weighted = list(zip((0, 4, 6), (1.0, 0.8, -0.6), strict=True))
rising = [0.1 + sum(w * max(s + 1 - t, 0) / 8 for t, w in weighted) for s in range(8)]
rising += [u + t * 2.0 / 8 for t in range(8 - levels + 1)]
left.axvspan(-0.5, 7.5, color="0.93")
for axes, values, threshold, title in (
    (left, rising, 2.0, "window neuron: integrate, then fire"),
    (right, course, 1.0, "causal neuron: fire at the threshold"),
):
    axes.step(range(len(values)), values, where="mid")
    axes.plot(len(values) - 1, values[-1], "o")
    axes.axhline(threshold, color="tab:red", linestyle="--")
    axes.set(title=title, xlabel="step", ylabel="membrane", xlim=(-0.5, 15.5 if axes is left else 7.5))
picture = fs.plot.save_figure(figure, "two-neurons.png")

# %%
# You need not walk through the steps to know when either neuron fires, and the library does not: a layer
# computes spike times directly. ``simulate`` walks anyway, for tests and for the curious.
print("window neuron:", window.simulate(inputs).times.item())
print("causal neuron:", causal.simulate(fs.Spikes([arrivals], steps=8)).times.item())

# %%
# A decision by the first spike
# -----------------------------
# An output layer has one neuron per class, and the class that fires first is the decision. Of these three
# samples, of three classes, the first is decided for class 1. In the second two classes fire first in the
# same step, a *tie*. In the third no output fires. A tie and a silent sample have no label (-1), and
# count as wrong.
out = fs.Spikes([[5, 3, 8], [2, 2, 6], [8, 8, 8]], steps=8)
verdict = fs.FirstSpike().decide(out)
print("labels", verdict.label.tolist(), "ties", verdict.tied.tolist(), "silent", verdict.silent.tolist())
print(verdict.score([1, 0, 0]))

# %%
# Some papers count a tie as right if the true class is among the first; then the accuracy includes images
# that the network has not decided. That rule is ``FirstSpike(ties="label")``, and each score names the
# rule that made it.
print(fs.FirstSpike(ties="label").decide(out).score([1, 0, 0]))

# %%
# Why the code needs few steps
# ----------------------------
# A spike in one of :math:`T` steps, or none, tells apart :math:`T + 1` values. More steps make the values
# finer; the number of spikes stays the same, at most one per neuron. A *rate code*, which counts spikes,
# needs up to :math:`T` spikes to tell apart as many. The table encodes the digit above, decodes it and
# compares.
print("steps  largest error  spikes  spikes of a rate code")
for steps in (2, 4, 8, 16, 64):
    coded = fs.encode_latency(image.unsqueeze(0), steps)
    error = (fs.decode_latency(coded)[0] - image / 255).abs().max()
    counted = fs.encode_count(image, max_count=steps).sum()
    print(f"{steps:5} {error:14.3f} {int((~coded.silent).sum()):7} {counted:22}")

# %%
# A window layer of :math:`T` steps carries what an activation of :math:`T + 1` levels carries. Few levels
# are often enough: on MNIST and Fashion-MNIST four converted ReLU networks lose at most 0.54 points of
# accuracy with 16 steps and at most 1.31 with 8, averaged over three seeds (:doc:`/conversion`).
#
# What next
# ---------
# - :doc:`/tutorials/01_first_network` trains a network of window neurons.
# - :doc:`/tutorials/04_convert` converts a ReLU network and varies the steps.
# - :doc:`/glossary` has every term in one place.
