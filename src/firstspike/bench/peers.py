"""The other libraries, in a process and an environment of their own.

They pull their own torch, so they cannot share ours. ``benchmarks/peers.py`` reads one JSON object per
line and answers one per line; it takes the time itself, so no pipe is in the figures.
"""

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firstspike.bench.harness import Skipped

_INSTALL = "run `make bench-env` in a checkout of firstspike"


def benchmark_file(name: str) -> Path:
    """Return a file of the checkout's ``benchmarks/``, which no installed package has.

    Raises:
        Skipped: it is neither in the checkout that this package runs from, nor in the working folder.
    """
    for folder in (Path(__file__).resolve().parents[3], Path.cwd()):
        file = folder / "benchmarks" / name
        if file.is_file():
            return file
    raise Skipped(f"benchmarks/{name} is not here; start in a checkout of firstspike")


def peers_command() -> list[str]:
    """Return what starts the peers' process.

    Raises:
        Skipped: their script or their environment is not there.
    """
    script = benchmark_file("peers.py")
    python = script.parent.parent / ".bench-env" / "bin" / "python"
    if not python.exists():
        raise Skipped(f"the peers are not installed; {_INSTALL}")
    return [str(python), str(script)]


class Peers:
    """The process that runs the peers.

    Args:
        command: how to start it.
        weights: ``.npz`` with weights, spike times and labels for it.
        threads: of torch there.
    """

    def __init__(self, command: list[str], weights: Path, threads: int) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        environment.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.about = self._exchange({"weights": str(weights), "threads": threads})

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Return the answer to one request.

        Raises:
            Skipped: the peer refuses, is not installed, or its process has ended.
        """
        return self._exchange({"do": do, **request})

    def check(self, peer: str, net: str, expected: list[Tensor], **request: Any) -> None:
        """Hold the peer's spike times against ours, layer by layer.

        Raises:
            Skipped: they differ, or as for `ask`. What computes something else is not timed.
        """
        answer = self.ask("check", peer=peer, net=net, **request)
        with np.load(answer["times"], allow_pickle=False) as found:
            for depth, times in enumerate(expected):
                theirs = torch.from_numpy(found[f"layer{depth}"]).to(torch.float32)
                if theirs.shape != times.shape:
                    raise Skipped(
                        f"{peer} gives times {tuple(theirs.shape)} in layer {depth}, "
                        f"not {tuple(times.shape)}"
                    )
                wrong = int((theirs != times).sum())
                if wrong:
                    raise Skipped(
                        f"{peer} gives other spike times: {wrong} of {times.numel()} in layer {depth}"
                    )

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            status = self._process.poll()
            raise Skipped(
                f"the peers' process ended with status {status} on {request}; {_INSTALL} anew"
            ) from None
        if "error" in answer:
            raise Skipped(str(answer["error"]))
        return answer
