"""``firstspike presets``: complete as JSON, readable as a table; the fields of one."""

import json

from firstspike.recipes import PRESETS
from firstspike.recipes.base import Recipe
from firstspike.recipes.fields import flat, from_json, to_json

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
        chosen = PRESETS[name]
        assert entry.keys() == FIELDS
        assert from_json(entry["config"], Recipe) == chosen.recipe
        assert (entry["paper"], entry["expected"]) == (chosen.source, chosen.expected)
        assert entry["figures"] == {"paper": chosen.paper, "target": chosen.target}
        assert entry["on_digits"] == {field: to_json(value) for field, value in chosen.on_digits.items()}
    assert document["ann-gan"]["takes_digit"] is True
    assert document["ettfs-mnist"]["figures"]["paper"] == {"accuracy": 0.9948}


def test_the_table_names_every_preset_and_the_digit_where_it_is_needed(firstspike, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    answer = firstspike("presets")
    assert (answer.status, answer.err) == (0, "")
    assert all(name in answer.out for name in PRESETS)
    titles = [source.split(";")[0] for source in {preset.source for preset in PRESETS.values()}]
    assert [answer.out.count(title) for title in titles] == [1] * len(titles)
    assert answer.out.count("--digit 0..9") == sum(preset.takes_digit for preset in PRESETS.values())


def test_a_preset_lists_its_fields_with_the_papers_figures_and_the_targets(firstspike):
    answer = firstspike("presets", "ettfs-mnist")
    assert (answer.status, answer.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in answer.out.splitlines() if line)
    assert lines["expected"] == (
        "target: accuracy >= 99.45 %, spikes per hidden neuron <= 1; paper: accuracy 99.48 %"
    )
    for name, value in flat(PRESETS["ettfs-mnist"].recipe):
        assert lines[name] == str(value)


def test_an_unknown_preset_is_refused(firstspike):
    assert "aggressive-ttfs-window" in firstspike("presets", "aggressive-ttfs-windo").refusal
