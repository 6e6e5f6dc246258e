"""The papers' printed results as data."""

from collections import Counter

from serfuse import encoders, models
from serfuse.published import results


def test_all_printed_results_are_there() -> None:
    rows = results.results()
    counts = Counter((row.paper, row.table) for row in rows)
    assert counts == {("hyfuse", 1): 32, ("hyfuse", 2): 112, ("parrot", 1): 72, ("parrot", 2): 150}
    assert all(0 < row.accuracy <= 100 and 0 < row.macro_f1 <= 100 for row in rows)


def test_every_row_names_encoders_and_models_that_exist() -> None:
    reproduced = {pair for name in models.names() for pair in models.get(name).published_as}
    for row in results.results():
        assert row.encoder_a in encoders.names()
        assert row.encoder_b in ("", *encoders.names())
        assert row.corpus in ("cremad", "emodb", "mesd")
        assert (row.paper, row.model) in reproduced, row


def test_find_does_not_care_for_the_order_of_a_pair() -> None:
    row = next(row for row in results.results() if row.model == "hyfuse")
    found = results.find(row.corpus, "hyfuse", row.encoder_a, row.encoder_b)
    assert found == [row] == results.find(row.corpus, "hyfuse", row.encoder_b, row.encoder_a)
    assert results.find(row.corpus, "hyfuse-symmetric", row.encoder_a, row.encoder_b) == []
    assert results.find("emodb", "fcn", "logmel") == []


def test_a_model_of_both_papers_finds_both() -> None:
    rows = results.results()
    shared = {row.encoder_a for row in rows if row.paper == "hyfuse" and row.corpus == "emodb" and row.model == "fcn"}
    shared &= {row.encoder_a for row in rows if row.paper == "parrot" and row.corpus == "emodb" and row.model == "fcn"}
    assert shared, "some encoder is in both papers"
    for encoder in shared:
        assert {row.paper for row in results.find("emodb", "fcn", encoder)} == {"hyfuse", "parrot"}


def test_every_result_has_a_source() -> None:
    sources = results.sources()
    assert {row.paper for row in results.results()} == set(sources)
    assert sources["hyfuse"].title.startswith("HYFuse: Aligning Heterogeneous Speech")
    assert sources["parrot"].title.startswith("PARROT: Synergizing Mamba and Attention-based")
    assert sources["hyfuse"].short == "HYFuse (Phukan et al., arXiv:2506.03403)"
    assert all(source.authors.count(",") == 6 and source.where.startswith("arXiv:") for source in sources.values())
