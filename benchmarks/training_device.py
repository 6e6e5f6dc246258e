"""A whole cross-validation on a device: all folds in one program, against plain Keras on JAX and against plain torch.

    KERAS_BACKEND=jax python benchmarks/training_device.py                  # about three minutes on one GPU
    KERAS_BACKEND=jax python benchmarks/training_device.py --quick          # hyfuse alone, few epochs
    KERAS_BACKEND=jax python benchmarks/training_device.py --clips 300 --sizes 24 20 --epochs 2 --models hyfuse concat

Clips are of CREMA-D's size: 7,442 of 91 speakers and six emotions, embeddings of 768 and 768 random values. The first
model is trained for all its epochs, the others for a few; nothing is stopped early. Measured is `cross_validate`, from
arrays to predictions and permutation importance of all folds; compiling is the time that the first epoch takes longer
than the others. Of what it is compared with one fold is trained for `--compared` epochs, and five folds of all epochs
are extrapolated from that: Keras compiles once per fold, as it would. Torch has its fused Adam
and the clips on the device. Serfuse multiplies in float32; what it is compared with may round to TF32.

The table goes to --out [benchmarks/training_device.md] and to the screen. No model is begun after --seconds.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pandas as pd

from serfuse import models
from serfuse.experiment import backend, cross_validation
from serfuse.experiment import config as configs
from serfuse.experiment.dataset import Dataset
from serfuse.progress import Observer

MODELS = ["hyfuse", "concat", "hyfuse-symmetric", "parrot", "cnn"]
HEADS = ["model", "epochs", "stacked, whole run s", "of it compiling s", "epoch of all folds s"]
HEADS += ["plain Keras fit s", "times", "plain torch s", "times"]


def dataset(clips: int, sizes: list[int]) -> Dataset:
    """Clips of 91 speakers with emotions that a model can learn."""
    rng = np.random.default_rng(0)
    emotions = np.array(["anger", "disgust", "fear", "happiness", "neutral", "sadness"])
    labels = rng.integers(0, len(emotions), clips)
    table = pd.DataFrame(
        {
            "id": [f"clip{number:05}" for number in range(clips)],
            "emotion": emotions[labels],
            "speaker": [f"{number % 91:02}" for number in range(clips)],
            "text": "",
            "fold": "",
            "audio": "",
        }
    ).set_index("id", drop=False)
    arrays = {}
    for name, size in zip("ab", sizes, strict=False):
        means = 0.1 * rng.normal(size=(len(emotions), size))
        arrays[name] = (means[labels] + rng.normal(size=(clips, size))).astype("float32")
    return Dataset("random", {"speaker_kind": "speaker"}, table, arrays, {})


class Clock(Observer):
    """When the epochs of all folds were over."""

    def __init__(self) -> None:
        self.times: dict[int, float] = {}

    def epoch_done(self, epoch: int, figures: Any) -> None:
        self.times[epoch] = time.perf_counter()


def durations(times: list[float]) -> tuple[float, float]:
    """Time of an epoch, and what the first one took beyond that, from when each began and the last one ended."""
    found = np.diff(times)
    epoch = statistics.median(found[1:]) if len(found) > 1 else float(found[0])
    return epoch, max(0.0, float(found[0]) - epoch)


def settings(model: str, epochs: int) -> configs.Config:
    """The shipped configuration without early stopping."""
    config = configs.configure(model, {}, epochs=epochs)
    return config.model_copy(update={"training": config.training.model_copy(update={"patience": None})})


def stacked(config: configs.Config, data: Dataset) -> dict[str, float]:
    """The whole cross-validation."""
    clock, begun = Clock(), time.perf_counter()
    cross_validation.cross_validate(config, data, observer=clock)
    whole = time.perf_counter() - begun
    epoch, _ = durations([begun, *clock.times.values()])
    times = list(clock.times.values())
    compiling = max(0.0, times[0] - begun - epoch)
    return {"whole": whole, "epoch": epoch, "compiling": compiling}


def plain_keras(config: configs.Config, data: Dataset, epochs: int) -> float:
    """`fit` of Keras on one fold: extrapolated seconds of all."""
    import keras

    folds = cross_validation.plan(config, data)
    training, validation = (data.part(ids) for ids in (folds[0].train, folds[0].validation))
    begun = time.perf_counter()
    keras.utils.set_random_seed(0)
    network = models.get(config.model).build(training.arrays, len(data.classes), config.model_options(), 0)
    network.compile(
        keras.optimizers.Adam(config.training.learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    times = [begun]
    network.fit(
        training.arrays,
        training.labels,
        batch_size=config.training.batch_size,
        epochs=epochs,
        validation_data=(validation.arrays, validation.labels),
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: times.append(time.perf_counter()))],
        verbose=0,
    )
    epoch, compiling = durations(times)
    begun = time.perf_counter()
    network.predict(data.part(folds[0].test).arrays, batch_size=128, verbose=0)
    predicting = time.perf_counter() - begun
    return len(folds) * (compiling + config.training.epochs * epoch + predicting)


def plain_torch(config: configs.Config, data: Dataset, epochs: int) -> float:
    """A loop in torch on one fold of hyfuse: extrapolated seconds of all."""
    import torch
    from torch import nn

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(0)

    class Branch(nn.Module):
        def __init__(self, values: np.ndarray) -> None:
            super().__init__()
            self.mean, self.scale = (nn.Parameter(torch.tensor(x), False) for x in (values.mean(0), values.std(0)))
            self.layers = nn.Sequential(nn.Conv1d(1, 64, 3), nn.ReLU(), nn.Conv1d(64, 128, 3), nn.ReLU(), nn.Flatten())

        def forward(self, x: Any) -> Any:
            return self.layers(((x - self.mean) / self.scale)[:, None])

    def norm(x: Any) -> Any:
        return torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-12)

    def ball(x: Any, kappa: float) -> Any:
        x = x * torch.clamp(1 / kappa / norm(x), max=1.0)
        return torch.tanh(kappa * norm(x)) * x / norm(x)

    def added(x: Any, y: Any) -> Any:
        inner, s, t = (x * y).sum(-1, keepdim=True), (x * x).sum(-1, keepdim=True), (y * y).sum(-1, keepdim=True)
        return ((1 + 2 * inner + t) * x + (1 - s) * y) / (1 + 2 * inner + s * t)

    class Hyfuse(nn.Module):
        def __init__(self, arrays: dict[str, np.ndarray], classes: int) -> None:
            super().__init__()
            self.a, self.b = Branch(arrays["a"]), Branch(arrays["b"])
            size = 128 * (max(array.shape[1] for array in arrays.values()) - 4)
            self.head = nn.Sequential(nn.Linear(size, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, classes))
            self.size = size

        def forward(self, a: Any, b: Any) -> Any:
            x, y = (nn.functional.pad(z, (0, self.size - z.shape[1])) for z in (self.a(a), self.b(b)))
            z = added(ball(x, 0.1), ball(y, 0.1))
            z = z * torch.clamp(0.9999 / norm(z), max=1.0)
            return self.head(2 * torch.atanh(norm(z)) * z / norm(z))

    folds = cross_validation.plan(config, data)
    part = data.part(folds[0].train)
    network = Hyfuse(dict(part.arrays), len(data.classes)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), config.training.learning_rate, fused=True)
    a, b, labels = (torch.tensor(x, device=device) for x in (part.arrays["a"], part.arrays["b"], part.labels))
    times = [time.perf_counter()]
    for _ in range(epochs):
        for rows in torch.randperm(len(labels), device=device).split(config.training.batch_size):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(network(a[rows], b[rows]), labels[rows]).backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())
    epoch, first = durations(times)
    return first + len(folds) * config.training.epochs * epoch


def machine() -> str:
    """What it was measured on."""
    import jax
    import keras

    device = jax.local_devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{device.device_kind} ({device.platform}), {cores} cores, JAX {jax.__version__}, Keras {keras.__version__}"


def rows(model: str, config: configs.Config, data: Dataset, compared: int, torch_too: bool) -> Iterator[list[str]]:
    """A line of the table, again with each that it is compared with: what ends the program leaves what there is."""
    begun = time.perf_counter()
    print(f"{model}: all folds ...", file=sys.stderr)
    ours = stacked(config, data)
    print(f"{model}: {time.perf_counter() - begun:.1f} s", file=sys.stderr)
    own = [
        model,
        str(config.training.epochs),
        f"{ours['whole']:.1f}",
        f"{ours['compiling']:.1f}",
        f"{ours['epoch']:.3f}",
    ]
    against = [math.nan, math.nan]

    def line() -> list[str]:
        return own + [
            cell
            for other in against
            for cell in (["-", "-"] if math.isnan(other) else [f"{other:.1f}", f"{other / ours['whole']:.1f}"])
        ]

    yield line()
    import jax

    if compared:
        with jax.default_matmul_precision("default"):
            against[0] = plain_keras(config, data, compared)
        yield line()
    if compared and torch_too:
        against[1] = plain_torch(config, data, compared)
        yield line()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS, help="the first one is trained for all its epochs")
    parser.add_argument("--clips", type=int, default=7442)
    parser.add_argument("--sizes", type=int, nargs=2, default=[768, 768])
    parser.add_argument("--epochs", type=int, default=50, help="of the first model [50]")
    parser.add_argument("--few", type=int, default=3, help="epochs of the other models [3]")
    parser.add_argument("--compared", type=int, default=3, help="epochs of what it is compared with, 0: not at all [3]")
    parser.add_argument("--seconds", type=float, default=150, help="after which no model is begun [150]")
    parser.add_argument("--quick", action="store_true", help="hyfuse alone for 5 epochs, compared over 2")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.models, arguments.epochs, arguments.compared = ["hyfuse"], 5, 2
    if backend.backend_name() != "jax":
        sys.exit(f"Set KERAS_BACKEND=jax; it is {backend.backend_name()}.")
    backend.set_up_backend()
    begun = time.perf_counter()
    whole = dataset(arguments.clips, arguments.sizes)
    lines = [
        f"{arguments.clips:,} clips, {' + '.join(map(str, arguments.sizes))} values, five folds; {machine()}. "
        f"Plain Keras and torch: five folds of as many epochs, extrapolated from {arguments.compared} of one fold.",
        "",
        "| " + " | ".join(HEADS) + " |",
        "|" + "---|" * len(HEADS),
    ]
    print("\n".join(lines), flush=True)
    for number, model in enumerate(arguments.models):
        if number and time.perf_counter() - begun > arguments.seconds:
            break
        data = whole if models.get(model).inputs > 1 else whole.select("a")
        config = settings(model, arguments.few if number else arguments.epochs)
        lines.append("")
        for cells in rows(model, config, data, arguments.compared, torch_too=model == "hyfuse"):
            lines[-1] = "| " + " | ".join(cells) + " |"
            arguments.out.write_text("\n".join(lines) + "\n", "utf-8")
        print(lines[-1], flush=True)


if __name__ == "__main__":
    main()
