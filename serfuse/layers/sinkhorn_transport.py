"""Optimal transport between two representations."""

from typing import Any

import keras
from keras import ops

from ..ops import transport
from ..ops.float64 import larger
from .base import PreciseLayer, positive, shapes_of, whole

LEAST_EPSILON = 1e-6  # below, the logarithms that the plan is made of have no digits left in float32
MOST_ITERATIONS = 1000  # the loop is unrolled: a model file that asks for a million would never be done
MAPS = ("barycentric", "literal")
POINTS = ("set", "batch", "features", "reference")


@keras.saving.register_keras_serializable(package="serfuse")
class SinkhornTransport(PreciseLayer):
    """Transports each of two representations towards the other (PARROT section 3.1 and equation 1).

    The cost of a pair of points is their Euclidean distance divided by the largest one; the plan `Gamma` is that of
    entropic optimal transport with uniform marginals. Returned are `(p_to_q, q_to_p)`:

    - `map="barycentric"`: `diag(1 / Gamma 1) Gamma R_q` and `diag(1 / Gamma^T 1) Gamma^T R_p`, each point's mean under
      the plan, which lies among the points it is sent to;
    - `map="literal"`: `Gamma R_p` and `Gamma^T R_q` as printed. The plan has total mass 1, so these are smaller by the
      number of points, and both sets need the same number of points because their indices are mixed.

    What the points are is the other choice:

    - `"set"`: inputs `(B, N, D)` and `(B, M, D)`: each clip has its own point sets.
    - `"batch"`: inputs `(B, D)`: the clips of a batch are the points, the paper's literal reading. A result then
      depends on the other clips of the batch.
    - `"features"`: inputs `(B, N)` and `(B, M)`: the features of one clip are points on a line.
    - `"reference"`: inputs `(B, D)`, `(B, D)` and two fixed sets `(N, D)`, `(M, D)`. The plan is solved between the
      fixed sets; a clip is mapped by the plan's row for it, which the dual potential gives for any point:
      `Gamma(x, j) = exp((f(x) + g_j - c(x, q_j)) / epsilon)`. The cost keeps the scale of the fixed sets.

    In all but `"batch"` a clip's result is the same alone and in any batch.

    Args:
        epsilon: entropic regularisation in units of the largest cost, from 1e-6. The rounding of float32 moves the
            plan by about 1e-7 / epsilon of itself.
        iterations: Sinkhorn iterations, from 1 to 1000.
        map: "barycentric" or "literal".
        points: "set", "batch", "features" or "reference".

    Masks: one per point set, True where a point counts: `(B, N)` for "set" and "features", `(B,)` for "batch",
    `(N,)` for the fixed sets. The result for the other points is that of the sets without the masked points, and 0
    for the masked ones.

    Raises:
        ValueError: an argument is out of range, or the inputs or masks do not have the shapes above.
    """

    def __init__(
        self,
        epsilon: float = 0.1,
        iterations: int = 20,
        map: str = "barycentric",
        points: str = "set",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.epsilon = positive("epsilon", epsilon, least=LEAST_EPSILON)
        self.iterations = whole("iterations", iterations, MOST_ITERATIONS)
        if map not in MAPS:
            raise ValueError(f"map must be one of {', '.join(MAPS)}. Received: map={map!r}")
        if points not in POINTS:
            raise ValueError(f"points must be one of {', '.join(POINTS)}. Received: points={points!r}")
        self.map = map
        self.points = points

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)

    def _check(self, shapes: Any) -> None:
        expected = {
            "set": "two point sets (batch, N, features) and (batch, M, features)",
            "batch": "two tensors (batch, features)",
            "features": "two tensors (batch, N) and (batch, M)",
            "reference": "two tensors (batch, features) and two reference sets (N, features) and (M, features)",
        }[self.points]
        rank = 3 if self.points == "set" else 2
        count = 4 if self.points == "reference" else 2
        problem = ""
        if not isinstance(shapes, tuple | list) or len(shapes) != count:
            problem = f"a list of {count} tensors is needed"
        elif any(not isinstance(shape, tuple | list) or len(shape) != rank for shape in shapes):
            problem = f"each must have {rank} axes"
        elif any(shape[-1] is None for shape in shapes):
            problem = "the last axis must be known"
        elif any(0 in (shape if self.points == "batch" else shape[1:]) for shape in shapes) or 0 in (
            shape[0] for shape in shapes[2:]
        ):
            problem = "there must be at least one point and one feature"
        elif self.points != "features" and len({shape[-1] for shape in shapes}) > 1:
            problem = "the numbers of features differ"
        elif self.points != "reference" and None not in (shapes[0][0], shapes[1][0]) and shapes[0][0] != shapes[1][0]:
            problem = "the batch sizes differ"
        elif self.map == "literal" and self.points != "batch":
            first, second = {
                "set": lambda: (shapes[0][1], shapes[1][1]),
                "features": lambda: (shapes[0][1], shapes[1][1]),
                "reference": lambda: (shapes[2][0], shapes[3][0]),
            }[self.points]()
            if None not in (first, second) and first != second:
                problem = f"map='literal' mixes the indices of both sets, which have {first} and {second} points"
        if problem:
            raise ValueError(
                f"SinkhornTransport(points={self.points!r}) expects {expected}: {problem}. Received: "
                f"input_shape={shapes}"
            )

    def _masks(self, mask: Any, shapes: list[tuple[int | None, ...]]) -> list[Any]:
        """One mask or None per input; those of the clips beside reference sets are not looked at."""
        if mask is None:
            return [None] * len(shapes)
        given = [None if m is None else tuple(m.shape) for m in mask] if isinstance(mask, tuple | list) else mask
        # The axes of the input up to that of its points.
        expected = [shape if self.points == "features" else shape[:-1] for shape in shapes]
        seen = slice(2 if self.points == "reference" else 0, None)
        if not isinstance(given, list) or len(given) != len(shapes) or not all(map(_fits, given[seen], expected[seen])):
            raise ValueError(
                f"SinkhornTransport(points={self.points!r}) expects a list of {len(shapes)} masks, each None or of the "
                f"shapes {', '.join(map(str, expected[seen]))}. Received: mask={given}"
            )
        return list(mask)

    def call(self, inputs: Any, mask: Any = None) -> tuple[Any, Any]:
        shapes = shapes_of(inputs)
        self._check(shapes)
        tensors = [self.precise(x) for x in inputs]
        masks = self._masks(mask, shapes)
        if 0 in (shapes[0][0], shapes[1][0]):  # no clip: TensorFlow refuses to look for the largest of nothing
            return self.returned(tensors[0]), self.returned(tensors[1])
        if self.points == "reference":
            found = self._against_references(*tensors, *masks[2:])
        elif self.points == "batch":
            tensors = [ops.expand_dims(x, 0) for x in tensors]
            masks = [None if m is None else ops.expand_dims(m, 0) for m in masks]
            found = [x[0] for x in self._between_sets(*tensors, *masks)]
        elif self.points == "features":
            tensors = [ops.expand_dims(x, -1) for x in tensors]
            found = [x[..., 0] for x in self._between_sets(*tensors, *masks)]
        else:
            found = self._between_sets(*tensors, *masks)
        p_to_q, q_to_p = found
        return self.returned(p_to_q), self.returned(q_to_p)

    def _between_sets(self, p: Any, q: Any, p_mask: Any, q_mask: Any) -> list[Any]:
        """Both directions between point sets `(B, N, D)` and `(B, M, D)`."""
        p, q = _without_masked(p, p_mask), _without_masked(q, q_mask)
        cost = transport.pairwise_cost(p, q, p_mask, q_mask)
        log_plan = transport.sinkhorn_log_plan(cost, self.epsilon, self.iterations, p_mask, q_mask)
        backwards = ops.swapaxes(log_plan, -1, -2)
        if self.map == "literal":
            p_to_q, q_to_p = ops.exp(log_plan) @ p, ops.exp(backwards) @ q
        else:
            p_to_q = transport.barycentric_map(log_plan, q)
            q_to_p = transport.barycentric_map(backwards, p)
        return [_without_masked(p_to_q, p_mask), _without_masked(q_to_p, q_mask)]

    def _against_references(
        self, p: Any, q: Any, set_p: Any, set_q: Any, set_p_mask: Any, set_q_mask: Any
    ) -> list[Any]:
        """Clips `(B, D)` by the plan between the sets `(N, D)` and `(M, D)`."""
        set_p, set_q = _without_masked(set_p, set_p_mask), _without_masked(set_q, set_q_mask)
        frame = transport.frame(set_p, set_q, set_p_mask, set_q_mask)
        distance = transport.distances(set_p, set_q, frame)
        unit = transport.largest(distance, set_p_mask, set_q_mask)
        f, g, _ = transport.sinkhorn_potentials(distance / unit, self.epsilon, self.iterations, set_p_mask, set_q_mask)
        per_unit = self.epsilon * unit
        towards_q = g - transport.distances(p, set_q, frame) / per_unit
        towards_p = f - transport.distances(q, set_p, frame) / per_unit
        if self.map == "literal":
            # A row of the plan, the potential of the clip being such that it has the mass of one point.
            return [
                transport.barycentric_map(towards_q, set_p) / _count(set_p, set_p_mask),
                transport.barycentric_map(towards_p, set_q) / _count(set_q, set_q_mask),
            ]
        return [transport.barycentric_map(towards_q, set_q), transport.barycentric_map(towards_p, set_p)]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The masks of the two sets whose points were mapped."""
        return (None, None) if previous_mask is None else tuple(previous_mask)[:2]

    def compute_output_shape(self, input_shape: Any) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
        """Shapes of `(p_to_q, q_to_p)`: those of the first two inputs.

        Raises:
            ValueError: the inputs do not have the shapes that `points` needs.
        """
        self._check(input_shape)
        return tuple(input_shape[0]), tuple(input_shape[1])

    def compute_output_spec(self, inputs: Any, **_kwargs: Any) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Shapes of the first two inputs, compute dtype of the policy."""
        p_to_q, q_to_p = self.compute_output_shape(shapes_of(inputs))
        return keras.KerasTensor(p_to_q, dtype=self.compute_dtype), keras.KerasTensor(q_to_p, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Arguments that make the same layer again."""
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "iterations": self.iterations,
            "map": self.map,
            "points": self.points,
        }


def _without_masked(points: Any, mask: Any) -> Any:
    """Zeros for masked points, so that nothing they hold (NaN included) reaches a sum or a gradient."""
    if mask is None:
        return points
    return ops.where(ops.expand_dims(ops.cast(mask, "bool"), -1), points, ops.zeros_like(points))


def _count(points: Any, mask: Any) -> Any:
    """How many points of a set `(N, D)` count."""
    return points.shape[0] if mask is None else larger(ops.sum(ops.cast(mask, points.dtype)), 1.0)


def _fits(given: tuple[int | None, ...] | None, expected: tuple[int | None, ...]) -> bool:
    """Whether a mask has the shape that it should have, as far as both are known."""
    if given is None:
        return True
    return len(given) == len(expected) and all(
        None in pair or pair[0] == pair[1] for pair in zip(given, expected, strict=True)
    )
