"""What a network is trained to: losses, weights of classes, mixed clips, and experts that each learn by themselves.

Targets are probabilities `(B, classes)`, float32. A network whose experts are trained too answers
`(B, 1 + experts, classes)` while it is trained: what it says, then what they say.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class Objective(keras.losses.Loss):
    """Focal loss with label smoothing, `-sum_c t_c (1 - p_c)^gamma log p_c`, of what is trained; float32 `(B,)`.

    With `gamma = 0` it is the cross-entropy. Lin, Goyal, Girshick, He and Dollar, "Focal Loss for Dense Object
    Detection", ICCV 2017; label smoothing: Szegedy and others, "Rethinking the Inception Architecture", CVPR 2016.
    Probabilities are clipped to 1e-7 as Keras does. Where experts are trained, it is the mean of their losses.

    Args:
        gamma: how little clips count that are right already; from 0.
        label_smoothing: part of the target that is shared out evenly among all classes; from 0 to below 1.
    """

    def __init__(self, gamma: float = 0.0, label_smoothing: float = 0.0) -> None:
        super().__init__(name="objective")
        self.gamma = gamma
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Targets `(B, classes)` and answers `(B, classes)` or `(B, 1 + experts, classes)` to losses `(B,)`."""
        said = ops.clip(y_pred, keras.config.epsilon(), 1.0)
        target = ops.cast(y_true, said.dtype)
        target = target * (1.0 - self.label_smoothing) + self.label_smoothing / y_true.shape[-1]
        surprise = -ops.log(said)
        if self.gamma:
            # The gradient of a power below 1 has no value at 0, where nothing is left to learn.
            surprise = surprise * ops.power(ops.maximum(1.0 - said, keras.config.epsilon()), self.gamma)
        if len(y_pred.shape) == 2:
            return ops.sum(target * surprise, axis=-1)
        losses = ops.sum(ops.expand_dims(target, 1) * surprise, axis=-1)
        return ops.mean(losses[:, 1:], axis=1)


def accuracy() -> Any:
    """Make the metric "accuracy" of such targets and answers: how often both have the same largest class."""

    def right(y_true: Any, y_pred: Any) -> Any:
        said = y_pred if len(y_pred.shape) == 2 else y_pred[:, 0]
        return ops.cast(ops.equal(ops.argmax(y_true, axis=-1), ops.argmax(said, axis=-1)), "float32")

    return keras.metrics.MeanMetricWrapper(right, name="accuracy")


def supervised(network: Any, names: Sequence[str], classes: int) -> Any:
    """The same layers as a network that answers `(B, 1 + experts, classes)`; the network itself where `names` is empty.

    Args:
        network: `keras.Model` with class probabilities `(B, classes)`.
        names: of its layers whose outputs `(B, ..., classes)` are class probabilities too.
        classes: how many.
    """
    if not names:
        return network
    tensors = [network.outputs[0], *(network.get_layer(name).output for name in names)]
    rows = [keras.layers.Reshape((-1, classes))(tensor) for tensor in tensors]
    inputs = {tensor.name: tensor for tensor in network.inputs}
    return keras.Model(inputs, keras.layers.Concatenate(axis=1)(rows))


def class_weights(labels: np.ndarray, classes: int, how: str) -> np.ndarray:
    """Weights `(classes,)` of the clips of each class, float32: ones, or as scikit-learn balances them.

    Args:
        labels: `(N,)`, of the training part.
        classes: how many there are; those without a clip weigh 1, and do not count among the others.
        how: "none" or "balanced", `N / (classes with a clip * clips of the class)`.
    """
    weights = np.ones(classes, "float32")
    if how == "balanced":
        counts = np.bincount(labels, minlength=classes)
        heard = counts > 0
        weights[heard] = len(labels) / (heard.sum() * counts[heard])
    return weights


def mixed(
    x: Mapping[str, np.ndarray],
    y: np.ndarray,
    sample_weight: np.ndarray,
    *,
    batch_size: int,
    alpha: float,
    seed: int,
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """Batches without end of clips mixed with others of their batch: `l x_i + (1 - l) x_j`, targets and weights alike.

    `l` is drawn from Beta(alpha, alpha) for each clip. Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond Empirical
    Risk Minimization", ICLR 2018.

    Args:
        x: `{"a": (N, D_a), ...}`.
        y: `(N, classes)` targets.
        sample_weight: `(N,)`.
        batch_size: clips of a batch; the last of an epoch may have fewer.
        alpha: above 0; the smaller, the nearer to one of the two clips.
        seed: of the order, anew in each epoch, of the pairs and of the parts.
    """
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(y))
        for start in range(0, len(y), batch_size):
            rows = order[start : start + batch_size]
            others = rng.permutation(rows)
            part = rng.beta(alpha, alpha, size=len(rows)).astype("float32")

            def blend(values: np.ndarray, i: np.ndarray = rows, j: np.ndarray = others, by: np.ndarray = part) -> Any:
                share = by.reshape(-1, *[1] * (values.ndim - 1))
                return share * values[i] + (1 - share) * values[j]

            yield {name: blend(array) for name, array in x.items()}, blend(y), blend(sample_weight)
