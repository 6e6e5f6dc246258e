"""Small codec checkpoints under the published names, with weights from numpy's legacy generator (a frozen stream)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

DAC = {
    "encoder_hidden_size": 4,
    "decoder_hidden_size": 16,
    "n_codebooks": 2,
    "codebook_size": 16,
    "downsampling_ratios": [2, 4, 5, 8],
}
SPEECHTOKENIZER = {"filters": 4, "dimension": 16}
SOUNDSTREAM = {"channels": 4, "dimension": 16}
ENCODEC = {"n_filters": 4, "dimension": 16}


def published_names(module) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, with weight_g and weight_v as older torch wrote them."""
    names = {}
    for name, tensor in module.state_dict().items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        names[name.replace("parametrizations.weight.original1", "weight_v")] = tuple(tensor.shape)
    return names


def drawn(names: dict[str, tuple[int, ...]], seed: int = 0) -> dict:
    """A tensor for each name, in the order of the names: scales about 1, biases about 0.1, the rest by fan-in."""
    import torch

    generator = np.random.RandomState(seed)
    state = {}
    for name, shape in sorted(names.items()):
        values = generator.standard_normal(shape)
        if name.endswith("weight_g"):
            values = 1.0 + 0.2 * values
        elif "bias" in name:
            values = 0.1 * values
        else:
            values = values / np.sqrt(max(1, np.prod(shape[1:])))
        state[name] = torch.from_numpy(values.astype(np.float32))
    return state


def whole(encoder: dict, seed: int = 1) -> dict:
    """The state of a codec: its encoder's tensors and one of each of the parts that serfuse does not run."""
    others = drawn({"decoder.model.0.conv.conv.bias": (4,), "quantizer.vq.layers.0._codebook.embed": (8, 4)}, seed)
    return {**{f"encoder.{name}": tensor for name, tensor in encoder.items()}, **others}


def speechtokenizer_state(**sizes) -> dict:
    from serfuse.encoders.seanet import SEANetEncoder

    return drawn(published_names(SEANetEncoder(**{**SPEECHTOKENIZER, **sizes})))


def soundstream_state(**sizes) -> dict:
    from serfuse.encoders.soundstream_model import SoundStreamEncoder

    return drawn(published_names(SoundStreamEncoder(**{**SOUNDSTREAM, **sizes})))


def encodec_state(**sizes) -> dict:
    import warnings

    from encodec.modules import SEANetEncoder

    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return drawn(published_names(SEANetEncoder(norm="weight_norm", causal=True, **{**ENCODEC, **sizes})))


def dac_model(**settings):
    import transformers

    model = transformers.DacModel(transformers.DacConfig(**{**DAC, **settings}))
    state = drawn(published_names(model.encoder))
    # A snake's frequency is positive in practice and divides.
    model.encoder.load_state_dict({k: v.abs() + 0.5 if k.endswith("alpha") else v for k, v in state.items()})
    return model


STATES: dict[str, Callable[..., dict]] = {
    "encodec": encodec_state,
    "soundstream": soundstream_state,
    "speechtokenizer": speechtokenizer_state,
}
"""Codecs whose checkpoint is one flat file -> maker of a small one's encoder."""


def save(name: str, folder: Path) -> Path:
    """Write a small checkpoint of codec `name`; returns what `--weights` is pointed at."""
    import torch

    if name == "dac":
        dac_model().save_pretrained(folder)
        return folder
    torch.save(whole(STATES[name]()), folder / "small.pt")
    return folder / "small.pt"


def load(name: str, weights, **request):
    """An encoder on the CPU."""
    from serfuse import encoders

    return encoders.load(name, encoders.LoadRequest(weights=weights, device="cpu", **request))


def tone(samples: int, rate: int = 16000) -> np.ndarray:
    """A rising tone that swells, by formula alone: `0.3 sin(2 pi (120 t + 150 t^2)) (0.6 + 0.4 sin(2 pi 3 t))`."""
    time = np.arange(samples) / rate
    wave = 0.3 * np.sin(2 * np.pi * (120 * time + 150 * time**2)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    return wave.astype(np.float32)


def check_golden(encoder, *, row, last, mean, std, shape, tolerance=2e-5):
    """The frames of `tone(4801)` against numbers recorded from another run; tolerances relative to `std`."""
    frames = encoder.frames(tone(4801))
    assert frames.dtype == np.float32 and frames.shape == shape
    np.testing.assert_allclose(frames[3, : len(row)], row, rtol=0, atol=tolerance * std)
    np.testing.assert_allclose(frames[-1, : len(last)], last, rtol=0, atol=tolerance * std)
    np.testing.assert_allclose(frames.mean(dtype=np.float64), mean, rtol=0, atol=tolerance * std)
    np.testing.assert_allclose(frames.std(dtype=np.float64), std, rtol=tolerance)
