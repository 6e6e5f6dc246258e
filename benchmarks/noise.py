"""Do fusions claim a gain where there is none? A simulation with inputs that are independent noise.

Each study draws a corpus of speakers, leaves one speaker out at a time, and asks whether a fusion is above the single
run on the first input. `--informative 1`: that input holds the emotion, the others are noise; 0: all are noise. A gain
is what `serfuse.runs.compare.Pair.confirmed` says, two tests at 5 % and the fusion ahead; `above` counts the interval
of the bootstrap over speakers alone. `--recommend` asks instead whether `serfuse recommend` says that a fusion helps.

    python benchmarks/noise.py --studies 200 --informative 0
    python benchmarks/noise.py --studies 100 --informative 0 --recommend

A study is drawn from its number, so `--first 100` adds to what `--studies 100` found; `--minutes` ends after so many.
What came out is in docs/fusion.md.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import serfuse
from serfuse.corpora.base import Clip, Corpus
from serfuse.experiment import cross_validation
from serfuse.experiment.dataset import Dataset
from serfuse.runs.compare import compare
from serfuse.store import AudioFacts, EmbeddingStore
from serfuse.store.key import EmbeddingKey

EMOTIONS = ("anger", "neutral", "sadness")


def corpus(rng: np.random.Generator, inputs: int, informative: int, speakers: int, clips: int, size: int) -> Dataset:
    """A corpus that is drawn: `informative` inputs hold emotion and speaker, the others are independent noise."""
    rows = [
        {"id": f"s{s:02d}-{e}-{n}", "emotion": e, "speaker": f"s{s:02d}", "text": f"t{n}", "fold": None, "audio": ""}
        for s in range(speakers)
        for e in EMOTIONS
        for n in range(clips)
    ]
    table = pd.DataFrame(rows).assign(path="").sort_values("id").set_index("id", drop=False)
    arrays = {}
    for number, name in enumerate("abcdefgh"[:inputs]):
        values = rng.normal(size=(len(table), size))
        if number < informative:
            names = sorted({*table["emotion"], *table["speaker"]})
            centres = dict(zip(names, rng.normal(size=(len(names), size)), strict=True))
            values = 2 * values + np.stack([centres[name] for name in table["emotion"]])
            values += np.stack([centres[name] for name in table["speaker"]])
        arrays[name] = values.astype("float32")
    keys = {name: EmbeddingKey("prosody") for name in arrays}
    return Dataset("drawn", {"speaker_kind": "speaker"}, table, arrays, keys)


def only(dataset: Dataset, name: str) -> Dataset:
    """The same corpus with one of its inputs."""
    return Dataset(dataset.corpus, dataset.info, dataset.clips, {"a": dataset.arrays[name]}, {"a": dataset.keys[name]})


def predictions(model: str, dataset: Dataset, seed: int) -> pd.DataFrame:
    """Held-out predictions, leave one speaker out."""
    config = serfuse.configure(model, inputs=list(dataset.arrays), split="loso", seed=seed)
    folds = cross_validation.plan(config, dataset)
    return pd.concat(
        [cross_validation.run_fold(config, dataset, fold).predictions for fold in folds], ignore_index=True
    )


def study(
    models: Sequence[str], seed: int, *, inputs: int = 3, informative: int = 1, speakers: int = 8, clips: int = 4
) -> dict[str, dict[str, float]]:
    """Whether each model claims a gain over the run on the first input alone, which is the informative one if any."""
    dataset = corpus(np.random.default_rng(seed), inputs, informative, speakers, clips, size=10)
    single = predictions("svm", only(dataset, "a"), seed)
    found = {}
    for model in models:
        fused = predictions(model, dataset, seed)
        pair = compare([fused, single], names=["fusion", "single"], metric="uar", draws=1000).pairs[0]
        found[model] = {
            "difference": pair.difference,
            "above": bool(pair.low is not None and pair.low > 0),
            "gain": pair.confirmed(0.05) and pair.difference > 0,
        }
    return found


def recommended(
    seed: int, *, inputs: int = 3, informative: int = 1, speakers: int = 8, clips: int = 4
) -> dict[str, float | bool]:
    """Whether `serfuse recommend` says that a fusion is above the best single representation."""
    dataset = corpus(np.random.default_rng(seed), inputs, informative, speakers, clips, size=10)
    rows = dataset.clips.itertuples(index=False)
    listed = tuple(Clip(row.id, Path(f"/nowhere/{row.id}.wav"), row.emotion, row.speaker, row.text) for row in rows)
    facts = {clip.id: AudioFacts(f"{number:064x}", 1.0) for number, clip in enumerate(listed)}
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddingStore(Path(folder) / "store")
        store.write_corpus(Corpus("drawn", listed), facts)
        ids = [clip.id for clip in listed]
        for encoder, array in zip(("hubert", "wavlm", "dac"), dataset.arrays.values(), strict=False):
            store.append("drawn", EmbeddingKey(encoder), ids, [facts[name].audio for name in ids], array)
        found = serfuse.recommend(
            store, fusions=("late", "svm", "kernel"), budget=float("inf"), seed=seed, out=Path(folder) / "out"
        )
    pair = next(one.against_single for one in found.standings if one.family == "any")
    above = pair.low is not None and pair.low > 0
    return {"difference": pair.difference, "above": above, "gain": found.gain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first study")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further study after so many")
    parser.add_argument("--model", action="append", help="[late, stacked, kernel]")
    parser.add_argument("--recommend", action="store_true")
    parser.add_argument("--inputs", type=int, default=3)
    parser.add_argument("--informative", type=int, default=1)
    parser.add_argument("--speakers", type=int, default=8)
    parser.add_argument("--clips", type=int, default=4, help="of each emotion and speaker")
    given = parser.parse_args()
    models = ["recommend"] if given.recommend else given.model or ["late", "stacked", "kernel"]
    settings = {name: getattr(given, name) for name in ("inputs", "informative", "speakers", "clips")}
    ends, studies = time.monotonic() + 60 * given.minutes, []
    for seed in range(given.first, given.first + given.studies):
        if time.monotonic() > ends:
            break
        found = {"recommend": recommended(seed, **settings)} if given.recommend else study(models, seed, **settings)
        studies.append(found)
    for model in models:
        gains, above = ([one[model][name] for one in studies] for name in ("gain", "above"))
        differences = [one[model]["difference"] for one in studies]
        told = {
            "model": model,
            **settings,
            "first": given.first,
            "studies": len(studies),
            "above": sum(above),
            "gains": sum(gains),
        }
        told |= {"share": round(float(np.mean(gains)), 4), "mean_points": round(100 * float(np.mean(differences)), 2)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
