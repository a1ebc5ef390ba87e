"""The FID of the literature, in Inception features, where its library and weights are at hand."""

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from torch import Tensor

from firstspike.metrics.generation import check_images
from firstspike.support import InputError


def inception_fid(generated: Tensor, real: Tensor) -> float:
    """Return the FID in Inception-v3 features by the library clean-fid, which downloads the weights.

    It belongs beside FIDs of other papers that were made by clean-fid from as many images, and is not
    comparable with `frechet_distance`, whose features are of the package's own networks.

    Args:
        generated, real: uint8 ``(count, height, width)``, or of colour ``(count, 3, height, width)``; each
            is enlarged to 299 x 299.

    Raises:
        TypeError: images that are not uint8 tensors.
        InputError: clean-fid is missing or cannot be imported, or its weights cannot be had.

    Source: Parmar et al. 2022, arXiv 2104.11222 (clean-fid); Heusel et al. 2017, arXiv 1706.08500.
    """
    check_images(generated, "generated images")
    check_images(real, "real images")
    try:
        from cleanfid.fid import compute_fid
    except Exception as error:  # torchvision beside another torch fails with a RuntimeError
        line = str(error).partition("\n")[0]
        raise InputError(f"clean-fid is of no use ({line}); pip install 'firstspike[fid]'") from error
    with TemporaryDirectory() as folder:
        folders = {name: Path(folder) / name for name in ("generated", "real")}
        for path, images in zip(folders.values(), (generated, real), strict=True):
            _write(images, path)
        try:
            found = compute_fid(
                *map(str, folders.values()), mode="clean", device=generated.device, num_workers=0,
                verbose=False, use_dataparallel=False,
            )  # fmt: skip
        except OSError as error:
            line = str(error).partition("\n")[0]
            raise InputError(f"the Inception weights cannot be had: {line}") from error
    return float(found)


def _write(images: Tensor, folder: Path) -> None:
    folder.mkdir()
    for number, image in enumerate(images.cpu()):
        pixels = image if image.dim() == 2 else image.movedim(0, -1)
        Image.fromarray(pixels.numpy()).convert("RGB").save(folder / f"{number:06}.png")
