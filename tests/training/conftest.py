"""The embedded digits, for runs that end within seconds."""

import pytest

from firstspike.data import load


@pytest.fixture(scope="session")
def train():
    return load("digits", "train")


@pytest.fixture(scope="session")
def validation():
    return load("digits", "validation")
