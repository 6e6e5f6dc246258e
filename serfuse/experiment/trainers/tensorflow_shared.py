"""Graphs of TensorFlow that are traced once for all networks of one form: weights and constants are arguments.

Tracing a step takes about as long as thirty steps of a small network. The folds of a run differ in their weights, in
the statistics of their inputs and in the scale of their tangent vectors, and in nothing else that a graph holds.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from . import stacked_network

_KEPT = 16  # graphs; none of them holds a weight
_traced: OrderedDict[str, Any] = OrderedDict()

# What models of serfuse set from their training part: attributes of layers. A graph takes them up to this size, and
# down to its inverse: a smaller one is for vectors that a graph whose scale may be that large brings within reach.
_SCALES, _MOST = ("kappa", "max_norm", "scale"), 1e6


def form_of(network: Any, *further: Any) -> str:
    """What two networks have in common that can share a graph; "" for one that shares with none.

    Args:
        network: a `keras.Model`. Layers and functions of others may hold anything, so that one with such is alone.
        further: what else the graph depends on, as JSON has it.
    """
    if not tells_all(network):
        return ""
    shapes = [variable.shape for variable in network.variables]
    return json.dumps([_without_scales(network.get_config()), shapes, *further], default=repr)


def bound(
    name: str,
    form: str,
    network: Any,
    *,
    body: Callable[..., Any],
    given: Sequence[Any],
    adam: Any = None,
    beside: Sequence[Any] = (),
) -> Callable[..., Any]:
    """Have a function of a network's weights as a graph, traced unless one of the same form was.

    Args:
        name: which function of such networks it is.
        form: see `form_of`.
        network: a `keras.Model`, built.
        body: what is traced; it may read and assign variables of the network, of `adam` and of `beside`, and captures
            no other tensors.
        given: the arguments of the body, as `tf.TensorSpec` or structures of them.
        adam: the optimizer, built.
        beside: further variables of Keras.

    Returns:
        The function of those arguments. It works on the variables of this network and this optimizer.
    """
    import tensorflow as tf

    variables = [*network.variables, *(adam.variables if adam is not None else ()), *beside]
    held = stacked_network.holders(network, adam)
    places = _places(held) if form else ()
    values = [variable.value for variable in variables]
    constants = [tf.constant(value) for value in stacked_network.constants(held, places)]
    key = f"{name} {given} {form}" if form else ""
    graph = _traced.get(key)
    if graph is None:

        def traced(values: Any, constants: Any, *arguments: Any) -> Any:
            for (_, name), constant in zip(places, constants, strict=True):
                if name in _SCALES:
                    constant.at_most = _MOST
            with _lent(variables, values), stacked_network.holding(held, places, constants):
                return body(*arguments)

        graph = tf.function(traced, autograph=False).get_concrete_function(values, constants, *given)
    if key:
        _traced[key] = graph
        _traced.move_to_end(key)
        while len(_traced) > _KEPT:
            _traced.popitem(last=False)
    return lambda *arguments: graph(values, constants, *arguments)


def like(values: Any) -> Any:
    """The `tf.TensorSpec` of arrays of any number of clips, in the structure of `values`."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda array: tf.TensorSpec([None, *array.shape[1:]], array.dtype), values)


def tells_all(network: Any) -> bool:
    """Whether the configuration of a network says all that it computes: of functions it has no more than the name."""

    def known(thing: Any) -> bool:
        return str(getattr(thing, "__module__", None)).startswith(("keras.", "serfuse."))

    def is_known(layer: Any) -> bool:
        held = [*filter(callable, vars(layer).values()), *getattr(layer, "operations", ())]
        return known(type(layer)) and all(known(one) for one in held)

    return all(is_known(layer) for layer in [network, *_layers(network)])


def _layers(network: Any) -> Iterator[Any]:
    return network._flatten_layers(include_self=False)


def _without_scales(value: Any) -> Any:
    """A configuration without what `_places` makes arguments of."""
    if isinstance(value, Mapping):
        return {str(key): None if _is_scale(key, one) else _without_scales(one) for key, one in value.items()}
    return [_without_scales(one) for one in value] if isinstance(value, list | tuple) else value


def _is_scale(name: str, value: Any) -> bool:
    return name in _SCALES and type(value) is float and 1 / _MOST <= value <= _MOST


def _places(held: Sequence[Any]) -> tuple[tuple[int, str], ...]:
    """Where networks of one form hold what comes from the training part, see `stacked_network.differing`."""
    import keras

    def varies(name: str, value: Any) -> bool:
        tensor = keras.ops.is_tensor(value) and not isinstance(value, keras.Variable)
        return tensor or name == "decay_steps" or _is_scale(name, value)

    return tuple(
        (number, name)
        for number, holder in enumerate(held)
        for name, value in vars(holder).items()
        if varies(name, value)
    )


@contextmanager
def _lent(variables: Sequence[Any], values: Sequence[Any]) -> Iterator[None]:
    """Have variables of Keras stand for other ones of TensorFlow, while a graph is traced."""
    before = [variable._value for variable in variables]
    try:
        for variable, value in zip(variables, values, strict=True):
            variable._value = value
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable._value = value


_asked: WeakKeyDictionary[Any, Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]] = WeakKeyDictionary()


def asked(network: Any) -> Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]:
    """What a network says of clips in inference mode: from `{"a": (N, D_a), ...}` to the tensors of `with_features`."""
    import tensorflow as tf

    found = _asked.get(network)
    if found is None:
        inner = stacked_network.with_features(network)
        kinds = {tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in network.inputs}
        ask = bound("ask", form_of(network), network, body=lambda clips: inner(clips, training=False), given=[kinds])

        def found(clips: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
            return ask({name: tf.convert_to_tensor(clips[name], kind.dtype) for name, kind in kinds.items()})

        _asked[network] = found
    return found
