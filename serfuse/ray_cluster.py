"""A Ray cluster to work on: one that runs, or one that is started on this machine."""

import logging
from typing import Any

from .errors import ConfigError, RunError


def connect(address: str | None, cores: int, memory: int | None = None) -> tuple[Any, bool]:
    """Ray, connected.

    Args:
        address: of a running cluster ("auto", "10.0.0.1:6379", "ray://..."); `None` starts one here.
        cores: that a cluster which is started here has.
        memory: bytes that its units may ask for; `None` for what Ray finds.

    Returns:
        the module, and whether this call connected it, so that the caller is to shut it down.

    Raises:
        ConfigError: Ray is not installed.
        RunError: no cluster at that address, or none could be started.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError("--engine ray needs Ray: pip install 'serfuse[ray]'") from None
    if ray.is_initialized():
        return ray, False
    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        settings.update(address="local", num_cpus=cores, include_dashboard=False, _memory=memory)
    else:
        settings.update(address=address)
    try:
        ray.init(**settings)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"at {address}" if address else "here"
        raise RunError(f"No Ray cluster {where}: {error}") from None
    return ray, True
