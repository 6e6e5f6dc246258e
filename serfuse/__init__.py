"""serfuse: speech emotion recognition from fused, frozen representations."""

__version__ = "0.1.0"

from .registry import register

__all__ = ["__version__", "register"]
