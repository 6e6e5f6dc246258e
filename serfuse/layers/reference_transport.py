"""Optimal transport of clips by the plan between two fixed sets."""

from typing import Any

import keras
from keras import ops

from ..ops import transport
from ..ops.float64 import maximum
from .transport_layer import Transport, TransportLayer, weights, without_masked


@keras.saving.register_keras_serializable(package="serfuse")
class ReferenceTransport(TransportLayer):
    """Transports vectors by the plan between two fixed sets, which `ReferenceSet` holds.

    The plan is solved between the sets, as by `SinkhornTransport`. A clip is sent by the plan's row for it, which the
    dual potential gives for any point: `Gamma(x, j) = exp((f(x) + g_j - c(x, q_j)) / epsilon)`, "out of sample" in
    POT and OTT. The cost keeps the scale of the fixed sets, so a clip's result is the same alone and in any batch.

    Args:
        epsilon: entropic regularisation in units of the sets' largest distance, from 1e-6.
        iterations: Sinkhorn iterations, from 1 to 1000.
        map: "barycentric": a clip of p becomes its mean, under that row, of the references of q, and the other way
            round. "literal": of its own references, over their number, as a row of `Gamma R_p` would be; the sets
            need the same number of points.

    Shapes: a list of p `(B, D)`, q `(B, D)`, and the references of p `(N, D)` and of q `(M, D)`, to
    `Transport(p_to_q (B, D), q_to_p (B, D), plan (N, M), cost ())`; plan and cost are those between the sets.

    Masks: one per input; those of the references, `(N,)` and `(M,)`, are True where a reference counts, and the
    result is that of the sets without the others. Masks of the clips are passed on.

    Raises:
        ValueError: an argument is out of range, or the inputs or masks do not have the shapes above.
    """

    inputs_expected = "two tensors (batch, features) and two reference sets (N, features) and (M, features)"
    count = 4

    def problem(self, shapes: list[tuple[int | None, ...]]) -> str:
        """Say what is wrong with the shapes of the inputs."""
        if any(len(shape) != 2 for shape in shapes):
            return "each must have 2 axes"
        if any(shape[1] == 0 for shape in shapes) or any(shape[0] == 0 for shape in shapes[2:]):
            return "there must be at least one point and one feature"
        if len({shape[1] for shape in shapes}) > 1:
            return "the numbers of features differ"
        return self.mixed(shapes[2][0], shapes[3][0])

    def shapes(self, shapes: list[tuple[int | None, ...]]) -> Transport:
        """Return those of the clips, `(N, M)` and `()`."""
        p, q, set_p, set_q = shapes
        return Transport(p, q, (set_p[0], set_q[0]), ())

    def mask_shapes(self, shapes: list[tuple[int | None, ...]]) -> list[tuple[int | None, ...] | None]:
        """Return the references' first axis."""
        return [None, None, shapes[2][:1], shapes[3][:1]]

    def transported(self, tensors: list[Any], masks: list[Any]) -> Transport:
        """Transport the clips by the plan between the references."""
        p, q, set_p, set_q = tensors
        p_mask, q_mask = masks[2:]
        set_p, set_q = without_masked(set_p, p_mask), without_masked(set_q, q_mask)
        frame = transport.frame(set_p, set_q, p_mask, q_mask)
        distance = transport.distances(set_p, set_q, frame)
        unit = transport.largest(distance, p_mask, q_mask)
        cost = distance / unit
        f, g, kernel = transport.sinkhorn_potentials(
            cost, self.epsilon, self.iterations, weights(p_mask, p.dtype), weights(q_mask, q.dtype)
        )
        plan = ops.exp(ops.expand_dims(f, -1) + ops.expand_dims(g, -2) + kernel)
        if 0 in (p.shape[0], q.shape[0]):  # no clip: TensorFlow refuses to look for the largest of nothing
            return Transport(p, q, plan, ops.sum(plan * cost))
        per_unit = self.epsilon * unit
        towards_q = g - transport.distances(p, set_q, frame) / per_unit
        towards_p = f - transport.distances(q, set_p, frame) / per_unit
        if self.map == "literal":
            # A row of the plan, the potential of the clip being such that it has the mass of one point.
            p_to_q = transport.barycentric_map(towards_q, set_p) / _number(set_p, p_mask)
            q_to_p = transport.barycentric_map(towards_p, set_q) / _number(set_q, q_mask)
        else:
            p_to_q = transport.barycentric_map(towards_q, set_q)
            q_to_p = transport.barycentric_map(towards_p, set_p)
        return Transport(p_to_q, q_to_p, plan, ops.sum(plan * cost))


def _number(points: Any, mask: Any) -> Any:
    """How many points of a set `(N, D)` count."""
    return points.shape[0] if mask is None else maximum(ops.sum(ops.cast(mask, points.dtype)), 1.0)
