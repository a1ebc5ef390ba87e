"""Keeping torch.compile out of code that is compiled already."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_R = TypeVar("_R")


def untraced(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return `function` so that torch.compile runs it as it is, between two graphs.

    ``torch.compiler.disable`` does that, but imports the compiler, which takes a second; so it is applied
    once the compiler is there. Under ``fullgraph=True`` the function raises NotImplementedError.
    """
    disabled: list[Callable[_P, _R]] = []

    @functools.wraps(function)
    def call(*arguments: _P.args, **named: _P.kwargs) -> _R:
        if torch.compiler.is_compiling():
            raise NotImplementedError(
                "firstspike's kernels are compiled already and cannot be part of a graph of "
                "torch.compile; leave fullgraph=True out"
            )
        if "torch._dynamo" not in sys.modules:
            return function(*arguments, **named)
        if not disabled:
            disabled.append(torch.compiler.disable(function))
        return disabled[0](*arguments, **named)

    return call
