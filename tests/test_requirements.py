"""The versions that are asked for are versions that were run."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_oldest_torch_that_is_allowed_is_the_one_that_the_tests_run_with():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (asked,) = (one for one in project["dependencies"] if re.match(r"torch\b", one))
    (pinned,) = re.findall(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    assert asked.removeprefix("torch>=").split(".") == pinned.split(".")[:2]
