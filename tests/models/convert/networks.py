"""Small ReLU networks with drawn weights, normalised as after a training; they take images 1 x 12 x 12."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHAPE = (1, 12, 12)


def images(count: int = 40, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def drawn(seed: int) -> Iterator[None]:
    """Draw what torch draws by itself from a seed, and leave its own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def settled(make: Callable[[], nn.Module], shape: tuple[int, ...] = SHAPE, seed: int = 0) -> nn.Module:
    """Return a network in evaluation mode whose normalisations have seen some images."""
    with drawn(seed):
        model = make()
        with torch.no_grad():
            for k in range(3):
                model(images(32, shape, seed=k))
    return model.eval()


def block(
    i: int, o: int, stride: int = 1, groups: int = 1, kernel: int = 3, act: type[nn.Module] = nn.ReLU
) -> list[nn.Module]:
    conv = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(o), act()]


class Residual(nn.Module):
    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*block(i, o, stride), *block(o, o)[:2])
        self.past = nn.Sequential(*block(i, o, stride, kernel=1)[:2] if stride > 1 else [])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.past(x))


def _vgg() -> nn.Module:
    return nn.Sequential(
        *block(1, 6),
        *block(6, 6),
        nn.MaxPool2d(2),
        *block(6, 8),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(72, 10),
    )


def _resnet() -> nn.Module:
    return nn.Sequential(
        *block(1, 6),
        Residual(6, 6, 1),
        Residual(6, 8, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


def _mobilenet() -> nn.Module:
    parts = block(1, 6, 2, act=nn.ReLU6)
    for i, o, stride in ((6, 8, 1), (8, 10, 2)):
        parts += block(i, i, stride, groups=i, act=nn.ReLU6) + block(i, o, kernel=1, act=nn.ReLU6)
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10))


def _mlp() -> nn.Module:
    hidden = [nn.Linear(144, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 10))


vgg = partial(settled, _vgg)
resnet = partial(settled, _resnet)
mobilenet = partial(settled, _mobilenet)
mlp = partial(settled, _mlp)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg": vgg,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "mlp": mlp,
}
