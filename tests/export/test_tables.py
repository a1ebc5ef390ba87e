"""The tables, walked in plain loops, give what the integer network gives."""

from drawn_networks import Drawn, networks, walk
from hypothesis import given, settings
from hypothesis import strategies as st

import firstspike as fs
from firstspike.export.program import expected
from firstspike.export.tables import tables


@settings(deadline=None, max_examples=60)
@given(networks(), st.booleans())
def test_a_walk_through_the_tables_is_the_network(drawn: Drawn, even: bool) -> None:
    net, shape, images = drawn
    whole = fs.integer(net, in_shape=shape)
    layout = tables(whole, even=even)
    samples = images.flatten(1).numpy()
    lines, pixels = expected(whole, None, samples)
    assert pixels is None
    assert lines == [" ".join(map(str, walk(layout, sample))) for sample in samples]


def test_layers_that_share_a_window_are_a_phase() -> None:
    net = fs.Stack(
        fs.EarliestPool2d(2),
        fs.Conv2d(1, 2, 3),
        fs.EarliestPool2d(2),
        fs.Linear(2, 2, fs.Window.output()),
        steps=4,
    )
    assert tables(fs.integer(net, in_shape=(1, 8, 8))).phases == ((0,), (1, 2), (3,))
