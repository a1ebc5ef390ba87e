"""The command line in a process of its own, and what it answers."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The one line of a refusal, after a check that it is one and nothing else was said."""
        assert self.status == 2, self
        assert self.out == "", self
        assert self.err.startswith("firstspike: "), self
        assert self.err.index("\n") == len(self.err) - 1, self
        return self.err.removeprefix("firstspike: ").rstrip("\n")


def command_line(*arguments):
    return [sys.executable, "-W", "error", "-m", "firstspike", *map(str, arguments)]


def shell(*arguments, before="pass"):
    """Run ``python -m firstspike`` after the statement `before`; return its `Answer`."""
    line = command_line(*arguments)
    if before != "pass":
        started = f"import runpy; {before}; runpy.run_module('firstspike', run_name='__main__')"
        line = [sys.executable, "-c", started, *line[5:]]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return every file below `folder` with its bytes, and every folder with None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
