"""Small codec checkpoints under the published names, with weights from numpy's legacy generator (a frozen stream)."""

import numpy as np

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


def tone(samples: int, rate: int = 16000) -> np.ndarray:
    """A rising tone that swells, by formula alone: `0.3 sin(2 pi (120 t + 150 t^2)) (0.6 + 0.4 sin(2 pi 3 t))`."""
    time = np.arange(samples) / rate
    wave = 0.3 * np.sin(2 * np.pi * (120 * time + 150 * time**2)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    return wave.astype(np.float32)
