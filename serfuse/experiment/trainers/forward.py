"""What a network says of clips, on JAX and TensorFlow: compiled once for all networks of one form.

`keras.Model.predict` compiles anew for every network (on JAX for every number of clips, too), which for the folds of a
run takes longer than all of their training on a GPU; and operation by operation the test clips, which are asked about a
dozen times, take as long as the epochs of a small network.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import stacked_network, tensorflow_shared

_KEPT = 8  # programs, each with the weights of one network
_programs: OrderedDict[str, "_Program"] = OrderedDict()


def outputs(network: Any, arrays: Mapping[str, np.ndarray], batch_size: int, layer: str = "") -> np.ndarray:
    """Results `(N, ...)` of a network for clips, in inference mode.

    Args:
        network: a `keras.Model` of a dict of inputs, made of layers that treat each clip by itself: on JAX the last
            batch is filled up.
        arrays: `{"a": (N, D_a), ...}`.
        batch_size: clips at once.
        layer: name of the layer whose output is asked for; by default the last.
    """
    import keras

    count = len(next(iter(arrays.values())))
    if keras.backend.backend() == "tensorflow":
        ask, found = tensorflow_shared.asked(network), []
        for start in range(0, count, batch_size):
            said = ask({name: array[start : start + batch_size] for name, array in arrays.items()})
            found.append(said[layer].numpy())
        return np.concatenate(found)
    ask, found = _program(network).of(network), []
    for start in range(0, count, batch_size):
        rows = np.arange(start, start + batch_size) % count
        found.append(ask({name: array[rows] for name, array in arrays.items()})[layer])
    return np.concatenate([np.asarray(part) for part in found])[:count]


def _program(network: Any) -> "_Program":
    """The one that is compiled for networks of this form, or a new one."""
    form = json.dumps([_without_constants(network.get_config()), [variable.shape for variable in network.variables]])
    if not tensorflow_shared.tells_all(network):  # its number is its own as long as the program holds it
        form = f"{id(network)} {form}"
    found = _programs.get(form)
    if found is None or not found.fits(network):
        found = _programs[form] = _Program(network, found)
    _programs.move_to_end(form)
    while len(_programs) > _KEPT:
        _programs.popitem(last=False)
    return found


def _without_constants(value: Any) -> Any:
    """A configuration without its floats, which networks of one form may have of their own."""
    if isinstance(value, Mapping):
        return {str(key): _without_constants(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_constants(one) for one in value]
    return value if isinstance(value, str | int | None) else type(value).__name__


class _Program:
    """The forward pass of a network, for all that differ from it in weights and in some constants only.

    Args:
        network: one of them.
        former: a program of the same form that does not fit it.
    """

    def __init__(self, network: Any, former: "_Program | None" = None) -> None:
        import jax

        self.network = network
        self.held = stacked_network.holders(network)
        self.places: tuple[tuple[int, str], ...] = ()
        if former is not None:
            both = stacked_network.differing([former.held, self.held])
            self.places = tuple(sorted({*former.places, *both}))
        inner = stacked_network.with_features(network)
        number = {id(variable): place for place, variable in enumerate(network.variables)}
        self.trained = [number[id(variable)] for variable in inner.trainable_variables]
        self.others = [number[id(variable)] for variable in inner.non_trainable_variables]

        def forward(weights: Any, others: Any, constants: Any, clips: Any) -> Any:
            with (
                stacked_network.holding(self.held, self.places, constants),
                stacked_network.stackable(network, splits=False),
            ):
                return inner.stateless_call(weights, others, clips, training=False)[0]

        self.compiled = jax.jit(forward, compiler_options=stacked_network.COMPILING)

    def fits(self, network: Any) -> bool:
        """Whether a network of this form differs in nothing that was compiled as it is."""
        return set(stacked_network.differing([self.held, stacked_network.holders(network)])) <= set(self.places)

    def of(self, network: Any) -> Any:
        """The function of such a network: from clips to the results of its layers, "" being the last."""
        values = [variable.value for variable in network.variables]
        weights, others = [values[place] for place in self.trained], [values[place] for place in self.others]
        constants = stacked_network.constants(stacked_network.holders(network), self.places)
        return lambda clips: self.compiled(weights, others, constants, clips)
