"""The tables, walked in plain loops, give what the integer network gives."""

from builders import refused
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


def test_what_shares_no_clock_or_is_never_read_is_refused() -> None:
    window, causal = fs.Window(steps=20), fs.Causal(threshold=0.2)
    unread = fs.Stack(fs.Linear(6, 5, window), fs.Linear(6, 3, causal, source=0), steps=8)
    with refused(ValueError, "layer 0", "nothing reads"):
        tables(fs.integer(unread))
    past = fs.Connection.linear(6, 3, source=0)
    mixed = fs.Stack(fs.Linear(6, 5), fs.Linear(5, 3, causal, shortcuts=[past]), steps=8)
    with refused(ValueError, "layer 1", "clock", "window neurons"):
        tables(fs.integer(mixed))
