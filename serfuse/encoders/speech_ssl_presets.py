"""Presets of the self-supervised speech transformers: plain data, no library.

Where the revision is `None` nobody has looked at the hub to pin one; `main` is taken then, and the embeddings' key says
which commit that was.
"""

from .base import TRANSFORMERS_WEIGHTS, EncoderPreset

_FILES = ("config.json", "preprocessor_config.json", TRANSFORMERS_WEIGHTS)  # the hub holds pytorch_model.bin

_LS960 = "speech of LibriSpeech, 960 h of read English, without labels"
_MIX94 = "speech of Libri-Light, GigaSpeech and VoxPopuli, 94,000 h of English, without labels"
_LIBRI_LIGHT = "speech of Libri-Light, 60,000 h of read English, without labels"
_XLSR = "speech of VoxPopuli, MLS, Common Voice, VoxLingua107 and BABEL, 436,000 h in 128 languages, without labels"
_MMS = (
    "speech of MMS-lab-U, MLS, Common Voice, VoxLingua107, BABEL, VoxPopuli and FLEURS, 491,000 h in 1,406 languages, "
    "without labels"
)

_WAVLM = "Chen et al., WavLM, IEEE JSTSP 16(6), 2022, arXiv:2110.13900"
_WAV2VEC2 = "Baevski et al., wav2vec 2.0, NeurIPS 2020, arXiv:2006.11477"
_HUBERT = "Hsu et al., HuBERT, IEEE/ACM TASLP 29, 2021, arXiv:2106.07447"
_XLSR_PAPER = "Babu et al., XLS-R, Interspeech 2022, arXiv:2111.09296"
_MMS_PAPER = "Pratap et al., Scaling Speech Technology to 1,000+ Languages, JMLR 2024, arXiv:2305.13516"
_DATA2VEC = "Baevski et al., data2vec, ICML 2022, arXiv:2202.03555"

_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_BILLION = {"hidden_size": 1280, "num_hidden_layers": 48, "num_attention_heads": 16, "intermediate_size": 5120}
_LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
_LARGE_KIND = {**_LAYER_NORM, "conv_bias": True}


def _preset(
    name: str,
    model_type: str,
    *,
    normalize: bool,
    architecture: dict[str, object] | None = None,
    **fields: object,
) -> EncoderPreset:
    """What is the same for all of them: 16 kHz, seven strided convolutions (320 samples a frame, 400 at least)."""
    sizes = architecture or {}
    config = {"model_type": model_type, "do_normalize": normalize}
    return EncoderPreset(
        name=name,
        family="attention",
        sample_rate=16000,
        vector_size=sizes.get("hidden_size", 768),
        layers=sizes.get("num_hidden_layers", 12),
        files=_FILES,
        hop=320,
        min_samples=400,
        config={**config, "architecture": sizes} if sizes else config,
        **fields,
    )


_PAPERS = (
    _preset(
        "wavlm",
        "wavlm",
        normalize=False,
        paper_vector_size=768,
        parameters=94_381_936,
        paper_parameters="94.70 M",
        megabytes=378,
        licence="MIT (code; the model card names the UniLM repository's licence)",
        source="microsoft/wavlm-base",
        revision="efa81aae7ff777e464159e0f877d54eac5b84f81",
        citation=_WAVLM,
        trained_on=_LS960,
    ),
    _preset(
        "wav2vec2",
        "wav2vec2",
        normalize=True,
        paper_vector_size=768,
        parameters=94_371_712,
        paper_parameters="95.04 M",
        megabytes=380,
        licence="Apache-2.0",
        source="facebook/wav2vec2-base",
        revision="0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
        citation=_WAV2VEC2,
        trained_on=_LS960,
    ),
    _preset(
        "hubert",
        "hubert",
        normalize=True,
        paper_vector_size=768,
        parameters=94_371_712,
        paper_parameters="94.68 M",
        megabytes=378,
        licence="Apache-2.0",
        source="facebook/hubert-base-ls960",
        revision="dba3bb02fda4248b6e082697eee756de8fe8aa8a",
        citation=_HUBERT,
        trained_on=_LS960,
    ),
    _preset(
        "unispeech-sat",
        "unispeech-sat",
        normalize=True,
        paper_vector_size=768,
        parameters=94_371_712,
        paper_parameters="94.68 M",
        megabytes=378,
        licence="MIT (code; the model card names no licence)",
        source="microsoft/unispeech-sat-base",
        revision="ca010627e5d232d9179ebdcd615eaa02cea382ed",
        citation="Chen et al., UniSpeech-SAT, ICASSP 2022, arXiv:2110.05752",
        trained_on=_LS960,
    ),
    _preset(
        "mms-1b",
        "wav2vec2",
        normalize=True,
        architecture={**_BILLION, **_LARGE_KIND},
        paper_vector_size=1280,
        parameters=962_497_408,
        paper_parameters="1 B",
        megabytes=3850,
        licence="CC-BY-NC-4.0",
        source="facebook/mms-1b",
        revision="0d2f7adb9903d98894d70ae11f7fbdfc8cb71a69",
        citation=_MMS_PAPER,
        trained_on=_MMS,
    ),
)

