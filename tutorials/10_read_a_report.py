"""
Read a report
=============

You will train two small classifiers of different neurons, go through every figure of their reports, and
compute the most important ones again by hand. At the end are a picture of the accuracy that a deadline
leaves, and the command that prints the same figures.

You need to know what a window is and how the first output spike decides
(:doc:`/tutorials/01_first_network`).
"""

# %%
# Two networks
# ------------
# Both have one hidden layer of 200 neurons. In the first, window neurons wait until the window of their
# inputs has ended. In the second, causal neurons add a weight to their membrane whenever an input spike
# arrives, and all layers share one clock of 256 steps.
import json
import shutil
import subprocess
import sys

from matplotlib.figure import Figure

import firstspike as fs

shutil.rmtree("runs/report", ignore_errors=True)
test = fs.data.load("digits", "test")
presets = {
    "window": ("aggressive-ttfs-window", {}),
    "causal": ("aggressive-ttfs-causal", {"ema": "0.99"}),
}
nets, reports = {}, {}
for name, (preset, changes) in presets.items():
    recipe = fs.preset(preset).configure(dataset="digits", epochs=10, changes=changes)
    run = fs.train(f"runs/report/{name}", preset, recipe, seed=0, threads=1, show_progress=False)
    nets[name] = run.load()
    reports[name] = fs.report(nets[name], test.images, test.labels)
report = reports["window"]
print(report)

# %%
# Right or wrong
# --------------
# ``accuracy`` is the share of images that are decided correctly by ``decision_rule``: here the class of the
# first output spike. Two kinds of images have no such class. In a *tie* several outputs fire first in the
# same step; ``tie_rate`` is the share of these. A *silent* image makes no output fire; ``silent_rate`` is
# the share of these. Both count as wrong, and that is called *strict*.
#
# ``accuracy_papers_rule`` counts a tie as right if the label is among the outputs that fire first, as
# S4NN and Spiking-GAN do. ``accuracy_membrane`` is the share of images whose label has the largest output
# membrane at the end. That is no decision by spikes, so do not compare it with one.
for name, found in reports.items():
    print(
        f"{name}: strict {found.accuracy:.2%}, papers' rule {found.accuracy_papers_rule:.2%}, membrane "
        f"{found.accuracy_membrane:.2%}, ties {found.tie_rate:.2%}, silent {found.silent_rate:.2%}"
    )
error = (report.accuracy * (1 - report.accuracy) / report.count) ** 0.5
print(f"standard error of {report.accuracy:.2%} on {report.count} images: {error:.2%}")

# %%
# How long it takes
# -----------------
# ``steps_to_decision`` is the mean step of the first output spike, counted from the first step of the
# input. A silent image waits to the end, which is ``last_step``. The output of the window network cannot
# fire before its window begins, in step 14 here; a causal output may fire at once.
for name, found in reports.items():
    print(
        f"{name}: output window from step {nets[name].offsets[-1]} on, decided after "
        f"{found.steps_to_decision:.1f} of {found.last_step} steps"
    )
slowest = max(range(10), key=lambda digit: report.steps_by_class[digit])
print(f"slowest class of the window network: {slowest}, {report.steps_by_class[slowest]:.1f} steps")

# %%
# The accuracy under a deadline
# -----------------------------
# If a decision must stand by step ``k``, later ones are lost. ``accuracy_by_step[k]`` is the share of all
# images that are decided correctly by then, and ``worst_accuracy_by_step[k]`` the same for the worst
# class. ``steps_share[k]`` is the share of images that are decided in step ``k``, correctly or not.
figure = Figure(figsize=(6.4, 3), layout="constrained")
axes = figure.subplots()
for (name, found), color in zip(reports.items(), ("tab:blue", "tab:orange"), strict=True):
    steps = range(len(found.accuracy_by_step))
    axes.step(steps, found.accuracy_by_step, where="post", color=color, label=name)
    axes.step(steps, found.worst_accuracy_by_step, ":", where="post", color=color)
