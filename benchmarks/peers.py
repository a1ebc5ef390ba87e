"""The other libraries' side of ``firstspike bench``, run by the Python of ``make bench-env``.

Reads one JSON object per line and answers one per line, so that both sides can be timed in turn::

    {"weights": "weights.npz", "threads": 2}                     -> {"versions": {...}}
    {"do": "check", "peer": "snntorch", "net": "linear"}         -> {"times": "FILE.npz"}
    {"do": "train", "peer": "norse", "net": "linear", "batch": 256} -> {"seconds": 1.2}
    {"do": "peak"}                                               -> {"bytes": 1234567}

Peers are "spikingjelly", "snntorch" and "norse"; nets are "linear" (784-400-10), "wide" (784-4096-10) and
"conv" (32 -> 64, 3 x 3, spikingjelly only). Every library computes the same network: integrate-and-fire
without leak, one spike per neuron. Its neurons may fire again after their reset. Masking the later spikes
would cost a tenth to a third of a step, at the library's expense; instead a neuron that has fired is set
so low that it never reaches the threshold again, which costs next to nothing. The rasters are made before
the clock starts.

Shape legend: T steps, B batch.
"""

import importlib.metadata
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# snnTorch and Norse fire at V > theta: the number just below 1 makes that V >= 1.
BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))
# Far below what a membrane can climb; a membrane that has not fired is not touched by it.
SUNK = -1e6


def sunk(membrane: Tensor, spikes: Tensor) -> Tensor:
    """Return the membrane with those that have just fired out of reach of the threshold."""
    return torch.add(membrane, spikes.detach(), alpha=SUNK)


def first_times(spikes: Tensor) -> Tensor:
    """Return the step of each neuron's first spike, T where there is none."""
    steps = spikes.shape[0]
    return torch.where(spikes.any(0), spikes.argmax(0), steps).to(torch.float32)


def raster(times: Tensor, num_steps: int) -> Tensor:
    """Return ``(T, B, ...)`` with a 1 where and when an input spikes."""
    steps = torch.arange(num_steps, device=times.device).reshape(-1, *([1] * times.dim()))
    return (times.unsqueeze(0) == steps).to(torch.float32)


class SpikingJelly(torch.nn.Module):
    """Linear or convolutional layers and ``IFNode``, all steps of a layer in one call."""

    def __init__(self, weights: list[Tensor], backend: str = "torch") -> None:
        super().__init__()
        from spikingjelly.activation_based import layer, neuron

        self.synapses, self.neurons = torch.nn.ModuleList(), torch.nn.ModuleList()
        for weight in weights:
            if weight.dim() == 4:
                synapse = layer.Conv2d(
                    weight.shape[1], weight.shape[0], 3, padding=1, bias=False, step_mode="m"
                )
            else:
                synapse = layer.Linear(weight.shape[1], weight.shape[0], bias=False, step_mode="m")
            synapse.weight.data.copy_(weight)
            self.synapses.append(synapse)
            # Its test is V >= theta. Undetached, the depth of the reset would be a factor of gradients.
            node = neuron.IFNode(v_threshold=1.0, v_reset=SUNK, detach_reset=True, step_mode="m")
            node.backend = backend
            self.neurons.append(node)

    def forward(self, spikes: Tensor) -> list[Tensor]:
        """Return every layer's spikes ``(T, B, ...)``."""
        from spikingjelly.activation_based import functional

        functional.reset_net(self)
        layers = []
        for synapse, node in zip(self.synapses, self.neurons, strict=True):
            # A reset network starts at v_reset.
            node.v = 0.0
            spikes = node(synapse(spikes))
            layers.append(spikes)
        return layers