_WIDER = (
    _preset(
        "wavlm-base-plus",
        "wavlm",
        normalize=False,
        parameters=94_381_936,
        megabytes=378,
        licence="MIT (code; the model card names the UniLM repository's licence)",
        source="microsoft/wavlm-base-plus",
        citation=_WAVLM,
        trained_on=_MIX94,
    ),
    _preset(
        "wavlm-large",
        "wavlm",
        normalize=True,
        architecture={**_LARGE, **_LAYER_NORM},
        parameters=315_453_120,
        megabytes=1262,
        licence="MIT (code; the model card names the UniLM repository's licence)",
        source="microsoft/wavlm-large",
        citation=_WAVLM,
        trained_on=_MIX94,
    ),
    _preset(
        "hubert-large",
        "hubert",
        normalize=True,
        architecture={**_LARGE, **_LARGE_KIND},
        parameters=315_438_720,
        megabytes=1262,
        licence="Apache-2.0",
        source="facebook/hubert-large-ll60k",
        citation=_HUBERT,
        trained_on=_LIBRI_LIGHT,
    ),
    _preset(
        "hubert-xlarge",
        "hubert",
        normalize=True,
        architecture={**_BILLION, **_LARGE_KIND},
        parameters=962_497_408,
        megabytes=3850,
        licence="Apache-2.0",
        source="facebook/hubert-xlarge-ll60k",
        citation=_HUBERT,
        trained_on=_LIBRI_LIGHT,
    ),
    _preset(
        "wav2vec2-large",
        "wav2vec2",
        normalize=True,
        architecture=_LARGE,
        parameters=315_428_992,
        megabytes=1270,
        licence="Apache-2.0",
        source="facebook/wav2vec2-large",
        citation=_WAV2VEC2,
        trained_on=_LS960,
    ),
    _preset(
        "wav2vec2-robust",
        "wav2vec2",
        normalize=True,
        architecture={**_LARGE, **_LARGE_KIND},
        parameters=315_438_720,
        megabytes=1270,
        licence="Apache-2.0",
        source="facebook/wav2vec2-large-robust",
        citation="Hsu et al., Robust wav2vec 2.0, Interspeech 2021, arXiv:2104.01027",
        trained_on="speech of Libri-Light, Common Voice, Switchboard and Fisher, 63,000 h of English, read and "
        "telephone, without labels",
    ),
    _preset(
        "xls-r-300m",
        "wav2vec2",
        normalize=True,
        architecture={**_LARGE, **_LARGE_KIND},
        parameters=315_438_720,
        megabytes=1270,
        licence="Apache-2.0",
        source="facebook/wav2vec2-xls-r-300m",
        citation=_XLSR_PAPER,
        trained_on=_XLSR,
    ),
    _preset(
        "xls-r-1b",
        "wav2vec2",
        normalize=True,
        architecture={**_BILLION, **_LARGE_KIND},
        parameters=962_497_408,
        megabytes=3850,
        licence="Apache-2.0",
        source="facebook/wav2vec2-xls-r-1b",
        citation=_XLSR_PAPER,
        trained_on=_XLSR,
    ),
    _preset(
        "xls-r-2b",
        "wav2vec2",
        normalize=True,
        architecture={**_BILLION, **_LARGE_KIND, "hidden_size": 1920, "intermediate_size": 7680},
        parameters=2_159_259_648,
        megabytes=8640,
        licence="Apache-2.0",
        source="facebook/wav2vec2-xls-r-2b",
        citation=_XLSR_PAPER,
        trained_on=_XLSR,
    ),
    _preset(
        "mms-300m",
        "wav2vec2",
        normalize=True,
        architecture={**_LARGE, **_LARGE_KIND},
        parameters=315_438_720,
        megabytes=1270,
        licence="CC-BY-NC-4.0",
        source="facebook/mms-300m",
        citation=_MMS_PAPER,
        trained_on=_MMS,
    ),
    _preset(
        "data2vec-base",
        "data2vec-audio",
        normalize=True,
        parameters=93_164_288,
        megabytes=373,
        licence="Apache-2.0",
        source="facebook/data2vec-audio-base",
        citation=_DATA2VEC,
        trained_on=_LS960,
    ),
    _preset(
        "data2vec-large",
        "data2vec-audio",
        normalize=True,
        architecture={**_LARGE, "conv_bias": False},
        parameters=313_276_416,
        megabytes=1250,
        licence="Apache-2.0",
        source="facebook/data2vec-audio-large",
        citation=_DATA2VEC,
        trained_on=_LS960,
    ),
    _preset(
        "audeering-dim",
        "wav2vec2",
        normalize=True,
        architecture={**_LARGE, **_LARGE_KIND, "num_hidden_layers": 12},
        parameters=164_284_032,
        megabytes=661,
        licence="CC-BY-NC-SA-4.0",
        source="audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
        citation="Wagner et al., Dawn of the Transformer Era in Speech Emotion Recognition, IEEE TPAMI 45(9), 2023, "
        "arXiv:2203.07378",
        trained_on="twelve layers of wav2vec2-robust (Libri-Light, Common Voice, Switchboard, Fisher), tuned on "
        "arousal, dominance and valence of MSP-Podcast 1.7, English",
        emotion_labels=("msp-podcast",),
    ),
)

PRESETS = (*_PAPERS, *_WIDER)
