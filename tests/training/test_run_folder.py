"""Run folders: nothing is overwritten, nothing damaged is used, and a state comes back as it was."""

import dataclasses
import json

import pytest
import torch
from builders import refused

from firstspike.recipes import preset
from firstspike.support import InputError
from firstspike.training.run_folder import RunFolder, RunState

CONFIG = preset("ann-gan").configure(dataset="digits", digit=3, epochs=2)


def begun(path):
    """A run with a finished epoch."""
    run = RunFolder.create(path, "ann-gan", CONFIG, 0)
    run.save_state(RunState({"step": torch.tensor(7.0)}, [{"epoch": 1, "loss": 0.1}]))


def test_an_existing_run_is_not_overwritten(tmp_path):
    begun(tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(InputError, match=r"holds a run already.*resume"):
        RunFolder.create(tmp_path / "run", "ann-gan", CONFIG, 0)
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_resume_takes_only_the_same_run(tmp_path):
    begun(tmp_path / "run")
    assert RunFolder.create(tmp_path / "run", "ann-gan", CONFIG, 0, resume=True).config == CONFIG
    with pytest.raises(InputError, match="seed 0 there, 1 asked for"):
        RunFolder.create(tmp_path / "run", "ann-gan", CONFIG, 1, resume=True)
    other = dataclasses.replace(CONFIG, epochs=5)
    with pytest.raises(InputError, match="epochs 2 there, 5 asked for"):
        RunFolder.create(tmp_path / "run", "ann-gan", other, 0, resume=True)


def test_a_run_without_a_finished_epoch_makes_room_for_another(tmp_path):
    other = dataclasses.replace(CONFIG, epochs=5)
    for resume, config in ((False, CONFIG), (False, other), (True, CONFIG)):
        run = RunFolder.create(tmp_path / "run", "ann-gan", config, 0, resume=resume)
        (run.path / "state").mkdir(exist_ok=True)
        (run.path / "state" / ".latest-abc.safetensors").write_text("half")
        (run.path / "diagnosis.jsonl").write_text("{}")
        assert run.config == RunFolder.open(tmp_path / "run").config == config


@pytest.mark.parametrize(
    ("name", "text"), [("pytorch_model.bin", "weights"), ("metrics.jsonl", '{"epoch": 1}\n')]
)
def test_a_configuration_with_other_files_is_left_alone(tmp_path, name, text):
    """What lost its weights alone, or is another program's."""
    RunFolder.create(tmp_path / "run", "ann-gan", CONFIG, 0)
    (tmp_path / "run" / name).write_text(text)
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(InputError, match="holds a run already"):
        RunFolder.create(tmp_path / "run", "ann-gan", dataclasses.replace(CONFIG, epochs=5), 0)
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="that is of no run that this firstspike reads"):
        RunFolder.create(foreign, "ann-gan", CONFIG, 0)
    assert [path.name for path in foreign.iterdir()] == ["config.json"]


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("data")
    with pytest.raises(InputError, match="not empty and holds no run"):
        RunFolder.create(tmp_path, "ann-gan", CONFIG, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["precious.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        RunFolder.create(tmp_path / "file", "ann-gan", CONFIG, 0)


def test_state_comes_back_bit_for_bit(tmp_path):
    run = RunFolder.create(tmp_path / "run", "ann-gan", CONFIG, 0)
    assert run.load_state().epoch == 0
    tensors = {"a/b": torch.randn(3, 4).t(), "step": torch.tensor(7.0)}
    run.save_state(RunState(tensors, [{"epoch": 1, "loss": 0.1}]))
    state = run.load_state()
    assert state.epoch == 1
    assert state.records == [{"epoch": 1, "loss": 0.1}]
    assert all(torch.equal(state.tensors[name], tensor) for name, tensor in tensors.items())
    assert json.loads((run.path / "metrics.jsonl").read_text()) == {"epoch": 1, "loss": 0.1}


def test_damage_is_named(tmp_path):
    run = RunFolder.create(tmp_path / "run", "ann-gan", CONFIG, 0)
    with pytest.raises(InputError, match="not a run folder"):
        RunFolder.open(tmp_path)
    with pytest.raises(InputError, match="no model yet"):
        run.load_model(torch.nn.Linear(2, 2))
    (run.path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(InputError, match="damaged"):
        run.load_model(torch.nn.Linear(2, 2))
    config = run.path / "config.json"
    text = config.read_text()
    for written in (1, 99):
        config.write_text(text.replace('"format": 2', f'"format": {written}'))
        with pytest.raises(
            InputError, match=f"format {written}, this firstspike reads 2.* into another out"
        ):
            RunFolder.open(run.path)
    config.write_text(text[:50])
    with pytest.raises(InputError, match="damaged"):
        RunFolder.open(run.path)


def test_weights_of_another_shape_or_not_finite_are_refused(tmp_path):
    run = RunFolder.create(tmp_path / "run", "ann-gan", CONFIG, 0)
    run.save_model(torch.nn.Linear(2, 3).state_dict())
    with pytest.raises(InputError, match="does not fit"):
        run.load_model(torch.nn.Linear(2, 2))
    broken = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(broken.weight, float("nan"))
    run.save_model(broken.state_dict())
    with pytest.raises(InputError, match="NaN or infinite"):
        run.load_model(torch.nn.Linear(2, 2))


def test_other_windows_are_those_of_the_recipe_and_written_nowhere(tmp_path):
    config = preset("spiking-vae").recipe
    run = RunFolder.create(tmp_path / "run", "spiking-vae", config, 0)
    changed = run.with_windows({"steps": 8, "pixel_steps": "32"})
    assert changed.config == dataclasses.replace(config, steps=8, pixel_steps=32)
    assert changed.windows == {"steps", "pixel_steps"}
    run.save_model(config.build((1, 28, 28), 10).state_dict())
    assert changed.load().decoder.levels.steps == 8
    with refused(InputError, "holds weights for the trained length of latent_steps only"):
        run.with_windows({"latent_steps": 8}).load()
    ramp = dataclasses.replace(run, config=preset("ramp-mnist").recipe)
    with refused(InputError, "'steps'", "it has none that can change without another training"):
        ramp.with_windows({"steps": 8})
    assert RunFolder.open(run.path) == run
    for windows, message in (
        ({"epochs": 3}, "run has no window 'epochs' to change; it has steps, latent_steps, pixel_steps"),
        ({"steps": 1}, "SpikingVae.steps must be an integer in 2 ... 65535; found '1'"),
        ({"steps": 8.5}, "integer"),
        ({"steps": None}, "integer"),
    ):
        with refused(InputError, message):
            run.with_windows(windows)
