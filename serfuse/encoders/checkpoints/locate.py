"""Where an encoder's weights are, whether they are all there, and what identifies them."""

import hashlib
import json
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import WeightsError
from ..base import EncoderPreset, LoadRequest
from ..checks import shown

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_REQUEST = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?")
_BLOCK = 1 << 20
MAX_JSON = 1 << 20
"""Bytes of a checkpoint's JSON file; the largest of the published ones, an index of shards, has a tenth of it."""
_HUB_SECONDS = 10.0  # for the hub to answer at all

# Path and state of a file -> hex; hashing mms-1b's 3.9 GB takes seconds and must happen once per process.
_hashes: dict[tuple[str, tuple[int, ...]], str] = {}


@dataclass(frozen=True)
class Weights:
    """Weights that were found, or that are to be drawn.

    Attributes:
        id: as in `Encoder.weights_id`: "none", "random:SEED", "sha256:HEX" or "hub:NAME@REVISION".
        files: entry of one of `preset.file_sets` -> the file that serves it; empty for "none" and "random".
        seed: of random weights, else `None`.
        states: file -> what the system said of it before it was read for `id`.
    """

    id: str
    files: dict[str, Path] = field(default_factory=dict)
    seed: int | None = None
    states: dict[Path, tuple[int, ...]] = field(default_factory=dict, compare=False)

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
        return [path for path in _all_files(self.files) if path.suffix != ".json"]

    def check_unchanged(self) -> None:
        """Make sure that the files which were loaded are those that `id` stands for.

        Raises:
            WeightsError: one was changed or replaced since it was found.
        """
        for path, state in self.states.items():
            if not path.is_file() or _state(path) != state:
                raise WeightsError(f"{path} was changed while it was being loaded. Try again when it is complete.")

    def file(self, name: str) -> Path:
        """The file that serves the entry in which `name` is one of the alternatives.

        Raises:
            KeyError: no entry of the preset names it.
        """
        for entry, path in self.files.items():
            if name in entry.split("|"):
                return path
        raise KeyError(name)

    def has(self, name: str) -> bool:
        """Whether one of the entries that were found names `name`."""
        return any(name in entry.split("|") for entry in self.files)


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


def weights_folder(preset: EncoderPreset) -> Path:
    """Where the weights of an encoder are looked for first: its folder in `weights_root`, unless it has its own."""
    return Path(preset.folder) if preset.folder else weights_root() / preset.name


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

    folder = weights_folder(preset)
    files, missing = _match(preset, folder)
    if files is not None:
        return _local(files)
    if preset.folder:  # that very one was asked for
        if not folder.is_dir():
            raise WeightsError(f"{preset.name}: there is no folder {folder}. Expected one in transformers' format.")
        absent = ", ".join(_told(entry) for entry in missing)
        raise WeightsError(
            f"{folder} lacks {absent}, which {preset.name} needs. Expected a folder in transformers' format, as "
            "`save_pretrained` of the model and of its feature extractor write it; the second writes "
            "preprocessor_config.json, without which it is not known how the waveform is normalised."
        )
    if _HUB_NAME.fullmatch(preset.source):
        return _from_hub(preset, preset.source, preset.revision, request.download, pin=True)
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
    folder = weights_folder(preset)
    files, _ = _match(preset, folder)
    if files is None and _HUB_NAME.fullmatch(preset.source):
        files, _ = _cached(preset, preset.source, preset.revision)
        if files is None and not preset.revision_confirmed:
            files, _ = _cached(preset, preset.source, None)
    if files is not None:
        return True, str(next(iter(files.values())).parent)
    return False, _advice(preset)


def on_hub(preset: EncoderPreset) -> bool:
    """Whether the weights are published on the hub: `preset.source` is the name of a model there."""
    return bool(_HUB_NAME.fullmatch(preset.source))


def missing_weights(preset: EncoderPreset, reason: str) -> WeightsError:
    """The error for weights that are not here: why, where to get them, where to put them."""
    # Nothing to draw random weights for: a compiled network, or an architecture that only a checkpoint tells.
    fixed = all(entry.endswith(".tflite") for entry in preset.files) or not preset.vector_size
    other = "" if fixed else ", or try the architecture without training with --weights random"
    return WeightsError(
        f"The weights of {preset.name} are not here. {reason} {_advice(preset)} Or point --weights at them{other}."
    )


