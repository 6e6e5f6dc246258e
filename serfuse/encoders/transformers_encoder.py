"""What the families share whose network is transformers': from a request to a model with every weight in its place."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from .base import EncoderPreset
from .checkpoints.locate import Weights
from .checks import shown

if TYPE_CHECKING:
    import torch

Build = Callable[[dict[str, Any]], "torch.nn.Module"]
Rename = Callable[[dict[str, "torch.Tensor"]], dict[str, "torch.Tensor"]]


def open_model(
    preset: EncoderPreset,
    weights: Weights,
    build: Build,
    config_class: str,
    *,
    prefixes: tuple[str, ...],
    prepared: Mapping[str, Any],
    may_miss: frozenset[str] = frozenset(),
    rename: Rename | None = None,
) -> "torch.nn.Module":
    """The model of a request: from a checkpoint that is looked through first, or drawn.

    Args:
        preset: the encoder; its `config` holds `model_type` and, for a drawn model, `architecture`.
        weights: found.
        build: a model of such settings.
        config_class: of transformers.
        prefixes: what the names of the encoder's tensors begin with in published files, longest first; "" where they
            may stand bare.
        prepared: what preprocessor_config.json must say where it says something.
        may_miss: last parts of names of weights that the encoder does not use.
        rename: of names without a prefix, where transformers has changed them since.

    Raises:
        WeightsError: absent, incomplete, damaged, or of another model.
    """
    import transformers

    from .checkpoints.transformers_folder import check_model, load_model, part_of, quiet, read_json
    from .torch_inference import seeded

    if weights.random:
        with seeded(weights.seed), quiet():
            return build(dict(preset.config["architecture"]))
    check_model(preset, weights.file("config.json"), {"model_type": preset.config["model_type"]}, defaults={})
    path = weights.file("preprocessor_config.json")
    said = read_json(preset, path)
    for name, value in prepared.items():
        if name in said and said[name] != value:
            raise WeightsError(
                f"{path} says {name} {shown(repr(said[name]))}, {preset.name} computes with {value!r} only. Take the "
                f"file from {preset.home}."
            )

    def renamed(state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        part = part_of(state, prefixes)
        return rename(part) if rename else part

    model = load_model(preset, weights, build, getattr(transformers, config_class), may_miss, rename=renamed)
    weights.check_unchanged()
    return model
