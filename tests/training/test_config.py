"""Configurations survive JSON, and damaged ones are refused with a reason."""

import json

import pytest

from firstspike.support import InputError
from firstspike.training.config import from_json, to_json
from firstspike.training.presets import PRESETS, preset


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_json(name):
    config = PRESETS[name].config
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_names_its_paper_and_what_to_expect(name):
    assert "arXiv" in PRESETS[name].source
    assert PRESETS[name].expected


def test_what_to_expect_is_written_from_figures():
    assert PRESETS["ettfs-mnist"].expected == (
        "target: accuracy >= 99.45 %, spikes per hidden neuron <= 1; paper: accuracy 99.48 %"
    )
    assert PRESETS["ettfs-cifar100"].expected == "paper: accuracy 70.27 %; needs a GPU"


def test_unknown_type_and_fields_are_refused():
    good = to_json(PRESETS["ann-gan"].config)
    with pytest.raises(InputError, match="unknown type 'Nothing'"):
        from_json(good | {"type": "Nothing"})
    with pytest.raises(InputError, match="missing or unknown fields: colour"):
        from_json(good | {"colour": 3})
    del good["epochs"]
    with pytest.raises(InputError, match="missing or unknown fields: epochs"):
        from_json(good)


def test_a_value_that_a_neuron_refuses_is_an_input_error():
    document = to_json(PRESETS["spiking-gan-window"].config)
    document["hidden_neuron"]["high"] = -1.0
    with pytest.raises(InputError, match="low < high"):
        from_json(document)


def test_digit_is_asked_for_exactly_where_it_belongs():
    with pytest.raises(InputError, match="give --digit"):
        preset("spiking-gan-window").configure()
    with pytest.raises(InputError, match="found 11"):
        preset("spiking-gan-window").configure(digit=11)
    with pytest.raises(InputError, match="takes no --digit"):
        preset("spiking-gan-conditional").configure(digit=3)
    assert preset("spiking-gan-window").configure(digit=7).digit == 7


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(InputError, match=r"unknown preset 'nothing'; firstspike presets lists them"):
        preset("nothing")


def test_digits_get_their_own_sizes():
    small = preset("spiking-gan-conditional").configure(dataset="digits")
    large = preset("spiking-gan-conditional").configure(dataset="mnist")
    assert small.noise_size < large.noise_size
    assert large == preset("spiking-gan-conditional").config
