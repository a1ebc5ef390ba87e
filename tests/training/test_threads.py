"""One thread for small steps, two for long ones, and what is said counts."""

import os

import numpy as np
import pytest
import torch
from builders import refused
from torch import nn

from firstspike.recipes import preset
from firstspike.training import run, threads
from firstspike.training.fit import fit
from firstspike.training.run_folder import RunFolder
from firstspike.training.threads import SMALL_STEP, cores, threads_for

IMAGES = torch.zeros(3, 28, 28, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 4)


def test_long_steps_take_two_threads_and_small_ones_one(four_cores):
    layer = nn.Linear(1000, 100, bias=False)
    batch = int(SMALL_STEP) // 100_000
    assert threads_for(layer, IMAGES, batch) == 1
    assert threads_for(layer, IMAGES, batch + 1) == 2
    assert threads_for(nn.Sequential(layer, nn.Linear(1000, 100, bias=False)), IMAGES, batch) == 2


@pytest.mark.parametrize(
    ("name", "threads"), [("aggressive-ttfs-window-1000", 1), ("window-mnist", 2), ("ettfs-mnist", 2)]
)
def test_deep_networks_take_two_threads_and_shallow_ones_one(four_cores, name, threads):
    recipe = preset(name).configure()
    with torch.device("meta"):
        assert threads_for(recipe.build(*recipe.sizes()), IMAGES, recipe.batch_size) == threads


def test_a_convolution_works_at_every_pixel(four_cores):
    convolution, full = nn.Conv2d(100, 100, 5), nn.Linear(2500, 100)
    assert threads_for(full, IMAGES, 128) == 1
    assert threads_for(convolution, IMAGES, 128) == 2


def test_no_more_threads_than_cores_and_processes_leave(monkeypatch):
    layer = nn.Linear(10_000, 1000)
    batch = 2000
    monkeypatch.setattr(threads, "cores", lambda: 1)
    assert threads_for(layer, IMAGES, batch) == 1
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setattr(threads.processes, "count_here", lambda: 2)
    assert threads_for(layer, IMAGES, batch) == 1


def test_the_cores_are_those_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


@pytest.mark.parametrize("name", ["aggressive-ttfs-window", "ann-gan-conditional"])
def test_the_digits_train_on_one_thread_and_a_number_given_is_kept(tmp_path, four_cores, monkeypatch, name):
    used = []
    monkeypatch.setattr(run, "train_recipe", lambda *_, **__: used.append(torch.get_num_threads()))

    def start(folder, **options):
        config = preset(name).configure(dataset="digits", epochs=1)
        torch.set_num_threads(3)
        made = run.train(tmp_path / folder, name, config, 0, show_progress=False, **options)
        assert torch.get_num_threads() == 3
        return made.threads

    assert start("one") == 1
    assert start("two", threads=2) == 2
    assert start("two", resume=True) == 2
    assert start("two", resume=True, threads=1) == 2
    assert used == [1, 2, 2, 2]
    assert RunFolder.open(tmp_path / "two").threads == 2


def test_a_training_that_fails_leaves_the_number_of_threads(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train_recipe", fail)
    torch.set_num_threads(3)
    config = preset("aggressive-ttfs-window").configure(dataset="digits", epochs=1)
    with pytest.raises(KeyboardInterrupt):
        run.train(tmp_path / "run", "x", config, 0, threads=1, show_progress=False)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("seed", [1.5, "1", None, True, -1])
def test_a_seed_is_an_integer(tmp_path, seed):
    config = preset("aggressive-ttfs-window").configure(dataset="digits", epochs=1)
    with refused(ValueError, "train.seed", "integer", repr(seed)):
        run.train(tmp_path / "run", "x", config, seed, show_progress=False)
    with refused(ValueError, "fit.seed", "integer", repr(seed)):
        fit(
            nn.Linear(2, 1), (torch.ones(3, 2), torch.ones(3, 1)), loss=nn.MSELoss(),
            out=tmp_path / "run", seed=seed,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_a_seed_of_numpy_is_an_integer(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "train_recipe", lambda *_, **__: None)
    config = preset("aggressive-ttfs-window").configure(dataset="digits", epochs=1)
    made = run.train(tmp_path / "run", "x", config, np.int64(3), show_progress=False)
    assert RunFolder.open(made.path).seed == 3
