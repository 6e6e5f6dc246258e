"""The trainers by name: what turns a network and the clips of a fold into a network that has learned.

Adding one is a file in this folder and a line in this table. `training.trainer: auto` takes the first one that can
train the network of a configuration here; the last one always can.
"""

from typing import TYPE_CHECKING

from ...errors import ConfigError
from ...registry import Registry
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
get = TRAINERS.get
names = TRAINERS.names


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
