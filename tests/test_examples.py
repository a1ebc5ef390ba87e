"""The examples in the docstrings run, and show what they print."""

import doctest
from importlib import import_module

import pytest

MODULES = [
    "firstspike.spikes",
    "firstspike.neurons.base",
    "firstspike.neurons.causal",
    "firstspike.neurons.levels",
    "firstspike.neurons.phased",
    "firstspike.neurons.ramp",
    "firstspike.neurons.window",
    "firstspike.nn.connection",
    "firstspike.nn.layers",
    "firstspike.nn.pool",
    "firstspike.nn.stack",
    "firstspike.nn.wiring",
    "firstspike.data.own_data",
    "firstspike.decision",
    "firstspike.losses",
    "firstspike.engine",
    "firstspike.online",
    "firstspike.weights.state_dict",
    "firstspike.metrics.cost",
    "firstspike.sklearn",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0


def test_there_are_examples() -> None:
    found = {
        name
        for name in MODULES
        if any(test.examples for test in doctest.DocTestFinder().find(import_module(name)))
    }
    assert {"firstspike.spikes", "firstspike.neurons.base", "firstspike.nn.stack"} <= found


def test_every_public_name_is_there() -> None:
    import firstspike

    for name in firstspike.__all__:
        assert getattr(firstspike, name) is not None
    assert firstspike.__version__.count(".") >= 2
    assert set(firstspike.__all__) == set(dir(firstspike))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = firstspike.nothing
