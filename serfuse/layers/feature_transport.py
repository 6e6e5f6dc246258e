"""Optimal transport between the features of two vectors."""

from typing import Any

import keras
from keras import ops

from .transport_layer import Transport, TransportLayer


@keras.saving.register_keras_serializable(package="serfuse")
class FeatureTransport(TransportLayer):
    """Transports the features of two vectors, as points on a line, towards each other.

    `SinkhornTransport` between the sets `(B, N, 1)` and `(B, M, 1)`, with the arguments of that. It is PARROT's
    transport read so that a clip's result does not depend on other clips.

    Args:
        epsilon: entropic regularisation in units of the largest distance, from 1e-6.
        iterations: Sinkhorn iterations, from 1 to 1000.
        map: "barycentric" or "literal".

    Shapes: a list of p `(B, N)` and q `(B, M)`, to `Transport(p_to_q (B, N), q_to_p (B, M), plan (B, N, M),
    cost (B,))`.

    Masks: one per input, `(B, N)` and `(B, M)`, True where a feature counts. The result for the other features is
    that of the vectors without the masked ones, and 0 for these.

    Raises:
        ValueError: an argument is out of range, or the inputs or masks do not have the shapes above.
    """

    inputs_expected = "two tensors (batch, N) and (batch, M)"

    def problem(self, shapes: list[tuple[int | None, ...]]) -> str:
        """Say what is wrong with the shapes of the two inputs."""
        p, q = shapes
        if len(p) != 2 or len(q) != 2:
            return "each must have 2 axes"
        if 0 in (p[1], q[1]):
            return "there must be at least one feature"
        if None not in (p[0], q[0]) and p[0] != q[0]:
            return "the batch sizes differ"
        return self.mixed(p[1], q[1])

    def shapes(self, shapes: list[tuple[int | None, ...]]) -> Transport:
        """Return those of the inputs, `(B, N, M)` and `(B,)`."""
        p, q = shapes
        clips = q[0] if p[0] is None else p[0]
        return Transport(p, q, (clips, p[1], q[1]), (clips,))

    def mask_shapes(self, shapes: list[tuple[int | None, ...]]) -> list[tuple[int | None, ...] | None]:
        """Return those of the inputs."""
        return list(shapes)

    def transported(self, tensors: list[Any], masks: list[Any]) -> Transport:
        """Transport the features towards each other."""
        found = self.between_sets(*(ops.expand_dims(x, -1) for x in tensors), *masks)
        return found._replace(p_to_q=found.p_to_q[..., 0], q_to_p=found.q_to_p[..., 0])
