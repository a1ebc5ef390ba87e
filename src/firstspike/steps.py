"""The length of a window in steps. Free of torch, so that the command line starts quickly."""

MAX_NUM_STEPS = 65_535


def check_num_steps(num_steps: int, *, minimum: int = 2) -> int:
    """Return `num_steps` as an int, refusing what is not a whole number in 2 ... 65,535.

    Raises:
        TypeError: `num_steps` is not an integer.
        ValueError: it is out of range.
    """
    if isinstance(num_steps, bool) or not isinstance(num_steps, int):
        raise TypeError(f"num_steps must be an int, found {type(num_steps).__name__}: {num_steps!r}")
    if not minimum <= num_steps <= MAX_NUM_STEPS:
        raise ValueError(f"num_steps must be in {minimum} ... {MAX_NUM_STEPS}, found {num_steps}")
    return num_steps
