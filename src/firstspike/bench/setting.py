"""What a row gets to measure with, made when the first row asks for it."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from firstspike.bench.harness import QUICK, Effort, Pairs, Side, Skipped, in_turn, repeated
from firstspike.bench.network import STEPS, WIDTH, Workload, wide, workload
from firstspike.bench.peers import Peers, peers_command
from firstspike.bench.processes import peak_memory
from firstspike.spikes import Spikes

# The convolution of the comparison: 32 -> 64 channels, 3 x 3, padding 1, on 14 x 14.
CONV_SHAPE = (64, 32, 14, 14)
CONV_OUT = 64
CONV_ACTIVE = 0.3
# As many as the largest batch.
PEERS_IMAGES = 1024


@dataclass(frozen=True)
class Measured:
    """Both sides' figures in the row's unit, what to say beside them, and the data if not the setting's."""

    pairs: Pairs
    note: str = ""
    data: str | None = None


# Vectors of so many floats, as with AVX-512, or more are wide.
WIDE_LANES = 16


@dataclass(frozen=True)
class Spec:
    """A row before it is measured: its name, unit and target, and the function that measures it.

    Attributes:
        target, limit: as of `Row`.
        narrow_target, narrow_limit: instead of these where vectors hold 8 floats or fewer, as with AVX2;
            None for the same.
        gpu: it belongs to the GPU's results.
        drawn: it is measured on random data, not on images.
    """

    name: str
    unit: str
    measure: "Callable[[Setting], Measured]"
    target: float | None = None
    limit: float | None = None
    narrow_target: float | None = None
    narrow_limit: float | None = None
    gpu: bool = False
    drawn: bool = False

    def bounds(self, lanes: int) -> tuple[float | None, float | None]:
        """Return target and limit for kernels whose vectors hold so many floats."""
        target, limit = self.target, self.limit
        if lanes < WIDE_LANES:
            target = target if self.narrow_target is None else self.narrow_target
            limit = limit if self.narrow_limit is None else self.narrow_limit
        return target, limit


class Setting:
    """Data, weights, threads and effort of one comparison. Use it in a ``with`` block.

    Args:
        data, data_dir, run: as for `network.workload`.
        threads: of torch, of our kernels and of the peers.
        quick: few and short measurements.
    """

    def __init__(
        self,
        data: str,
        *,
        data_dir: Path | None = None,
        run: Path | None = None,
        threads: int = 2,
        quick: bool = False,
    ) -> None:
        self.data, self.data_dir, self.run = data, data_dir, run
        self.threads, self.quick = threads, quick
        self.effort = QUICK if quick else Effort()
        self._peaks: dict[tuple[int, int], int] = {}

    def __enter__(self) -> "Setting":
        self._folder = tempfile.TemporaryDirectory(prefix="firstspike-bench-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "peers" in self.__dict__:
            self.peers.close()
        self._folder.cleanup()

    @cached_property
    def workload(self) -> Workload:
        """The images and the trained weights."""
        return workload(self.data, data_dir=self.data_dir, run=self.run)

    @cached_property
    def peers(self) -> Peers:
        """The peers' process, with our weights and one batch of ours.

        Raises:
            Skipped: they are not installed.
        """
        return self.new_peers()

    def new_peers(self) -> Peers:
        """Return a further process of the peers, to be closed by the caller; raise as `peers`."""
        return Peers(peers_command(), self._peers_file, self.threads)

    @cached_property
    def _peers_file(self) -> Path:
        file = Path(self._folder.name) / "weights.npz"
        hidden, output = self.workload.weights
        wide_hidden, wide_output = wide((hidden, output), WIDTH)
        conv_spikes, conv_weight = convolution()
        np.savez(
            file,
            hidden=hidden.numpy(),
            output=output.numpy(),
            wide_hidden=wide_hidden.numpy(),
            wide_output=wide_output.numpy(),
            times=self.workload.spikes().times[:PEERS_IMAGES].numpy(),
            labels=self.workload.labels[:PEERS_IMAGES].numpy(),
            conv_weight=conv_weight.numpy(),
            conv_times=conv_spikes.times[: CONV_SHAPE[0]].numpy(),
            threshold=np.float32(1.0),
            num_steps=np.int64(STEPS),
        )
        return file

    def compare(
        self,
        ours: Callable[[], object],
        theirs: Callable[[], object],
        finish: Callable[[], None] | None = None,
    ) -> Pairs:
        """Return the seconds of one call of each, taken in turn."""
        seconds = self.effort.seconds
        return self.against(repeated(ours, seconds, finish), repeated(theirs, seconds, finish))

    def against(self, ours: Side, theirs: Side) -> Pairs:
        """Return what two sides return, taken in turn."""
        return in_turn(ours, theirs, self.effort.repeats)

    def peak(self, batch: int, steps: int) -> int:
        """Return the peak memory in bytes of a process that trains with that batch; measured once."""
        if (batch, steps) not in self._peaks:
            self._peaks[batch, steps] = peak_memory(batch, steps, self.threads)
        return self._peaks[batch, steps]


def need_cuda() -> None:
    """Raise Skipped where torch finds no CUDA device."""
    if not torch.cuda.is_available():
        raise Skipped("torch finds no CUDA device; run this row on a machine with one")


def convolution(batches: int = 1) -> tuple[Spikes, Tensor]:
    """Return spikes ``(64 batches, 32, 14, 14)``, three inputs in ten active, and weights.

    The weights let about half of the neurons fire; they are multiples of 1/1024, so that sums are exact.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (CONV_SHAPE[0] * batches, *CONV_SHAPE[1:])
    times = torch.randint(0, STEPS, shape, generator=generator).to(torch.float32)
    active = torch.rand(shape, generator=generator) < CONV_ACTIVE
    weight = torch.randn(CONV_OUT, CONV_SHAPE[1], 3, 3, generator=generator) * 0.05 + 0.01
    spikes = Spikes(torch.where(active, times, float(STEPS)), STEPS)
    return spikes, torch.round(weight * 1024) / 1024
