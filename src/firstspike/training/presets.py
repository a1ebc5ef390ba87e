"""The named recipes: network, loss, schedule, the paper each comes from and what it should reach.

Free of torch, so that ``firstspike presets`` answers at once.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from firstspike.metrics.figures import describe
from firstspike.neurons import Causal, Phased, Window
from firstspike.rules import RunningMaxRule, StraightThroughRule, TemporalRule
from firstspike.support import InputError
from firstspike.training.config import (
    Augmentation,
    ClassifierConfig,
    Config,
    GanConfig,
    LevelTraining,
    Normal,
    Uniform,
)
from firstspike.training.deep_presets import DEEP
from firstspike.training.one_step_presets import ONE_STEP

SPIKING_GAN = "Kotariya & Ganguly 2021, arXiv 2106.15420 (Spiking-GAN)"
S4NN = "Kheradpisheh & Masquelier 2020, arXiv 1910.09495 (S4NN)"


@dataclass(frozen=True)
class Preset:
    """A named recipe.

    Attributes:
        name: as the command line knows it.
        summary: one line.
        source: the paper it comes from.
        config: the recipe on MNIST.
        paper: the figures that the paper states, by the names of `firstspike.metrics.figures`.
        target: those that it should reach, likewise.
        note: what is to be expected besides figures.
        on_digits: fields that differ on the small embedded digits.
        takes_digit: whether ``--digit`` chooses the class.
        one_dataset: the recipe is for its own data set only.
    """

    name: str
    summary: str
    source: str
    config: Config
    on_digits: tuple[tuple[str, Any], ...] = ()
    takes_digit: bool = False
    one_dataset: bool = False
    paper: Mapping[str, float] = field(default_factory=dict)
    target: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def expected(self) -> str:
        """What it should reach and what the paper states, in words."""
        target = f"target: {describe(self.target, bounds=True)}" if self.target else ""
        paper = f"paper: {describe(self.paper)}" if self.paper else ""
        return "; ".join(part for part in (target, paper, self.note) if part)

    def configure(
        self, *, dataset: str | None = None, digit: int | None = None, epochs: int | None = None
    ) -> Config:
        """Return the recipe for a data set, a digit and a number of epochs.

        Raises:
            InputError: a digit that the preset does not take, lacks, or that does not exist; or another
                data set than its only one.
        """
        changes: dict[str, Any] = {}
        if dataset is not None:
            if self.one_dataset and dataset != self.config.dataset:
                raise InputError(
                    f"preset {self.name} is made for {self.config.dataset}; leave --dataset out"
                )
            changes["dataset"] = dataset
            if dataset == "digits":
                changes |= dict(self.on_digits)
        if self.takes_digit:
            if digit is None:
                raise InputError(f"preset {self.name} learns one class; give --digit 0 ... 9")
            if not 0 <= digit <= 9:
                raise InputError(f"--digit must be 0 ... 9, found {digit}")
            changes["digit"] = digit
        elif digit is not None:
            raise InputError(f"preset {self.name} takes no --digit")
        if epochs is not None:
            if epochs < 1:
                raise InputError(f"--epochs must be 1 or more, found {epochs}")
            changes["epochs"] = epochs
        return dataclasses.replace(self.config, **changes)


def preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, 3)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise InputError(f"unknown preset {name!r}; {meant}firstspike presets lists them")
    return PRESETS[name]


_GAN_HIDDEN = Window(low=0.0, high=4.0, input_low=-1.0, input_high=1.0)
_PIXEL = Window(
    low=-1.0, high=1.0, input_low=0.0, input_high=4.0, rule=StraightThroughRule(saturation="smooth")
)
_VERDICT = dataclasses.replace(_PIXEL, rule=StraightThroughRule(saturation="one_sided"))
_WINDOW_GAN = GanConfig(
    hidden_neuron=_GAN_HIDDEN,
    pixel_neuron=_PIXEL,
    verdict_neuron=_VERDICT,
    generator_rate=8e-4,
    discriminator_rate=8e-4,
)
_ANN_GAN = GanConfig(kind="ann", generator_rate=8e-4, discriminator_rate=8e-4)
# One clock for everything: noise, G's hidden layer, pixels, D's hidden layer, D's two outputs.
_NOISE, _G_HIDDEN, _PIXELS, _D_HIDDEN, _VERDICTS = (0, 24), (16, 56), (48, 160), (136, 208), (192, 256)
_PHASED_HIDDEN = Phased(source=_NOISE, target=_G_HIDDEN, input_low=-1.0, input_high=1.0)
_PHASED_OUTPUT = Phased(
    source=_G_HIDDEN, target=_PIXELS, low=-1.0, high=1.0, input_low=0.0, input_high=4.0, saturates=True
)
_PHASED_GAN = GanConfig(
    hidden_neuron=_PHASED_HIDDEN,
    pixel_neuron=_PHASED_OUTPUT,
    critic_neuron=dataclasses.replace(_PHASED_HIDDEN, source=_PIXELS, target=_D_HIDDEN),
    verdict_neuron=dataclasses.replace(_PHASED_OUTPUT, source=_D_HIDDEN, target=_VERDICTS),
    pixel_init=Uniform(low=-0.1, high=0.1),
    verdict_init=Uniform(low=-0.1, high=0.1),
    generator_rate=6e-4,
    discriminator_rate=6e-4,
    epochs=50,
)
# The paper gives neither threshold, rates, weights nor batch size: the first are S4NN's.
_PUBLISHED_NEURON = Causal(threshold=100.0, step_rule=TemporalRule(norm="l1"))
_PUBLISHED_GAN = GanConfig(
    hidden_neuron=_PUBLISHED_NEURON,
    pixel_neuron=_PUBLISHED_NEURON,
    verdict_neuron=_PUBLISHED_NEURON,
    hidden_init=Uniform(low=0.0, high=5.0),
    pixel_init=Uniform(low=0.0, high=5.0),
    verdict_init=Uniform(low=-40.0, high=56.0),
    targets="dynamic",
    optimizer="sgd",
    generator_rate=0.2,
    discriminator_rate=0.2,
    weight_decay=1e-6,
    batch_size=32,
    epochs=20,
    ema=0.0,
)
_SMALL_GAN = (("hidden_features", 200), ("noise_size", 32), ("epochs", 600), ("batch_size", 32))

_WINDOW_CLASSIFIER = ClassifierConfig(
    num_steps=6,
    min_intensity=128,
    hidden_neuron=Window(low=0.0, high=2.0, out_steps=8),
    output_neuron=Window(low=0.0, high=1.0, out_steps=32, rule=StraightThroughRule(saturation="one_sided")),
    loss="first_spike",
    label_delay=3,
    spike_penalty=2e-3,
    augmentation=Augmentation(shift_px=1.5, rotation_deg=8, scale=0.1, shear=0.1, elastic_px=1),
    rate=2e-3,
    epochs=40,
)

_SMALL_WINDOW = (
    ("hidden_features", 200),
    ("min_intensity", 0.0),
    ("augmentation", Augmentation(shift_px=0.3, rotation_deg=8, scale=0.05)),
    ("batch_size", 32),
)

_LEVELS = LevelTraining(
    output=RunningMaxRule(width=1.5), label_weight=4, label_margin=0.5, other_margin=0.5
)
_CAUSAL_CLASSIFIER = ClassifierConfig(
    num_steps=256,
    hidden_neuron=Causal(),
    output_neuron=Causal(),
    hidden_init=Normal(mean=0.01, sd=0.05),
    output_init=Normal(mean=0.02, sd=0.1),
    levels=_LEVELS,
    loss="aggressive",
    augmentation=Augmentation(shift_px=1),
    rate=3e-3,
    weight_decay=0.02,
    batch_size=100,
    epochs=30,
    warmup=1 / 30,
    ema=0.999,
)
_RELATIVE_CLASSIFIER = dataclasses.replace(
    _CAUSAL_CLASSIFIER,
    loss="relative",
    gamma=15,
    levels=dataclasses.replace(_LEVELS, label_weight=1, label_margin=0.6, other_margin=0.4, normalise=True),
)
_SMALL_CAUSAL = (
    ("hidden_features", 200),
    ("hidden_init", Normal(mean=0.05, sd=0.15)),
    ("augmentation", Augmentation()),
    ("batch_size", 16),
)

_ALL = (
    Preset(
        "aggressive-ttfs-window",
        "classifier of window neurons, 784-400-10, first spike decides",
        SPIKING_GAN,
        _WINDOW_CLASSIFIER,
        _SMALL_WINDOW,
        target={"accuracy": 0.985, "steps_to_decision": 24, "spikes_to_decision": 150},
    ),
    Preset(
        "aggressive-ttfs-window-1000",
        "the same with 1,000 hidden neurons",
        SPIKING_GAN,
        dataclasses.replace(_WINDOW_CLASSIFIER, hidden_features=1000),
        _SMALL_WINDOW,
        note="at or above 784-400-10",
    ),
    Preset(
        "aggressive-ttfs-causal",
        "classifier of causal neurons on one clock, aggressive loss, 784-400-10",
        SPIKING_GAN,
        _CAUSAL_CLASSIFIER,
        _SMALL_CAUSAL,
        paper={"accuracy_papers_rule": 0.967, "steps_to_decision": 59.7, "spikes_to_decision": 194.0},
        target={
            "accuracy": 0.97,
            "accuracy_papers_rule": 0.967,
            "steps_to_decision": 59.7,
            "spikes_to_decision": 194,
        },
    ),
    Preset(
        "aggressive-ttfs-causal-1000",
        "the same with 1,000 hidden neurons",
        SPIKING_GAN,
        dataclasses.replace(_CAUSAL_CLASSIFIER, hidden_features=1000),
        _SMALL_CAUSAL,
        paper={"accuracy_papers_rule": 0.976},
        target={"accuracy_papers_rule": 0.976},
    ),
    Preset(
        "s4nn-causal",
        "classifier of causal neurons on one clock, S4NN's relative loss, 784-400-10",
        S4NN,
        _RELATIVE_CLASSIFIER,
        _SMALL_CAUSAL,
        paper={"accuracy_papers_rule": 0.974, "steps_to_decision": 89.7, "spikes_to_decision": 218.3},
        target={"accuracy_papers_rule": 0.974},
    ),
    Preset(
        "s4nn-causal-1000",
        "the same with 1,000 hidden neurons",
        S4NN,
        dataclasses.replace(_RELATIVE_CLASSIFIER, hidden_features=1000),
        _SMALL_CAUSAL,
        note="at or above 784-400-10",
    ),
    Preset(
        "spiking-gan-window",
        "GAN of window neurons, one digit, 100-400-784 and 784-400-2",
        SPIKING_GAN,
        _WINDOW_GAN,
        _SMALL_GAN,
        takes_digit=True,
        target={"longest_training_seconds": 180},
        note="Frechet distance at or below the ANN GAN's (the paper gives none)",
    ),
    Preset(
        "spiking-gan-conditional",
        "GAN of window neurons that takes the label, all ten digits",
        SPIKING_GAN,
        dataclasses.replace(_WINDOW_GAN, conditional=True, epochs=30),
        (*_SMALL_GAN[:2], ("epochs", 100), ("batch_size", 32)),
        note="Frechet distance at or below the conditional ANN GAN's",
    ),
    Preset(
        "spiking-gan-causal",
        "GAN of phased causal neurons, both networks on one clock of 256 steps, one digit",
        SPIKING_GAN,
        _PHASED_GAN,
        (("hidden_features", 200), ("noise_size", 32), ("epochs", 300), ("batch_size", 16)),
        takes_digit=True,
        note="Frechet distance under half of the mean-image control's (the paper gives none)",
    ),
    Preset(
        "spiking-gan-causal-published",
        "the paper's causal rule: step synapse, hard masks, L1 norm, dynamic targets, SGD",
        SPIKING_GAN,
        _PUBLISHED_GAN,
        (("hidden_features", 200), ("noise_size", 32), ("epochs", 300), ("batch_size", 16)),
        takes_digit=True,
        note="no digit: with this rule and guessed hyper-parameters the generator does not learn",
    ),
    Preset(
        "ann-gan",
        "the paper's ANN GAN of the same size, one digit",
        SPIKING_GAN,
        _ANN_GAN,
        _SMALL_GAN,
        takes_digit=True,
        note="the reference that the spiking GAN is measured against",
    ),
    Preset(
        "ann-gan-conditional",
        "the ANN GAN of the same size that takes the label",
        SPIKING_GAN,
        dataclasses.replace(_ANN_GAN, conditional=True, epochs=30),
        (*_SMALL_GAN[:2], ("epochs", 100), ("batch_size", 32)),
        note="the reference that the conditional spiking GAN is measured against",
    ),
)
PRESETS = {
    entry.name: entry
    for entry in (
        *_ALL,
        *(
            Preset(name, summary, source, config, one_dataset=True, **figures)
            for name, summary, source, figures, config in (*DEEP, *ONE_STEP)
        ),
    )
}
