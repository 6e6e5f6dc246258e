"""Optimal transport between two point sets."""

from typing import Any

import keras
from keras import ops

from .feature_transport import FeatureTransport
from .reference_transport import ReferenceTransport
from .transport_layer import Transport, TransportLayer


@keras.saving.register_keras_serializable(package="serfuse")
class SinkhornTransport(TransportLayer):
    """Transports each of two point sets towards the other (PARROT section 3.1 and equation 1).

    The cost `C` of a pair of points is their Euclidean distance divided by the largest one; the plan `Gamma` is that
    of entropic optimal transport with uniform marginals. What is sent where is the choice of `map`:

    - "barycentric": `diag(1 / Gamma 1) Gamma R_q` and `diag(1 / Gamma^T 1) Gamma^T R_p`, each point's mean under the
      plan, which lies among the points it is sent to;
    - "literal": `Gamma R_p` and `Gamma^T R_q` as printed. The plan has total mass 1, so these are smaller by the
      number of points, and both sets need the same number of points because their indices are mixed.

    Args:
        epsilon: entropic regularisation in units of the largest distance, from 1e-6. The rounding of float32 moves
            the plan by about 1e-7 / epsilon of itself.
        iterations: Sinkhorn iterations, from 1 to 1000.
        map: "barycentric" or "literal".

    Shapes: a list of p `(..., N, D)` and q `(..., M, D)` with the same leading axes, to `Transport(p_to_q (..., N, D),
    q_to_p (..., M, D), plan (..., N, M), cost (...))`. With leading axes, say `(B, N, D)`, each clip has sets of its
    own and its result is the same alone and in any batch. Without, the inputs are one pair of sets: two batches of
    vectors `(B, D)` have the clips as points, PARROT's literal reading, and a result depends on the other clips.

    Masks: one per set, `(..., N)` and `(..., M)`, True where a point counts. The result for the other points is that
    of the sets without the masked points, and 0 for the masked ones.

    Raises:
        ValueError: an argument is out of range, or the inputs or masks do not have the shapes above.
    """

    inputs_expected = "two point sets (..., N, features) and (..., M, features)"

    def problem(self, shapes: list[tuple[int | None, ...]]) -> str:
        """Say what is wrong with the shapes of the two sets."""
        p, q = shapes
        if len(p) != len(q):
            return "the numbers of axes differ"
        if 0 in (*p[-2:], *q[-2:]):
            return "there must be at least one point and one feature"
        if p[-1] != q[-1]:
            return "the numbers of features differ"
        if any(None not in pair and pair[0] != pair[1] for pair in zip(p[:-2], q[:-2], strict=True)):
            return "the batch sizes differ"
        return self.mixed(p[-2], q[-2])

    def shapes(self, shapes: list[tuple[int | None, ...]]) -> Transport:
        """Return those of the sets, `(..., N, M)` and `(...)`."""
        p, q = shapes
        leading = tuple(m if n is None else n for n, m in zip(p[:-2], q[:-2], strict=True))
        return Transport(p, q, (*leading, p[-2], q[-2]), leading)

    def mask_shapes(self, shapes: list[tuple[int | None, ...]]) -> list[tuple[int | None, ...] | None]:
        """Return all axes but the last."""
        return [shape[:-1] for shape in shapes]

    def transported(self, tensors: list[Any], masks: list[Any]) -> Transport:
        """Transport the sets towards each other."""
        if len(tensors[0].shape) > 2:
            return self.between_sets(*tensors, *masks)
        # one pair of sets is a batch of one
        tensors = [ops.expand_dims(x, 0) for x in tensors]
        masks = [None if mask is None else ops.expand_dims(mask, 0) for mask in masks]
        return Transport(*(x[0] for x in self.between_sets(*tensors, *masks)))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TransportLayer:
        """Make the layer that a configuration describes.

        One of version 0.1 says by `points` which of the three layers it meant.

        Raises:
            ValueError: an argument is out of range.
        """
        meant = {"set": cls, "batch": cls, "features": FeatureTransport, "reference": ReferenceTransport}
        config = dict(config)
        points = config.pop("points", "set")
        if points not in list(meant):
            raise ValueError(f"points must be one of {', '.join(meant)}. Received: points={points!r}")
        return meant[points](**config)
