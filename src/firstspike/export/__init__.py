"""Trained networks on their way out: whole numbers and C."""

from firstspike.export.program import c

__all__ = ["c"]
