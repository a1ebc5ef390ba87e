import subprocess
import sys

import pytest

from firstspike.data import DATASETS, SPLITS, load
from firstspike.errors import InputError


def test_the_names():
    assert DATASETS == ("digits", "mnist", "fashion-mnist")
    assert SPLITS == ("train", "validation", "test")


@pytest.mark.parametrize("name", ["cifar", "MNIST", ""])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(InputError, match=f"'{name}': expected one of digits, mnist, fashion-mnist"):
        load(name, "train")


@pytest.mark.parametrize("name", DATASETS)
def test_an_unknown_split_lists_the_known_ones(name):
    with pytest.raises(InputError, match="'val': expected one of train, validation, test"):
        load(name, "val")


def test_digits_need_no_folder(tmp_path):
    assert len(load("digits", "test", tmp_path / "nowhere")) == 300


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_folder_without_the_set_is_refused_by_name(tmp_path, name):
    with pytest.raises(InputError, match=f"no {name} here"):
        load(name, "test", data_dir=tmp_path)


def test_importing_it_imports_no_slow_library():
    code = (
        "import sys, firstspike.data, firstspike.cache; "
        "print({'sklearn', 'pooch', 'requests', 'filelock'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
