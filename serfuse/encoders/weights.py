"""Weights on this machine: bring them, list them, compare them with what was published, say where they are.

What `serfuse weights` shows. Which weights there are, and what is known of them, stands in the encoders' presets.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError
from . import names, preset
from .base import EncoderPreset, LoadRequest
from .checkpoints.fetch import fetch
from .checkpoints.locate import find_weights, on_hub, resolve, sha256, weights_root

__all__ = ["FileCheck", "WeightsStatus", "get", "names_with_weights", "path", "status", "verify"]


@dataclass(frozen=True)
class WeightsStatus:
    """What is known of an encoder's weights.

    Attributes:
        name: of the encoder.
        here: whether they are on this machine, all of them.
        folder: where they are, or where they belong when they are not here.
        licence: of the published weights.
        source: "hub NAME@REVISION", "wheel NAME==VERSION", an address, or a page to open.
        bytes: that they occupy, 0 when they are not here.
        how: the command that brings them, or what to do by hand where none does.
        fetched_now: whether this call brought them.
    """

    name: str
    here: bool
    folder: Path
    licence: str
    source: str
    bytes: int
    how: str
    fetched_now: bool = False


@dataclass(frozen=True)
class FileCheck:
    """One file of an encoder's weights, compared with what is pinned.

    Attributes:
        name: of the encoder.
        path: of the file.
        sha256: of its content, in hex.
        state: "published", "differs" or "unpinned": no hash of it is known.
        expected: the pinned hash, or its beginning, or what the hub gave with the file; "" when none is known.
    """

    name: str
    path: Path
    sha256: str
    state: str
    expected: str


def names_with_weights() -> list[str]:
    """Encoders that have weights, in the order of the table."""
    return [name for name in names() if preset(name).needs_weights]


def status(name: str) -> WeightsStatus:
    """What is known of the weights of `name`; nothing is fetched or opened.

    Raises:
        UnknownNameError: no such encoder.
        WeightsError: it has no weights.
    """
    data = _with_weights(name)
    here, where = find_weights(data)
    folder = Path(where) if here else weights_root() / data.name
    size = sum(file.stat().st_size for file in _files(data)) if here else 0
    return WeightsStatus(data.name, here, folder, data.licence, _source(data), size, "" if here else _how(data, where))


def get(name: str) -> WeightsStatus:
    """Bring the weights of `name` to this machine, unless they are here and, where hashes are pinned, as published.

    Raises:
        UnknownNameError: no such encoder.
        WeightsError: it has no weights; they cannot be had, or are not what was published.
        WriteError: the weights folder cannot be written.
    """
    data = _with_weights(name)
    here, advice = find_weights(data)
    if here and all(check.state != "differs" for check in verify(name)):
        return status(name)
    if data.published:
        fetch(data)
    elif on_hub(data):
        resolve(data, LoadRequest())
    else:
        raise WeightsError(f"The weights of {name} are on no hub. {advice}")
    return WeightsStatus(**{**vars(status(name)), "fetched_now": True})


def verify(name: str) -> list[FileCheck]:
    """Hash every file of the weights of `name` and compare it with what is pinned.

    Raises:
        UnknownNameError: no such encoder.
        WeightsError: it has no weights, or they are not here.
    """
    data = _with_weights(name)
    here, where = find_weights(data)
    if not here:
        raise WeightsError(f"The weights of {name} are not here. {where}")
    pins = {file.name: file for file in data.published}
    checks = []
    for file in _files(data):
        found = sha256(file)
        expected = pins[file.name].sha256 if file.name in pins else _hash_of_hub(file)
        state = "unpinned" if not expected else "published" if found.startswith(expected) else "differs"
        checks.append(FileCheck(name, file, found, state, expected))
    return checks


def path(name: str | None = None) -> Path:
    """The folder of the weights of `name`, whether or not they are here; without a name, the one of all of them.

    Raises:
        UnknownNameError: no such encoder.
        WeightsError: it has no weights.
    """
    return weights_root() if name is None else status(name).folder


def _with_weights(name: str) -> EncoderPreset:
    data = preset(name)
    if not data.needs_weights:
        raise WeightsError(f"{name} computes without weights, so there are none to get, verify or find.")
    return data


def _files(data: EncoderPreset) -> list[Path]:
    weights = resolve(data, LoadRequest(download=False))
    return list(dict.fromkeys([*weights.files.values(), *weights.checkpoints]))


def _hash_of_hub(file: Path) -> str:
    """The sha256 that the hub gave with a large file: the hub's cache names what a link leads to by it."""
    target = file.resolve().name
    return target if file.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", target) else ""


def _source(data: EncoderPreset) -> str:
    if data.published:
        return ", ".join(
            dict.fromkeys(f"wheel {file.wheel}" if file.wheel else file.address for file in data.published)
        )
    if on_hub(data):
        return f"hub {data.source}" + (f"@{data.revision}" if data.revision else "")
    return data.source


def _how(data: EncoderPreset, advice: str) -> str:
    return f"serfuse weights get {data.name}" if data.published or on_hub(data) else advice
