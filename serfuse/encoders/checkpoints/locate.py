"""Where an encoder's weights are, whether they are all there, and what identifies them."""

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import WeightsError
from ..base import EncoderPreset, LoadRequest

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_REQUEST = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?")
_BLOCK = 1 << 20
MAX_JSON = 1 << 20
"""Bytes of a checkpoint's JSON file; the largest of the published ones, an index of shards, has a tenth of it."""
_HUB_SECONDS = 10.0  # for the hub to answer at all

# (path, mtime_ns, size) -> hex; hashing mms-1b's 3.9 GB takes seconds and must happen once per process.
_hashes: dict[tuple[str, int, int], str] = {}


@dataclass(frozen=True)
class Weights:
    """Weights that were found, or that are to be drawn.

    Attributes:
        id: as in `Encoder.weights_id`: "none", "random:SEED", "sha256:HEX" or "hub:NAME@REVISION".
        files: entry of `preset.files` -> the file that serves it; empty for "none" and "random".
        seed: of random weights, else `None`.
    """

    id: str
    files: dict[str, Path] = field(default_factory=dict)
    seed: int | None = None

    @property
    def random(self) -> bool:
        return self.seed is not None

    @property
    def folder(self) -> Path:
        """The folder that holds the first file."""
        return next(iter(self.files.values())).parent

    @property
    def checkpoints(self) -> list[Path]:
        """The files with the tensors themselves, every shard of them."""
        paths = [path for path in self.files.values() if path.suffix != ".json"]
        for index in [path for path in self.files.values() if path.name.endswith(".index.json")]:
            paths += _shards(index)
        return paths

    def file(self, name: str) -> Path:
        """The file that serves the entry in which `name` is one of the alternatives.

        Raises:
            KeyError: no entry of the preset names it.
        """
        for entry, path in self.files.items():
            if name in entry.split("|"):
                return path
        raise KeyError(name)


