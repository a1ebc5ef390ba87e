"""Standard output and standard error as a command needs them: losing either loses nothing else."""

import errno
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

from firstspike.support import LastingStream

# A pipe's reader has left, a terminal is gone, a descriptor is closed; on Windows a pipe says EINVAL.
_READER_LEFT = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.EINVAL})


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let a command write whether or not anybody reads.

    Standard error may fail in any way. Of standard output a reader that has left is forgiven, for he has
    read what he wanted; a full disk is not. No character is refused for the encoding.
    """
    _fill_closed_descriptors()
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nobody:
        out, err = (nobody if stream is None else stream for stream in before)
        for stream in (out, err):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        streams = LastingStream(out, frozenset() if _is_file(out) else _READER_LEFT), LastingStream(err)
        sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            for stream in streams:
                _let_go(stream)


@contextmanager
def deaf_to_hangup() -> Iterator[None]:
    """Go on where the terminal is closed, as long as the block runs; Ctrl-C still stops it."""
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _fill_closed_descriptors() -> None:
    """Open the null device where 0, 1 or 2 is closed, lest a file gets that number and others' messages."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _let_go(stream: LastingStream) -> None:
    """Flush `stream`; what cannot be delivered goes to the null device, for Python tries again later."""
    with suppress(OSError):
        stream.flush()
        if not stream.lost:
            return
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
