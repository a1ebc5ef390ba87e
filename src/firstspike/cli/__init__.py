"""The command line: verbs only, each in a file of its own.

Nothing heavy is imported before a verb runs, so that ``--help`` answers at once.
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from firstspike.cli import bench, demo, evaluate, presets, reproduce, sample, train
from firstspike.support import Diverged, InputError

_VERBS = (demo, train, evaluate, sample, reproduce, bench, presets)

_ADVICE = {
    code: advice
    for codes, advice in (
        ((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space or name another folder"),
        ((errno.EACCES, errno.EPERM, errno.EROFS), "change its permissions or name another path"),
        ((errno.ENOTDIR, errno.EISDIR, errno.EEXIST), "name another path"),
    )
    for code in codes
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        self.exit(_refuse(f"{message}; see {self.prog} --help"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 success, 2 bad input, 1 a failure inside."""
    parser = _Parser(
        prog="firstspike",
        description="Neural networks whose neurons spike at most once: train, generate, measure, picture.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(metavar="VERB", parser_class=_Parser)
    for verb in _VERBS:
        verb.add_parser(verbs)
    options = parser.parse_args(arguments)
    if options.version:
        from importlib.metadata import version

        print(version("firstspike"))
        return 0
    if not hasattr(options, "run"):
        parser.error(f"expected a verb: {', '.join(verbs.choices)}")
    try:
        options.run(options)
        # Here, where a full disk or a reader that has left is still caught.
        sys.stdout.flush()
    except InputError as error:
        return _refuse(str(error))
    except Diverged as error:
        _refuse(str(error))
        return 1
    except BrokenPipeError:
        # The reader of our output has left; point stdout elsewhere so that closing it cannot fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        advice = f"; {_ADVICE[error.errno]}" if error.errno in _ADVICE else ""
        return _refuse(f"{where}{error.strerror or error}{advice}")
    except KeyboardInterrupt:
        kept = f"; {options.kept}" if "kept" in options else ""
        print(f"firstspike: interrupted{kept}", file=sys.stderr)
        return 130
    return 0


def _refuse(message: str) -> int:
    print(f"firstspike: {' '.join(message.split())}", file=sys.stderr)
    return 2
