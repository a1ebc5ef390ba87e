"""
One time step
=============

You will look at a network that has no time: each layer fires once, in a single step, and walks over parts
of the image instead. You will see what its neurons carry along, train it on handwritten digits with and
without that carry, and read what it costs.

You need to know what a convolution is and how a recipe is trained (:doc:`/tutorials/08_deep_network`).
"""

# %%
# Patches instead of time steps
# -----------------------------
# A spiking neuron usually remembers its membrane from one time step to the next. Yao et al. (arXiv
# 2401.10843) keep that memory and drop the time: a layer cuts its map into *patches* in
# space and visits one after the other. What the membrane of a neuron has left after one patch, it carries
# to the same place of the next patch; what the layer before has left at the same place of the map can be
# added too. Plain patches lie side by side. Dilated patches are half as wide again, so that they overlap.
import shutil

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import firstspike as fs
from firstspike.models.patches.carry import carry_patches
from firstspike.models.patches.grid import patch_grid
from firstspike.recipes.one_step import OneStepRecipe

torch.set_num_threads(1)  # small networks are fastest on one thread

test = fs.data.load("digits", "test")
figure = Figure(figsize=(5.2, 2.7), layout="constrained")
kinds = {"plain": False, "dilated": True}
for axes, (name, dilated) in zip(figure.subplots(1, 2), kinds.items(), strict=True):
    grid = patch_grid((8, 8), 2, dilated=dilated)
    height, width = grid.sides
    axes.imshow(test.images[0], cmap="gray_r", alpha=0.5)
    for number, (top, left) in enumerate(grid.corners):
        inset, color = 0.08 * (1 + number * dilated), ("blue", "red", "green", "purple")[number]
        frame = (left - 0.5 + inset, top - 0.5 + inset), width - 2 * inset, height - 2 * inset
        axes.add_patch(Rectangle(*frame, fill=False, lw=2, edgecolor=color))
        place = left + (width - 1.5 if left else 0.5), top + (height - 1.5 if top else 0.5)
        axes.text(*place, str(number + 1), color=color, ha="center", va="center", weight="bold")
    axes.set(title=f"{name}, {height} x {width} each", xticks=[], yticks=[])
picture = fs.plot.save_figure(figure, "patches.png")

# %%
# The carry by hand
# -----------------
# Take a map of 2 x 2 places and patches of one place each. The same current of 0.4 arrives everywhere, and
# the threshold is 0.5. Without a carry nothing fires. With one, patch ``p`` has the membrane
# ``V[p] = current + left[p - 1]``; a spike takes the threshold off, and the rest is carried on.
current, grid = torch.full((1, 1, 2, 2), 0.4), patch_grid((2, 2), 2, dilated=False)
for neuron in (
    fs.PatchCarry(carried="none"),
    fs.PatchCarry(projection="linear", carried="patch", alpha=1.0),
):
    spikes, left = carry_patches(current, None, neuron, grid)
    print(f"carried {neuron.carried:<6} spikes {spikes.flatten().int().tolist()}", end="  ")
    print("left", [round(value, 1) for value in left.flatten().tolist()])

# %%
# The rule as the paper prints it carries both memories through a product of a sine and a cosine, and is
# ``fs.PatchCarry()`` with no arguments. ``carried`` says which memory is kept, ``projection`` through which
# function, ``grid`` how many patches there are along each axis, and ``alpha`` how much counts.
#
# A network
# ---------
# In a layout, ``12C3`` is a convolution with 12 maps, and ``24G`` merges 2 x 2 places into one with 24
# maps. The head averages the last spikes over ``head_size`` x ``head_size`` parts of the map and connects
# these means to the classes. The largest output wins: it is a membrane, so this is *accuracy by membrane*
# and not a decision by spikes. A one-step network has no spike times, so it does not become
# a ``Stack`` and is not exported, and its report has no ties and no silence.
torch.manual_seed(0)
net = fs.OneStepNetwork("12C3-12C3-24G-24C3", (1, 8, 8), 10, fs.PatchCarry(), head_size=2)
images = test.images.unsqueeze(1)
print(net(images).shape, [tuple(spikes.shape[1:]) for spikes in net.trace(images)])

# %%
# With and without the carry
# --------------------------
# The control has one patch and no carry: a binary network. Two variants carry something: the printed rule
# with 2 x 2 patches, and a linear carry of what the layer before has left, in one patch. Each is trained
# with two seeds.
control = fs.PatchCarry(grid=1, carried="none")
printed = fs.PatchCarry()
linear = fs.PatchCarry(grid=1, carried="layer", projection="linear", alpha=1.0)
shutil.rmtree("runs/one-step", ignore_errors=True)
reports = {}
for name, neuron in {"control": control, "printed": printed, "linear": linear}.items():
    recipe = OneStepRecipe(
        dataset="digits",
        layout="12C3-12C3-24G-24C3",
        neuron=neuron,
        head_size=2,
        rate=1e-2,
        batch_size=32,
        epochs=4,
        precision="float32",
    )
    for seed in (0, 1):
        folder = f"runs/one-step/{name}-{seed}"
        run = fs.train(folder, "one-step", recipe, seed, threads=1, show_progress=False)
        reports[name] = fs.report(run.load(), images, test.labels)
        print(f"{name:<8} seed {seed}: accuracy by membrane {reports[name].accuracy:.2%}")

# %%
# The printed rule is behind the control here, and the linear carry is about as good. With five seeds on
# the 10,000 test images of Fashion-MNIST the order is the same: 88.67 ± 0.19 % for the control,
# 87.36 ± 0.30 % for the printed rule, 89.00 ± 0.22 % for the linear carry
# (:doc:`/experiments/one-step`). No variant that was tried beats the control by more than twice the spread
# of the seeds.
#
# What it costs
# -------------
# A place of a map spikes at most once. ``synops`` are the additions that spikes cause, ``multiply_adds``
# come from numbers that are no spikes: the image, and the means at the head. A carry costs operations in
# every neuron, whether anything spikes or not. Papers leave these out; ``energy_of_inputs_pj`` is what
# they count, ``energy_pj`` counts all.
for name, report in reports.items():
    inputs, total = report.energy_of_inputs_pj / 1000, report.energy_pj / 1000
    print(f"{name:<8} {report.spikes_per_neuron:.2f} spikes per neuron, {report.synops:.0f} synops")
    print(f"{'':<8} {inputs:.0f} nJ for inputs, {total:.0f} nJ in all")
print(f"ANN of the same layout: {reports['control'].dense_energy_pj / 1000:.0f} nJ")
print(
    "functions (sines, cosines):", {name: r.neuron_operations["functions"] for name, r in reports.items()}
)

# %%
# The sines and cosines of the printed rule take more than all inputs together. A function is counted as
# five multiply-adds, which is our own figure.
#
# What next
# ---------
# - :doc:`/experiments/one-step` has the whole search, and what failed.
# - :doc:`/reference/deep-networks` has every argument of ``fs.PatchCarry`` and ``fs.OneStepNetwork``.
# - :doc:`/tutorials/10_read_a_report` explains the figures of networks that decide by spikes.
