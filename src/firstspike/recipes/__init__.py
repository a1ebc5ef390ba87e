"""The recipes: one file for each family, with its presets."""

from firstspike.recipes import ann, conv_gan, ettfs, one_step, shallow, spiking_gan, vae, window

# Imported with the others, so that their runs are read in every process.
from firstspike.recipes.converted import Converted as Converted
from firstspike.recipes.fit import Fit as Fit
from firstspike.recipes.presets import Preset
from firstspike.recipes.saved_generator import SavedGenerator as SavedGenerator
from firstspike.support import InputError, did_you_mean

# A new family is entered here.
_FAMILIES = (shallow, spiking_gan, conv_gan, vae, ettfs, window, one_step, ann)

PRESETS: dict[str, Preset] = {entry.name: entry for family in _FAMILIES for entry in family.PRESETS}


def preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in PRESETS:
        meant = did_you_mean(name, PRESETS)
        raise InputError(f"unknown preset {name!r}{meant or ';'} firstspike presets lists them")
    return PRESETS[name]
