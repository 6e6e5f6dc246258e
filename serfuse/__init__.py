"""serfuse: speech emotion recognition from fused, frozen representations."""

__version__ = "0.1.0"
