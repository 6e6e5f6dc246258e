"""Fixtures that every test may use."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    # Each test process has its part of the cores: threads of one that wait for those of another burn the time of both.
    # Before NumPy, whose libraries read it once.
    for library in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ.setdefault(library, str(max(1, len(os.sched_getaffinity(0)) // workers)))

import hypothesis  # noqa: F401 - which asks the garbage collector about modules, before any are out of its sight
import numpy as np
import pytest
import store_rows

from serfuse.corpora.base import Corpus
from serfuse.store import EmbeddingStore
from serfuse.store.key import EmbeddingKey

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A script that starts the tests in the background has Ctrl-C ignored, in them and in what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _drop_placeholders() -> None:
    """Take speechbrain's placeholder modules out of `sys.modules`.

    Looking at any attribute of one imports an integration that is not installed, or warns; Hypothesis looks at every
    module's `__file__`.
    """
    if importutils := sys.modules.get("speechbrain.utils.importutils"):
        for name, module in list(sys.modules.items()):
            if isinstance(module, importutils.LazyModule):
                del sys.modules[name]


_LONGEST = ("test_processes.py", "test_ray.py", "test_backends.py", "test_cv.py", "test_api.py", "test_demo.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After collection, and before Hypothesis looks around.

    The longest files come first, then those with slow tests: two processes then end at about the same time.
    """
    _drop_placeholders()
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name not in _LONGEST, item.path not in slow))


_modules = 0


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test before may have imported speechbrain, or something large.

    What modules hold stays: the garbage collector, which Keras calls at every fold, need not look at it each time.
    """
    global _modules
    _drop_placeholders()
    if len(sys.modules) > _modules + 200:
        gc.collect()
        gc.freeze()
        _modules = len(sys.modules)


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pytest's, without the test's name in it: a message that names a file must not match by that."""
    return tmp_path_factory.mktemp("t")


REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def emodb_dir() -> Path:
    """The wav folder of the real Emo-DB: `$SERFUSE_EMODB`, or a copy beside the repository, or skip."""
    given = os.environ.get("SERFUSE_EMODB")
    if given:
        # A folder that was asked for by name must be there: a skip would hide a typing mistake.
        assert Path(given).is_dir(), f"SERFUSE_EMODB={given} is not a folder"
        return Path(given)
    beside = REPOSITORY.parent / "shared" / "data" / "emodb" / "wav"
    if not beside.is_dir():
        pytest.skip("needs the real Emo-DB: set SERFUSE_EMODB to its wav folder")
    return beside


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """48 synthetic clips: 4 speakers x 3 emotions (anger, neutral, sadness) x 2 texts x 2 takes, at 16 kHz.

    Generated once per session. Read only: a test that changes files copies `tiny_corpus_dir` first.
    """
    from serfuse.corpora import synthetic

    root = tmp_path_factory.mktemp("tiny") / "corpus"
    return synthetic.generate(root, speakers=4, texts=2, takes=2, emotions=("anger", "neutral", "sadness"), seed=7)


@pytest.fixture(scope="session")
def tiny_corpus_dir(tiny_corpus: Corpus) -> Path:
    """The root folder of `tiny_corpus` (`<root>/<speaker>/<clip>.wav` and corpus.json)."""
    return tiny_corpus.clips[0].path.parent.parent


def _store(
    root: Path,
    sizes: dict[str, int] | None = None,
    *,
    corpus: str = "standin",
    emotions: tuple[str, ...] = ("anger", "neutral", "sadness"),
    speakers: int = 4,
    repeats: int = 3,
    noise: float = 1.0,
    seed: int = 0,
) -> EmbeddingStore:
    rng = np.random.default_rng(seed)
    store = EmbeddingStore(root)
    clips, ids, audio = store_rows.drawn_clips(store, corpus, emotions, speakers=speakers, texts=repeats)
    for encoder, size in (sizes or {"hubert": 24, "soundstream": 16}).items():
        centres = {name: rng.normal(size=size) for name in [*emotions, *(f"s{s}" for s in range(speakers))]}
        matrix = [centres[clip.emotion] + 0.5 * centres[clip.speaker] + noise * rng.normal(size=size) for clip in clips]
        store.append(corpus, EmbeddingKey(encoder), ids, audio, np.stack(matrix))
    return store


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., EmbeddingStore]:
    """A maker of small stores whose embeddings hold the emotion, the speaker and noise, drawn from a seed.

    `make_store(sizes={"hubert": 24, "soundstream": 16}, speakers=4, repeats=3)` stores, for every emotion and
    speaker, `repeats` clips of other texts. There is no audio: the embeddings are drawn, and nothing reads files.
    """
    return lambda sizes=None, *, root=None, **changes: _store(root or tmp_path / "store", sizes, **changes)


@pytest.fixture(scope="session")
def standin_store(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    """What `make_store()` makes, once per session. Read only."""
    return _store(tmp_path_factory.mktemp("standin"))
