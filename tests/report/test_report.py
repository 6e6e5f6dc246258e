"""What `serfuse report` writes: true, complete, escaped, and the same in every form."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import markupsafe
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from serfuse.cli import main
from serfuse.corpora.base import Clip, Corpus
from serfuse.errors import RunError
from serfuse.metrics.confusion import confusion
from serfuse.report import alt_texts, mistakes, page, sentences, tables
from serfuse.report import fold_tables as fold_table
from serfuse.report import runs as folders_of
from serfuse.store import AudioFacts, EmbeddingStore


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text("utf-8"))


def test_the_table_holds_what_the_run_folders_hold(folders: list[Path]) -> None:
    for row, folder in zip(tables.rows(folders_of.read(folders)), folders, strict=True):
        found = metrics(folder)
        assert row[4] == f"{100 * found['mean']['accuracy']:.1f}"
        assert row[8] == f"{100 * found['mean']['uar']:.1f}"
        low, high = (100 * found["intervals"]["accuracy"][end] for end in ("low", "high"))
        assert row[6] == f"{low:.1f} to {high:.1f}"
    assert tables.rows(folders_of.read(folders[2:]))[0][2] == "hubert + encodec"


def test_the_printed_figure_is_beside_the_measured_one(folders: list[Path]) -> None:
    from serfuse.published import results as published

    (row,) = published.find("emodb", "concat", "hubert", "encodec")
    found = folders_of.read(folders)
    assert tables.rows(found)[2][9] == f"{row.accuracy:.2f} / {row.macro_f1:.2f} (HYFuse, Table {row.table})"
    for text in (tables.markdown(found), tables.latex(found), page.render(found[2:])):
        assert "five random folds that mix speakers" in text, "what the printed figures are"
    found[0].description.model = "a later model"
    assert found[0].published == [] and sentences.printed_note(found[:1]) == ""
    (line,) = csv.DictReader(io.StringIO(tables.comma_separated(found[2:])))
    assert (float(line["printed_accuracy"]), float(line["printed_macro_f1"])) == (row.accuracy, row.macro_f1)


def test_csv_has_full_precision(folders: list[Path]) -> None:
    rows = list(csv.DictReader(io.StringIO(tables.comma_separated(folders_of.read(folders)))))
    assert [row["run"] for row in rows] == [folder.name for folder in folders]
    for row, folder in zip(rows, folders, strict=True):
        assert float(row["accuracy_mean"]) == metrics(folder)["mean"]["accuracy"]
        assert float(row["ece_pooled"]) == metrics(folder)["pooled"]["ece"]


def test_markdown_and_latex_are_tables_of_the_same_width(folders: list[Path]) -> None:
    found = folders_of.read(folders)
    lines = [line for line in tables.markdown(found).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(folders) and len({line.count("|") for line in lines}) == 1
    body = tables.latex(found)
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len({line.count("&") for line in rows}) == 1 and r"95 \%" in body
    assert body.count(r"\begin{table}") == body.count(r"\end{table}") == 1


def test_the_gap_between_splits_is_in_words(folders: list[Path]) -> None:
    found = folders_of.read(folders)
    (sentence,) = sentences.gaps(found)
    values = [100 * metrics(folder)["mean"]["accuracy"] for folder in folders[:2]]
    for value in values:
        assert f"{value:.1f} %" in sentence
    assert f"{abs(values[0] - values[1]):.1f} points less" in sentence
    assert "new speakers" in sentence and "known speakers" in sentence
    easier, harder = (f"{value:.1f} %" for value in sorted(values, reverse=True))
    assert sentence.index(easier) < sentence.index(harder), "what the others are less than comes first"
    assert sentences.gaps(found[::-1]) == [sentence]
    assert sentences.gaps(found[1:]) == [], "one split is no gap"


def test_voice_types_are_called_that_in_the_gap(folders: list[Path]) -> None:
    found = folders_of.read(folders[:2])
    for run in found:
        run.description.corpus.speaker_kind = "voice type"
    (sentence,) = sentences.gaps(found)
    assert "(new voice types)" in sentence and "of known voice types" in sentence and "speaker" not in sentence


def test_the_most_confident_mistakes_come_first_with_sound_where_there_is_some(reported: Path) -> None:
    (run,) = folders_of.read([reported / "svm-loso"])
    found = mistakes.worst(run, EmbeddingStore(reported / "store"), count=200)
    assert len(found) == int((run.predictions["label"] != run.predictions["predicted"]).sum())
    confidences = [item.confidence for item in found]
    assert confidences == sorted(confidences, reverse=True)
    for item in found:
        assert item.label != item.predicted
        there = (reported / "audio" / f"{item.clip}.wav").exists()
        assert (item.sound or "").startswith("data:audio/wav;base64,") == there
    assert all(item.sound is None for item in mistakes.worst(run, None))
    assert all(item.sound is None for item in mistakes.worst(run, EmbeddingStore(reported / "none")))


def test_what_the_pictures_show_is_called_what_it_is(folders: list[Path]) -> None:
    machine, network = folders_of.read(folders[1:])
    assert "t-SNE of the inputs of the classifier, " in alt_texts.tsne(machine)
    assert "t-SNE of the penultimate layer, " in alt_texts.tsne(network)
    machine.description.model = "a model of somebody else's"
    assert "t-SNE of the features of the model, " in alt_texts.tsne(machine)


def test_the_page_is_the_same_twice(folders: list[Path]) -> None:
    found = folders_of.read(folders[:1])
    assert page.render(found) == page.render(found)


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "$\\frac{$", "_hidden", "张三 $1$"]
)
def test_names_cannot_break_out_of_the_page(folders: list[Path], tmp_path: Path, evil: str) -> None:
    """A run folder from somebody else, whose names are not only names: not for HTML, nor for matplotlib's formulas."""
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    for name in ("predictions.csv", "tsne.csv"):
        table = pd.read_csv(folder / name, dtype={"speaker": str})
        table["clip"] = table["clip"].str.replace("s0-", f"{evil}-", regex=False)
        table["speaker"] = table["speaker"].replace("s0", evil)
        for column in ("label", "predicted"):
            table[column] = table[column].replace("anger", evil)
        table.rename(columns={"p_anger": f"p_{evil}"}).to_csv(folder / name, index=False)
    config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    config["embeddings"]["a"]["encoder"] = config["model"] = config["split"]["name"] = evil
    (folder / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    found = metrics(folder)
    found["classes"] = [evil if name == "anger" else name for name in found["classes"]]
    for part in (found["pooled"], found["intervals"]):
        part["per_class"][evil] = part["per_class"].pop("anger")
    found["audit"]["sentences"].append(evil)
    (folder / "metrics.json").write_text(json.dumps(found), "utf-8")
    runs = folders_of.read([folder])
    drawn = page.render(runs, title=evil)
    assert "<script" not in drawn and "<img" not in drawn
    assert str(markupsafe.escape(evil)) in drawn
    assert "<script" not in tables.markdown(runs).replace("\\<script", "")
    assert tables.latex(runs).count(r"\\") == 2


def test_a_name_is_no_formula_for_a_spreadsheet(folders: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "=HYPERLINK(1)"
    shutil.copytree(folders[0], folder)
    (row,) = csv.DictReader(io.StringIO(tables.comma_separated(folders_of.read([folder]))))
    assert row["run"] == "'=HYPERLINK(1)"
    assert float(row["recall_anger"]) == metrics(folder)["pooled"]["per_class"]["anger"]["recall"]


def test_the_page_shows_every_figure_of_every_fold_and_what_it_shares(folders: list[Path]) -> None:
    for folder in folders:
        (run,) = folders_of.read([folder])
        found = metrics(folder)
        rows = fold_table.rows(run)
        assert len(rows) == len(found["folds"]) and all(len(row) == len(fold_table.heads(run)) for row in rows)
        heads = fold_table.heads(run)
        for row, fold, audit in zip(rows, found["folds"], found["audit"]["folds"], strict=True):
            cells = dict(zip(heads, row, strict=True))
            assert cells["accuracy"] == f"{100 * fold['accuracy']:.1f}" and cells["test"] == str(fold["clips"])
            assert cells["log loss"] == f"{fold['log_loss']:.3f}"
            assert cells["speakers shared"] == str(audit["shared_speakers"])
        titles = ["", *(metric.title for metric in fold_table.figures(run))]
        mean, std, pooled, interval = (dict(zip(titles, row, strict=True)) for row in fold_table.summary(run))
        assert pooled["weighted F1"] == f"{100 * found['pooled']['weighted_f1']:.1f}"
        assert mean["calibration error"] == f"{100 * found['mean']['ece']:.1f}" and interval["calibration error"] == "-"
        assert std["log loss"] == f"{found['std']['log_loss']:.3f}" and " to " in interval["log loss"]
        drawn = page.render([run])
        for cell in (pooled["log loss"], rows[-1][-1], interval["UAR"]):
            assert f">{cell}<" in drawn


def test_what_the_figures_show_is_told_in_words(folders: list[Path]) -> None:
    (run,) = folders_of.read(folders[2:])
    matrix = run.metrics["pooled"]["confusion"]
    assert f"anger is found in {matrix[0][0] / sum(matrix[0]):.0%}" in alt_texts.confusion(run)
    right = (run.predictions["label"] == run.predictions["predicted"]).groupby(run.predictions["speaker"]).mean()
    assert f"to {100 * right.max():.0f} %" in alt_texts.speakers(run)
    assert "2 epochs" in alt_texts.curves(run) and alt_texts.curves(folders_of.read(folders[:1])[0]) == ""
    assert f"({sentences.interval(run.metrics['intervals']['accuracy'])})" in alt_texts.intervals([run])


def test_the_page_of_voice_types_never_says_speaker(folders: list[Path], tmp_path: Path) -> None:
    copies = []
    for place in (0, 2):
        copies.append(tmp_path / folders[place].name)
        shutil.copytree(folders[place], copies[-1])
        config = (copies[-1] / "config.yaml").read_text("utf-8")
        (copies[-1] / "config.yaml").write_text(config.replace("_kind: speaker", "_kind: voice type"), "utf-8")
        found = metrics(copies[-1])
        found["interval"] = {"unit": "voice type", "note": "bootstrap over 5 voice types"}
        found["audit"]["sentences"] = ["5 of 5 test voice types are also in training."]
        (copies[-1] / "metrics.json").write_text(json.dumps(found), "utf-8")
    drawn = page.render(folders_of.read(copies))
    assert "bootstrap over voice types" in drawn and "5 voice types" in drawn and "voice types shared" in drawn
    text = re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]*>", " ", drawn, flags=re.DOTALL)
    assert "speaker" not in text.replace("five random folds that mix speakers", "")


def test_sounds_never_make_a_page_too_large(reported: Path) -> None:
    (run,) = folders_of.read([reported / "svm-loso"])
    store = EmbeddingStore(reported / "store")
    whole = mistakes.worst(run, store, count=200)
    size = len(next(item.sound for item in whole if item.sound))
    few = mistakes.worst(run, store, count=200, sound_bytes=2 * size)
    assert sum(item.sound is not None for item in few) == 2
    assert {item.silent for item in few if item.sound is None} >= {"left out: the page would be too large"}
    assert [item.clip for item in few] == [item.clip for item in whole]
    assert {item.silent for item in mistakes.worst(run, None)} == {"left out"}


def test_the_confidence_of_a_mistake_is_that_of_what_was_predicted(folders: list[Path], tmp_path: Path) -> None:
    """An SVM's label need not be the class that its Platt probabilities favour."""
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    table = pd.read_csv(folder / "predictions.csv")
    columns = [f"p_{name}" for name in metrics(folder)["classes"]]
    table[columns] = [0.7, 0.1, 0.15, 0.05]
    table["label"], table["predicted"] = "anger", "neutral"
    table.to_csv(folder / "predictions.csv", index=False)
    found = metrics(folder)
    found["pooled"]["confusion"] = confusion(table["label"], table["predicted"], found["classes"])
    (folder / "metrics.json").write_text(json.dumps(found), "utf-8")
    (run,) = folders_of.read([folder])
    assert {item.confidence for item in mistakes.worst(run, None)} == {0.15}


def test_what_a_reader_must_know_comes_first(folders: list[Path], tmp_path: Path) -> None:
    assert folders_of.read(folders[:1])[0].warnings() == []
    folder = tmp_path / "run"
    shutil.copytree(folders[2], folder)
    text = (folder / "config.yaml").read_text("utf-8").replace("synthetic: false", "synthetic: true")
    (folder / "config.yaml").write_text(text.replace("weights: none", "weights: random:0", 1), "utf-8")
    found = metrics(folder)
    found["sensitivity"]["b"]["changed"] = 0.004
    (folder / "metrics.json").write_text(json.dumps(found), "utf-8")
    (run,) = folders_of.read([folder])
    warnings = " ".join(run.warnings())
    assert len(run.warnings()) == 3
    assert "synthetic" in warnings and "random weights" in warnings and "ignores encodec" in warnings
    for suffix in (".md", ".tex"):
        assert "(hubert: random weights)" in tables.FORMATS[suffix]([run]), suffix
    (row,) = csv.DictReader(io.StringIO(tables.comma_separated([run])))
    assert row["random_weights"] == "hubert"
    drawn = page.render([run])
    assert drawn.index("The speech is synthetic") < drawn.index("Results")


HOSTILE = {
    "metrics.json": [
        ("classes", "anger", "metrics.json"),
        ("mean.accuracy", "0.5", "mean.accuracy: Input should be a valid number"),
        ("mean.accuracy", float("nan"), "mean.accuracy: Input should be a finite number"),
        ("pooled.confusion", [[1]], "pooled.confusion is not 4 x 4"),
        ("pooled.per_class", {}, "pooled.per_class does not hold the classes"),
        ("audit.sentences", [], "audit.sentences"),
        ("audit.folds", [], "the audit is about 0 folds, the figures about 5"),
        ("intervals.accuracy", {"low": "0"}, "intervals.accuracy.low"),
        ("sensitivity", {"c": {"changed": 0.1, "accuracy_drop": 0.1}}, "tells of the inputs c, config.yaml of a"),
        ("interval", None, "interval"),
    ],
    "config.yaml": [
        ("corpus", "emodb", "corpus: Input should be a valid dictionary"),
        ("embeddings.a", None, "embeddings.a"),
        ("split.name", 5, "split.name: Input should be a valid string"),
        ("seed", "0", "seed"),
    ],
}


@pytest.mark.parametrize(
    ("file", "key", "value", "says"), [(file, *case) for file, cases in HOSTILE.items() for case in cases]
)
def test_a_run_folder_from_anybody_is_checked_before_it_is_used(folders, tmp_path, file, key, value, says) -> None:
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    path = folder / file
    values = yaml.safe_load(path.read_text("utf-8"))
    *parents, last = key.split(".")
    place = values
    for name in parents:
        place = place[name]
    place[last] = value
    path.write_text(json.dumps(values), "utf-8")  # which is YAML as well
    with pytest.raises(RunError, match="is not a whole run folder") as caught:
        folders_of.read([folder])
    assert says in str(caught.value) and len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("predictions.csv", ",anger,", ",<b>,", "predictions.csv has the emotion '<b>'"),
        ("predictions.csv", "p_anger", "q_anger", None),
        ("predictions.csv", "\n", ",x\n", None),
        ("tsne.csv", "x,y", "x,z", "tsne.csv has no column y"),
        ("history.csv", "loss", "gain", "history.csv has no column loss"),
    ],
)
def test_tables_that_were_edited_are_refused_or_read_never_a_traceback(folders, tmp_path, file, old, new, says) -> None:
    folder = tmp_path / "run"
    shutil.copytree(folders[2], folder)
    path = folder / file
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    if says is None:
        tables.rows(folders_of.read([folder]))
    else:
        with pytest.raises(RunError, match=says):
            folders_of.read([folder])


