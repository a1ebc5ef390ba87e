"""
A first network in five minutes
===============================

You will train a small network on handwritten digits, let it decide by its first output spike, look at
every spike of one decision, and read what a decision costs. It takes a few seconds on one core and
downloads nothing.

You need to know how a PyTorch module is trained. Spiking networks are explained on the way.
"""

# %%
# The data
# --------
# scikit-learn ships 1,797 grey images of digits, 8 x 8 pixels each. firstspike splits them once and for
# all: the training images train, the validation images choose the best epoch, and the test images are
# looked at once, at the end.
import shutil

import torch

import firstspike as fs

torch.set_num_threads(1)  # small networks are fastest on one thread

train, validation, test = (fs.data.load("digits", split) for split in ("train", "validation", "test"))
print(len(train), "training images,", len(validation), "for validation,", len(test), "for the test")
print(train.images.shape, train.images.dtype)

# %%
# The network
# -----------
# Every neuron spikes **at most once**. The information is in *when* it does: an early spike stands for a
# large value, no spike at all for zero. Time is counted in integer steps.
#
# A ``Window`` neuron, the default, collects the spikes of its inputs during one *window* of time steps
# and fires in the next one. Here the input has a window of 16 steps, the hidden layer one of 8, the
# output one of 32. The output has the longest: there the class is decided, and with more steps fewer
# classes fire in the same one. ``Window.output`` is a window neuron with settings for an output layer;
# ``high`` is the membrane (the weighted sum of the inputs) at which a neuron fires in the first step of
# its window.
torch.manual_seed(0)
net = fs.Stack(
    fs.Linear(64, 100, neuron=fs.Window(high=2.0, steps=8)),
    fs.Linear(100, 10, neuron=fs.Window.output(steps=32)),
    steps=16,
)

# %%
# Images to spikes
# ----------------
# ``encode`` turns each pixel into at most one spike: the brighter, the earlier; a black pixel stays
# silent. The result is a ``Spikes``, a tensor of spike times that knows the length ``T`` of its window. A
# time of ``T``, here 16, means silent.
spikes = net.encode(train.images)
print(spikes)
print(spikes.times[0].reshape(8, 8).int())

# %%
# Training
# --------
# The spike times that a layer returns carry gradients, so a loss is a function of spike times. This one
# is a cross-entropy in which an earlier spike means a likelier class. With ``label_delay=2`` it asks that
# the right class fires at least two steps before the others.
#
# ``fs.fit`` trains any module with AdamW. It saves its state after each epoch in a *run folder*, so that an
# interrupted run goes on with ``resume=True``, and it returns the weights of the epoch with the
# lowest validation loss. It never overwrites a run, so this script removes the one of an earlier call.


def loss(out, labels):
    return fs.first_spike_cross_entropy(out, labels, label_delay=2)


shutil.rmtree("runs/first-network", ignore_errors=True)
fitted = fs.fit(
    net,
    (net.encode(train.images), train.labels),
    validation=(net.encode(validation.images), validation.labels),
    loss=loss,
    epochs=15,
    batch_size=32,
    rate=5e-3,
    out="runs/first-network",
    show_progress=False,
)
for record in fitted.records[::7]:
    print(f"epoch {record['epoch']}: loss {record['loss']:.2f}, validation {record['validation_loss']:.2f}")

# %%
# Deciding by the first spike
# ---------------------------
# The class of the first output spike is the decision. Two things can go wrong besides a wrong class: two
# outputs fire first in the same step (a *tie*), or no output fires (the sample is *silent*).
# ``FirstSpike()`` counts both as wrong, and the score says how often they happen and which rule was used.
with torch.no_grad():
    traced = net.trace(net.encode(test.images))  # the spikes of the input and of each layer
verdict = fs.FirstSpike().decide(traced[-1])
print(verdict.score(test.labels))

# %%
# A decision in pictures
# ----------------------
# Each row of a *raster* is a neuron, each mark a spike. The grey blocks are the windows, one after the
# other on the clock that starts with the first input step. The dashed line is the decision; nobody has to
# wait for the pale spikes after it. ``offsets`` says in which step each window starts.
names = "input", "hidden", "output"
step = int(verdict.steps[0]) + net.offsets[-1]
figure = fs.plot.spike_raster(
    {name: spikes[0] for name, spikes in zip(names, traced, strict=True)},
    offsets=dict(zip(names, net.offsets, strict=True)),
    decision_step=step,
    title=f"A {test.labels[0]}, read as {verdict.label[0]} in step {step}",
)
picture = fs.plot.save_figure(figure, "decision.png")

# %%
# What a decision costs
# ---------------------
# ``fs.report`` measures accuracy and cost together. A *synaptic operation* is one addition that a spike
# causes in a neuron that receives it. The energy counts these and the additions that happen without a
# spike, at 0.9 pJ each. The dense network of the same layout has real-valued activations and needs a
# multiply-add, 4.6 pJ, for every weight. Both are figures for arithmetic in 45 nm hardware; reading
# memory is not counted. ``print(report)`` shows every figure.
report = fs.report(net, test.images, test.labels)
print(f"decided after {report.steps_to_decision:.1f} steps and {report.spikes_to_decision:.1f} spikes")
print(f"{report.synops:.0f} synaptic operations and {report.membrane_updates} additions without a spike")
print(f"{report.energy_pj / 1000:.1f} nJ; the dense network {report.dense_energy_pj / 1000:.1f} nJ")

# %%
# The same on the command line
# ----------------------------
# A *preset* is a named recipe: network, loss and every setting of the training. This one trains window
# neurons, 200 in its hidden layer on these digits (400 on MNIST):
#
# .. code-block:: console
#
#    $ firstspike train aggressive-ttfs-window --dataset digits --epochs 10 --out runs/digits
#    ...
#    runs/digits
#    $ firstspike evaluate runs/digits
#    ...
#    accuracy                            0.95667
#    tie_rate                            0.0033333
#    silent_rate                         0
#    decision_rule                       first spike; ties wrong; silence wrong
#    ...
#    steps_to_decision                   19.583
#    ...
#    spikes_to_decision                  105.1
#    ...
#
# Each ``...`` stands for lines that are left out here. ``firstspike presets`` lists the other presets.
#
# What next
# ---------
# - :doc:`/tutorials/02_spike_times` shows the code and two kinds of neurons step by step.
# - :doc:`/tutorials/03_own_data` does the same with your own images.
# - :doc:`/tutorials/04_convert` starts from a trained ReLU network instead.
