"""The command line: verbs only, each in a file of its own.

Nothing heavy is imported before a verb runs, so that ``--help`` answers at once.
"""

import argparse
import errno
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from firstspike import __version__
from firstspike.cli import bench, convert, demo, evaluate, export, presets, reproduce, sample, train
from firstspike.cli.streams import lasting_streams
from firstspike.support import Diverged, InputError, command_line, one_line

_VERBS = (demo, train, convert, evaluate, sample, export, reproduce, bench, presets)

_ADVICE = {
    code: advice
    for codes, advice in (
        ((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space or name another folder"),
        ((errno.EACCES, errno.EPERM, errno.EROFS), "change its permissions or name another path"),
        ((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST), "name another path"),
    )
    for code in codes
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        self.exit(_refuse(f"{message}; see {self.prog} --help"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 success, 2 bad input, 1 a failure inside."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    token = command_line.set(shlex.join(["firstspike", *given]))
    try:
        with lasting_streams():
            return _answer(given)
    finally:
        command_line.reset(token)


def _answer(arguments: list[str]) -> int:
    options = argparse.Namespace()
    try:
        try:
            _run(arguments, options)
        finally:
            # Here, where a full disk is still caught.
            sys.stdout.flush()
    except InputError as error:
        return _refuse(str(error))
    except Diverged as error:
        _refuse(str(error))
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        advice = f"; {_ADVICE[error.errno]}" if error.errno in _ADVICE else ""
        return _refuse(f"{where}{error.strerror or error}{advice}")
    except KeyboardInterrupt:
        kept = f"; {options.kept}" if "kept" in options else ""
        print(f"firstspike: interrupted{kept}", file=sys.stderr)
        return 130
    return 0


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="firstspike",
        description="Neural networks whose neurons spike at most once: train, convert, generate, measure, "
        "picture, export.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(metavar="VERB", parser_class=_Parser)
    for verb in _VERBS:
        verb.add_parser(verbs)
    return parser


def _run(arguments: list[str], options: argparse.Namespace) -> None:
    """Do what `arguments` ask for; fill `options` with them."""
    parser = command_parser()
    parser.parse_args(arguments, options)
    if options.version:
        print(__version__)
    elif "run" in options:
        options.run(options)
    else:
        parser.error(f"expected a verb: {', '.join(verb.__name__.rpartition('.')[2] for verb in _VERBS)}")


def _refuse(message: str) -> int:
    print(f"firstspike: {one_line(message)}", file=sys.stderr)
    return 2