def user_home() -> Path:
    """The home folder; where there is none (containers that run as a user without a name), the root folder."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def weights_root() -> Path:
    """The folder of one folder per encoder: `$SERFUSE_WEIGHTS`, by default `~/.cache/serfuse/weights`."""
    root = os.environ.get("SERFUSE_WEIGHTS")
    return Path(root).expanduser() if root else user_home() / ".cache" / "serfuse" / "weights"


def resolve(preset: EncoderPreset, request: LoadRequest) -> Weights:
    """Find the weights that `request` asks for.

    `request.weights` is `None` (the weights folder, then the hub's cache, then the hub itself unless
    `HF_HUB_OFFLINE` is set or `request.download` is False), a file or folder, "hub:NAME[@REVISION]", or "random".

    Raises:
        WeightsError: not found or incomplete; the message says where to get them and where to put them.
    """
    if not preset.needs_weights:
        if request.weights is not None:
            raise WeightsError(f"{preset.name} has no weights, so --weights {request.weights} does not apply.")
        return Weights("none")
    if request.weights == "random":
        return Weights(f"random:{request.seed}", seed=request.seed)
    if request.weights is not None:
        hub = _HUB_REQUEST.fullmatch(str(request.weights))
        if hub:
            return _from_hub(preset, hub["name"], hub["revision"], request.download)
        return _from_path(preset, Path(request.weights).expanduser())

    folder = weights_root() / preset.name
    files, _ = _match(preset, folder)
    if files is not None:
        return Weights(_local_id(files), files)
    if _HUB_NAME.fullmatch(preset.source):
        return _from_hub(preset, preset.source, preset.revision, request.download)
    raise missing_weights(preset, f"Looked in {folder}.")


def find_weights(preset: EncoderPreset, path: str | Path | None = None) -> tuple[bool, str]:
    """Whether the weights are on this machine, and where they are or where to get them; never downloads.

    Args:
        path: a file or folder to look at instead of the weights folder and the hub's cache.
    """
    if not preset.needs_weights:
        return True, "needs none"
    if path is not None:
        try:
            files = _from_path(preset, Path(path).expanduser(), identify=False).files
        except WeightsError as error:
            return False, str(error)
        return True, str(next(iter(files.values())).parent)
    folder = weights_root() / preset.name
    files, _ = _match(preset, folder)
    if files is None and _HUB_NAME.fullmatch(preset.source):
        files = _cached(preset, preset.source, preset.revision)
    if files is not None:
        return True, str(next(iter(files.values())).parent)
    return False, _advice(preset)


def on_hub(preset: EncoderPreset) -> bool:
    """Whether the weights are published on the hub: `preset.source` is the name of a model there."""
    return bool(_HUB_NAME.fullmatch(preset.source))


def missing_weights(preset: EncoderPreset, reason: str) -> WeightsError:
    """The error for weights that are not here: why, where to get them, where to put them."""
    compiled = all(entry.endswith(".tflite") for entry in preset.files)  # nothing to draw random weights for
    other = "" if compiled else ", or try the architecture without training with --weights random"
    return WeightsError(
        f"The weights of {preset.name} are not here. {reason} {_advice(preset)} Or point --weights at them{other}."
    )


def sha256(path: Path) -> str:
    """Hex sha256 of a file, read in blocks and remembered while its path, time and size stay the same."""
    status = path.stat()
    key = (str(path.resolve()), status.st_mtime_ns, status.st_size)
    if key not in _hashes:
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        _hashes[key] = digest.hexdigest()
    return _hashes[key]


def _advice(preset: EncoderPreset) -> str:
    names = ", ".join(entry.replace("|", " or ") for entry in preset.files)
    if preset.where:
        get = preset.where
    elif _HUB_NAME.fullmatch(preset.source):
        revision = f" (revision {preset.revision})" if preset.revision else ""
        get = f"Get them from https://huggingface.co/{preset.source}{revision}."
    else:
        get = f"Get them from {preset.source}."
    by_hand = f"{get} Put {names or 'them'} into {weights_root() / preset.name}."
    command = f"serfuse weights get {preset.name}"
    if preset.published or on_hub(preset):
        return f"Get them with: {command}. Or by hand: {by_hand}"
    return f"No command can fetch them ({command} says this too). {by_hand}"


def _match(preset: EncoderPreset, folder: Path) -> tuple[dict[str, Path] | None, list[str]]:
    """The file for each entry of `preset.files`, or `None` and the entries that nothing serves."""
    found, missing = {}, []
    for entry in preset.files:
        path = next((folder / name for name in entry.split("|") if (folder / name).is_file()), None)
        if path is None:
            missing.append(entry)
        else:
            found[entry] = path
    return (None if missing or not found else found), missing


def _from_path(preset: EncoderPreset, path: Path, *, identify: bool = True) -> Weights:
    if not path.exists():
        raise WeightsError(
            f"--weights {path}: there is no such file or folder. Expected the weights of {preset.name}. "
            f"{_advice(preset)}"
        )
    if path.is_file() and len(preset.files) == 1:
        # One file is all there is to it, so it may have any name.
        files: dict[str, Path] | None = {preset.files[0]: path}
        missing: list[str] = []
    else:
        files, missing = _match(preset, path.parent if path.is_file() else path)
        if files is not None and path.is_file() and path not in files.values():
            taken = ", ".join(file.name for file in files.values())
            raise WeightsError(
                f"--weights {path}: {preset.name} reads {taken} from that folder, not {path.name}. Give the folder, or "
                "put the file under the expected name into a folder of its own beside the others."
            )
    if files is None:
        absent = ", ".join(entry.replace("|", " or ") for entry in missing)
        raise WeightsError(f"--weights {path} lacks {absent}, which {preset.name} needs. {_advice(preset)}")
    return Weights(_local_id(files) if identify else "", files)


def _local_id(files: dict[str, Path]) -> str:
    paths = dict.fromkeys(files.values())
    for index in [path for path in paths if path.name.endswith(".index.json")]:
        paths.update(dict.fromkeys(_shards(index)))
    if len(paths) == 1:
        return f"sha256:{sha256(next(iter(paths)))}"
    # Every file counts: a preprocessor_config.json that normalises gives other embeddings.
    lines = sorted(f"{path.name} {sha256(path)}\n" for path in paths)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _shards(index: Path) -> list[Path]:
    """Files that a sharded checkpoint's index names."""
    try:
        if index.stat().st_size > MAX_JSON:
            raise ValueError(f"{index.stat().st_size} bytes, at most {MAX_JSON} expected")
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        beyond = sorted(name for name in names if Path(name).name != name)
        if beyond:
            raise ValueError(f"{beyond[0][:80]!r} is not the name of a file beside it")
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise WeightsError(f"{index} is not the index of a sharded checkpoint: {error!r}.") from error
    absent = sorted(name for name in names if not (index.parent / name).is_file())
    if absent:
        raise WeightsError(f"{index} names files that are not beside it: {', '.join(absent)}.")
    return [index.parent / name for name in sorted(names)]