axes.set(xlabel="steps allowed", ylabel="accuracy (dotted: worst class)", xlim=(0, 160), ylim=(0, 1))
axes.legend(frameon=False, loc="lower right")
picture = fs.plot.save_figure(figure, "deadline.png")
for name, found in reports.items():
    print(name, {step: round(found.accuracy_by_step[step], 3) for step in (10, 20, 30, 45)})

# %%
# The causal curve climbs once in 16 steps: these images have 17 levels of grey, so their pixels fire in
# 16 of the 256 steps, and causal neurons fire when an input spike arrives.
#
# Spikes
# ------
# ``spikes_per_neuron_by_layer`` counts over the whole window, of the input and of each layer; no figure is
# above 1. ``spikes_per_hidden_neuron`` is the mean over the hidden layers. The figures with
# ``to_decision`` count only what fires up to the decision, since nobody has to wait for the rest. Of the
# causal network that is a part of the input; a window network has received all of it by then.
for name, found in reports.items():
    whole, until = found.spikes_per_neuron_by_layer, found.spikes_to_decision_by_layer
    sizes = 64, 200, 10
    for layer, size, share, count in zip(("input", "hidden", "output"), sizes, whole, until, strict=True):
        print(f"{name} {layer:<7} {share * size:5.1f} spikes in the window, {count:5.1f} to the decision")

# %%
# Operations
# ----------
# A *synaptic operation* is one addition that a spike causes: each spike up to the decision costs as many
# as there are neurons that receive it. An output spike causes none. ``membrane_updates`` are additions
# that happen without a spike: a window neuron adds its current in each step of the window of its inputs,
# and a constant drive in each step of its own. ``multiply_adds`` come from numbers that are no spikes, and
# there are none here.
inputs, hidden, _ = report.spikes_to_decision_by_layer
by_hand = inputs * 200 + hidden * 10
print(f"synops {report.synops:.1f} = {inputs:.2f} * 200 + {hidden:.2f} * 10 = {by_hand:.1f}")
_, *windows = nets["window"].windows
updates = 200 * (nets["window"].steps + windows[0]) + 10 * (windows[0] + windows[1])
print(f"membrane_updates {report.membrane_updates} = {updates}")

# %%
# Energy
# ------
# ``energy_pj`` is every addition times 0.9 pJ, plus every multiply-add times 4.6 pJ. ``dense_energy_pj`` is
# the ANN of the same layout, which needs a multiply-add for every weight. The constants are those of
# 32-bit floating point in 45 nm (Horowitz, ISSCC 2014), and are listed in ``energy_constants_pj``.
energy = 0.9 * (report.synops + report.membrane_updates) + 4.6 * report.multiply_adds
print(f"energy_pj {report.energy_pj:.0f} = {energy:.0f}")
print(f"dense_energy_pj {report.dense_energy_pj:.0f} = {4.6 * (64 * 200 + 200 * 10):.0f}")

# %%
# This leaves much out. Reading weights and membranes from memory is not counted, and takes most of the
# energy on most chips; neither are the delivery of spikes, the comparison with a threshold, and the coding
# of an image in spikes. It takes for granted that the hardware stops at the first output spike. The ANN
# that it is compared with computes in 32 bits; one of 8 bits takes less. So use the figure to compare
# networks with each other, and not as a forecast for a device.
#
# On the command line
# -------------------
# ``firstspike evaluate RUN`` prints this report for a run folder, on the test images of the run's data set.
# With ``--json`` it prints one JSON object under the same names and nothing else, for scripts.
command = [sys.executable, "-m", "firstspike", "evaluate", "runs/report/window", "--json"]
printed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
print({name: printed[name] for name in ("run", "preset", "dataset", "split", "accuracy", "synops")})
print("as here:", all(printed[name] == value for name, value in report.as_dict().items()))

# %%
# What next
# ---------
# - :doc:`/reference/figures` lists every figure, also those of generators and one-step networks.
# - :doc:`/results` has these figures for the papers' networks, with seeds and spread.
# - :doc:`/how-to/energy` says more about what an energy figure means.
