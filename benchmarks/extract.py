"""What `serfuse extract` costs: beside a plain loop, beside padding to the longest, and beside arithmetic. Markdown.

    python benchmarks/extract.py EMODB_WAV_FOLDER                       # two cores: about 6 minutes
    python benchmarks/extract.py EMODB_WAV_FOLDER --clips 16 --portions 2   # every row, in half of that
    python benchmarks/extract.py EMODB_WAV_FOLDER --device cuda --parts encoders together    # a GPU: about 6 minutes
    python benchmarks/extract.py EMODB_WAV_FOLDER --parts program       # only the whole program with logmel

writes benchmarks/extract.md (or --out), anew after each row. Encoders are of full size with random weights, so that no
weights are needed; one that fails has its reason in its row.

Audio seconds per second of each way, and ratios: `extract` (files to rows in a store), the loop that a user would write
with the library that the encoder comes from (read, resample, one clip at a time), and, where a library takes batches,
the clips padded to the longest of eight. `limit` is what the multiplications alone would take at the rate of a large
matrix product measured in the same run.

On a CPU each row is one run in which the ways take turns over 48 clips, portion by portion, so that what else the
machine does meets all of them alike; ratios are of processor time. Of an encoder that is fast there are as many clips
as its loop does in `--seconds`: else beginning and ending a call, 15 ms, would be measured instead.

On a GPU a way that comes second over the same clips would find what the first one has set up for their lengths: cuDNN
plans each new shape, for 5 to 30 ms. So each way runs in a process of its own, as a user meets a new corpus: set up by
twelve clips, which are not measured, and then over all the others (523 of Emo-DB), most of whose lengths are new. The
loop, and the padded batches, end after `--seconds`. In brackets the same once more, when all lengths are known. The
loop runs with torch's own settings, convolutions in TF32 and products in float32, whatever a library has set; serfuse
computes all in float32.
"""

import argparse
import gc
import itertools
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ENCODERS = ("hubert", "wav2vec2", "audiomamba-base", "xvector", "encodec", "dac")
PARTS = ("encoders", "together", "program")
TOGETHER = ("wav2vec2", "xvector", "encodec")
WAYS_TOGETHER = ("one call", "a call each", "the encoders alone")
TARGET = Path(__file__).with_suffix(".md")

LOOP = """
import sys
from pathlib import Path
import librosa, numpy as np, soundfile
names, rows = [], []
for path in sorted(Path(sys.argv[1]).glob("*.wav")):
    wave, rate = soundfile.read(path, dtype="float32")
    power = librosa.feature.melspectrogram(y=wave, sr=rate, n_fft=400, hop_length=160, n_mels=80, center=False)
    mel = np.log(power.T + 1e-6)
    slope = np.abs(librosa.feature.delta(mel, width=5, axis=0, mode="nearest"))
    names.append(path.stem)
    rows.append(np.concatenate([mel, slope], axis=1).mean(axis=0))
np.savez(sys.argv[2], names=names, rows=np.stack(rows))
"""


def chosen(folder: Path, count: int) -> list[Path]:
    """So many clips, spread over the corpus."""
    paths = sorted(folder.glob("*.wav"))
    if not paths:
        sys.exit(f"{folder} holds no wav files; expected the wav folder of Emo-DB.")
    return [paths[place] for place in np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)]


def plain_read(path: Path, rate: int) -> np.ndarray:
    """As a user reads a clip."""
    import soundfile
    import soxr

    wave, own = soundfile.read(path, dtype="float32")
    return wave if own == rate else soxr.resample(wave, own, rate)


