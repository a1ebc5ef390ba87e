"""Make the feature networks that come with the package: train them, round their weights.

python tools/feature_networks.py --data-dir D
"""

import argparse
from pathlib import Path

from firstspike.metrics.features import SHIPPED, ship


def main() -> None:
    """Make all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with MNIST and Fashion-MNIST")
    ship(SHIPPED, parser.parse_args().data_dir)


if __name__ == "__main__":
    main()
