"""Imports point one way: a part of firstspike may import itself and the parts before it."""

import ast
from pathlib import Path

import pytest

import firstspike

ROOT = Path(next(iter(firstspike.__path__)))

# ARCHITECTURE's order. A new part is entered where it stands.
ORDER = [
    "support",
    "inputs",
    "spikes",
    "codes",
    "kernels",
    "neurons",
    "nn",
    "decision",
    "losses",
    "engine",
    "online",
    "weights",
    "models",
    "data",
    "metrics",
    "export",
    "networks",
    "plot",
    "recipes",
    "tensorboard",
    "training",
    "sklearn",
    "hub",
    "experiments",
    "bench",
    "cli",
]
# The package's own face: what it lists or starts may come from anywhere.
FACE = {"__init__", "__main__"}


def part_of(path: Path) -> str:
    """Return the part that a source file belongs to: its folder, or itself."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_parts(source: str, package: list[str]) -> set[str]:
    """Return the parts that `source` imports, at its top or inside a function.

    Args:
        source: Python source.
        package: dotted path of the package that the source file is in, for relative imports.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            names = [".".join([*module, alias.name]) for alias in node.names]
        for name in names:
            dotted = name.split(".")
            # The version is the package's own.
            if dotted[0] == "firstspike" and dotted[1:] != ["__version__"]:
                found.add(dotted[1] if len(dotted) > 1 else "__init__")
    return found


SOURCES = sorted(path for path in ROOT.rglob("*.py") if part_of(path) not in FACE)


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("import firstspike.nn.linear as l", {"nn"}),
        ("from firstspike.spikes import check_times", {"spikes"}),
        ("from firstspike import coding, losses", {"coding", "losses"}),
        ("def f():\n    from firstspike.plot import sample_grid", {"plot"}),
        ("if TYPE_CHECKING:\n    from firstspike.cli import main", {"cli"}),
        ("from . import dispatch", {"kernels"}),
        ("from .. import plot", {"plot"}),
        ("from ..nn.linear import Linear", {"nn"}),
        ("import torch, firstspike", {"__init__"}),
        ("from firstspikes import x", set()),
    ],
)
def test_imports_are_found_however_they_are_written(source: str, parts: set[str]) -> None:
    assert imported_parts(source, ["firstspike", "kernels"]) == parts


def test_every_part_has_its_place() -> None:
    assert {part_of(path) for path in SOURCES} == set(ORDER)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_part_imports_only_itself_and_earlier_ones(path: Path) -> None:
    package = ["firstspike", *path.relative_to(ROOT).parts[:-1]]
    place = ORDER.index(part_of(path))
    later = imported_parts(path.read_text(encoding="utf-8"), package) - set(ORDER[: place + 1])
    assert not later, f"{path.relative_to(ROOT)} imports {', '.join(sorted(later))}"


def test_compiled_kernels_know_arrays_only() -> None:
    # The reference simulators alone read neurons; a kernel takes plain arrays and numbers.
    for path in (ROOT / "kernels").rglob("*.py"):
        parts = imported_parts(path.read_text(encoding="utf-8"), ["firstspike", "kernels"])
        allowed = {"kernels", "neurons", "spikes"} if path.name == "reference.py" else {"kernels"}
        assert parts <= allowed, path.name


def test_no_source_imports_torchvision_or_pickle() -> None:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            # CIFAR's files are pickles; that one file opens them, once their SHA-256 is the official one.
            refused = {"torchvision"} if path.name == "cifar.py" else {"torchvision", "pickle"}
            assert not {name.split(".")[0] for name in names} & refused, path.name