@pytest.mark.parametrize("value", ["nan", "inf", "certain"])
def test_probabilities_that_are_none_are_refused(folders: list[Path], tmp_path: Path, value: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    table = pd.read_csv(folder / "predictions.csv", dtype=str)
    table.loc[3, "p_fear" if "p_fear" in table else "p_anger"] = value
    table.to_csv(folder / "predictions.csv", index=False)
    with pytest.raises(RunError, match="the column 'p_anger' holds something that is no number"):
        folders_of.read([folder])


@pytest.mark.parametrize("file", ["predictions.csv", "metrics.json", "tsne.csv"])
def test_files_that_are_too_large_are_not_read(folders: list[Path], tmp_path: Path, file: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    with (folder / file).open("r+b") as sparse:
        sparse.truncate(8 << 30)
    with pytest.raises(RunError, match=rf"{file} is larger than"):
        folders_of.read([folder])


@pytest.mark.parametrize("damage", ["config.yaml", "predictions.csv", "metrics.json"])
def test_a_damaged_run_folder_is_named(folders: list[Path], tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    (folder / damage).write_text("{", "utf-8")
    with pytest.raises(RunError, match="run"):
        folders_of.read([folder])


def test_a_run_folder_that_was_edited_is_named(folders: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    rows = (folder / "predictions.csv").read_text("utf-8").splitlines(keepends=True)
    (folder / "predictions.csv").write_text("".join(rows[:-1]), "utf-8")
    with pytest.raises(RunError, match=rf"{len(rows) - 2} rows, metrics.json is about {len(rows) - 1}"):
        folders_of.read([folder])


def test_a_configuration_that_expands_itself_is_refused(folders: list[Path], tmp_path: Path) -> None:
    """Nine levels of ten references each would be a thousand million words."""
    folder = tmp_path / "run"
    shutil.copytree(folders[0], folder)
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 10))
    bomb = f"l0: &l0 [a, a]\n{levels}corpus: {{speaker_kind: *l9}}\n"
    (folder / "config.yaml").write_text(bomb, "utf-8")
    with pytest.raises(RunError, match="aliases"):
        folders_of.read([folder])


def test_yaml_that_would_run_something_is_refused(folders: list[Path], tmp_path: Path) -> None:
    folder, proof = tmp_path / "run", tmp_path / "ran"
    shutil.copytree(folders[0], folder)
    with (folder / "config.yaml").open("a", encoding="utf-8") as file:
        file.write(f"evil: !!python/object/apply:os.mkdir ['{proof}']\n")
    with pytest.raises(RunError, match="not valid YAML"):
        folders_of.read([folder])
    assert not proof.exists()


def test_two_folders_of_one_name_are_told_apart(folders: list[Path], tmp_path: Path) -> None:
    shutil.copytree(folders[0], tmp_path / "other" / folders[0].name)
    names = [run.name for run in folders_of.read([folders[0], tmp_path / "other" / folders[0].name])]
    assert len(set(names)) == 2


@pytest.mark.parametrize("suffix", [".html", ".md", ".csv", ".tex"])
def test_the_command_writes_each_form(folders: list[Path], tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "deep" / f"report{suffix}"
    done = CliRunner().invoke(main, ["report", *map(str, folders[:2]), "-o", str(out), "--quiet", "--no-audio"])
    assert done.exit_code == 0, done.output
    assert "svm" in out.read_text("utf-8") and str(out) in done.output


def test_the_command_refuses_what_it_cannot_do(folders: list[Path], tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(main, ["report", str(folders[0]), "-o", str(tmp_path / "a.pdf")]).exit_code == 2
    done = run(main, ["report", str(tmp_path), "-o", str(tmp_path / "a.html")])
    assert done.exit_code == 1 and "no finished run" in done.output
    assert run(main, ["report"]).exit_code == 2


@pytest.mark.slow
def test_splits_of_other_settings_are_no_gap_and_a_run_that_cannot_be_paired_is_named(folders, tmp_path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folders[1], other)
    config = (other / "config.yaml").read_text("utf-8")
    assert "seed: 0" in config
    (other / "config.yaml").write_text(config.replace("seed: 0", "seed: 1"), "utf-8")
    assert sentences.gaps(folders_of.read([folders[0], other])) == []
    cut = tmp_path / "cut"
    shutil.copytree(folders[0], cut)
    lines = (cut / "predictions.csv").read_text("utf-8").splitlines(keepends=True)
    (cut / "predictions.csv").write_text("".join([*lines[:-1], f"another-{lines[-1]}"]), "utf-8")
    found = page.render(folders_of.read([folders[0], folders[2], cut]))
    assert "cannot be compared with" in found and "distinguishable" in found
    assert "Inputs of the classifier, by emotion" in found and "Penultimate layer, by emotion" in found


def test_runs_that_look_alike_are_told_apart_by_the_settings_that_differ(folders, tmp_path) -> None:
    other, copy = tmp_path / "other", tmp_path / "copy"
    shutil.copytree(folders[2], other)
    config = (other / "config.yaml").read_text("utf-8")
    assert "seed: 0" in config and "dropout: 0.3" in config
    (other / "config.yaml").write_text(config.replace("seed: 0", "seed: 1").replace("t: 0.3", "t: 0.5"), "utf-8")
    found = folders_of.read([*folders, other])
    assert [run.title for run in found] == [
        "svm",
        "svm",
        "concat (dropout 0.3, seed 0)",
        "concat (dropout 0.5, seed 1)",
    ]
    assert [row[1] for row in tables.rows(found)] == [run.title for run in found]
    shutil.copytree(folders[0], copy)
    assert [run.title for run in folders_of.read([folders[0], copy])] == ["svm (svm-random)", "svm (copy)"]


def test_a_run_of_a_trainer_that_cannot_work_here_is_reported(folders: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(folders[2], folder)
    config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    assert config["trainer"] == "tensorflow"
    config |= {"trainer": "stacked", "backend": "jax 0.10.2"}
    config["training"]["trainer"] = "stacked"
    (folder / "config.yaml").write_text(json.dumps(config), "utf-8")
    (run,) = folders_of.read([folder])
    assert "stacked" in page.render([run])
    config["training"]["trainer"] = "of another package"
    (folder / "config.yaml").write_text(json.dumps(config), "utf-8")
    assert "stacked" in page.render(folders_of.read([folder]))


@pytest.mark.slow
def test_what_changed_since_is_said_and_other_recordings_are_not_played(folders, reported, tmp_path) -> None:
    """The store gets another label and another recording; a run on those is not put beside the one before."""
    table = EmbeddingStore(reported / "store").clips("emodb")
    clips, facts = [], {}
    for number, row in enumerate(table.itertuples()):
        emotion = "neutral" if number == 0 else row.emotion
        clips.append(Clip(row.id, Path(row.path), emotion, row.speaker, row.text))
        facts[row.id] = AudioFacts("f" * 64 if number == 1 else row.audio, 0.25)
    store = EmbeddingStore(tmp_path / "store")
    store.write_corpus(Corpus("emodb", tuple(clips)), facts)
    run = folders_of.read(folders[:1])[0]
    assert "have changed" not in page.render([run], store=EmbeddingStore(reported / "store"))
    drawn = page.render([run], store=store)
    assert f"1 clip has another label ({clips[0].id}: anger, now neutral)" in drawn
    assert f"1 clip has another recording ({clips[1].id})" in drawn
    spoken = {item.clip: item.sound for item in mistakes.worst(run, store, count=200)}
    other = {item.clip: item.sound for item in mistakes.worst(run, EmbeddingStore(reported / "store"), count=200)}
    assert {clip for clip in other if bool(other[clip]) != bool(spoken[clip])} <= {clips[1].id}

    copy = tmp_path / "other"
    shutil.copytree(folders[1], copy)
    values = yaml.safe_load((copy / "config.yaml").read_text("utf-8"))
    values["digests"]["labels"] = "0" * 16
    (copy / "config.yaml").write_text(yaml.safe_dump(values), "utf-8")
    found = folders_of.read([folders[0], copy])
    (sentence,) = sentences.data(found)
    assert "other was not made with the labels of svm-random" in sentence
    assert sentences.gaps(found) == [] and sentence in page.render(found) and sentence in tables.markdown(found)
    assert sentences.data(folders_of.read(folders)) == []
