"""
A deep network
==============

You will write a deep convolutional network as one line of text, train it on handwritten digits, turn it
into layers that compute with spike times, and see that both make the same decisions. Then you will do the
same with causal neurons, whose layers share one clock.

You need to know what a window neuron is (:doc:`/tutorials/01_first_network`) and what a convolution is.
"""

# %%
# One line of text
# ----------------
# A *layout* lists the hidden layers from the input on. ``16C3`` is a convolution with 16 maps and a 3 x 3
# kernel. ``E2`` pools 2 x 2 places by their earliest spike. ``16R`` is a residual block: two convolutions
# with 16 maps and a shortcut past both. ``F32`` is a fully connected layer of 32 neurons. The output
# layer comes from the number of classes.
import shutil

import torch

import firstspike as fs
from firstspike.recipes.window import WindowRecipe
from firstspike.training.diagnose import diagnose, table

torch.set_num_threads(1)  # small networks are fastest on one thread

torch.manual_seed(0)
net = fs.WindowNetwork("16C3-E2-16R-F32", (1, 8, 8), 10, in_steps=16, steps=8, out_steps=32, clip=2.0)
print(net.shapes)
print(sum(parameter.numel() for parameter in net.parameters()), "parameters")

# %%
# ``steps`` is the window of each hidden layer, in which a neuron fires at most once; input and output have
# windows of their own. ``clip`` is the membrane at which a hidden neuron fires in the first step.
#
# A neuron that fires at step ``t`` of ``T`` passes on the value ``1 - t / T``, and a silent one 0. So a
# window neuron is a ReLU that is clipped and rounded to ``T`` levels. A ``WindowNetwork`` trains on these
# values by PyTorch's convolutions, with a batch normalisation in each layer, and stores no time axis.
#
# Train it
# --------
# You could give this network to ``fs.fit`` with a loss. A recipe knows more: the loss of a window network,
# the augmentation, and a penalty on the spikes of hidden neurons. ``precision`` is ``"auto"`` by default,
# which takes bfloat16 where the processor is fast at it. With float32 and one thread, which is enough for
# images of this size, other processors come close to the figures here.
shutil.rmtree("runs/deep", ignore_errors=True)
recipe = WindowRecipe(
    dataset="digits",
    layout="16C3-E2-16R-F32",
    in_steps=16,
    steps=8,
    out_steps=32,
    spike_penalty=0.5,
    rate=1e-2,
    batch_size=32,
    epochs=5,
    precision="float32",
)
run = fs.train("runs/deep/window", "deep-digits", recipe, seed=0, threads=1, show_progress=False)
for record in run.load_state().records:
    accuracy, spikes = record["validation_accuracy"], record["spikes_per_hidden_neuron"]
    print(f"epoch {record['epoch']}: accuracy {accuracy:.2%}, {spikes:.2f} spikes per hidden neuron")

# %%
# The spiking form
# ----------------
# ``fs.spiking_form`` returns the network as a ``Stack`` whose layers take and give spike times. The
# normalisation is folded into the weights. Each window layer waits for the window of its inputs, so the
# windows follow one another; the offset is the first step of each on the clock of the input.
net = run.load()
form = fs.spiking_form(net)
print("windows", form.stack.windows)
print("offsets", form.stack.offsets)
for shape, layer in zip(form.stack.shapes(form.in_shape)[1:], form.stack, strict=True):
    print(f"{type(layer).__name__} {shape}" + (", with a shortcut" if layer.shortcuts else ""))

# %%
# Both forms fire in the same steps. Weights are multiples of ``2 ** -14``, and windows and ``clip`` are
# powers of two here, so that sums are exact in float32, in whatever order spikes arrive.
test = fs.data.load("digits", "test")
images = test.images.unsqueeze(1)
with torch.no_grad():
    traced = form.stack.trace(form.encode(images))
    print("same output spikes:", torch.equal(traced[-1].times, net(images).times))
verdict = fs.FirstSpike().decide(traced[-1])
print(verdict.score(test.labels))

