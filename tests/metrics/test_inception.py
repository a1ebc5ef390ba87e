"""What clean-fid is given, with a stand-in for it: its weights are a download."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from builders import refused, seeded
from PIL import Image

from firstspike.metrics.inception import inception_fid
from firstspike.support import InputError


def stand_in(monkeypatch, compute_fid):
    module = ModuleType("cleanfid.fid")
    module.compute_fid = compute_fid
    monkeypatch.setitem(sys.modules, "cleanfid", ModuleType("cleanfid"))
    monkeypatch.setitem(sys.modules, "cleanfid.fid", module)


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8)])
def test_clean_fid_reads_the_images_as_they_are(monkeypatch, tmp_path, shape):
    generated, real = (
        torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=seeded(count))
        for count in (4, 6)
    )

    def compute_fid(one, two, **how):
        assert how["mode"] == "clean"
        for folder, given in ((one, generated), (two, real)):
            read = [np.asarray(Image.open(path)) for path in sorted(Path(folder).glob("*.png"))]
            wanted = given.unsqueeze(1).expand(-1, 3, -1, -1) if given.dim() == 3 else given
            assert np.array_equal(np.stack(read), wanted.movedim(1, -1).numpy())
        return np.float64(12.5)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stand_in(monkeypatch, compute_fid)
    assert inception_fid(generated, real) == 12.5
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_one_line(monkeypatch):
    images = torch.zeros(6, 8, 8, dtype=torch.uint8)
    monkeypatch.setitem(sys.modules, "cleanfid", None)
    with refused(InputError, "pip install 'firstspike[fid]'"):
        inception_fid(images, images)

    def no_network(*folders, **how):
        raise OSError("no route to host\nand more")

    stand_in(monkeypatch, no_network)
    with refused(InputError, "Inception weights", "no route to host"):
        inception_fid(images, images)
    with refused(TypeError, "uint8"):
        inception_fid(images.float(), images)
