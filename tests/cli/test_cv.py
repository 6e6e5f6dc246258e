"""`serfuse cv` as a user calls it."""

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from serfuse import models
from serfuse.atomic_io import locked
from serfuse.cli import main
from serfuse.cli.cv import command
from serfuse.cli.progress import Progress
from serfuse.corpora.base import Clip, Corpus
from serfuse.store import AudioFacts, EmbeddingStore, Skipped
from serfuse.store.key import EmbeddingKey

MakeStore = Callable[..., EmbeddingStore]
FAST = ["--folds", "2", "--epochs", "2"]


@pytest.fixture
def serfuse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """The command line in an empty folder, with the default store there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SERFUSE_STORE", raising=False)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments))

    return call


@pytest.fixture
def store(make_store: MakeStore, tmp_path: Path) -> EmbeddingStore:
    return make_store(root=tmp_path / "serfuse-store")


@pytest.mark.slow
def test_one_corpus_in_the_store_needs_no_further_option(serfuse, store) -> None:
    done = serfuse("cv", "--fusion", "concat", "--a", "hubert", "--b", "soundstream", *FAST)
    assert done.exit_code == 0, done.output
    assert "4 of 4 test speakers are also in training" in done.output
    for word in ("accuracy", "macro-F1", "UAR", "mean", "std", "pooled", "95 %", "Trainable parameters"):
        assert word in done.output
    assert "Shuffling input a (hubert)" in done.output and "Shuffling input b (soundstream)" in done.output
    run = Path("runs/standin-concat-hubert-soundstream-random-seed0")
    assert (run / "metrics.json").exists() and str(run) in done.output


def test_several_corpora_are_listed(serfuse, store, make_store) -> None:
    make_store(corpus="other", root=store.root)
    done = serfuse("cv", "--head", "svm", "--a", "hubert")
    assert done.exit_code == 1
    assert "--corpus" in done.output and "other, standin" in done.output
    assert "Traceback" not in done.output
    assert serfuse("cv", "--head", "svm", "--a", "hubert", "--corpus", "other", "--folds", "2").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--fusion or --head"),
        (["--fusion", "concat", "--head", "cnn"], "not both"),
        (["--fusion", "cnn", "--a", "hubert"], "use --head cnn"),
        (["--head", "concat", "--a", "hubert"], "use --fusion concat"),
        (
            ["--fusion", "concat", "--a", "hubert"],
            "takes 2 to 8 representations: --a NAME --b NAME; received --a hubert",
        ),
        (["--fusion", "concat", "--a", "hubert", "--c", "soundstream"], "without gaps, received a, c"),
        (["--head", "cnn", "--a", "hubert", "--b", "soundstream"], "takes 1 representation: --a NAME; received"),
        (["--head", "svm", "--a", "hubert", "--b", "soundstream"], "received 2: use --fusion svm"),
        (["--head", "svm", "--a", "wavlm"], "serfuse extract"),
        (["--head", "svm", "--a", "hubert", "--split", "sideways"], "random"),
        (["--head", "svm", "--a", "hubert", "--folds", "1"], "split.folds"),
        (["--head", "svm", "--a", "hubert", "--folds", "500"], "500"),
        (["--head", "fcn", "--a", "hubert", "--set", "options.dropuot=0.1"], "options.dropuot: unknown key"),
        (["--head", "fcn", "--a", "hubert", "--set", "training.epochs"], "key=value"),
        (["--head", "svm", "--a", "hubert", "--corpus", "nowhere"], "standin"),
        (["--head", "svm", "--a", "hubert", "--config", "missing.yaml"], "missing.yaml"),
        (["--head", "nonsense", "--a", "hubert"], "parrot"),
        (["--fusion", "fused", "--a", "hubert", "--b", "soundstream"], "cannot be trained: it is what `serfuse fuse`"),
        (["--fusion", "late", "--a", "hubert", "--b", "hubert"], "The inputs a and b of 'late' are the same"),
        (
            ["--fusion", "concat", "--a", "hubert", "--b", "soundstream", "--c", "hubert@pad=none"],
            "a and c of 'concat'",
        ),
    ],
)
def test_bad_input_is_an_error_in_words(serfuse, store, arguments: list[str], says: str) -> None:
    done = serfuse("cv", *arguments)
    assert done.exit_code in (1, 2), done.output
    assert says in done.output
    assert "Traceback" not in done.output and not isinstance(done.exception, KeyError)


def test_the_command_has_an_option_for_each_input_and_shows_three() -> None:
    shown = [option for option in command.params if isinstance(option, click.Option) and len(option.name) == 1]
    assert "".join(option.name for option in shown) == models.INPUTS
    assert [option.name for option in shown if not option.hidden] == ["a", "b", "c"]


def test_a_model_that_takes_any_number_is_a_head_of_one_and_a_fusion_of_more(serfuse, store) -> None:
    either = replace(models.get("svm"), name="either", max_inputs=3)
    models.MODELS.register("either", either)
    try:
        one, two = ["--a", "hubert"], ["--a", "hubert", "--b", "soundstream"]
        wrong = serfuse("cv", "--head", "either", *two)
        assert wrong.exit_code == 2 and "received 2: use --fusion either" in wrong.output
        wrong = serfuse("cv", "--fusion", "either", *one)
        assert wrong.exit_code == 2 and "add --b, or use --head either" in wrong.output
        assert serfuse("cv", "--head", "either", *one, "--folds", "2").exit_code == 0
    finally:
        models.MODELS.unregister("either")


def test_an_empty_store_says_how_to_fill_it(serfuse) -> None:
    done = serfuse("cv", "--head", "svm", "--a", "hubert")
    assert done.exit_code == 1 and "serfuse extract --corpus" in done.output


def test_json_is_all_there_is_on_the_screen(serfuse, store) -> None:
    done = serfuse("cv", "--head", "svm", "--a", "hubert", "--folds", "2", "--json")
    found = json.loads(done.stdout)
    assert found["pooled"]["clips"] == 36 and 0 <= found["mean"]["accuracy"] <= 1
    assert json.loads(Path(found["run"], "metrics.json").read_text("utf-8"))["mean"] == found["mean"]


@pytest.mark.slow
def test_flags_go_before_the_file_and_the_file_before_defaults(serfuse, store) -> None:
    Path("mine.yaml").write_text(
        "model: fcn\noptions: {dropout: 0.1}\ntraining: {epochs: 3, learning_rate: 1.0e-2}\nseed: 7\n", "utf-8"
    )
    arguments = ["--config", "mine.yaml", "--a", "hubert", "--folds", "2", "--epochs", "1", "--out", "run"]
    done = serfuse("cv", *arguments, "--set", "options.dropout=0.2")
    assert done.exit_code == 0, done.output
    import yaml

    written = yaml.safe_load(Path("run/config.yaml").read_text("utf-8"))
    assert written["training"]["epochs"] == 1 and written["training"]["learning_rate"] == 0.01
    assert written["options"]["dropout"] == 0.2 and written["seed"] == 7


@pytest.mark.slow
def test_the_configuration_of_a_run_runs_it_again_whatever_the_store_holds_by_now(serfuse, store) -> None:
    assert serfuse("cv", "--head", "svm", "--a", "hubert", "--folds", "2", "--out", "one").exit_code == 0
    clips, key = store.clips("standin"), EmbeddingKey("hubert", pooling="mean-std")
    store.append("standin", key, list(clips["id"]), list(clips["audio"]), np.ones((len(clips), 3)))
    assert "several embeddings" in serfuse("cv", "--head", "svm", "--a", "hubert", "--folds", "2").output
    again = serfuse("cv", "--config", "one/config.yaml", "--out", "two")
    assert again.exit_code == 0, again.output
    for name in ("predictions.csv", "folds.csv"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    text = Path("one/config.yaml").read_text("utf-8")
    Path("bad.yaml").write_text(text.replace("sample_rate", "sampel_rate"), "utf-8")
    done = serfuse("cv", "--config", "bad.yaml")
    assert done.exit_code == 1 and "cannot be read" in done.output and "Traceback" not in done.output


@pytest.mark.slow
def test_what_is_finished_is_shown_again_and_run_again_on_demand(serfuse, store) -> None:
    arguments = ["cv", "--head", "svm", "--a", "hubert", "--folds", "2", "--json"]
    one = serfuse(*arguments)
    again = serfuse(*arguments)
    assert again.exit_code == 0 and again.stdout == one.stdout
    first = Path("runs/standin-svm-hubert-random-seed0")
    assert f"{first} is this run, finished" in again.stderr and "--again" in again.stderr
    assert list(Path("runs").iterdir()) == [first]
    other = json.loads(serfuse(*arguments, "--set", "options.C=2").stdout)["run"]
    assert other == f"{first}-2", "other settings are another run"
    assert json.loads(serfuse(*arguments, "--set", "options.C=2").stdout)["run"] == other
    assert json.loads(serfuse(*arguments, "--again").stdout)["run"] == f"{first}-3"
    assert json.loads(serfuse("cv", "--config", str(first / "config.yaml"), "--json").stdout)["run"] == f"{first}-4"


def test_the_configuration_of_fused_runs_is_refused_before_anything_is_read(serfuse) -> None:
    Path("config.yaml").write_text("model: fused\ndata: {a: hubert, b: hubert}\n", "utf-8")
    done = serfuse("cv", "--config", "config.yaml", "--store", "nowhere")
    assert done.exit_code == 1 and "Fuse such runs with `serfuse fuse" in done.output
    unknown = serfuse("cv", "--fusion", "fusde")
    assert "Unknown model 'fusde'" in unknown.output and "fused" not in unknown.output, "nothing to choose"


@pytest.mark.slow
def test_a_run_can_leave_out_its_networks_and_pictures(serfuse, store) -> None:
    arguments = ["cv", "--head", "fcn", "--a", "hubert", *FAST]
    assert serfuse(*arguments, "--out", "whole").exit_code == 0
    small = serfuse(*arguments, "--out", "small", "--no-models", "--no-pictures")
    assert small.exit_code == 0, small.output
    assert not [path for path in Path("small").iterdir() if path.suffix in (".keras", ".png")]
    assert list(Path("whole").glob("fold_*.keras")) and (Path("whole") / "tsne.png").exists()
    assert Path("small/predictions.csv").read_bytes() == Path("whole/predictions.csv").read_bytes()


@pytest.mark.slow
def test_the_printed_figure_stands_beside_the_measured_one(serfuse, tmp_path: Path) -> None:
    """The store pretends to hold Emo-DB; what the paper prints for this pair appears, with its table."""
    store = EmbeddingStore(tmp_path / "serfuse-store")
    clips = [
        Clip(f"{s}-{t}-{e}", Path("/nowhere.wav"), e, s, t)
        for e in ("anger", "sadness")
        for s in ("03", "08")
        for t in "abc"
    ]
    facts = {clip.id: AudioFacts(f"{number:064x}", 1.0) for number, clip in enumerate(clips)}
    store.write_corpus(Corpus("emodb", tuple(sorted(clips, key=lambda clip: clip.id))), facts)
    rng = np.random.default_rng(0)
    for encoder in ("wavlm", "encodec"):
        ids = sorted(facts)
        audio = [facts[name].audio for name in ids]
        store.append("emodb", EmbeddingKey(encoder), ids, audio, rng.normal(size=(len(ids), 16)))
    done = serfuse("cv", "--fusion", "concat", "--a", "wavlm", "--b", "encodec", *FAST)
    assert done.exit_code == 0, done.output
    from serfuse.published import results

    (row,) = results.find("emodb", "concat", "wavlm", "encodec")
    assert f"Printed in HYFuse, Table 2: accuracy {row.accuracy:.2f} %" in done.output


@pytest.mark.slow
def test_a_fusion_that_ignores_an_input_is_told_so(serfuse, make_store, tmp_path: Path) -> None:
    """The literal kappa on strong features: the second input drowns, and the table says so."""
    make_store({"hubert": 24, "soundstream": 16}, noise=0.05, root=tmp_path / "serfuse-store")
    arguments = ["--set", "options.kappa=100", "--set", "training.learning_rate=1e-3", "--folds", "2", "--epochs", "4"]
    done = serfuse("cv", "--fusion", "hyfuse", "--a", "hubert", "--b", "soundstream", *arguments)
    assert done.exit_code == 0, done.output
    assert "WARNING: This fusion all but ignores soundstream" in done.output
    metrics = json.loads(next(Path("runs").glob("*/metrics.json")).read_text("utf-8"))
    assert metrics["sensitivity"]["b"]["changed"] < 0.01 < metrics["sensitivity"]["a"]["changed"]


@pytest.mark.slow
def test_the_literal_parrot_reports_its_neighbours(serfuse, store) -> None:
    arguments = [
        "--set",
        "options.points=batch",
        "--set",
        "options.map=literal",
        "--set",
        "options.iterations=2",
        *FAST,
    ]
    done = serfuse("cv", "--fusion", "parrot", "--a", "hubert", "--b", "soundstream", *arguments)
    assert done.exit_code == 0, done.output
    assert "depends on the clips predicted beside it" in done.output
    for words in ("clip by clip", "in batches of 32", "with the whole fold as one batch"):
        assert words in done.output


@pytest.mark.slow
def test_random_weights_are_called_random(serfuse, make_store, tmp_path: Path) -> None:
    store = make_store(root=tmp_path / "serfuse-store")
    clips = store.clips("standin")
    matrix = np.random.default_rng(0).normal(size=(len(clips), 8))
    for name in ("wavlm", "unispeech-sat"):
        store.append("standin", EmbeddingKey(name, weights="random:0"), list(clips["id"]), list(clips["audio"]), matrix)
    done = serfuse("cv", "--head", "svm", "--a", "wavlm", "--folds", "2", "--out", "random")
    assert done.exit_code == 0 and "WARNING: wavlm has random weights: the figures say nothing" in done.output
    assert "svm: wavlm (random weights), standin" in done.output, "the title, which the figures bear too"
    assert json.loads(Path("random/metrics.json").read_text("utf-8"))["random_weights"] == ["wavlm"]

    both = ("--a", "wavlm", "--b", "unispeech-sat", "--folds", "2", "--no-pictures")
    fused = serfuse("cv", "--fusion", "late", *both, "--out", "fused")
    assert "late: wavlm (random weights) + unispeech-sat (random weights), standin, split random" in fused.output

    trained = serfuse("cv", "--head", "svm", "--a", "hubert", "--folds", "2", "--out", "trained")
    assert "random weights" not in trained.output
    assert json.loads(Path("trained/metrics.json").read_text("utf-8"))["random_weights"] == []
    for arguments in ([], ["--json"]):
        compared = serfuse("compare", "trained", "random", *arguments)
        assert "WARNING: random: wavlm has random weights" in compared.output, compared.output
        assert "trained:" not in compared.output


@pytest.mark.slow
def test_loso_and_speaker_splits_name_no_leak(serfuse, store) -> None:
    done = serfuse("cv", "--head", "svm", "--a", "hubert", "--split", "loso")
    assert done.exit_code == 0, done.output
    assert "No test speaker is in training" in done.output or "0 of 4 test speakers" in done.output
    again = serfuse("cv", "--head", "svm", "--a", "hubert", "--split", "loso", "--again")
    assert "runs/standin-svm-hubert-loso-seed0-2" in again.output, "a finished run is never overwritten unasked"


def test_one_speaker_cannot_be_split_by_speaker(serfuse, make_store, tmp_path: Path) -> None:
    make_store(speakers=1, repeats=8, root=tmp_path / "serfuse-store")
    for split in ("loso", "speaker"):
        done = serfuse("cv", "--head", "svm", "--a", "hubert", "--split", split)
        assert done.exit_code == 1 and "speaker" in done.output, split


@pytest.mark.slow
def test_clips_that_were_skipped_are_counted_and_the_split_is_told_also_when_quiet(serfuse, store) -> None:
    key, row = store.find("standin", "hubert"), store.clips("standin").iloc[0]
    known = Clip(row["id"], Path(row["path"]), row["emotion"], row["speaker"], row["text"])
    lost = Clip("lost", Path("/nowhere/lost.wav"), row["emotion"], row["speaker"], row["text"])
    facts = {known.id: AudioFacts(row["audio"], 1.0), "lost": AudioFacts("f" * 64, 1.0)}
    store.write_corpus(Corpus("standin", (known, lost)), facts, complete=False)
    store.record_skipped("standin", key, [Skipped("lost", "f" * 64, "it is silent")])
    done = serfuse("cv", "--head", "svm", "--a", "hubert", "--folds", "2", "--quiet", "--out", "run")
    assert done.exit_code == 0, done.output
    assert "4 of 4 test speakers are also in training" in done.output
    total = len(store.clips("standin"))
    assert f"1 of {total} clips are left out, since extract skipped them: lost" in done.output.replace("\n", " ")
    (left,) = json.loads(Path("run/metrics.json").read_text("utf-8"))["left_out"]
    assert (left["clip"], left["reason"]) == ("lost", "it is silent")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_also_where_python_drops_its_exception(serfuse, store, monkeypatch, number: int) -> None:
    """As when it comes while an object is being freed: the exception is printed and gone."""
    seen = []

    def swallowed(self: Progress, epoch: int, figures: object) -> None:
        seen.append(number)
        if len(seen) == 3:  # in the second fold
            with suppress(KeyboardInterrupt):
                signal.raise_signal(number)

    arguments = ["cv", "--head", "fcn", "--a", "hubert", *FAST, "--out", "run"]
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "epoch_done", swallowed)
        done = serfuse(*arguments)
    assert done.exit_code == 130 and "Finished folds are safe in run" in done.output
    assert len(seen) == 3 and not Path("run/metrics.json").exists()
    if number == signal.SIGINT:
        again = serfuse(*arguments)
        assert again.exit_code == 0 and "1 of 2 folds are done" in again.output


@pytest.mark.slow
def test_a_run_that_is_run_again_on_changed_data_says_what_changed(serfuse, store) -> None:
    assert serfuse("cv", "--head", "svm", "--a", "hubert", "--folds", "2", "--out", "run").exit_code == 0
    again = ["cv", "--config", "run/config.yaml", "--quiet"]
    same = serfuse(*again, "--out", "same")
    assert same.exit_code == 0 and "have changed" not in same.output
    row = store.clips("standin").iloc[0]
    other = "sadness" if row["emotion"] != "sadness" else "anger"
    clip = Clip(row["id"], Path(row["path"]), other, row["speaker"], row["text"])
    store.write_corpus(Corpus("standin", (clip,)), {clip.id: AudioFacts(row["audio"], 1.0)}, complete=False)
    changed = serfuse(*again, "--out", "changed")
    assert changed.exit_code == 0, changed.output
    assert f"1 clip has another label ({clip.id}: {row['emotion']}, now {other})" in changed.stderr
    Path("alone.yaml").write_text(Path("run/config.yaml").read_text("utf-8"), "utf-8")
    alone = serfuse("cv", "--config", "alone.yaml", "--quiet", "--out", "alone", "--json")
    assert "since the run of alone.yaml: the labels have changed." in alone.stderr
    assert json.loads(alone.stdout)["run"] == "alone"


def test_the_default_folder_that_another_call_took_in_the_same_moment(serfuse, store, monkeypatch) -> None:
    """Both have looked before either has begun to work."""
    from serfuse.runs import execution

    free, seen = execution.free_folder, []

    def looks_too_early(*arguments):
        seen.append(Path("runs/first") if not seen else free(*arguments))
        return seen[-1]

    monkeypatch.setattr(execution, "free_folder", looks_too_early)
    Path("runs/first").mkdir(parents=True)
    with locked(Path("runs/first")):
        done = serfuse("cv", "--head", "svm", "--a", "hubert", "--folds", "2")
        assert done.exit_code == 0, done.output
        assert (seen[1] / "metrics.json").exists() and str(seen[1]) in done.output
        given = serfuse("cv", "--head", "svm", "--a", "hubert", "--folds", "2", "--out", "runs/first")
        assert given.exit_code == 1 and "Another process is at work in runs/first" in given.output


@pytest.mark.slow
def test_names_that_look_like_markup_are_shown_as_they_are(serfuse, store) -> None:
    odd = Skipped("a[/x]:smile:[bold]", "h9", "it is [/y]")
    clips = [
        Clip(row.id, Path(row.path), row.emotion, row.speaker, row.text) for row in store.clips("standin").itertuples()
    ]
    facts = {
        name: AudioFacts(audio, 1.0)
        for name, audio in zip(store.clips("standin")["id"], store.clips("standin")["audio"], strict=True)
    }
    clips.append(Clip(odd.clip, Path("/nowhere/odd.wav"), "anger", "s0", "t0"))
    store.write_corpus(Corpus("standin", tuple(clips)), facts | {odd.clip: AudioFacts("h9", 1.0)})
    (key,) = [key for key in store.keys("standin") if key.encoder == "hubert"]
    store.record_skipped("standin", key, [odd])
    done = serfuse("cv", "--head", "svm", "--a", "hubert", "--folds", "2", "--quiet")
    assert done.exit_code == 0, done.output
    assert odd.clip in done.output
