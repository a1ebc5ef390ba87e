"""``firstspike presets``: complete as JSON, readable as a table."""

import json

from firstspike.training.config import from_json
from firstspike.training.presets import PRESETS

SCRIPTS_RELY_ON = {
    "aggressive-ttfs-window",
    "aggressive-ttfs-causal",
    "s4nn-causal",
    "spiking-gan-window",
    "spiking-gan-causal",
    "spiking-gan-conditional",
    "ann-gan",
}


FIELDS = {"summary", "paper", "expected", "figures", "takes_digit", "one_dataset", "config", "on_digits"}


def test_json_is_one_object_that_describes_every_preset(firstspike):
    answer = firstspike("presets", "--json")
    assert (answer.status, answer.err) == (0, "")
    document = json.loads(answer.out)
    assert document.keys() == PRESETS.keys()
    assert document.keys() >= SCRIPTS_RELY_ON
    for name, entry in document.items():
        assert entry.keys() == FIELDS
        assert from_json(entry["config"]) == PRESETS[name].config
        on_digits = {field: from_json(value) for field, value in entry["on_digits"].items()}
        assert on_digits == dict(PRESETS[name].on_digits)
    assert document["ann-gan"]["takes_digit"] is True


def test_the_table_names_every_preset_and_the_digit_where_it_is_needed(firstspike, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    answer = firstspike("presets")
    assert (answer.status, answer.err) == (0, "")
    assert all(name in answer.out for name in PRESETS)
    titles = [source.split(";")[0] for source in {preset.source for preset in PRESETS.values()}]
    assert [answer.out.count(title) for title in titles] == [1] * len(titles)
    assert answer.out.count("--digit 0..9") == sum(preset.takes_digit for preset in PRESETS.values())
