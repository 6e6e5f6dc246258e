"""The trainers by name: what turns a network and the clips of a fold into a network that has learned.

Adding one is a file in this folder and a line in this table. `training.trainer: auto` takes the first one that can
train the network of a configuration here; the last one always can.
"""

from typing import TYPE_CHECKING

from ...errors import ConfigError, UnknownNameError
from ...registry import Registry, unknown_name
from .base import Lesson, Trained, Trainer

if TYPE_CHECKING:
    from ..config import Config

AUTO = "auto"
TRAINERS: Registry[Trainer] = Registry(
    "trainer",
    [
        ("tensorflow", "serfuse.experiment.trainers.tensorflow_graph:TENSORFLOW"),
        ("stacked", "serfuse.experiment.trainers.stacked:STACKED"),
        ("keras", "serfuse.experiment.trainers.keras_fit:KERAS"),
    ],
    expects=Trainer,
    reserved=(AUTO,),
)
names = TRAINERS.names


def get(name: str) -> Trainer:
    """The trainer of a name.

    Raises:
        UnknownNameError: no such trainer; the message lists what `training.trainer` may be.
    """
    try:
        return TRAINERS.get(name)
    except UnknownNameError:
        raise unknown_name("trainer", name, (AUTO, *names())) from None


def choose(config: "Config") -> Trainer:
    """The trainer of a configuration's network: the one it names, or the first that can.

    Raises:
        UnknownNameError: no such trainer.
        ConfigError: the named one cannot train this network here; the message says why.
    """
    asked = config.training.trainer
    if asked == AUTO:
        return next(trainer for trainer in map(get, names()) if not trainer.lacks(config))
    trainer = get(asked)
    if why := trainer.lacks(config):
        raise ConfigError(f"training.trainer is {asked!r}, which cannot train this here: {why}. Use {AUTO} or 'keras'.")
    return trainer


__all__ = ["AUTO", "TRAINERS", "Lesson", "Trained", "Trainer", "choose", "get", "names"]
