"""How many processor cores there are, and how many threads share out a sum: a result's last digits depend on it."""

import os

# The first one that holds a number counts, as in the libraries themselves.
_VARIABLES = {
    "tensorflow": ("TF_NUM_INTRAOP_THREADS",),
    "torch": ("OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    "jax": ("OMP_NUM_THREADS",),
    "scikit-learn": ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"),  # what it calls for sums is numpy's OpenBLAS
}


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
    for name in _VARIABLES.get(library, ("OMP_NUM_THREADS",)):
        chosen = os.environ.get(name, "").strip()
        if chosen.isascii() and chosen.isdigit() and int(chosen) > 0:
            return int(chosen)
    return cores()
