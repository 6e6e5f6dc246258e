"""What the transport layers share: their arguments, their result, their checks, and the plan between two sets."""

from typing import Any, ClassVar, NamedTuple

import keras
from keras import ops

from ..ops import transport
from .base import PreciseLayer, positive, shapes_of, whole

LEAST_EPSILON = 1e-6  # below, the logarithms that the plan is made of have no digits left in float32
MOST_ITERATIONS = 1000  # the loop is unrolled: a model file that asks for a million would never be done
MAPS = ("barycentric", "literal")


class Transport(NamedTuple):
    """What a transport layer returns; each layer says in which shapes.

    Attributes:
        p_to_q: what every point of p is sent to.
        q_to_p: what every point of q is sent to.
        plan: the coupling of the two sets, of total mass 1; its rows are points of p, its columns points of q.
        cost: the transport cost `<plan, C>` in units of the largest distance, so from 0 to 1.
    """

    p_to_q: Any
    q_to_p: Any
    plan: Any
    cost: Any


class TransportLayer(PreciseLayer):
    """A layer that solves entropic transport between two sets; a subclass says where they come from.

    Args:
        epsilon: entropic regularisation in units of the largest distance, from 1e-6. The rounding of float32 moves
            the plan by about 1e-7 / epsilon of itself.
        iterations: Sinkhorn iterations, from 1 to 1000.
        map: "barycentric" or "literal".

    Raises:
        ValueError: an argument is out of range.
    """

    inputs_expected: ClassVar[str]
    count: ClassVar[int] = 2  # of the inputs

    def __init__(self, epsilon: float = 0.1, iterations: int = 20, map: str = "barycentric", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = positive("epsilon", epsilon, least=LEAST_EPSILON)
        self.iterations = whole("iterations", iterations, MOST_ITERATIONS)
        if map not in MAPS:
            raise ValueError(f"map must be one of {', '.join(MAPS)}. Received: map={map!r}")
        self.map = map

    def build(self, input_shape: Any) -> None:
        self.check(input_shape)

    def call(self, inputs: Any, mask: Any = None) -> Transport:
        shapes = shapes_of(inputs)
        self.check(shapes)
        found = self.transported([self.precise(x) for x in inputs], self._masks(mask, shapes))
        return Transport(*map(self.returned, found))

    def transported(self, tensors: list[Any], masks: list[Any]) -> Transport:
        """Transport, in float32 or float64; a mask is None where all points count."""
        raise NotImplementedError

    def problem(self, shapes: list[tuple[int | None, ...]]) -> str:
        """Say what is wrong with the shapes of `count` inputs; nothing is an empty text."""
        raise NotImplementedError

    def shapes(self, shapes: list[tuple[int | None, ...]]) -> Transport:
        """Return the shapes of the result, of inputs that were checked."""
        raise NotImplementedError

    def mask_shapes(self, shapes: list[tuple[int | None, ...]]) -> list[tuple[int | None, ...] | None]:
        """Return the shape of each input's mask; None for an input whose mask is not looked at."""
        raise NotImplementedError

    def check(self, shapes: Any) -> None:
        """Refuse inputs of other shapes.

        Raises:
            ValueError: with the shapes that are expected, and those received.
        """
        if not isinstance(shapes, tuple | list) or len(shapes) != self.count:
            problem = f"a list of {self.count} tensors is needed"
        elif not all(isinstance(shape, tuple | list) and len(shape) >= 2 for shape in shapes):
            problem = "each must have 2 axes or more"
        elif any(shape[-1] is None for shape in shapes):
            problem = "the last axis must be known"
        else:
            problem = self.problem([tuple(shape) for shape in shapes])
        if problem:
            raise ValueError(
                f"{type(self).__name__} expects {self.inputs_expected}: {problem}. Received: input_shape={shapes}"
            )

    def mixed(self, first: int | None, second: int | None) -> str:
        """Say what is wrong with the numbers of points under this map; nothing is an empty text."""
        if self.map == "literal" and None not in (first, second) and first != second:
            return f"map='literal' mixes the indices of both sets, which have {first} and {second} points"
        return ""

    def between_sets(self, p: Any, q: Any, p_mask: Any, q_mask: Any) -> Transport:
        """Transport point sets `(B, N, D)` and `(B, M, D)` towards each other."""
        if 0 in (p.shape[0], q.shape[0]):  # no clip: TensorFlow refuses to look for the largest of nothing
            plan = p[..., :1] * ops.swapaxes(q[..., :1], -1, -2)
            return Transport(p, q, plan, ops.sum(plan, axis=(-2, -1)))
        p, q = without_masked(p, p_mask), without_masked(q, q_mask)
        cost = transport.cost_matrix(p, q, p_mask, q_mask)
        log_plan = transport.sinkhorn_log_plan(
            cost, self.epsilon, self.iterations, weights(p_mask, p.dtype), weights(q_mask, q.dtype)
        )
        plan = ops.exp(log_plan)
        if self.map == "literal":
            p_to_q, q_to_p = plan @ p, ops.swapaxes(plan, -1, -2) @ q
        else:
            p_to_q = transport.barycentric_map(log_plan, q)
            q_to_p = transport.barycentric_map(ops.swapaxes(log_plan, -1, -2), p)
        return Transport(
            without_masked(p_to_q, p_mask),
            without_masked(q_to_p, q_mask),
            plan,
            ops.sum(plan * cost, axis=(-2, -1)),
        )

    def _masks(self, mask: Any, shapes: list[tuple[int | None, ...]]) -> list[Any]:
        """One mask or None per input."""
        if mask is None:
            return [None] * len(shapes)
        expected = self.mask_shapes(shapes)
        given = [None if m is None else tuple(m.shape) for m in mask] if isinstance(mask, tuple | list) else mask
        if not isinstance(given, list) or len(given) != len(expected) or not all(map(_fits, given, expected)):
            raise ValueError(
                f"{type(self).__name__} expects a list of {len(expected)} masks, each None or of the shapes "
                f"{', '.join(str(shape) for shape in expected if shape is not None)}. Received: mask={given}"
            )
        return list(mask)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Transport:
        """Pass on the masks of the two inputs whose points were sent; the plan and the cost have none."""
        p_mask, q_mask = (None, None) if previous_mask is None else tuple(previous_mask)[:2]
        return Transport(p_mask, q_mask, None, None)

    def compute_output_shape(self, input_shape: Any) -> Transport:
        """Return the shapes of the result.

        Raises:
            ValueError: the inputs do not have the shapes that the layer expects.
        """
        self.check(input_shape)
        return self.shapes([tuple(shape) for shape in input_shape])

    def compute_output_spec(self, inputs: Any, **_kwargs: Any) -> Transport:
        """Return the shapes of the result and the compute dtype of the policy."""
        shapes = self.compute_output_shape(shapes_of(inputs))
        return Transport(*(keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes))

    def get_config(self) -> dict[str, Any]:
        """Return arguments that make the same layer again."""
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "iterations": self.iterations,
            "map": self.map,
        }


def without_masked(points: Any, mask: Any) -> Any:
    """Set masked points to zero, so that nothing they hold (NaN included) reaches a sum or a gradient."""
    if mask is None:
        return points
    return ops.where(ops.expand_dims(ops.cast(mask, "bool"), -1), points, ops.zeros_like(points))


def weights(mask: Any, dtype: Any) -> Any:
    """Weigh the points of a set, `(..., N)`; None where all count alike."""
    return None if mask is None else transport.uniform_weights(mask, dtype)


def _fits(given: tuple[int | None, ...] | None, expected: tuple[int | None, ...] | None) -> bool:
    """Whether a mask has the shape that it should have, as far as both are known."""
    if given is None or expected is None:
        return True
    return len(given) == len(expected) and all(
        None in pair or pair[0] == pair[1] for pair in zip(given, expected, strict=True)
    )
