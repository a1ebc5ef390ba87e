"""Rows of one image at a time, of learning one image at a time, and of a second process."""

import importlib.util
import itertools
from types import ModuleType

import torch

from firstspike.bench.harness import Pairs, repeated
from firstspike.bench.network import STEPS
from firstspike.bench.peers import benchmark_file
from firstspike.bench.processes import first_result
from firstspike.bench.setting import Measured, Setting
from firstspike.engine import Engine
from firstspike.online import S4NNRule, s4nn_epoch, sort_spikes

# The published thresholds and rate; weights at threshold 1 are scaled to them.
_SCALE = 100.0
_IMAGES = 500


def single_image(setting: Setting) -> Measured:
    """Microseconds of one image with early exit, against the same without."""
    engine = Engine(setting.workload.stack())
    spikes = setting.workload.spikes()[:_IMAGES]
    images = [spikes[index] for index in range(len(spikes))]
    early, late = itertools.cycle(images), itertools.cycle(images)
    pairs = setting.compare(
        lambda: engine.run(next(early)), lambda: engine.run(next(late), early_exit=False)
    )
    stopped, whole = (engine.run_many(spikes, early_exit=early_exit) for early_exit in (True, False))
    operations = [float(d.synaptic_operations.to(torch.float64).mean()) for d in (stopped, whole)]
    steps = float(stopped.steps.to(torch.float64).mean())
    return Measured(
        pairs.scaled(1e6),
        f"one core, from Python, {_IMAGES} images in turn; theirs: ours without early exit; synaptic "
        f"operations per image {operations[0]:,.0f} and {operations[1]:,.0f}; decision after {steps:.1f} "
        f"of {STEPS} steps",
    )


def online(setting: Setting) -> Measured:
    """Seconds of an epoch of online S4NN, against the plain algorithm."""
    from threadpoolctl import threadpool_limits

    plain = _plain_s4nn()
    rule = S4NNRule(steps=STEPS, thresholds=(_SCALE, _SCALE))
    work = setting.workload
    times, labels = work.spikes().times, work.labels
    trained = [weight * _SCALE for weight in work.weights]
    spikes = sort_spikes(work.spikes())
    few = 4 if setting.quick else 40

    def ours() -> object:
        return s4nn_epoch(spikes, labels, [weight.clone() for weight in trained], rule)

    def theirs() -> object:
        weights = [weight.numpy().copy() for weight in trained]
        # NumPy's matrix product would take every core; ours learns on one.
        with threadpool_limits(1, user_api="blas"):
            return plain.learn(times[:few].numpy(), labels[:few].numpy(), weights, rule)

    pairs = setting.against(repeated(ours, setting.effort.seconds), repeated(theirs, 0.0))
    epoch = work.all_images
    return Measured(
        Pairs(
            tuple(seconds * epoch / len(times) for seconds in pairs.ours),
            tuple(seconds * epoch / few for seconds in pairs.theirs),
        ),
        f"an epoch of {epoch:,} images, one core each; ours timed on {len(times):,} of them, theirs on "
        f"{few}, both scaled to the epoch; trained weights scaled to the published threshold",
    )


def second_process(setting: Setting) -> Measured:
    """Seconds to the first training step of a process that finds the kernels compiled."""
    first_result(setting.threads)
    found = [first_result(setting.threads) for _ in range(min(5, setting.effort.repeats))]
    seconds = tuple(answer["first_step"] for answer in found)
    imports = sorted(answer["import"] for answer in found)[len(found) // 2]
    return Measured(
        Pairs(seconds, (1.0,) * len(seconds)),
        "from the end of the imports to the end of the first training step of 784-400-10, compiled kernels "
        f"in the cache; the imports before it, torch's among them, take {imports:.1f} s; theirs is the "
        "target",
    )


def _plain_s4nn() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_s4nn", benchmark_file("plain_s4nn.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
