"""The papers' thirteen encoders at full size: parameters, vector sizes and frames, beside what the papers print.

    python benchmarks/encoders.py

writes benchmarks/encoders.md. Parameters are counted on models built here, on the meta device, so no weights and
little memory are needed. Frames are those of a real run of the architecture with random weights, but for mms-1b,
whose shapes are worked out on the meta device.
"""

import argparse
import gc
import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serfuse import encoders
from serfuse.encoders import LoadRequest
from serfuse.encoders.pooling import vector_size

THIRTEEN = [
    "wavlm", "wav2vec2", "hubert", "unispeech-sat", "mms-1b", "xvector", "audiomamba-tiny", "audiomamba-small",
    "audiomamba-base", "encodec", "dac", "speechtokenizer", "soundstream",
]  # fmt: skip
SECONDS = (5.0, 9.0)
TARGET = Path(__file__).with_suffix(".md")


def count(name: str) -> int:
    """Parameters of the full-size model that `build` of the encoder's family gives."""
    family = importlib.import_module(encoders.ENCODERS.get(name).load.__module__)
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        model = family.build(encoders.preset(name))
    return sum(weight.numel() for weight in model.parameters())


def measure(name: str, **options: Any) -> list[tuple[int, int]]:
    """Shape of the frames for each of `SECONDS`, of a real run; mms-1b's shapes are worked out on the meta device."""
    if name == "mms-1b":
        with torch.device("meta"), torch.inference_mode():
            model = importlib.import_module("serfuse.encoders.speech_ssl").build(encoders.preset(name)).eval()
            return [tuple(model(torch.empty(1, int(s * 16000))).last_hidden_state.shape[1:]) for s in SECONDS]
    encoder = encoders.load(name, LoadRequest(weights="random", device="cpu", options=options))
    noise = np.random.default_rng(0).standard_normal(int(max(SECONDS) * encoder.sample_rate)).astype(np.float32) * 0.1
    return [encoder.frames(noise[: int(seconds * encoder.sample_rate)]).shape for seconds in SECONDS]


def row(name: str) -> str:
    preset = encoders.preset(name)
    shapes = measure(name)
    codec = preset.config.get("codec_parameters")
    paper = vector_size(preset, "paper")
    # A vector pooled over channels is as long as there are frames, so it is counted and not looked up.
    if preset.paper_pooling == "channels":
        paper = (measure(name, **preset.paper_options) if preset.paper_options else shapes)[0][0]
    gc.collect()
    cells = [
        name,
        f"{count(name):,}",
        f"{preset.parameters:,}" + (f" of {codec:,}" if codec else ""),
        preset.paper_parameters or "not printed",
        str(shapes[0][1]),
        str(paper),
        str(preset.paper_vector_size or "not printed"),
        *(str(frames) for frames, _ in shapes),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="encoders [all thirteen]")
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    head = (
        "encoder",
        "counted on the built model",
        "run in extraction",
        "papers' count",
        "`--pool time`",
        "`--pool paper`, 5.0 s",
        "papers' vector",
        *(f"frames, {seconds} s" for seconds in SECONDS),
    )
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name in arguments.names or THIRTEEN:
        lines.append(row(name))
        print(lines[-1], flush=True)
    text = (
        "# The thirteen encoders at full size\n\n"
        "Made by `python benchmarks/encoders.py`. Parameters are counted on the full-size architecture; frames come\n"
        "from a run with random weights (mms-1b: on the meta device). Of a codec only the encoder is run: `n of m`\n"
        "are its parameters and those of the whole codec (codebooks without gradients left out). x-vector gives\n"
        "one frame per clip, its statistics pooling; Audio-Mamba's positions (251 x width) are counted on the built\n"
        "model and not in its preset. DAC's clips are filled up to multiples of 320 samples, its stride; under\n"
        "`--pool paper` of 512, as transformers' feature extractor does by default, which gives 251 frames.\n\n"
    )
    arguments.out.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
