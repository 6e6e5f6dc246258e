"""A step of training, and a whole cross-validation, against plain Keras, plain torch and the arithmetic itself.

    python benchmarks/training.py [--models hyfuse concat] [--sizes 52,128 768,768] [--rounds 3] [--store DIR]
    python benchmarks/training.py --models hyfuse --sizes 768,768        # less than a minute
    python benchmarks/training.py --clock wall --store DIR --minutes 8   # on a machine that does nothing else
    python benchmarks/training.py --clock wall --models parrot concat cnn --sizes 3840,768 --report /tmp/largest.md

In one process, by turns: `serfuse` (the trainer it chooses), the plain `keras.Model.fit` on TensorFlow and the plain
torch loop with fused Adam that a user would write for the same network. What counts are the ratios: of processor
time, which other programs disturb less than a clock, or of what the clock says. `--store` adds `serfuse cv --fusion
hyfuse` of its Emo-DB from command to table, with each trainer, which comes first. Comparisons that would begin after
`--minutes` are left out, the largest sizes first. It writes benchmarks/training.md, unless `--report` says where.

An epoch has four steps, so that a quarter of what an epoch costs by itself is in each of them; the first epochs are
left out, more of them where they are short. Nobody has a validation
part; serfuse and Keras also count the right answers of each step, which the loop in torch does not.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from serfuse.experiment import backend

backend.set_up_backend()
import keras  # noqa: E402 - the backend is chosen above
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import torch  # noqa: E402

from serfuse.experiment import config as configs  # noqa: E402
from serfuse.experiment import fitting, threads  # noqa: E402
from serfuse.experiment.dataset import Part  # noqa: E402
from serfuse.progress import Observer  # noqa: E402

REPORT = Path(__file__).with_suffix(".md")
MODELS = ("hyfuse", "hyfuse-symmetric", "parrot", "concat", "cnn")
SIZES = ((52, 128), (768, 256), (768, 768), (3840, 768))
CLASSES, BATCH, STEPS, KAPPA = 6, 32, 4, 0.05
CLOCKS: dict[str, Callable[[], float]] = {"processor": time.process_time, "wall": time.perf_counter}
# Epochs of a round, and how many at its beginning are left out: the first one traces, and TensorFlow needs some thirty
# steps to learn which operations are too short for another thread, which is seen where a step takes milliseconds.
EPOCHS, SMALL_EPOCHS, SMALL = (3, 1), (24, 10), 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--sizes", nargs="+", default=[",".join(map(str, sizes)) for sizes in SIZES])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clock", choices=CLOCKS, default="processor")
    parser.add_argument("--store", type=Path, help="a store with prosody and soundstream-lyra of the corpus emodb")
    parser.add_argument("--report", type=Path, default=REPORT, help="the table that is written")
    given = parser.parse_args()
    until = time.perf_counter() + 60 * given.minutes
    torch.set_num_threads(threads.threads("torch"))  # by default one for each core, as TensorFlow has
    now = CLOCKS[given.clock]
    whole = [cross_validation(given.store, trainer) for trainer in ("auto", "keras")] if given.store else []
    rate = gemm(now)
    rows = []
    for text in given.sizes:
        for model in given.models:
            sizes = tuple(map(int, text.split(",")))[: 1 if model == "cnn" else 2]
            if time.perf_counter() > until:
                print(f"left out: {model} {text}", flush=True)
                continue
            rows.append(compared(model, sizes, given.rounds, rate, now))
            print(rows[-1], flush=True)
            # At once, so that what ends the program does not take along what was measured.
            given.report.write_text(report(rows, whole, rate, given.clock), "utf-8")
    print(f"{given.report} written")


def gemm(now: Callable[[], float]) -> float:
    """Floating point operations per second of that clock in a large product of matrices."""
    a = tf.random.normal((2048, 2048))
    run = tf.function(lambda: tf.reduce_sum(a @ a))
    run()
    seconds = []
    for _ in range(5):
        begun = now()
        run().numpy()
        seconds.append(now() - begun)
    return 2 * 2048**3 / statistics.median(seconds)


def clips(sizes: tuple[int, ...]) -> Part:
    rng = np.random.default_rng(0)
    labels = np.arange(STEPS * BATCH) % CLASSES
    arrays = {name: rng.normal(size=(len(labels), size)).astype("float32") for name, size in zip("ab", sizes)}  # noqa: B905
    return Part(arrays, labels, np.arange(len(labels)))


def compared(model: str, sizes: tuple[int, ...], rounds: int, rate: float, now: Callable[[], float]) -> dict[str, Any]:
    """Milliseconds of a step by that clock, medians over the rounds."""
    part = clips(sizes)
    ways: dict[str, Callable[[], list[float]]] = {
        "serfuse": lambda: by_serfuse(model, part, now),
        "keras": lambda: by_keras(model, part, now),
        "torch": lambda: by_torch(model, part, now),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(1000 * statistics.median(way()) / STEPS)
    return {
        "model": model,
        "sizes": " + ".join(map(str, sizes)),
        **{name: float(statistics.median(values)) for name, values in found.items()},
        "limit": 1000 * operations(model, sizes) / rate,
    }


def epochs(part: Part) -> tuple[int, int]:
    """Epochs of a round, and how many at its beginning are left out."""
    return SMALL_EPOCHS if sum(array.shape[1] for array in part.arrays.values()) <= SMALL else EPOCHS


def counted(stamps: list[float], part: Part) -> list[float]:
    """Seconds of each epoch that is not left out, from the time at the end of each."""
    return list(np.diff(stamps)[epochs(part)[1] - 1 :])


def by_serfuse(model: str, part: Part, now: Callable[[], float]) -> list[float]:
    class Clock(Observer):
        stamps: list[float]

        def epoch_done(self, epoch: int, figures: object) -> None:
            self.stamps.append(now())

    clock = Clock()
    clock.stamps = []
    config = configs.configure(model, {"training.patience": None}, inputs=list(part.arrays), epochs=epochs(part)[0])
    fitting.fit(config, part, part.take(np.arange(0)), CLASSES, 0, observer=clock)
    return counted(clock.stamps, part)


# --- what a user would write ----------------------------------------------------------------------------------------
# `xp` is keras.ops or torch: both know the functions used here by the same names.


def norm(xp: Any, x: Any) -> Any:
    return xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True) + 1e-12)


def expmap(xp: Any, x: Any) -> Any:
    length = norm(xp, KAPPA * x)
    return xp.tanh(length) * KAPPA * x / length


def logmap(xp: Any, x: Any) -> Any:
    length = norm(xp, x)
    return 2 * xp.arctanh(xp.clip(length, 0.0, 0.9999)) * x / length


def mobius(xp: Any, x: Any, y: Any) -> Any:
    xx, yy, xy = (xp.sum(a * b, axis=-1, keepdims=True) for a, b in ((x, x), (y, y), (x, y)))
    return ((1 + 2 * xy + yy) * x + (1 - xx) * y) / (1 + 2 * xy + xx * yy)


def transported(xp: Any, p: Any, q: Any) -> tuple[Any, Any]:
    """Features of each clip sent to each other, 20 Sinkhorn iterations: `(B, D), (B, D)`."""
    cost = (p[:, :, None] - q[:, None, :]) ** 2
    kernel = -cost / (0.1 * xp.amax(cost, axis=(1, 2), keepdims=True) + 1e-9)
    f, g = 0.0 * p, 0.0 * q
    for _ in range(20):
        f = -xp.logsumexp(kernel + g[:, None, :], axis=2)
        g = -xp.logsumexp(kernel + f[:, :, None], axis=1)
    plan = xp.exp(kernel + f[:, :, None] + g[:, None, :])
    there = xp.sum(plan * q[:, None, :], axis=2) / xp.sum(plan, axis=2)
    return there, xp.sum(plan * p[:, :, None], axis=1) / xp.sum(plan, axis=1)


def fused(xp: Any, model: str, parts: list[Any], concatenate: Callable[[list[Any]], Any]) -> Any:
    if model in ("concat", "cnn"):
        return concatenate(parts)
    if model == "parrot":
        p, q = parts
        there, back = transported(xp, p, q)
        return concatenate([p * q, there, q, back, p])
    x, y = (expmap(xp, part) for part in parts)
    if model == "hyfuse":
        return logmap(xp, mobius(xp, x, y))
    return logmap(xp, mobius(xp, x, y)) + logmap(xp, mobius(xp, y, x))


def by_keras(model: str, part: Part, now: Callable[[], float]) -> list[float]:
    keras.utils.clear_session()
    layers, pooled = keras.layers, model == "parrot"
    inputs = {name: keras.Input((array.shape[1],), name=name) for name, array in part.arrays.items()}
    flat = []
    for name, tensor in inputs.items():
        normalization = layers.Normalization()
        normalization.adapt(part.arrays[name])
        tensor = layers.Reshape((-1, 1))(normalization(tensor))
        for filters in (64, 128):
            tensor = layers.Conv1D(filters, 3, activation="relu")(tensor)
            tensor = layers.MaxPooling1D(2)(tensor) if pooled else tensor
        tensor = layers.Flatten()(tensor)
        flat.append(layers.Dense(120)(tensor) if pooled else tensor)
    if model.startswith("hyfuse"):
        longest = max(tensor.shape[1] for tensor in flat)
        flat = [keras.ops.pad(tensor, ((0, 0), (0, longest - tensor.shape[1]))) for tensor in flat]
    tensor = fused(keras.ops, model, flat, lambda parts: keras.ops.concatenate(parts, axis=-1))
    tensor = layers.Dropout(0.3)(layers.Dense(128, activation="relu")(tensor))
    network = keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(tensor))
    network.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    stamps: list[float] = []
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: stamps.append(now()))
    network.fit(dict(part.arrays), part.labels, batch_size=BATCH, epochs=epochs(part)[0], verbose=0, callbacks=[clock])
    return counted(stamps, part)


def by_torch(model: str, part: Part, now: Callable[[], float]) -> list[float]:
    nn, pooled = torch.nn, model == "parrot"

    def branch() -> Any:
        pool = [nn.MaxPool1d(2)] if pooled else []
        found = [nn.Conv1d(1, 64, 3), nn.ReLU(), *pool, nn.Conv1d(64, 128, 3), nn.ReLU(), *pool, nn.Flatten()]
        return nn.Sequential(*found, *([nn.LazyLinear(120)] if pooled else []))

    branches = nn.ModuleList([branch() for _ in part.arrays])
    head = nn.Sequential(nn.LazyLinear(128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, CLASSES))
    arrays = [torch.from_numpy((a - a.mean(axis=0)) / a.std(axis=0)) for a in part.arrays.values()]
    labels = torch.from_numpy(part.labels)

    def said(rows: Any) -> Any:
        flat = [branch(array[rows][:, None]) for branch, array in zip(branches, arrays, strict=True)]
        if model.startswith("hyfuse"):
            longest = max(tensor.shape[1] for tensor in flat)
            flat = [nn.functional.pad(tensor, (0, longest - tensor.shape[1])) for tensor in flat]
        return head(fused(torch, model, flat, lambda parts: torch.cat(parts, -1)))

    said(torch.arange(2))
    adam = torch.optim.Adam([*branches.parameters(), *head.parameters()], fused=True)
    stamps = []
    for _ in range(epochs(part)[0]):
        for rows in torch.randperm(len(labels)).split(BATCH):
            adam.zero_grad()
            nn.functional.cross_entropy(said(rows), labels[rows]).backward()
            adam.step()
        stamps.append(now())
    return counted(stamps, part)


# --- what the hardware allows, and the whole command ----------------------------------------------------------------


def operations(model: str, sizes: tuple[int, ...]) -> float:
    """Floating point operations of the matrix products of a step: forward, and twice as many backward."""
    total, flat = 0.0, []
    for size in sizes:
        steps, channels = size, 1
        for filters in (64, 128):
            steps -= 2
            # Nobody needs the gradient of the first convolution by its input.
            total += (2 if channels == 1 else 3) * 2 * steps * 3 * channels * filters
            steps, channels = steps // 2 if model == "parrot" else steps, filters
        flat.append(steps * channels)
    if model == "parrot":
        total += sum(6 * length * 120 for length in flat)
        flat = [600]
    length = max(flat) if model.startswith("hyfuse") else sum(flat)
    return BATCH * (total + 6 * length * 128)


def cross_validation(store: Path, trainer: str) -> tuple[str, float, float]:
    """Name, and wall and processor seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["serfuse", "cv", "--fusion", "hyfuse", "--a", "prosody", "--b", "soundstream-lyra"]
        further = ["--corpus", "emodb", "--store", str(store), "--out", folder, "--trainer", trainer, "--quiet"]
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        path = Path(sys.executable).parent
        subprocess.run([path / command[0], *command[1:], *further], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return trainer, time.perf_counter() - begun, sum(after[:2]) - sum(before[:2])


def report(rows: list[dict[str, Any]], whole: list[tuple[str, float, float]], rate: float, clock: str) -> str:
    return "\n".join(_lines(rows, whole, rate, clock)) + "\n"


def _lines(rows: list[dict[str, Any]], whole: list[tuple[str, float, float]], rate: float, clock: str) -> Iterator[str]:
    unit = {"processor": "processor time", "wall": "wall time"}[clock]
    modules = {"tensorflow": tf, "keras": keras, "torch": torch, "numpy": np}
    versions = ", ".join(f"{name} {module.__version__}" for name, module in modules.items())
    yield "# Training on a CPU\n"
    yield f"Written by `benchmarks/training.py`. {platform.processor() or platform.machine()}, {os.cpu_count()} cores;"
    yield f"{versions}. Milliseconds of {unit} of a step of {BATCH} clips; the limit is the time of its matrix"
    yield f"products alone at {rate / 1e9:.0f} GFLOP per second of it, as measured on a large product.\n"
    yield "| model | sizes | serfuse | plain Keras | plain torch | limit | Keras / serfuse | torch / serfuse |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        times = " | ".join(f"{row[name]:.1f}" for name in ("serfuse", "keras", "torch", "limit"))
        ratios = " | ".join(f"{row[name] / row['serfuse']:.2f}" for name in ("keras", "torch"))
        yield f"| {row['model']} | {row['sizes']} | {times} | {ratios} |"
    if whole:
        yield "\n`serfuse cv --fusion hyfuse --a prosody --b soundstream-lyra` on Emo-DB, command to table:\n"
        yield "| trainer | seconds | of the processor |\n|---|---|---|"
        for name, wall, cpu in whole:
            yield f"| {name} | {wall:.0f} | {cpu:.0f} |"


if __name__ == "__main__":
    main()
