"""How many processor cores there are, and how many threads share out a sum: a result's last digits depend on it."""

import os

_VARIABLES = {"tensorflow": "TF_NUM_INTRAOP_THREADS"}  # the others, scikit-learn's BLAS too, follow OpenMP's


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads(library: str) -> int:
    """Threads of one operation.

    Args:
        library: "tensorflow", "torch", "jax" or "scikit-learn".
    """
    chosen = os.environ.get(_VARIABLES.get(library, "OMP_NUM_THREADS"), "").strip()
    return int(chosen) if chosen.isascii() and chosen.isdigit() and int(chosen) > 0 else cores()
