"""What is known of MNIST and Fashion-MNIST: files, checksums, mirrors."""

from dataclasses import dataclass


@dataclass(frozen=True)
class IdxFile:
    """One file of a data set.

    Args:
        stem: "train-images" and the like.
        num_dims: dimensions of its array, which is also the digit in its name.
        gzip_md5: MD5 of the file as the mirrors serve it.
        content_md5: MD5 of the uncompressed file, whoever compressed it and how.
    """

    stem: str
    num_dims: int
    gzip_md5: str
    content_md5: str

    @property
    def name(self) -> str:
        """The official name without ``.gz``, such as ``train-images-idx3-ubyte``."""
        return f"{self.stem}-idx{self.num_dims}-ubyte"


@dataclass(frozen=True)
class IdxDataset:
    """A data set published as two pairs of IDX files.

    Args:
        name: as given to `firstspike.data.load`, and the name of its folder.
        torchvision_folder: its folder in the tree that torchvision writes.
        mirrors: addresses that end in a slash, tried in this order.
        train: images and labels from which training and validation images are taken.
        test: images and labels of the official test set.
        num_validation: how many of the `train` images are kept for validation.
        num_classes: labels lie in ``0 ... num_classes - 1``.
    """

    name: str
    torchvision_folder: str
    mirrors: tuple[str, ...]
    train: tuple[IdxFile, IdxFile]
    test: tuple[IdxFile, IdxFile]
    num_validation: int = 5_000
    num_classes: int = 10


# http mirrors are safe here: the checksum decides.
MNIST = IdxDataset(
    name="mnist",
    torchvision_folder="MNIST",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    train=(
        IdxFile(
            "train-images",
            3,
            gzip_md5="f68b3c2dcbeaaa9fbdd348bbdeb94873",
            content_md5="6bbc9ace898e44ae57da46a324031adb",
        ),
        IdxFile(
            "train-labels",
            1,
            gzip_md5="d53e105ee54ea40749a09fcbcd1e9432",
            content_md5="a25bea736e30d166cdddb491f175f624",
        ),
    ),
    test=(
        IdxFile(
            "t10k-images",
            3,
            gzip_md5="9fb629c4189551a2d022fa330f9573f3",
            content_md5="2646ac647ad5339dbf082846283269ea",
        ),
        IdxFile(
            "t10k-labels",
            1,
            gzip_md5="ec29112dd5afa0611ce80d1b7f02629c",
            content_md5="27ae3e4e09519cfbb04c329615203637",
        ),
    ),
)

FASHION_MNIST = IdxDataset(
    name="fashion-mnist",
    torchvision_folder="FashionMNIST",
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    train=(
        IdxFile(
            "train-images",
            3,
            gzip_md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            content_md5="f4a8712d7a061bf5bd6d2ca38dc4d50a",
        ),
        IdxFile(
            "train-labels",
            1,
            gzip_md5="25c81989df183df01b3e8a0aad5dffbe",
            content_md5="9018921c3c673c538a1fc5bad174d6f9",
        ),
    ),
    test=(
        IdxFile(
            "t10k-images",
            3,
            gzip_md5="bef4ecab320f06d8554ea6380940ec79",
            content_md5="8181f5470baa50b63fa0f6fddb340f0a",
        ),
        IdxFile(
            "t10k-labels",
            1,
            gzip_md5="bb300cfdad3c16e7a12a480ee83cd310",
            content_md5="15d484375f8d13e6eb1aabb0c3f46965",
        ),
    ),
)

IDX_DATASETS = {dataset.name: dataset for dataset in (MNIST, FASHION_MNIST)}
