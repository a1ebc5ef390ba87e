"""Recipes that train on the embedded digits within seconds."""

from firstspike.neurons import Window
from firstspike.recipes.augmentation import Augmentation
from firstspike.recipes.ettfs import EttfsRecipe
from firstspike.recipes.one_step import OneStepRecipe
from firstspike.recipes.optimizers import Muon
from firstspike.recipes.shallow import ShallowRecipe
from firstspike.recipes.spike_losses import FirstSpikeLoss
from firstspike.recipes.window import WindowRecipe

SHALLOW = ShallowRecipe(
    dataset="digits",
    hidden_features=100,
    steps=8,
    hidden_neuron=Window(low=0.0, high=2.0),
    output_neuron=Window.output(steps=32),
    loss=FirstSpikeLoss(label_delay=3),
    augmentation=Augmentation(rotation_deg=5),
    rate=5e-3,
    batch_size=32,
    epochs=8,
)
ETTFS = EttfsRecipe(dataset="digits", layout="12C3-A2-F32", epochs=4, batch_size=32, rate=1e-2)
WINDOW = WindowRecipe(
    dataset="digits",
    layout="12C3-E2-12R-F32",
    epochs=4,
    batch_size=32,
    rate=1e-2,
    dropout=0.1,
    spike_penalty=0.1,
    augmentation=Augmentation(rotation_deg=5, scale=0.05),
)
ONE_STEP = OneStepRecipe(dataset="digits", layout="12C3-D-16G-16L3", head_size=2, batch_size=32, rate=1e-2)
# What trains a deep network in few epochs, all of it.
QUICK = WindowRecipe(
    dataset="digits",
    layout="W2-16C3-E2-24C3-E3",
    pool_first=True,
    identity_start=True,
    epochs=4,
    batch_size=32,
    optimizer=Muon(),
    rate=0.1,
    ema=0.5,
    look_ahead=3,
    augmentation=Augmentation(shift_px=1, border="reflect", flip="alternating"),
)
DEEP = {"ettfs": ETTFS, "window": WINDOW, "onestep": ONE_STEP, "quick": QUICK}
