"""The named networks of the papers, spiking and their ordinary references."""

from firstspike.models.ann_gan import AnnDiscriminator, AnnGenerator
from firstspike.models.spiking_gan import SpikingDiscriminator, SpikingGenerator

__all__ = [
    "AnnDiscriminator",
    "AnnGenerator",
    "SpikingDiscriminator",
    "SpikingGenerator",
]
