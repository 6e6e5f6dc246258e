"""Joining a table with a store: what can run, what is missing, and the commands that make it."""

import pytest

from serfuse.errors import SplitError
from serfuse.experiment import cross_validation
from serfuse.experiment.dataset import load_dataset
from serfuse.runs import execution
from serfuse.store.key import EmbeddingKey
from serfuse.sweep.plan import CachedStore


def test_a_plan_reads_no_vectors_and_has_the_fingerprints_of_the_runs(make_plan, store) -> None:
    found = make_plan()
    assert len(found.units) == 15 and not found.missing
    assert len({unit.name for unit in found.units}) == 15
    for planned in found.planned:
        dataset = load_dataset(planned.experiment.config, store)
        assert planned.dataset.arrays["a"].shape == (len(dataset.clips), 0)
        assert planned.fingerprint == execution.fingerprint(planned.experiment.config, dataset)
        for ours, theirs in zip(planned.parts, cross_validation.plan(planned.experiment.config, dataset), strict=True):
            assert list(ours.train) == list(theirs.train) and list(ours.test) == list(theirs.test)


def test_missing_embeddings_come_with_one_command_for_all_that_differ_in_the_encoder_only(make_plan, store) -> None:
    rows = ["hubert", "dac@pooling=paper", "encodec@pooling=paper", "xvector", "nobody"]
    found = make_plan(blocks=[{"rows": rows}], corpora={"emodb": "E", "cremad": "C"})
    assert len(found.units) == 5, "what is there runs all the same"
    commands = {(item.corpus, item.inputs): item.command for item in found.missing}
    paper = commands["emodb", ("dac@pooling=paper", "encodec@pooling=paper")]
    assert "--encoder dac --encoder encodec --pool paper" in paper and str(store.root) in paper
    assert "--corpus cremad --data DIR --encoder hubert" in commands["cremad", ("hubert", "xvector")]
    assert commands["emodb", ("nobody",)] == commands["cremad", ("nobody",)] == ""
    missing = [planned for planned in found.planned if planned.problem]
    assert len(missing) == 9 and all(planned.expected == 5 for planned in missing)


def test_several_fitting_embeddings_are_no_reason_to_extract(make_plan, store) -> None:
    ids, matrix = store.load("emodb", store.find("emodb", "hubert"))
    hashes = [store.present("emodb", store.find("emodb", "hubert"))[name] for name in ids]
    store.append("emodb", EmbeddingKey("hubert", layer="6"), ids, hashes, matrix)
    problem = make_plan().missing[0]
    assert "several" in problem.reason and problem.command == ""
    assert not make_plan(blocks=[{"rows": ["hubert@layer=6"]}]).missing
    third = make_plan(blocks=[{"rows": ["hubert@layer=3"]}]).missing[0]
    assert third.reason == "not extracted" and "--encoder hubert --layer 3" in third.command


def test_a_few_missing_clips_are_counted(make_plan, store) -> None:
    ids, matrix = store.load("emodb", store.find("emodb", "hubert"))
    hashes = [store.present("emodb", store.find("emodb", "hubert"))[name] for name in ids]
    store.append("emodb", EmbeddingKey("dac"), ids[3:], hashes[3:], matrix[3:])
    problem = make_plan(blocks=[{"rows": ["dac"]}]).missing[0]
    assert problem.reason == "3 clips are not extracted" and "--encoder dac" in problem.command


def test_all_layers_of_an_encoder_are_a_cell_as_well(make_plan, store) -> None:
    ids, matrix = store.load("emodb", store.find("emodb", "hubert"))
    hashes = [store.present("emodb", store.find("emodb", "hubert"))[name] for name in ids]
    table = {"models": {"fcn": {"heading": "FCN"}}, "blocks": [{"rows": ["hubert@layer=3+6"]}]}
    store.append("emodb", EmbeddingKey("hubert", layer="3"), ids, hashes, matrix)
    lacking = make_plan(**table).missing[0]
    assert lacking.reason == "not extracted" and "--encoder hubert --layer 3,6" in lacking.command
    store.append("emodb", EmbeddingKey("hubert", layer="6"), ids[2:], hashes[2:], matrix[2:])
    assert make_plan(**table).missing[0].reason == "2 clips are not extracted"
    store.append("emodb", EmbeddingKey("hubert", layer="6"), ids[:2], hashes[:2], matrix[:2])
    found = make_plan(**table)
    assert not found.missing and found.planned[0].dataset.arrays["a"].shape == (len(ids), 2, 0)
    config = found.planned[0].experiment.config
    assert found.planned[0].fingerprint == execution.fingerprint(config, load_dataset(config, store))


def test_a_cached_store_reads_a_matrix_once(store, monkeypatch) -> None:
    cached = CachedStore(store.root)
    key = cached.find("emodb", "hubert")
    first = cached.load("emodb", key)
    assert (first[1] == store.load("emodb", key)[1]).all()
    monkeypatch.setattr("serfuse.store.key_folder.KeyFolder.parts", lambda *_: pytest.fail("it was read again"))
    assert cached.load("emodb", key) is first


def test_a_corpus_that_cannot_be_split_does_not_stop_the_others(make_plan, make_store, store) -> None:
    make_store({"hubert": 12}, corpus="mesd", speakers=2, root=store.root)
    settings = {"split": {"name": "speaker", "folds": 4}}
    both = make_plan(("row=hubert",), corpora={"mesd": "M", "emodb": "E"}, settings=settings)
    assert [len(planned.parts) for planned in both.planned] == [0, 4] and both.planned[0].expected == 4
    (problem,) = both.missing
    assert problem.corpus == "mesd" and problem.inputs == () and "there are 2" in problem.reason
    with pytest.raises(SplitError):
        make_plan(("row=hubert",), corpora={"mesd": "M"}, settings=settings)
