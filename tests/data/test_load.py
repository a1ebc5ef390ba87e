import subprocess
import sys

import pytest

from firstspike.data import DATASETS, SPLITS, load
from firstspike.data.shapes import image_shape, input_shape, number_of_classes
from firstspike.support import InputError


def test_the_names():
    assert DATASETS[:5] == ("digits", "mnist", "fashion-mnist", "cifar-10", "cifar-100")
    assert SPLITS == ("train", "validation", "test")


@pytest.mark.parametrize("name", ["cifar", "MNIST", ""])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(InputError, match=f"'{name}': expected one of digits, mnist, fashion-mnist"):
        load(name, "train")


@pytest.mark.parametrize("name", DATASETS)
def test_an_unknown_split_lists_the_known_ones(name):
    with pytest.raises(InputError, match="'val': expected one of train, validation, test"):
        load(name, "val")


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("digits", (1, 8, 8), 10),
        ("mnist", (1, 28, 28), 10),
        ("fashion-mnist", (1, 28, 28), 10),
        ("cifar-10", (3, 32, 32), 10),
        ("cifar-100", (3, 32, 32), 100),
    ],
)
def test_shapes_are_known_before_files_are_opened(name, shape, classes):
    assert (input_shape(name), image_shape(name), number_of_classes(name)) == (shape, shape[1:], classes)


def test_every_set_has_a_shape():
    assert all(len(input_shape(name)) == 3 for name in DATASETS)
    for about in (input_shape, image_shape, number_of_classes):
        with pytest.raises(InputError, match="unknown data set 'svhn': expected one of digits, mnist"):
            about("svhn")


def test_digits_need_no_folder(tmp_path):
    assert len(load("digits", "test", tmp_path / "nowhere")) == 300


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_folder_without_the_set_is_refused_by_name(tmp_path, name):
    with pytest.raises(InputError, match=f"no {name} here"):
        load(name, "test", data_dir=tmp_path)


def test_importing_it_imports_no_slow_library():
    code = (
        "import sys, firstspike.data, firstspike.support; "
        "print({'sklearn', 'pooch', 'requests', 'filelock'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
