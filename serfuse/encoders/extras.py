"""What a light install leaves out, and the command that brings it."""

from ..errors import ConfigError

_EXTRAS = {
    "ai_edge_litert": "lyra",
    "encodec": "encoders",
    "opensmile": "opensmile",
    "speechbrain": "encoders",
    "torch": "encoders",
    "torchaudio": "encoders",
    "transformers": "encoders",
}
"""Import name of a library -> the extra of serfuse that installs it."""


def left_out(who: str, error: ModuleNotFoundError) -> ConfigError | None:
    """The error to raise instead, in one sentence with the command; `None` where serfuse has no extra for the module.

    Args:
        who: what cannot run without it.
        error: of the import that failed.
    """
    library = (error.name or "").partition(".")[0]
    if library not in _EXTRAS:
        return None
    return ConfigError(f"{who} needs {library}, which is not installed: {how_to_install(library)}.")


def how_to_install(library: str) -> str:
    """The command that brings a library."""
    extra = _EXTRAS.get(library)
    return f"pip install 'serfuse[{extra}]'" if extra else f"pip install {library}"
