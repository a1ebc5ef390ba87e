"""The examples in the docstrings run, and show what they print."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(import_module("firstspike").__path__[0])
# The modules whose docstrings show examples.
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(import_module(name)).failed == 0


def test_there_are_examples() -> None:
    assert {"firstspike.spikes", "firstspike.neurons.base", "firstspike.nn.stack"} <= set(MODULES)


def test_every_public_name_is_there() -> None:
    import firstspike

    for name in firstspike.__all__:
        assert getattr(firstspike, name) is not None
    assert firstspike.__version__.count(".") >= 2
    assert set(firstspike.__all__) == set(dir(firstspike))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = firstspike.nothing