class Loop:
    """The model of an encoder as its library offers it, with random weights: one clip at a time, or padded.

    Args:
        name: of the encoder.
        device: a torch device.
    """

    def __init__(self, name: str, device: str) -> None:
        import torch

        from serfuse import encoders

        self.preset, self.device = encoders.preset(name), device
        torch.manual_seed(0)
        self.model, self._normalize = self._library(name)
        self.model = self.model.eval().to(device)

    def _library(self, name: str) -> tuple[Any, bool]:
        import transformers

        if name in ("hubert", "wav2vec2"):
            kind = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2"}[name]
            model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")())
            return model, True
        if name == "encodec":
            return transformers.EncodecModel(transformers.EncodecConfig()).encoder, False
        if name == "dac":
            config = transformers.DacConfig(sampling_rate=16000, **self.preset.config["architecture"])
            return transformers.DacModel(config).encoder, False
        # No library offers these on the package registry as they are: the plain loop over serfuse's own model.
        from serfuse import encoders
        from serfuse.encoders import LoadRequest

        self.own = encoders.load(name, LoadRequest(weights="random", device=self.device))
        return self.own._model, False

    def __call__(self, waves: list[np.ndarray]) -> np.ndarray:
        """Mean over time of the frames of clips, padded to the longest of them."""
        import torch

        if hasattr(self, "own"):
            return np.stack([self.own.frames(wave).mean(axis=0) for wave in waves])
        longest = max(len(wave) for wave in waves)
        waves = [(wave - wave.mean()) / np.sqrt(wave.var() + 1e-7) if self._normalize else wave for wave in waves]
        batch = np.stack([np.pad(wave, (0, longest - len(wave))) for wave in waves])
        with torch.no_grad():
            given = torch.from_numpy(batch).to(self.device)
            if self._normalize:
                return self.model(given).last_hidden_state.mean(dim=1).float().cpu().numpy()
            return self.model(given[:, None]).mean(dim=2).float().cpu().numpy()


def product_rate(device: str) -> float:
    """Multiplications and additions per second of a large matrix product in float32."""
    import torch

    size = 8192 if device.startswith("cuda") else 1536
    one, other = (torch.randn(size, size, device=device) for _ in range(2))
    times = []
    for _ in range(5):
        wait(device)
        begun = time.perf_counter()
        one @ other
        wait(device)
        times.append(time.perf_counter() - begun)
    return 2 * size**3 / min(times)


def wait(device: str) -> None:
    """Until a GPU has done what it was given."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


def operations(loop: Loop, seconds: float) -> float | None:
    """Floating point operations of one forward, counted by torch; `None` where it cannot."""
    from torch.utils.flop_counter import FlopCounterMode

    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * loop.preset.sample_rate)).astype(np.float32)
    try:
        with (
            recurrent(loop.model) as more,
            FlopCounterMode(display=False) as counter,
            warnings.catch_warnings(action="ignore"),
        ):
            loop([noise])
    except Exception as error:
        print(f"operations of {loop.preset.name} were not counted: {error}", file=sys.stderr)
        return None
    return float(counter.get_total_flops() + sum(more)) or None


@contextmanager
def recurrent(model: Any) -> Iterator[list[int]]:
    """Operations of the LSTMs in a model, which torch does not count."""
    import torch

    found: list[int] = []

    def note(module: Any, args: tuple[Any, ...], _output: Any) -> None:
        steps = args[0].shape[0] * args[0].shape[1]  # times clips, in whichever order
        sizes = [module.input_size] + [module.hidden_size] * (module.num_layers - 1)
        found.append(sum(8 * module.hidden_size * (size + module.hidden_size) * steps for size in sizes))

    handles = [module.register_forward_hook(note) for module in model.modules() if isinstance(module, torch.nn.LSTM)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


_NUMBERS = itertools.count()


def corpus_of(paths: list[Path]) -> Any:
    """Clips as a corpus of its own name, of which no store knows anything."""
    from serfuse.corpora.base import Clip, Corpus

    return Corpus(
        f"c{next(_NUMBERS)}", tuple(Clip(path.stem, path, ("anger", "neutral")[n % 2]) for n, path in enumerate(paths))
    )


def seconds_of(paths: list[Path]) -> float:
    """Of audio."""
    import soundfile

    return sum(soundfile.info(path).duration for path in paths)


def turns(ways: dict[str, Callable[[list[Path]], None]], portions: list[list[Path]]) -> dict[str, tuple[float, float]]:
    """Wall and processor seconds of each way over all portions; the ways take turns, each time another one first."""
    found = {name: [0.0, 0.0] for name in ways}
    for number, portion in enumerate(portions):
        names = list(ways)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            wall, used = time.perf_counter(), time.process_time()
            ways[name](portion)
            found[name][0] += time.perf_counter() - wall
            found[name][1] += time.process_time() - used
    return {name: (wall, used) for name, (wall, used) in found.items()}


def line(*cells: object) -> str:
    """Of a table."""
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def reason(error: Exception) -> str:
    """One line; the rest goes to stderr."""
    traceback.print_exception(error)
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    return text if len(text) < 200 else text[:200] + " ..."


def apart(work: Callable[..., Any], *args: Any) -> Any:
    """What a call gives in a process of its own, which has everything imported and has not touched the GPU yet."""
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=answer, args=(there, work, args))
        process.start()
        there.close()
        try:
            found, failure = here.recv()
        except EOFError:
            found, failure = None, "the process ended without an answer"
        process.join()
        if not failure:
            return found
        if "forked subprocess" not in failure:  # else a library looked for a GPU while it was imported
            break
    raise RuntimeError(failure)


def answer(there: Any, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """The other end of `apart`."""
    try:
        there.send((work(*args), ""))
    except Exception as error:
        there.send((None, reason(error)))


def import_all() -> None:
    """What the ways need, without the GPU being touched: afterwards a process could not be forked."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    import torch
    import transformers.models.dac.modeling_dac
    import transformers.models.encodec.modeling_encodec
    import transformers.models.hubert.modeling_hubert
    import transformers.models.wav2vec2.modeling_wav2vec2  # noqa: F401

    import serfuse.extraction.extract  # noqa: F401

    assert not torch.cuda.is_initialized()


