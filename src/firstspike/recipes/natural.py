"""What the presets for CIFAR share that train whole on two cores."""

from collections.abc import Mapping
from typing import Any

from firstspike.recipes.augmentation import Augmentation
from firstspike.recipes.optimizers import Muon

SOURCE = "layers and training: Jordan 2024, arXiv 2404.00498"

TRAINING: Mapping[str, Any] = {
    "identity_start": True,
    "optimizer": Muon(head_rate=0.05),
    "rate": 0.24,
    "weight_decay": 0.0,
    "warmup": 0.02,
    "batch_size": 1000,
}
AUGMENTATION = Augmentation(shift_px=2, border="reflect", flip="alternating")