def sha256(path: Path) -> str:
    """Hex sha256 of a file, read in blocks and remembered while its path, time and size stay the same."""
    key = (str(path.resolve()), _state(path))
    if key not in _hashes:
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        _hashes[key] = digest.hexdigest()
    return _hashes[key]


def _state(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _advice(preset: EncoderPreset) -> str:
    names = ", or ".join(", ".join(_told(entry) for entry in entries) for entries in preset.file_sets)
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


def _told(entry: str) -> str:
    """An entry of files for people: the names without folders, each once."""
    return " or ".join(dict.fromkeys(name.rpartition("/")[2].replace("*", "N") for name in entry.split("|")))


def _match(preset: EncoderPreset, folder: Path) -> tuple[dict[str, Path] | None, list[str]]:
    """The file for each entry of the first set that is complete, or `None` and what the set of most files lacks."""
    closest: list[str] | None = None
    for entries in preset.file_sets:
        found = {entry: path for entry in entries if (path := _serving(entry, folder)) is not None}
        missing = [entry for entry in entries if entry not in found]
        if found and not missing:
            return found, []
        if closest is None or (found and len(missing) < len(closest)):
            closest = missing
    return None, closest or []


def _serving(entry: str, folder: Path) -> Path | None:
    """The file of a folder that serves an entry of files, the best of its alternatives."""
    for name in entry.split("|"):
        if "*" not in name:
            paths = [folder / name]
        else:
            numbered = re.compile(re.escape(name.rpartition("/")[2]).replace(r"\*", r"(\d{1,9})"))
            numbers = {path: numbered.fullmatch(path.name) for path in folder.glob(name)}
            paths = [path for path, number in numbers.items() if number]
            paths.sort(key=lambda path: (-int(numbers[path][1]), path.name))
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            return path
    return None


def _from_path(preset: EncoderPreset, path: Path, *, identify: bool = True) -> Weights:
    if not path.exists():
        hub = f" For a model of the hub give hub:{path}." if _HUB_NAME.fullmatch(str(path)) else ""
        raise WeightsError(
            f"--weights {path}: there is no such file or folder. Expected the weights of {preset.name}.{hub} "
            f"{_advice(preset)}"
        )
    files, missing = _given(preset, path) if path.is_file() else _match(preset, path)
    if files is None:
        absent = ", ".join(_told(entry) for entry in missing)
        raise WeightsError(f"--weights {path} lacks {absent}, which {preset.name} needs. {_advice(preset)}")
    return _local(files) if identify else Weights("", files)


def _given(preset: EncoderPreset, path: Path) -> tuple[dict[str, Path] | None, list[str]]:
    """The files that belong to one file: those beside it, or none where it is all there is to a set."""
    for entries in preset.file_sets:
        found = {entry: served for entry in entries if (served := _serving(entry, path.parent)) is not None}
        if len(found) == len(entries) and path in found.values():
            return found, []
    single = next((entries[0] for entries in preset.file_sets if len(entries) == 1), None)
    if single is not None:
        return {single: path}, []  # so it may have any name
    files, missing = _match(preset, path.parent)
    if files is None:
        return None, missing
    taken = ", ".join(file.name for file in files.values())
    raise WeightsError(
        f"--weights {path}: {preset.name} reads {taken} from that folder, not {path.name}. Give the folder, or "
        "put the file under the expected name into a folder of its own beside the others."
    )


def _all_files(files: dict[str, Path]) -> list[Path]:
    """The files that serve a preset's entries, each once, with the shards that an index among them names."""
    paths = dict.fromkeys(files.values())
    for index in [path for path in paths if path.name.endswith(".index.json")]:
        paths.update(dict.fromkeys(_shards(index)))
    return list(paths)


def _local(files: dict[str, Path]) -> Weights:
    paths = _all_files(files)
    states = {path: _state(path) for path in paths}  # before they are hashed
    if len(paths) == 1:
        return Weights(f"sha256:{sha256(paths[0])}", files, states=states)
    # Every file counts: a preprocessor_config.json that normalises gives other embeddings.
    lines = sorted(f"{path.name} {sha256(path)}\n" for path in paths)
    return Weights(f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}", files, states=states)


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
        listed = ", ".join(map(shown, absent[:3])) + (", ..." if len(absent) > 3 else "")
        raise WeightsError(f"{index} names files that are not beside it: {listed}.")
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


def _cached(preset: EncoderPreset, name: str, revision: str | None) -> tuple[dict[str, Path] | None, Path | None]:
    """The files of one revision in the hub's cache, and its folder there; `None` for what is not there."""
    snapshot = _snapshot(name, revision)
    return (_match(preset, snapshot)[0] if snapshot else None), snapshot


def _from_hub(
    preset: EncoderPreset, name: str, revision: str | None, download: bool = True, *, pin: bool = False
) -> Weights:
    files, snapshot = _cached(preset, name, revision)
    if files is None and (_offline() or not download):
        files, snapshot = _instead(preset, name) if pin else (None, None)
        if files is None:
            unasked = "nothing is fetched without being told to (--download, or download=True)"
            raise missing_weights(
                preset,
                f"{name} is not complete in the hub's cache ({_hub_cache()}), and "
                f"{'HF_HUB_OFFLINE is set' if download else unasked}.",
            )
    if files is None:
        files, snapshot = _download(preset, name, revision, pin)
    states = {path: _state(path) for path in _all_files(files)}
    return Weights(f"hub:{name}@{snapshot.name if snapshot else revision}", files, states=states)


def _instead(preset: EncoderPreset, name: str) -> tuple[dict[str, Path] | None, Path | None]:
    """What the hub's cache holds of `main`, in the place of a pin that was never seen on the hub."""
    if preset.revision_confirmed:
        return None, None
    files, snapshot = _cached(preset, name, None)
    if files is not None and snapshot is not None:
        _warn_of_fallback(preset, name, snapshot.name, "is not in the hub's cache, and was never seen on the hub")
    return files, snapshot


def _warn_of_fallback(preset: EncoderPreset, name: str, commit: str, why: str) -> None:
    warnings.warn(
        f"The revision {preset.revision} of {name} that {preset.name} is pinned to {why}: main, {commit}, is taken "
        "instead. It is what the embeddings' key says.",
        stacklevel=2,
    )


def _download(preset: EncoderPreset, name: str, revision: str | None, pin: bool) -> tuple[dict[str, Path], Path]:
    """The files from the hub, and the folder that is named after their commit."""
    import huggingface_hub
    from huggingface_hub.errors import RevisionNotFoundError

    def look(revision: str | None) -> set[str]:
        # Asked once: other calls of the hub's client try five times, 15 s in all, before they say there is no network.
        found = huggingface_hub.model_info(name, revision=revision, timeout=_HUB_SECONDS)
        return {file.rfilename for file in found.siblings or ()}

    unknown = False
    try:
        try:
            offered = look(revision)
        except RevisionNotFoundError:
            if not pin:
                raise
            unknown, revision = True, None
            offered = look(revision)
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=_wanted(preset, offered), cache_dir=_hub_cache()
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
    if unknown:
        _warn_of_fallback(preset, name, Path(folder).name, "is not known to the hub")
    return files, Path(folder)


def _wanted(preset: EncoderPreset, offered: set[str]) -> list[str]:
    """Names of the files to fetch, those of the first set that is offered whole."""

    def chosen(entries: tuple[str, ...]) -> list[str | None]:
        return [next((name for name in entry.split("|") if name in offered), None) for entry in entries]

    whole = (names for entries in preset.file_sets if None not in (names := chosen(entries)))
    wanted = next(whole, None) or [entry.split("|")[0] for entry in preset.files]
    if any(name.endswith(".index.json") for name in wanted):
        wanted += ["*-of-*.safetensors" if "safetensors" in " ".join(wanted) else "*-of-*.bin"]
    return wanted
