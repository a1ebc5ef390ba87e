"""What the measured figures are called, how they are written, and which way is better."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """How a measured figure is written.

    Attributes:
        words: its name in a table's head.
        unit: of the figure as it is shown, "" for none.
        digits: behind the point.
        factor: what is shown is the measured value times this.
        higher: whether more is better; None where neither is.
    """

    words: str
    unit: str = ""
    digits: int = 2
    factor: float = 1.0
    higher: bool | None = None

    @property
    def title(self) -> str:
        """Its name with its unit."""
        return f"{self.words}, {self.unit}" if self.unit else self.words


# Under the names that ``firstspike evaluate --json`` prints.
FIGURES: Mapping[str, Quantity] = {
    "accuracy": Quantity("accuracy", "%", 2, 100, higher=True),
    "accuracy_papers_rule": Quantity("accuracy (papers' rule)", "%", 2, 100, higher=True),
    "accuracy_membrane": Quantity("accuracy (membrane read-out)", "%", 2, 100, higher=True),
    "tie_rate": Quantity("ties", "%", 2, 100, higher=False),
    "silent_rate": Quantity("silent", "%", 2, 100, higher=False),
    "steps_to_decision": Quantity("steps to decision", digits=1, higher=False),
    "spikes_to_decision": Quantity("spikes to decision", digits=1, higher=False),
    "spikes_per_hidden_neuron": Quantity("spikes per hidden neuron", digits=3, higher=False),
    "spikes_per_neuron": Quantity("spikes per neuron", digits=3, higher=False),
    "spikes_per_image": Quantity("spikes per image", digits=1, higher=False),
    "synops": Quantity("additions by spikes", "million", 2, 1e-6, higher=False),
    "energy_pj": Quantity("energy", "uJ", 2, 1e-6, higher=False),
    "energy_of_inputs_pj": Quantity("energy by inputs alone", "uJ", 2, 1e-6, higher=False),
    "dense_energy_pj": Quantity("energy of the ANN", "uJ", 2, 1e-6),
    "training_seconds": Quantity("training", "s", 0, higher=False),
    "longest_training_seconds": Quantity("longest training", "s", 0, higher=False),
    "frechet_distance": Quantity("Frechet distance", digits=1, higher=False),
    "kid": Quantity("KID", digits=1, higher=False),
    "precision": Quantity("precision", digits=3, higher=True),
    "recall": Quantity("recall", digits=3, higher=True),
    "density": Quantity("density", digits=3, higher=True),
    "coverage": Quantity("coverage", digits=3, higher=True),
    "diversity": Quantity("diversity", digits=3, higher=True),
    "second_frechet_distance": Quantity("Frechet distance, second network", digits=1, higher=False),
    "reconstruction_error": Quantity("squared error of a pixel", "", 4, higher=False),
    "classification_accuracy_score": Quantity("classifier trained on samples", "%", 2, 100, higher=True),
    "right_label_rate": Quantity("right digit", digits=3, higher=True),
}


def quantity(name: str) -> Quantity:
    """Return how the figure called `name` is written; one that is not listed goes by its own name."""
    return FIGURES.get(name) or Quantity(name.replace("_", " "))


def describe(figures: Mapping[str, float], *, bounds: bool = False) -> str:
    """Return figures in words, as "accuracy 99.48 %, steps to decision 59.7".

    Args:
        figures: value of each, by name.
        bounds: write what is to be reached, as "accuracy >= 99.45 %".
    """
    parts = []
    for name, value in figures.items():
        known = quantity(name)
        sign = "" if not bounds else ">= " if known.higher else "<= "
        unit = f" {known.unit}" if known.unit else ""
        parts.append(f"{known.words} {sign}{value * known.factor:.6g}{unit}")
    return ", ".join(parts)
