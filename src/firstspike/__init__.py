"""Neural networks whose neurons spike at most once (time to first spike).

The public names stand in ``__init__.pyi``, once, for type checkers and for this file, which imports each
when it is first used, so that ``import firstspike`` and ``firstspike --help`` stay quick.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.2.0.dev0"


def _public() -> dict[str, str]:
    """Return the module of every name that the stub re-exports."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    return {
        alias.asname: node.module or ""
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }


_HOME = _public()
__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        if _HOME[name] == __name__:
            return import_module(f"{__name__}.{name}")
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'firstspike' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
