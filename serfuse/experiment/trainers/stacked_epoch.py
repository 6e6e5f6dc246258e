"""An epoch of one network as a function of its state, and of many as one program of JAX."""

from collections.abc import Callable, Sequence
from typing import Any

from ...errors import RunError
from . import stacked_network
from .keras_fit import Course

State = dict[str, Any]
"""`weights`, `seeds` of dropout and the optimizer's `moments`, lists; `active`, whether it is still trained; and with
early stopping `best` weights, the `least` validation loss and the epochs `waited` since."""


def seeds_of(network: Any) -> list[int]:
    """Numbers of the non-trainable variables that change while training: the states of random generators."""
    return [
        number
        for number, variable in enumerate(network.non_trainable_variables)
        if variable.path.endswith("seed_generator_state")
    ]


def program(
    taught: Course,
    optimizer: Any,
    places: Sequence[tuple[int, str]],
    *,
    patience: int | None,
    watched: bool,
    splits: bool,
) -> Callable[..., tuple[State, dict[str, Any]]]:
    """Compile an epoch of many networks of one form.

    Args:
        taught: what one of them is taught with.
        optimizer: of that one, built.
        places: where the networks hold constants of their own, see `stacked_network.differing`.
        patience: epochs without a better validation loss, after which one stops; `None`: never.
        watched: whether there is a validation part.
        splits: see `stacked_network.stackable`.

    Returns:
        `(state, fixed, learned, seen, epoch)` to the state after it and the figures of each network. `learned` and
        `seen` are pairs of clips and batches. Every array of the state, of `fixed` (`others`, the non-trainable
        variables, and `constants`) and of the batches has the networks as first axis; clips are those of all,
        `{"a": (N, D_a), ...}`.
    """
    import jax
    from jax import numpy as jnp

    network, loss, accuracy = taught.network, taught.loss, taught.metrics[0]
    held, moving = stacked_network.holders(network, optimizer), seeds_of(network)

    def answer(weights: Any, seeds: Any, fixed: State, clips: Any, training: bool) -> tuple[Any, Any]:
        others = list(fixed["others"])
        for number, seed in zip(moving, seeds, strict=True):
            others[number] = seed
        said, after = network.stateless_call(weights, others, clips, training=training)
        for number, (old, new) in enumerate(zip(others, after, strict=True)):
            if number not in moving and new is not old:
                raise RunError(
                    f"{network.non_trainable_variables[number].path} changes while the network is trained, which "
                    "cannot be stacked. Use --trainer keras."
                )
        return said, [after[number] for number in moving]

    def judged(said: Any, batch: Any) -> tuple[Any, Any, Any]:
        """Mean loss of the clips that count, how many of them are right, and how many there are."""
        _, targets, weights, count = batch
        counts = jnp.arange(len(weights)) < count
        total = jnp.asarray(count, "float32")
        losses = loss.call(jnp.asarray(targets, loss.dtype), said) * weights
        right = accuracy._fn(targets, said, **accuracy._fn_kwargs)
        mean = jnp.where(counts, losses, 0).sum() / jnp.maximum(total, 1)
        return mean, jnp.where(counts, right, 0).sum(), total

    def of_batch(clips: Any, batch: Any) -> Any:
        return {name: array[batch[0]] for name, array in clips.items()}

    def step(state: State, fixed: State, clips: Any, sums: Any, batch: Any) -> tuple[State, Any]:
        inputs = of_batch(clips, batch)

        def cost(weights: Any) -> Any:
            said, seeds = answer(weights, state["seeds"], fixed, inputs, True)
            mean, right, total = judged(said, batch)
            return mean, (seeds, right, total)

        (mean, (seeds, right, total)), slopes = jax.value_and_grad(cost, has_aux=True)(state["weights"])
        weights, moments = optimizer.stateless_apply(state["moments"], slopes, state["weights"])
        live = state["active"] & (total > 0)
        new = {"weights": weights, "seeds": seeds, "moments": moments}
        kept = jax.tree.map(lambda now, old: jnp.where(live, now, old), new, {name: state[name] for name in new})
        return {**state, **kept}, (sums[0] + mean * total, sums[1] + right, sums[2] + total)

    def epoch_of_one(state: State, fixed: State, learned: Any, seen: Any, epoch: Any) -> tuple[State, dict[str, Any]]:
        (clips, batches), (watched_clips, watched_batches) = learned, seen
        none = (jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))

        def trained(carried: Any, batch: Any) -> Any:
            return step(carried[0], fixed, clips, carried[1], batch), None

        def look(sums: Any, batch: Any) -> Any:
            said, _ = answer(state["weights"], state["seeds"], fixed, of_batch(watched_clips, batch), False)
            mean, right, total = judged(said, batch)
            return (sums[0] + mean * total, sums[1] + right, sums[2] + total), None

        with (
            stacked_network.holding(held, places, fixed["constants"]),
            stacked_network.stackable(network, splits),
        ):
            (state, (lost, right, total)), _ = jax.lax.scan(trained, (state, none), batches)
            figures = {"accuracy": right / total, "loss": lost / total}
            if watched:
                (lost, right, total), _ = jax.lax.scan(look, none, watched_batches)
                figures |= {"val_accuracy": right / total, "val_loss": lost / total}
        if patience is not None:
            state = _stopped(state, figures["val_loss"], epoch, patience)
        return state, figures

    mapped = jax.vmap(epoch_of_one, in_axes=(0, 0, (None, 0), (None, 0), None))
    return jax.jit(mapped, donate_argnums=0, compiler_options=stacked_network.COMPILING)


def _stopped(state: State, loss: Any, epoch: Any, patience: int) -> State:
    """What `keras.callbacks.EarlyStopping` does at the end of an epoch."""
    import jax
    from jax import numpy as jnp

    better = (epoch == 0) | (loss < state["least"])
    waited = jnp.where(better, 0, state["waited"] + 1)
    improved = state["active"] & better
    return {
        **state,
        "best": jax.tree.map(lambda now, old: jnp.where(improved, now, old), state["weights"], state["best"]),
        "least": jnp.where(improved, loss, state["least"]),
        "waited": waited,
        "active": state["active"] & ((waited < patience) | (epoch == 0)),
    }
