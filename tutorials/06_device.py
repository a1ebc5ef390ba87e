"""
Put a network on a device and in a page
=======================================

You will train a small network on handwritten digits and turn it into integers. Then you will write it
as a C program that needs no library and no floating-point numbers, check that program against the Python
network, and write the same network as a page that any browser opens.

You need to know how a network of window neurons is trained (:doc:`/tutorials/01_first_network`). A C
compiler is useful and not required.
"""

# %%
# A trained network
# -----------------
# A window neuron sums up its inputs during one window of time steps and fires at most once in the next.
# The network has one convolution and a fully connected output.
import shutil
import subprocess
from pathlib import Path

import torch

import firstspike as fs

torch.set_num_threads(1)  # small networks are fastest on one thread

torch.manual_seed(0)
train, validation, test = (fs.data.load("digits", split) for split in ("train", "validation", "test"))
net = fs.Stack(
    fs.Conv2d(1, 16, 3, stride=2, padding=1, neuron=fs.Window(steps=8)),
    fs.Linear(16 * 4 * 4, 10, neuron=fs.Window.output(steps=32)),
    steps=16,
)
runs = Path("runs/device")
shutil.rmtree(runs, ignore_errors=True)


def loss(out, labels):
    return fs.first_spike_cross_entropy(out, labels, label_delay=2)


def fit(net, name, epochs, rate):
    data = net.encode(train.images), train.labels
    held_out = net.encode(validation.images), validation.labels
    settings = {"epochs": epochs, "rate": rate, "batch_size": 32, "show_progress": False}
    fs.fit(net, data, validation=held_out, loss=loss, out=runs / name, **settings)


def accuracy(net):
    return fs.FirstSpike().decide(net(net.encode(test.images))).score(test.labels).accuracy


fit(net, "float", epochs=10, rate=5e-3)
print(f"accuracy by first spike: {accuracy(net):.2%} of {len(test)} test images")

# %%
# Integers
# --------
# ``fs.integer`` rounds the weights to ``bits`` bits. Biases, thresholds and the constant currents of the
# neurons become 32-bit integers. A convolution takes maps of any size, so ``in_shape`` says the
# shape of a sample. What comes back is used like the network that you gave, and its spikes are exactly
# those that the C program and the page compute.
spikes = net.encode(test.images)
for bits in (8, 4, 3, 2):
    whole = fs.integer(net, bits=bits, in_shape=(1, 8, 8))
    same = (whole(whole.encode(test.images)).times == net(spikes).times).float().mean()
    print(f"{bits} bits: accuracy {accuracy(whole):.2%}, {same:.1%} of the output spike times unchanged")

# %%
# With few bits, fine-tune. ``fs.rounded_weights`` returns a copy that computes with rounded weights and
# learns the full ones; the gradient passes straight through the rounding.
rounded = fs.rounded_weights(net, bits=3)
fit(rounded, "3-bits", epochs=5, rate=2e-3)
print(f"3 bits, trained again: {accuracy(fs.integer(rounded, bits=3, in_shape=(1, 8, 8))):.2%}")

# %%
# A C program
# -----------
# ``fs.export.c`` writes a folder, which must be empty or new. Only ``network.h`` and ``network.c`` go to
# a device. ``main.c`` is a program that reads samples from a file, ``vectors.idx3-ubyte`` holds the
# samples that you gave, and ``vectors.txt`` holds what the Python network says about them.
whole = fs.integer(net, bits=8, in_shape=(1, 8, 8))
folder = runs / "c"
sizes = fs.export.c(whole, folder, vectors=test.images)
for file in sorted(folder.iterdir()):
    print(f"{file.name:<20} {file.stat().st_size:>6} bytes")
print(sizes)
print(sum(layer.weight.numel() for layer in net), "weights of one byte")

# %%
# ``flash`` counts the bytes of all tables: weights, biases, and which input reaches which neuron, without
# the code. ``ram`` is all the memory that the program uses. ``steps`` and ``operations`` are the most that
# a sample can take, an operation being one weight added to one membrane. Weights of four bits or fewer are
# packed two to a byte. A program of your own includes ``network.h`` and calls one function:
header = (folder / "network.h").read_text()
print(header[header.index("typedef") : header.index("network_result;")] + "network_result;\n")
print(next(line for line in header.splitlines() if "network_decide" in line))

# %%
# Check the program
# -----------------
# ``make check`` in that folder compiles the program and compares it with the test vectors. These lines do
# the same where there is a compiler. An output line is ``label step spikes operations``: the label that
# was decided, or -1 for a tie or silence; the step of the decision; spikes and operations up to it.
expected = (folder / "vectors.txt").read_text()
if compiler := shutil.which("cc"):
    subprocess.run([compiler, "-std=c99", "-o", "network", "main.c", "network.c"], cwd=folder, check=True)
    call = [str((folder / "network").resolve()), "vectors.idx3-ubyte"]
    done = subprocess.run(call, cwd=folder, check=True, capture_output=True, text=True)
    print("\n".join(done.stdout.splitlines()[:3]))
    print("equal for all test images:", done.stdout == expected)
    print(done.stderr)
else:
    print("There is no C compiler here.")

# %%
# The program walks from spike to spike in the order of time and stops at the first output spike, so an
# average sample takes about a third of that maximum.
#
# A page
# ------
# The same integers run in a browser. The page is one file that loads nothing and sends nothing. You
# draw a digit, or pick one of the images (at most 40 go into the page), and see every spike of the
# decision. :doc:`/play` has such a page.
page = runs / "digits.html"
fs.export.html(whole, page, images=test.images, labels=test.labels, title="Small digits")
print(f"{page.name}: {page.stat().st_size / 1000:.0f} kB")

# %%
# Other simulators
# ----------------
# NIR is a file format that other spiking simulators read. Its neurons sum up weights on one clock that all
# layers share, so it takes networks of causal neurons (``fs.Causal``) and no others:
try:
    fs.export.nir(net, runs / "digits.nir", in_shape=(1, 8, 8))
except fs.InputError as error:
    print(error)

# %%
# On the command line
# -------------------
# ``firstspike export`` takes the folder of a run that a recipe trained, a converted network, or one of the
# two networks that come with the package:
#
# .. code-block:: console
#
#    $ firstspike export mnist-classifier --format c --out net
#    $ make -C net check
#    $ firstspike export mnist-classifier --format html --out page.html
#
# What next
# ---------
# - :doc:`/export` says what becomes of each neuron, and has figures on MNIST for five networks.
# - :doc:`/page` describes the page, :doc:`/nir` the simulators that read NIR.
# - :doc:`/tutorials/04_convert` starts from a trained ReLU network.
