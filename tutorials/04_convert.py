"""
Convert a trained ReLU network
==============================

You will train a small CNN with ReLUs in plain PyTorch, convert it to a network whose neurons spike at
most once, and see what the number of time steps changes: accuracy, agreement with the ReLU network,
spikes, and the time until a decision.

You need to know how to train a PyTorch module. :doc:`/tutorials/02_spike_times` explains spike times.
"""

# %%
# A ReLU network
# --------------
# A classifier of the 8 x 8 digits that scikit-learn ships: two convolutions with batch normalisation and
# max pooling, two linear layers. Training takes a few seconds.
import torch
from matplotlib.figure import Figure
from torch import nn

import firstspike as fs

torch.set_num_threads(1)  # small networks are fastest on one thread

train, test = (fs.data.load("digits", split) for split in ("train", "test"))
images, test_images = (part.images.unsqueeze(1).float() / 255 for part in (train, test))

torch.manual_seed(0)
relu = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
)  # fmt: skip
optimizer = torch.optim.Adam(relu.parameters(), 2e-3)
for _ in range(12):
    for chosen in torch.randperm(len(images)).split(64):
        loss = nn.functional.cross_entropy(relu(images[chosen]), train.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

relu.eval()
with torch.no_grad():
    relu_label = relu(test_images).argmax(1)
relu_accuracy = float((relu_label == test.labels).float().mean())
print(f"ReLU network: accuracy {relu_accuracy:.2%} of {len(test)} test images")

# %%
# Convert it
# ----------
# A *window neuron* with ``T`` time steps collects the spikes of its inputs in one window and fires in the
# next, the earlier the larger its sum. It is a ReLU that is clipped and rounded to ``T`` levels. So a
# conversion needs no training; it has to choose the range of each activation, and for that it looks at
# a few hundred training images, the *calibration*. ``steps`` is ``T``.
net = fs.from_torch(relu, calibration=images[:500], steps=16)
print([type(layer).__name__ for layer in net])
print("windows in steps:", net.windows)

# %%
# Batch normalisation has gone into the weights. Max pooling became a layer that passes on the earliest
# spike of each patch, which is exactly the largest value. ``windows`` starts with that of the input. The
# last one, in which the class is decided, is longer by default, so that few classes fire in the same
# step.
#
# The result is a ``Stack`` like any other. The class whose output spikes first is the decision; if two
# are first (a tie) or none spikes, the sample counts as wrong.
with torch.no_grad():
    verdict = fs.FirstSpike().decide(net(net.encode(test.images)))
print(verdict.score(test.labels))
print(f"the same class as the ReLU network for {float((verdict.label == relu_label).float().mean()):.2%}")

# %%
# How many steps?
# ---------------
# Fewer steps are fewer levels: the network decides sooner and less exactly. Here the output window has 4
# times the steps of the others, 32 at least, instead of the default of 32 times and 512 at least. *Steps*
# count from the first input step to the first output spike, *spikes* are those of input, hidden layers
# and output up to then. *Agreement* is the share of test images that get the class that the ReLU network
# gives.
reports = {}
print("T   accuracy   ties  agreement   steps  spikes")
for steps in (2, 4, 8, 16, 32):
    net = fs.from_torch(relu, calibration=images[:500], steps=steps, output_steps=max(32, 4 * steps))
    reports[steps] = report = fs.report(net, test.images, test.labels)
    with torch.no_grad():
        label = fs.FirstSpike().decide(net(net.encode(test.images))).label
    agreement = float((label == relu_label).float().mean())
    print(
        f"{steps:<3} {report.accuracy:8.2%} {report.tie_rate:6.2%} {agreement:9.2%} "
        f"{report.steps_to_decision:8.1f} {report.spikes_to_decision:7.1f}"
    )

# %%
# The spikes grow little with ``T``, since no neuron spikes more than once; the steps grow about in
# proportion. In the picture each line is the share of test images that are decided correctly by that step:
# what you would get with a deadline there. Dotted is the accuracy of the ReLU network.
figure = Figure(figsize=(7, 3.4), layout="constrained")
axes = figure.subplots()
for steps, report in reports.items():
    axes.plot(report.accuracy_by_step, label=f"T = {steps}", drawstyle="steps-post")
axes.axhline(relu_accuracy, color="0.4", linestyle=":")
axes.set(xscale="log", xlim=(8, None), xlabel="step", ylabel="decided rightly by then")
axes.set_xticks([10, 20, 50, 100, 200], [10, 20, 50, 100, 200])
figure.legend(loc="outside right center")
picture = fs.plot.save_figure(figure, "steps.png")

# %%
# At few steps a short fine-tuning through the rounding can recover accuracy. ``fs.fit`` takes the converted
# network as it is; :doc:`/conversion` shows the call and what it won. It also has the figures of four
# architectures on MNIST and Fashion-MNIST, with their spread over seeds.
#
# What can be converted
# ---------------------
# Linear layers, convolutions of any stride, padding, dilation and groups, also transposed, batch
# normalisation, ReLU and clipped ReLUs, max and average pooling, sums and concatenations: so CNNs,
# ResNets and MobileNets. An activation that is not a (clipped) ReLU has no meaning as one spike time, and
# is refused by its name rather than approximated:
tanh = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
try:
    fs.from_torch(tanh, calibration=images[:500])
except fs.InputError as error:
    print(error)

# %%
# The whole list is on the page :doc:`/conversion`. If your network normalises its inputs outside of the
# model, give ``mean=`` and ``std=``. For networks of other tools there is ``fs.from_onnx``, and on the
# command line, with an ``images.npz`` like that of :doc:`/tutorials/03_own_data`,
#
# .. code-block:: console
#
#    $ firstspike convert model.onnx --calibration images.npz --steps 16 --out runs/converted
#    $ firstspike evaluate runs/converted --data images.npz
#
# What next
# ---------
# - :doc:`/conversion`: what is converted, how, and what it costs.
# - :doc:`/export`: the converted network as a C program in integers.
# - :doc:`/tutorials/01_first_network` trains a spiking network from the start instead.
