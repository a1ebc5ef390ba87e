"""``python -m firstspike.experiments docs/results``: write tables and pages anew from measured figures."""

import sys
from pathlib import Path

from firstspike.experiments import EXPERIMENTS
from firstspike.experiments.cifar10 import cifar10
from firstspike.experiments.run import render_anew

if __name__ == "__main__":
    render_anew(Path(sys.argv[1]), [*EXPERIMENTS, cifar10(device="cuda")])
