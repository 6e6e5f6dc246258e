"""Forward and backward pass of the transport layer against POT, and of the hyperbolic chain against geoopt.

    python benchmarks/layers.py [--batches 32 128 512 1024 4096] [--repeats 15] [--backends torch tensorflow]

Both sides get the same float32 inputs in the same process on one CPU thread, by turns, and their results and gradients
are compared before anything is timed. POT and geoopt always run on torch; the layers run on each Keras backend, in a
process of its own. What counts are the ratios. It writes benchmarks/layers.md.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

REPORT = Path(__file__).with_suffix(".md")
FEATURES = 120  # PARROT's projection
DIMENSIONS = 1024  # of the hyperbolic chain; 4096 clips of HYFuse's 97,792 features do not fit beside their gradients
HYFUSE = (32, 97_792)  # a training batch of HYFuse with two representations of 768 values
EPSILON, ITERATIONS = 0.1, 20
BUDGET = 8.0  # seconds for the repeats of one comparison, beyond the first three


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 512, 1024, 4096])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--backends", nargs="+", default=["torch", "tensorflow"], choices=["torch", "tensorflow"])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(measure(given.batches, given.repeats)))
        return
    rows = []
    for backend in given.backends:
        environment = {
            **os.environ,
            "KERAS_BACKEND": backend,
            "OMP_NUM_THREADS": "1",
            "TF_NUM_INTRAOP_THREADS": "1",
            "TF_NUM_INTEROP_THREADS": "1",
            "POT_BACKEND_DISABLE_TENSORFLOW": "1",
            "POT_BACKEND_DISABLE_JAX": "1",
        }
        command = [sys.executable, __file__, "--worker", "--repeats", str(given.repeats), "--batches"]
        done = subprocess.run([*command, *map(str, given.batches)], env=environment, stdout=subprocess.PIPE, check=True)
        rows += json.loads(done.stdout.splitlines()[-1])
    REPORT.write_text(report(rows, given), "utf-8")
    print(f"{REPORT} written")


def measure(batches: list[int], repeats: int) -> list[dict]:
    """All comparisons on the backend of this process."""
    from serfuse.experiment import backend

    backend.set_up_backend()
    import keras
    import numpy as np
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows = []

    def add(what: str, against: str, arrays: list, ours: Callable, theirs: Callable) -> None:
        ours, theirs = _differentiated_by_keras(ours, arrays), _differentiated_by_torch(theirs, arrays)
        difference = _difference(ours(), theirs())
        mine, other = _by_turns(ours, theirs, repeats)
        ratios = [a / b for a, b in zip(mine, other, strict=True)]
        rows.append(
            {
                "backend": keras.backend.backend(),
                "what": what,
                "shape": " x ".join(map(str, arrays[0].shape)),
                "against": against,
                "ours": statistics.median(mine),
                "theirs": statistics.median(other),
                "ratio": statistics.median(ratios),
                "spread": [min(ratios), max(ratios)],
                "difference": difference,
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)

    def normal(*shape: int) -> list:
        return [rng.normal(size=shape).astype("float32") for _ in range(2)]

    for clips in batches:
        arrays = normal(clips, FEATURES)
        for method, memory in (("sinkhorn_log", 4 * ITERATIONS), ("sinkhorn", 8)):
            # Each iteration of the log-domain POT keeps about four matrices at its peak.
            if 4 * memory * clips**2 > 0.5 * _free_memory():
                continue
            add("transport, clips of a batch", f"POT {method}", arrays, _transport("SinkhornTransport"), _pot(method))
    arrays = normal(32, FEATURES)
    add("transport, features of a clip", "POT solve_batch", arrays, _transport("FeatureTransport"), _pot_batch)
    for clips, size in [*((clips, DIMENSIONS) for clips in batches), HYFUSE]:
        arrays = [0.7 * array / np.sqrt(size) for array in normal(clips, size)]
        arrays = [array.astype("float32") for array in arrays]
        add("expmap0, Moebius addition, logmap0", "geoopt", arrays, _chain(), _geoopt())
    return rows


def _transport(name: str) -> Callable:
    from keras import ops

    from serfuse import layers

    layer = getattr(layers, name)(EPSILON, ITERATIONS)

    def loss(p: object, q: object) -> object:
        found = layer([p, q])
        return ops.sum(found.p_to_q * q) + ops.sum(found.q_to_p * p)

    return loss


def _pot(method: str) -> Callable:
    import ot
    import torch

    def loss(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        distance = torch.cdist(p, q)
        weights = torch.full((len(p),), 1 / len(p))
        plan = ot.sinkhorn(
            weights, weights, distance / distance.max(), EPSILON, method, ITERATIONS, stopThr=0, warn=False
        )
        p_to_q = plan @ q / plan.sum(1, keepdim=True)
        q_to_p = plan.T @ p / plan.T.sum(1, keepdim=True)
        return (p_to_q * q).sum() + (q_to_p * p).sum()

    return loss


def _pot_batch(p: object, q: object) -> object:
    import ot

    distance = (p[:, :, None] - q[:, None]).abs()
    cost = distance / distance.amax((1, 2), keepdim=True)
    plan = ot.solve_batch(cost, EPSILON, max_iter=ITERATIONS, tol=0.0, method="log_sinkhorn", grad="autodiff").plan
    p_to_q = (plan @ q[..., None] / plan.sum(2, keepdim=True))[..., 0]
    back = plan.transpose(1, 2)
    q_to_p = (back @ p[..., None] / back.sum(2, keepdim=True))[..., 0]
    return (p_to_q * q).sum() + (q_to_p * p).sum()


def _chain() -> Callable:
    from keras import ops

    from serfuse.layers import ExpMap0, LogMap0, MobiusAdd

    exp_x, exp_y, add, log = ExpMap0(1.0), ExpMap0(1.0), MobiusAdd(), LogMap0(1.0)

    def loss(x: object, y: object) -> object:
        return ops.sum(ops.square(log(add([exp_x(x), exp_y(y)]))) * y)

    return loss


def _geoopt() -> Callable:
    import geoopt
    import torch

    manifold = geoopt.PoincareBall(c=1.0)

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        found = manifold.logmap0(manifold.mobius_add(manifold.expmap0(x), manifold.expmap0(y)))
        return (found.square() * y).sum()

    return loss


def _differentiated_by_torch(loss: Callable, arrays: list) -> Callable:
    import torch

    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]

    def run() -> list:
        return torch.autograd.grad(loss(*tensors), tensors)

    return run


def _differentiated_by_keras(loss: Callable, arrays: list) -> Callable:
    import keras

    if keras.backend.backend() == "torch":
        return _differentiated_by_torch(loss, arrays)
    import tensorflow as tf

    tensors = [tf.constant(array) for array in arrays]

    @tf.function
    def graph(*tensors: tf.Tensor) -> list:
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = loss(*tensors)
        return tape.gradient(value, tensors)

    return lambda: [found.numpy() for found in graph(*tensors)]


def _difference(ours: list, theirs: list) -> float:
    """Largest difference of the gradients, over their largest entry."""
    import numpy as np

    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())
        for a, b in zip(ours, theirs, strict=True)
    )


def _by_turns(ours: Callable, theirs: Callable, repeats: int) -> tuple[list[float], list[float]]:
    """CPU seconds of each, measured in alternation after a warm-up; other programs disturb them less than a clock."""
    seconds: tuple[list[float], list[float]] = ([], [])
    ours(), theirs()
    begun = time.perf_counter()
    for repeat in range(repeats):
        if repeat >= 3 and time.perf_counter() - begun > BUDGET:
            break
        for run, kept in zip((ours, theirs), seconds, strict=True):
            started = time.process_time()
            run()
            kept.append(time.process_time() - started)
    return seconds


def _free_memory() -> int:
    """Bytes that can be had without swapping; plenty where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except OSError:
        return 16 * 2**30


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def report(rows: list[dict], given: argparse.Namespace) -> str:
    """The page: a table, and what it was made with."""
    lines = [
        f"| {row['backend']} | {row['what']} | {row['shape']} | {row['against']} | {1e3 * row['ours']:.1f} | "
        f"{1e3 * row['theirs']:.1f} | {row['ratio']:.2f} ({row['spread'][0]:.2f} to {row['spread'][1]:.2f}) | "
        f"{row['difference']:.0e} |"
        for row in rows
    ]
    libraries = ("keras", "tensorflow", "torch", "POT", "geoopt", "numpy")
    command = f"python benchmarks/layers.py --batches {' '.join(map(str, given.batches))} --repeats {given.repeats}"
    return "\n".join(
        [
            "# The layers against POT and geoopt",
            "",
            f"Written by `{command}`. Forward and backward pass on the same float32 inputs, by turns in one process on "
            "one thread: medians of CPU time, and the median of the ratios of neighbouring runs with the lowest and "
            "highest. A ratio below 1 means that the layer takes less time than the other library. POT and geoopt run "
            "on torch (eager); the layers on torch eager or in a TensorFlow graph. The last column is the largest "
            "difference between the gradients, relative to the largest entry.",
            "",
            "| backend | what | inputs | against | layer, ms | other, ms | ratio | gradients differ by |",
            "|---|---|---|---|---:|---:|---|---:|",
            *lines,
            "",
            f"Transport: epsilon {EPSILON}, {ITERATIONS} iterations, barycentric map in both directions. A comparison "
            "is left out where the other side would need more than half of the free memory.",
            "",
            f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
            + ", ".join(f"{name} {version(name)}" for name in libraries)
            + ".",
            "",
        ]
    )


if __name__ == "__main__":
    main()
