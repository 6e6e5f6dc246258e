"""Small checkpoints in transformers' own format, with weights that no library's random generator can change."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE_KIND = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

CLASSES = {
    "wavlm": ("WavLMConfig", "WavLMModel"),
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model"),
    "hubert": ("HubertConfig", "HubertModel"),
    "unispeech-sat": ("UniSpeechSatConfig", "UniSpeechSatModel"),
    "mms-1b": ("Wav2Vec2Config", "Wav2Vec2Model"),
}
NORMALIZED = {"wavlm": False, "wav2vec2": True, "hubert": True, "unispeech-sat": False, "mms-1b": True}


def fill(model, seed: int = 0) -> None:
    """Set every parameter, by order of name, from numpy's legacy generator, whose stream is frozen."""
    import torch

    generator = np.random.RandomState(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            values = generator.standard_normal(tuple(parameter.shape)) * 0.2
            if name.endswith("norm.weight") or name.endswith("original0"):
                values = 1 + 0.2 * values
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))


def small_model(name: str, **settings):
    """A model of the kind of encoder `name`, filled."""
    import transformers

    config_class, model_class = (getattr(transformers, part) for part in CLASSES[name])
    config = config_class(**{**SMALL, **(LARGE_KIND if name == "mms-1b" else {}), **settings})
    model = model_class(config).eval()
    fill(model)
    return model


def save(model, folder: Path, *, do_normalize: bool, safetensors: bool = True) -> Path:
    """Write `model` as a folder that transformers and serfuse read."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    if safetensors:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    settings = {"do_normalize": do_normalize, "feature_size": 1, "sampling_rate": 16000}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def small_checkpoint(name: str, folder: Path, *, safetensors: bool = True, **settings) -> Path:
    return save(small_model(name, **settings), folder, do_normalize=NORMALIZED[name], safetensors=safetensors)


def speechlike(samples: int, seed: int = 0) -> np.ndarray:
    """A gliding tone with harmonics and noise, float32, the same everywhere."""
    time = np.arange(samples) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 3 * time)) / 16000
    tone = sum(np.sin(number * phase) / number for number in range(1, 12))
    noise = np.random.RandomState(seed).standard_normal(samples)
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time)
    return (0.1 * envelope * (tone + 0.05 * noise)).astype(np.float32)


def assert_alike_side_by_side(encoder, clips) -> None:
    """Passes of several threads, of a clip each and of clips of two lengths, give what each gives alone."""
    half = len(clips) // 2
    batches = [[clip] for clip in clips] + [list(pair) for pair in zip(clips[:half], clips[half:], strict=True)]
    alone = [encoder.frames_batch(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(encoder.frames_batch, batches), alone, strict=True):
            for frames, own in zip(found, expected, strict=True):
                np.testing.assert_array_equal(frames, own)