# %%
# Here is one decision, without the pooling and the first layer of the residual block. Each row is a neuron
# and each mark a spike; the dashed line is the first output spike.
shown = {"input": 0, "16C3": 1, "16R, second layer": 4, "F32": 5, "output": 6}
figure = fs.plot.spike_raster(
    {name: traced[depth].flatten()[0] for name, depth in shown.items()},
    offsets={name: form.stack.offsets[depth] for name, depth in shown.items()},
    decision_step=int(verdict.steps[0]) + form.stack.offsets[-1],
)
picture = fs.plot.save_figure(figure, "deep.png")

# %%
# What each layer does
# --------------------
# Deep spiking networks fail by falling silent: a layer in which hardly any neuron fires passes nothing on.
# ``diagnose`` shows for each layer how many neurons fire, how many fire for no image, when they fire, and
# the gradient that arrives at their weights. ``firstspike train --diagnose`` prints this table before the
# first epoch and after each one, and warns of dead layers. So you see before training whether spikes
# arrive at the output.
validation = fs.data.load("digits", "validation")
print(table(diagnose(run.recipe, net, validation), images=200))

# %%
# A decision passes through one window after the other, so the steps grow with the depth:
report = fs.report(net, images, test.labels)
print(f"accuracy {report.accuracy:.2%}, ties {report.tie_rate:.2%}, silent {report.silent_rate:.2%}")
print(
    f"{report.steps_to_decision:.1f} steps, {report.spikes_per_hidden_neuron:.2f} spikes per hidden neuron"
)
print(
    f"{report.energy_pj / 1000:.0f} nJ, the ANN of the same layout {report.dense_energy_pj / 1000:.0f} nJ"
)

# %%
# Causal neurons on one clock
# ---------------------------
# A causal neuron adds a weight to its membrane when an input spike arrives, and fires as soon as the
# membrane reaches its threshold. All layers share one clock of a few steps, so a decision can fall within
# the first. A ``RasterNetwork`` trains such neurons on *cumulative spikes*, which are 0 before a neuron's
# spike and 1 from it on, as in ETTFS (Che et al. 2024). Here the image flows into the first layer as a
# constant current. The output has ten neurons per class, and an early spike has a larger vote.
torch.manual_seed(0)
causal = fs.RasterNetwork(
    "16C3-A2-32C3-F32",
    (1, 8, 8),
    10,
    steps=2,
    neuron=fs.RasterNeuron(width=2),
    weights=fs.RasterWeights(norm="batch"),
    decoder=fs.Votes(),
)
train = fs.data.load("digits", "train")
fs.fit(
    causal,
    (train.images.unsqueeze(1), train.labels),
    validation=(validation.images.unsqueeze(1), validation.labels),
    loss=torch.nn.functional.cross_entropy,
    epochs=4,
    batch_size=32,
    rate=5e-3,
    out="runs/deep/causal",
    show_progress=False,
)
report = fs.report(causal, images, test.labels)
print(f"accuracy {report.accuracy:.2%}, ties {report.tie_rate:.2%} ({report.decision_rule})")
print(
    f"{report.steps_to_decision:.2f} steps, {report.spikes_per_hidden_neuron:.2f} spikes per hidden neuron"
)
form = fs.spiking_form(causal)
pairs = zip(form.stack.trace(form.encode(images)), causal.trace(images), strict=True)
print("same spikes, layer by layer:", [torch.equal(a.times, b.times) for a, b in pairs])

# %%
# ``A2`` averages 2 x 2 places, which goes into the weights of the next layer; residual blocks do not exist
# here, since the sum of two layers of spikes is no single spike. The first layer receives a current and
# computes with multiplications, which the report counts; ``code="latency"`` encodes the image in spikes
# instead.
#
# On the command line, ``firstspike train window-mnist`` and ``ettfs-mnist`` train the larger networks
# whose figures :doc:`/results` has.
#
# What next
# ---------
# - :doc:`/reference/deep-networks` has every argument of these networks.
# - :doc:`/experiments/deep-networks` tells what was tried to train them, and what failed.
# - :doc:`/tutorials/06_device` takes a network to C and to a page; window networks go there as they are.
