"""What torchrun sets in the environment, whole or in part."""

import pytest
import torch

from firstspike.recipes import preset
from firstspike.support import InputError
from firstspike.training import processes
from firstspike.training.run import train

WHOLE = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch):
    def change(**variables):
        for name in (*WHOLE, "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return change


@pytest.mark.parametrize("size", ["", " ", "1", None])
def test_nothing_or_one_is_one_process(environment, size):
    environment(**({} if size is None else {"WORLD_SIZE": size}), RANK="junk", LOCAL_RANK="3")
    assert processes.asked_for() == processes.count_here() == 1
    assert processes.own_device("cuda") == "cuda"
    with processes.joined("cpu"):
        assert processes.count() == 1


def test_torchrun_is_understood(environment):
    environment(**WHOLE, LOCAL_RANK="1", LOCAL_WORLD_SIZE="2")
    assert (processes.asked_for(), processes.count_here()) == (2, 2)
    assert processes.own_device("cuda") == "cuda:1"
    assert processes.own_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"RANK": ""}, "RANK"),
        ({"MASTER_ADDR": "", "MASTER_PORT": ""}, "MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "junk"}, "WORLD_SIZE=junk"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE=-2"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE=2.0"),
        ({"WORLD_SIZE": "9" * 5000}, "WORLD_SIZE=9"),
        ({"RANK": "2"}, "RANK=2"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT=http"),
    ],
)
def test_a_part_of_it_is_refused_before_anything_is_made(environment, tmp_path, changes, named):
    environment(**WHOLE | changes)
    config = preset("aggressive-ttfs-window").configure(dataset="digits", epochs=1)
    with pytest.raises(InputError, match=f"{named}.*torchrun") as caught:
        train(tmp_path / "run", "aggressive-ttfs-window", config, 0)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_each_process_and_step_draws_numbers_of_its_own(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    torch.manual_seed(0)
    drawn = []
    for rank in range(2):
        monkeypatch.setattr(processes.distributed, "get_rank", lambda rank=rank: rank)
        for step in range(3):
            with processes.own_randomness(step):
                drawn.append(float(torch.rand(())))
    assert len(set(drawn)) == 6
    # What is drawn behind it is what a process alone would draw.
    shared = torch.rand(3)
    torch.manual_seed(0)
    assert torch.rand(3).equal(shared)
