"""serfuse: speech emotion recognition from fused, frozen representations.

What a study needs has a name here, imported when it is first used, so that `import serfuse` costs next to nothing:

    corpus = serfuse.read_corpus("emodb", "EMODB/wav")
    store = serfuse.Store("serfuse-store")
    serfuse.extract(corpus, ["prosody", "logmel"], store, pooling="mean-std")
    run = serfuse.cross_validate(serfuse.configure("svm", a="prosody", split="loso"), store)

docs/api.md shows a whole study.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .corpora import read as read_corpus
    from .experiment.config import configure
    from .extraction.extract import extract
    from .prediction.predictor import Predictor
    from .prediction.training import train
    from .progress import Observer
    from .recommendation.recommend import recommend
    from .registry import register
    from .report.writing import write_report
    from .runs.compare import compare
    from .runs.execution import cross_validate
    from .runs.fuse import fuse
    from .runs.run import Run
    from .store import EmbeddingStore as Store
    from .sweep.execution import Workers, run_sweep

__version__ = "0.1.0"

# name -> where it is; in the order of a study
_FACE = {
    "read_corpus": "corpora:read",
    "Store": "store:EmbeddingStore",
    "extract": "extraction.extract:extract",
    "configure": "experiment.config:configure",
    "cross_validate": "runs.execution:cross_validate",
    "fuse": "runs.fuse:fuse",
    "Run": "runs.run:Run",
    "compare": "runs.compare:compare",
    "recommend": "recommendation.recommend:recommend",
    "write_report": "report.writing:write_report",
    "run_sweep": "sweep.execution:run_sweep",
    "Workers": "sweep.execution:Workers",
    "train": "prediction.training:train",
    "Predictor": "prediction.predictor:Predictor",
    "Observer": "progress:Observer",
    "register": "registry:register",
}

__all__ = [
    "Observer",
    "Predictor",
    "Run",
    "Store",
    "Workers",
    "compare",
    "configure",
    "cross_validate",
    "extract",
    "fuse",
    "read_corpus",
    "recommend",
    "register",
    "run_sweep",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a name of the face when it is first asked for (PEP 562)."""
    if name not in _FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _FACE[name].partition(":")
    found = getattr(importlib.import_module(f".{module}", __name__), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_FACE})
