"""Where downloads and derived files are kept between runs."""

import os
from pathlib import Path

CACHE_VARIABLE = "FIRSTSPIKE_CACHE"


def cache_dir() -> Path:
    """Return the folder for downloaded and derived files; it need not exist yet.

    The environment variable FIRSTSPIKE_CACHE names it; otherwise it is the user's cache folder of
    the operating system (``~/.cache/firstspike`` on Linux).
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    import pooch

    return Path(pooch.os_cache("firstspike"))
