"""Do fusions claim a gain where there is none? A simulation with inputs that are independent noise.

Each study draws a corpus of speakers with one representation that holds the emotion, and others that are noise, and
asks whether the fusion is above the single run on the informative one: the interval of the paired difference of
`serfuse compare` (bootstrap over speakers) above zero at 95 %. A gain is claimed in at most 2.5 % of the studies if the
evaluation keeps its level. With `--informative 0` every input is noise, the single run's as well.

Measured so far: with one informative input 0 of 16 studies claim a gain for `late` and `stacked`
(they lose 2 to 4 points
on average). With noise alone, two inputs, 8 speakers and 9 clips each, 9 of 67 do for `late`: held-out predictions of
chance-level models are correlated over the folds, whose training parts overlap, and a bootstrap
over the tested speakers
cannot see it. So the interval does not keep its level between two models that both know nothing.

    python benchmarks/noise.py --studies 200 --model late --model stacked
"""

import argparse
import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

import serfuse
from serfuse.experiment import cross_validation
from serfuse.experiment.dataset import Dataset
from serfuse.runs.compare import compare
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--model", action="append", help="[late, stacked, kernel]")
    parser.add_argument("--inputs", type=int, default=3)
    parser.add_argument("--informative", type=int, default=1)
    parser.add_argument("--speakers", type=int, default=8)
    parser.add_argument("--clips", type=int, default=4, help="of each emotion and speaker")
    given = parser.parse_args()
    models = given.model or ["late", "stacked", "kernel"]
    settings = {name: getattr(given, name) for name in ("inputs", "informative", "speakers", "clips")}
    studies = [study(models, seed, **settings) for seed in range(given.studies)]
    for model in models:
        gains, above = ([one[model][name] for one in studies] for name in ("gain", "above"))
        differences = [one[model]["difference"] for one in studies]
        told = {"model": model, **settings, "studies": len(studies), "above": sum(above), "gains": sum(gains)}
        told |= {"share": round(float(np.mean(gains)), 4), "mean_points": round(100 * float(np.mean(differences)), 2)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