class Stepped(torch.nn.Module):
    """Linear layers in a loop over the steps, as the libraries' own examples have it."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self.synapses = torch.nn.ModuleList()
        for weight in weights:
            synapse = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            synapse.weight.data.copy_(weight)
            self.synapses.append(synapse)

    def forward(self, spikes: Tensor) -> list[Tensor]:
        """Return every layer's spikes ``(T, B, ...)``."""
        states = [self.rest(synapse) for synapse in self.synapses]
        layers: list[list[Tensor]] = [[] for _ in self.synapses]
        for now in spikes:
            for k, synapse in enumerate(self.synapses):
                now, states[k] = self.step(k, synapse(now), states[k])
                layers[k].append(now)
        return [torch.stack(steps) for steps in layers]

    def rest(self, synapse: torch.nn.Linear) -> Any:
        """Return the state of a layer at rest."""
        raise NotImplementedError

    def step(self, depth: int, current: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the spikes and the state after one step."""
        raise NotImplementedError


class SnnTorch(Stepped):
    """``Leaky(beta=1)``, which does not leak; sunk, not reset."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__(weights)
        import snntorch

        self.neurons = torch.nn.ModuleList(
            snntorch.Leaky(beta=1.0, threshold=BELOW_ONE, reset_mechanism="none") for _ in weights
        )

    def rest(self, synapse: torch.nn.Linear) -> Tensor:
        """Return a membrane of 0."""
        return torch.zeros(1, synapse.out_features, device=synapse.weight.device)

    def step(self, depth: int, current: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the spikes and the membrane after one step."""
        spikes, membrane = self.neurons[depth](current, state)
        return spikes, sunk(membrane, spikes)


class Norse(Stepped):
    """Norse's integrate-and-fire step without leak; sunk after its reset, which it does not detach."""

    def rest(self, synapse: torch.nn.Linear) -> Any:
        """Return a membrane of 0."""
        from norse.torch.functional.iaf import IAFFeedForwardState

        return IAFFeedForwardState(v=torch.zeros(1, synapse.out_features, device=synapse.weight.device))

    def step(self, depth: int, current: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the spikes and the membrane after one step."""
        from norse.torch.functional.iaf import IAFFeedForwardState, IAFParameters, iaf_feed_forward_step

        parameters = IAFParameters(v_th=torch.tensor(BELOW_ONE, device=current.device))
        spikes, state = iaf_feed_forward_step(current, state, parameters)
        return spikes, IAFFeedForwardState(v=sunk(state.v, spikes))


class Server:
    """Answers requests about one set of weights."""

    def __init__(self, file: str, threads: int) -> None:
        torch.set_num_threads(threads)
        with np.load(file, allow_pickle=False) as stored:
            self.stored = {name: torch.from_numpy(stored[name]) for name in stored.files}
        self.steps = int(self.stored["num_steps"])
        self.folder = Path(file).parent
        self.made: dict[tuple[Any, ...], Any] = {}

    def check(self, peer: str, net: str, batch: int = 256, device: str = "cpu") -> dict[str, Any]:
        """Return where each layer's first spike times are written."""
        with torch.no_grad():
            layers = self.network(peer, net, device)(self.inputs(net, batch, device))
        if max(float(spikes.sum(0).max()) for spikes in layers) > 1:
            raise RuntimeError(f"{peer}: a neuron fires more than once")
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".npz", delete=False) as file:
            times = {f"layer{k}": first_times(spikes).cpu().numpy() for k, spikes in enumerate(layers)}
            np.savez(file, **times)
        return {"times": file.name}

    def train(self, peer: str, net: str, batch: int = 256, device: str = "cpu") -> dict[str, Any]:
        """Return the seconds of one training step: forward, loss, backward, step of SGD."""
        network, inputs = self.network(peer, net, device), self.inputs(net, batch, device)
        labels = self.stored["labels"][:batch].to(device)
        optimizer = self.remembered(
            ("sgd", peer, net, device), lambda: torch.optim.SGD(network.parameters(), lr=1e-9)
        )
        # A layer in the middle of a network hands a gradient on.
        inputs.requires_grad_(net == "conv")
        wait(device)
        began = time.perf_counter()
        spikes = network(inputs)[-1]
        logits = spikes.sum(0)
        loss = logits.sum() if net == "conv" else torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        wait(device)
        seconds = time.perf_counter() - began
        inputs.grad = None
        return {"seconds": seconds}

    def peak(self) -> dict[str, Any]:
        """Return the most memory that this process has held."""
        # Not ru_maxrss, which starts at what the process that started this one held.
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return {"bytes": int(line.split()[1]) * 1024}
        raise RuntimeError("this system does not tell a process's peak memory; use Linux")

    def network(self, peer: str, net: str, device: str) -> torch.nn.Module:
        """Return the network of one library."""
        return self.remembered((peer, net, device), lambda: self.build(peer, net, device))

    def build(self, peer: str, net: str, device: str) -> torch.nn.Module:
        """Return a new network; on a GPU SpikingJelly's with its fastest back end."""
        prefix = "wide_" if net == "wide" else ""
        weights = (
            [self.stored["conv_weight"]]
            if net == "conv"
            else [self.stored[f"{prefix}hidden"], self.stored[f"{prefix}output"]]
        )
        if peer == "snntorch":
            return SnnTorch(weights).to(device)
        if peer == "norse":
            return Norse(weights).to(device)
        if device == "cpu":
            return SpikingJelly(weights)
        return min(
            (SpikingJelly(weights, backend).to(device) for backend in self.backends()),
            key=lambda network: self.trial(network, net, device),
        )

    def backends(self) -> list[str]:
        """Return SpikingJelly's back ends that work here."""
        import importlib.util

        found = {"torch": "torch", "cupy": "cupy", "triton": "triton"}
        return [name for name, module in found.items() if importlib.util.find_spec(module)]

    def trial(self, network: torch.nn.Module, net: str, device: str) -> float:
        """Return the seconds of a warm forward pass, infinite where the back end fails."""
        try:
            for _ in range(2):
                began = time.perf_counter()
                network(self.inputs(net, 64, device))
                wait(device)
        except Exception:
            return math.inf
        return time.perf_counter() - began

    def inputs(self, net: str, batch: int, device: str) -> Tensor:
        """Return a batch as a raster."""
        name = "conv_times" if net == "conv" else "times"

        def build() -> Tensor:
            return raster(self.stored[name][:batch].to(device), self.steps)

        return self.remembered(("inputs", name, batch, device), build)

    def remembered(self, key: tuple[Any, ...], build: Callable[[], Any]) -> Any:
        """Return what was built under this key before."""
        if key not in self.made:
            self.made[key] = build()
        return self.made[key]


def wait(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def versions() -> dict[str, str]:
    """Return the versions of the libraries that are installed here."""
    found = {}
    for name in ("torch", "spikingjelly", "snntorch", "norse"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Answer requests until the input ends."""
    # The libraries print notices of their own; the answers' channel is not theirs.
    answers, sys.stdout = sys.stdout, sys.stderr
    server: Server | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if server is None:
                server = Server(request["weights"], request["threads"])
                answer: dict[str, Any] = {"versions": versions()}
            else:
                does = {"check": server.check, "train": server.train, "peak": server.peak}
                answer = does[request.pop("do")](**request)
        except ModuleNotFoundError as error:
            answer = {"error": f"{error.name} is not installed here; run `make bench-env` anew"}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