def _hub_cache() -> Path:
    # Read at every call, not at import as huggingface_hub does, so that it follows the environment.
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else user_home() / ".cache" / "huggingface") / "hub"


def _offline() -> bool:
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in {"1", "ON", "YES", "TRUE"} for value in values)


def _snapshot(name: str, revision: str | None) -> Path | None:
    """The folder of one revision in the hub's cache, `None` when it is not there."""
    repository = _hub_cache() / f"models--{name.replace('/', '--')}"
    commit = revision or "main"
    reference = repository / "refs" / commit
    if reference.is_file():
        commit = reference.read_text().strip()
    folder = repository / "snapshots" / commit
    return folder if folder.is_dir() else None


def _cached(preset: EncoderPreset, name: str, revision: str | None) -> dict[str, Path] | None:
    snapshot = _snapshot(name, revision)
    return _match(preset, snapshot)[0] if snapshot else None


def _from_hub(preset: EncoderPreset, name: str, revision: str | None, download: bool = True) -> Weights:
    files = _cached(preset, name, revision)
    if files is None:
        if not download:
            raise missing_weights(
                preset,
                f"{name} is not complete in the hub's cache ({_hub_cache()}), and nothing is fetched without being "
                "told to (--download, or download=True).",
            )
        if _offline():
            raise missing_weights(
                preset,
                f"{name} is not complete in the hub's cache ({_hub_cache()}), and HF_HUB_OFFLINE is set.",
            )
        files = _download(preset, name, revision)
    for index in [path for path in files.values() if path.name.endswith(".index.json")]:
        _shards(index)
    snapshot = _snapshot(name, revision)
    return Weights(f"hub:{name}@{snapshot.name if snapshot else revision}", files)


def _download(preset: EncoderPreset, name: str, revision: str | None) -> dict[str, Path]:
    import huggingface_hub

    try:
        # Asked once: other calls of the hub's client try five times, 15 s in all, before they say there is no network.
        found = huggingface_hub.model_info(name, revision=revision, timeout=_HUB_SECONDS)
        offered = {file.rfilename for file in found.siblings or ()}
        wanted = [
            next((choice for choice in entry.split("|") if choice in offered), entry.split("|")[0])
            for entry in preset.files
        ]
        if any(choice.endswith(".index.json") for choice in wanted):
            wanted += ["*-of-*.safetensors" if "safetensors" in " ".join(wanted) else "*-of-*.bin"]
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=wanted, cache_dir=_hub_cache()
        )
    # The hub's client raises its own errors, httpx's and OSError, all for "could not be had".
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise missing_weights(
            preset, f"{name} could not be had from the hub: {reason[0] if reason else type(error).__name__}."
        ) from error
    files, missing = _match(preset, Path(folder))
    if files is None:
        raise missing_weights(preset, f"{name} on the hub lacks {', '.join(missing)}.")
    return files
