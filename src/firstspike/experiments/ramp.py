"""``reproduce ramp``: the ramp neuron on MNIST, and ramp, window and causal neurons on Yin-Yang."""

from collections.abc import Iterator

from firstspike.experiments.jobs import Run
from firstspike.experiments.spec import Column, Experiment, Measured, Table, headline

# What each is called in the README.
LABELS = {
    "ramp-mnist": "classifier 784-400-10, ramp neurons, exact gradients",
    "yin-yang-window": "Yin-Yang 5-120-3, window neurons",
    "yin-yang-ramp": "the same, ramp neurons",
    "yin-yang-causal": "the same, causal neurons with a constant current",
}


def _tables(measured: Measured) -> list[Table]:
    first = next(iter(measured.runs.values()))[0]
    return [
        Table(
            "Ramp neurons on MNIST, three neurons on Yin-Yang",
            measured.rows(LABELS),
            [
                Column("accuracy", "accuracy (strict), %"),
                Column("accuracy_papers_rule"),
                Column("tie_rate"),
                Column("silent_rate"),
                Column("steps_to_decision"),
                Column("spikes_to_decision"),
            ],
            "preset",
            [
                f"Strict: {first['decision_rule']}. Papers' rule: {first['papers_rule']}. Steps count from "
                "the first input step; spikes are those of all layers up to the decision.",
                "Published on Yin-Yang with 120 hidden neurons: 95.9 to 98.1 %; exact-gradient networks of "
                "MNIST's size: 97 to 98.1 %. The target of each is 98 %.",
                "The epoch is chosen by strict validation accuracy: 5,000 images of MNIST's training set, "
                "1,000 points of Yin-Yang. Each figure is of 10,000 test images or 1,000 test points.",
            ],
        )
    ]


def _headlines(measured: Measured) -> Iterator[list[str]]:
    columns = [
        Column("accuracy", "{} % strict"),
        Column("steps_to_decision", "{} steps"),
        Column("spikes_to_decision", "{} spikes"),
    ]
    for name, label in LABELS.items():
        if name in measured:
            yield headline(label, measured.row(name), columns)


RAMP = Experiment(
    name="ramp",
    title="The ramp neuron, and Yin-Yang",
    subtitle="Exact gradients of spike times",
    split="the test images of MNIST and the test points of Yin-Yang",
    runs=[Run(name) for name in LABELS],
    tables=_tables,
    headlines=_headlines,
    curves={
        "validation accuracy": ["validation_accuracy", "validation_accuracy_papers_rule"],
        "steps to decision": ["steps_to_decision"],
        "spikes to decision": ["spikes_to_decision"],
    },
)