def spread(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Twelve clips to set up with, and the others, so ordered that a beginning of them is like the whole."""
    first = paths[:: max(1, len(paths) // 12)][:12]
    others = [path for path in paths if path not in first] or first
    order = np.random.default_rng(0).permutation(len(others))
    return first, [others[place] for place in order]


def extract_apart(name: str, paths: list[Path], device: str) -> tuple[int, list[float]]:
    """How many clips, and audio seconds per second of `extract` over them, the first time and once more.

    Raises:
        RuntimeError: a vector is not what the encoder gives for its clip alone.
    """
    from serfuse import encoders
    from serfuse.encoders import LoadRequest
    from serfuse.extraction.extract import Extraction
    from serfuse.store import EmbeddingStore

    encoder = encoders.load(name, LoadRequest(weights="random", device=device))
    first, others = spread(paths)
    speeds = []
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddingStore(folder)
        for some in (first, others, others):
            corpus = corpus_of(some)
            begun = time.perf_counter()
            report = Extraction(corpus, store).run(encoder)
            wait(device)
            speeds.append(seconds_of(some) / (time.perf_counter() - begun))
        found = dict(zip(*store.load(corpus.name, report.key), strict=True))
        for path in others[:: -(-len(others) // 8)]:
            alone = encoder.frames(plain_read(path, encoder.sample_rate)).mean(axis=0, dtype=np.float64)
            far = float(np.abs(found[path.stem] - alone).max()) / max(1.0, float(alone.std()))
            if not far < 1e-4:
                raise RuntimeError(f"the vector of {path.stem} is {far:.2g} beside that of the clip alone")
    return len(others), speeds[1:]


def loop_apart(
    name: str, paths: list[Path], device: str, at_once: int, seconds: float
) -> tuple[list[float], float | None]:
    """Audio seconds per second of a loop, the first time and once more, and operations of a second of audio.

    Args:
        at_once: clips that are padded to the longest of them.
        seconds: after which the first time ends.
    """
    import torch

    loop = Loop(name, device)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    first, others = spread(paths)
    if at_once > 1 and hasattr(loop, "own"):
        return [], None

    def run(some: list[Path], limit: float) -> tuple[list[Path], float]:
        begun = time.perf_counter()
        done = 0
        while done < len(some) and time.perf_counter() - begun < limit:
            loop([plain_read(path, loop.preset.sample_rate) for path in some[done : done + at_once]])
            done += at_once
        wait(device)
        return some[:done], seconds_of(some[:done]) / (time.perf_counter() - begun)

    run(first, seconds)
    done, speed = run(others, seconds)
    speeds = [speed, run(done, 2 * seconds)[1]]
    count = operations(loop, 3.0) if at_once == 1 else None
    return speeds, None if count is None else count / 3.0


def gpu_row(name: str, paths: list[Path], *, device: str, rate: float, seconds: float) -> str:
    """A line of the table of encoders, each way in a process of its own."""
    loop, count = apart(loop_apart, name, paths, device, 1, seconds)
    padded, _ = apart(loop_apart, name, paths, device, 8, seconds)
    clips, ours = apart(extract_apart, name, paths, device)
    ways = (ours, loop, padded)
    cells = [name, str(clips), *(f"{way[0]:.3g} ({way[1]:.3g})" if way else "-" for way in ways)]
    cells += [f"{ours[0] / way[0]:.2f} ({ours[1] / way[1]:.2f})" if way else "-" for way in (loop, padded)]
    limits = "-" if count is None else " ".join(f"{each * count / rate:.2f}" for each in ours)
    cells.append(limits.replace(" ", " (") + ")" * (" " in limits))
    return line(*cells)


def more(paths: list[Path], among: list[Path], loop: Loop, seconds: float) -> list[Path]:
    """The clips, or as many as a loop does in that time, spread over a corpus."""
    few = paths[:: max(1, len(paths) // 4)]
    begun = time.process_time()
    for path in few:
        loop([plain_read(path, loop.preset.sample_rate)])
    count = min(len(among), int(seconds * len(few) / (time.process_time() - begun)))
    if count <= len(paths):
        return paths
    return [among[place] for place in np.linspace(0, len(among) - 1, count).round().astype(int)]


def encoder_row(
    name: str, paths: list[Path], among: list[Path], *, device: str, portions: int, rate: float, seconds: float
) -> str:
    """A line of the table of encoders, the ways in turns."""
    from serfuse import encoders
    from serfuse.encoders import LoadRequest
    from serfuse.extraction.extract import Extraction
    from serfuse.store import EmbeddingStore

    encoder = encoders.load(name, LoadRequest(weights="random", device=device))
    loop = Loop(name, device)
    rate_in = encoder.sample_rate
    first = plain_read(paths[0], rate_in)
    encoder.frames(first)  # what a first call sets up is not its speed
    loop([first])
    paths = more(paths, among, loop, seconds)
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddingStore(folder)

        def ours(some: list[Path]) -> None:
            Extraction(corpus_of(some), store).run(encoder)

        def one_by_one(some: list[Path]) -> None:
            np.stack([loop([plain_read(path, rate_in)])[0] for path in some])

        def padded(some: list[Path]) -> None:
            for start in range(0, len(some), 8):
                loop([plain_read(path, rate_in) for path in some[start : start + 8]])

        ways: dict[str, Callable[[list[Path]], None]] = {"extract": ours, "loop": one_by_one}
        if not hasattr(loop, "own"):
            ways["padded"] = padded
        size = -(-len(paths) // portions)
        for way in ways.values():  # and what a first batch does is not either
            way(paths[:: -(-len(paths) // 12)])
        found = turns(ways, [paths[start : start + size] for start in range(0, len(paths), size)])
    audio = seconds_of(paths)
    speed = {way: audio / times[0] for way, times in found.items()}
    ratio = {way: times[1] / found["extract"][1] for way, times in found.items()}  # others load the machine
    count = operations(loop, 3.0)
    limit = "-" if count is None else f"{audio * count / 3.0 / rate / found['extract'][0]:.2f}"
    cells = [
        name,
        str(len(paths)),
        *(f"{speed[way]:.3g}" if way in speed else "-" for way in ("extract", "loop", "padded")),
    ]
    cells += [f"{ratio['loop']:.2f}", f"{ratio['padded']:.2f}" if "padded" in ratio else "-", limit]
    return line(*cells)


def together(
    names: tuple[str, ...], paths: list[Path], device: str, portions: int, only: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """Wall and processor seconds of several encoders, in some of the ways that there are."""
    from serfuse import encoders
    from serfuse.encoders import LoadRequest
    from serfuse.extraction.embed import embed
    from serfuse.extraction.extract import Extraction
    from serfuse.store import EmbeddingStore

    loaded = [encoders.load(name, LoadRequest(weights="random", device=device)) for name in names]
    for encoder in loaded:
        encoder.frames(plain_read(paths[0], encoder.sample_rate))
    with tempfile.TemporaryDirectory() as folder:
        one, other = EmbeddingStore(f"{folder}/one"), EmbeddingStore(f"{folder}/other")

        def in_one_call(some: list[Path]) -> None:
            for report in Extraction(corpus_of(some), one).each(loaded):
                if report.error:
                    raise RuntimeError(f"{report.encoder}: {report.error}")
            wait(device)

        def each_alone(some: list[Path]) -> None:
            corpus = corpus_of(some)
            for encoder in loaded:
                Extraction(corpus, other).run(encoder)
            wait(device)

        def only_encoders(some: list[Path]) -> None:
            for encoder in loaded:
                embed(encoder, sorted(waves[encoder.sample_rate, some[0]], key=len), "time")
            wait(device)

        size = -(-len(paths) // portions)
        parts = [paths[start : start + size] for start in range(0, len(paths), size)]
        waves = {
            (encoder.sample_rate, part[0]): [plain_read(path, encoder.sample_rate) for path in part]
            for encoder in loaded
            for part in parts
        }
        for encoder in loaded:  # what a first batch does is not its speed
            embed(encoder, waves[encoder.sample_rate, parts[0][0]][:12], "time")
        for way in (in_one_call, each_alone):  # nor what a first call does
            way(parts[0][:2])
        ways = dict(zip(WAYS_TOGETHER, (in_one_call, each_alone, only_encoders), strict=True))
        return turns({way: ways[way] for way in only}, parts)


def together_lines(names: tuple[str, ...], paths: list[Path], device: str, portions: int) -> list[str]:
    """Several encoders in one call against each in a call of its own."""
    basis = 0 if device.startswith("cuda") else 1
    if basis:
        found = together(names, paths, device, portions, WAYS_TOGETHER)
    else:
        found = {}
        for way in WAYS_TOGETHER:
            found |= apart(together, names, paths, device, 1, (way,))
    lines = [f"| {', '.join(names)} | wall s | processor s | of the encoders alone |", "| --- | --- | --- | --- |"]
    for name, times in found.items():
        share = times[basis] / found[WAYS_TOGETHER[-1]][basis]
        lines.append(f"| {name} | {times[0]:.1f} | {times[1]:.1f} | {share:.2f} |")
    return lines


def cost(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a process."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, used


def program_lines(data: Path) -> list[str]:
    """The whole program with logmel against a plain loop, each in a process of its own."""
    from serfuse.store import EmbeddingStore

    with tempfile.TemporaryDirectory() as folder:
        extract = [str(Path(sys.executable).parent / "serfuse"), "extract", "--corpus", "emodb", "--data", str(data)]
        extract += ["--encoder", "logmel", "--store", f"{folder}/store"]
        plain = cost([sys.executable, "-c", LOOP, str(data), f"{folder}/loop.npz"])
        ours = cost(extract)
        again = cost(extract)
        store = EmbeddingStore(f"{folder}/store")
        ids, matrix = store.load("emodb", store.find("emodb", "logmel"))
        with np.load(f"{folder}/loop.npz") as saved:
            assert ids == list(saved["names"])
            difference = float(np.abs(matrix - saved["rows"]).max())
    lines = [f"| {len(ids)} clips, start of the program included | wall s | processor s |", "| --- | --- | --- |"]
    for name, (wall, used) in (("plain loop", plain), ("serfuse extract", ours), ("serfuse extract again", again)):
        lines.append(f"| {name} | {wall:.1f} | {used:.1f} |")
    ratio = f"Ratio of processor time {ours[1] / plain[1]:.2f}; largest difference of the numbers {difference:.2g}."
    return [*lines, "", ratio]


def machine(device: str) -> str:
    """What it was measured on."""
    import torch

    card = f"{torch.cuda.get_device_name(device)}, " if device.startswith("cuda") else ""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    return f"{card}{processors} processors ({platform.machine()}), {threads}"


def measured_on(device: str) -> tuple[str, float]:
    """The machine, and the rate of its products."""
    rate = statistics.median(product_rate(device) for _ in range(3))
    return machine(device), rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the wav folder of Emo-DB")
    parser.add_argument("names", nargs="*", help=f"encoders [{' '.join(ENCODERS)}]")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--clips", type=int, help="[48, more of a fast encoder; on a GPU all]")
    parser.add_argument("--portions", type=int, default=4, help="in which the clips are taken, in turns, on a CPU [4]")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a loop [15]")
    parser.add_argument("--together", nargs="+", default=list(TOGETHER), help="encoders of one call")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N [cpu]")
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    device = arguments.device
    on_gpu = device.startswith("cuda")
    if on_gpu:
        import_all()
    paths = chosen(arguments.data, arguments.clips or (sys.maxsize if on_gpu else 48))
    among = paths if arguments.clips else chosen(arguments.data, sys.maxsize)
    portions, seconds = arguments.portions, arguments.seconds
    option = "" if device == "cpu" else f" --device {device}"
    for name in ("clips", "portions", "seconds"):
        if getattr(arguments, name) != parser.get_default(name):
            option += f" --{name} {getattr(arguments, name):g}"
    if arguments.parts != list(PARTS):
        option += f" --parts {' '.join(arguments.parts)}"
    text: list[str] = []

    def add(*lines: str) -> None:
        """To the file at once, so that what ends the program does not take what was measured along."""
        text.extend(lines)
        print("\n".join(lines), flush=True)
        arguments.out.write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")

    add("# What `serfuse extract` costs", "", f"Made by `python benchmarks/extract.py EMODB_WAV_FOLDER{option}`.")
    here, rate = apart(measured_on, device) if on_gpu else measured_on(device)
    add(
        f"On {here}; a matrix product in float32 runs at {rate / 1e9:.0f} GFLOP/s. "
        f"{len(paths)} clips of Emo-DB ({seconds_of(paths):.0f} s of audio), random weights of full size.",
    )
    if on_gpu:
        add(
            "Each way in a process of its own, set up by twelve other clips; in brackets over the same clips once more."
        )
    add("")
    if "encoders" in arguments.parts:
        heads = ["encoder", "clips", "extract, audio s per s", "plain loop", "padded to the longest of 8"]
        heads += ["extract over the loop", "over padding", "of the arithmetic limit"]
        add(line(*heads), "| --- " * len(heads) + "|")
        for name in arguments.names or ENCODERS:
            try:
                if on_gpu:
                    row = gpu_row(name, paths, device=device, rate=rate, seconds=seconds)
                else:
                    row = encoder_row(name, paths, among, device=device, portions=portions, rate=rate, seconds=seconds)
            except Exception as error:
                row = line(name, reason(error), *["-"] * (len(heads) - 2))
            add(row)
            free()
        add("")
    for part, lines in (
        ("together", lambda: together_lines(tuple(arguments.together), paths, device, portions)),
        ("program", lambda: program_lines(arguments.data)),
    ):
        if part in arguments.parts:
            try:
                add(*lines(), "")
            except Exception as error:
                add(f"The part `{part}` failed: {reason(error)}", "")
            free()


def free() -> None:
    """What an encoder took."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
