"""Registries: lazily imported, no name twice, unknown names answered with the choices."""

import subprocess
import sys

import pytest

from serfuse import models
from serfuse.errors import SerfuseError, UnknownNameError
from serfuse.registry import Registry


def test_get_imports_only_what_was_asked_for() -> None:
    registry = Registry("thing", [("text", "json:dumps"), ("gone", "no_such_module:thing")])
    assert registry.names() == ["text", "gone"]
    assert registry.get("text")([1]) == "[1]"
    with pytest.raises(ModuleNotFoundError):
        registry.get("gone")


def test_an_unknown_name_lists_the_choices() -> None:
    registry = Registry("thing", [("one", "json:dumps"), ("two", "json:loads")])
    with pytest.raises(UnknownNameError, match="one, two") as caught:
        registry.get("three")
    assert isinstance(caught.value, SerfuseError) and "thing" in str(caught.value)


def test_a_slip_of_the_finger_is_answered_with_what_was_meant() -> None:
    registry = Registry("thing", [("prosody", "json:dumps"), ("logmel", "json:loads")])
    with pytest.raises(UnknownNameError, match="Did you mean 'prosody'"):
        registry.get("prosdy")
    with pytest.raises(UnknownNameError) as caught:
        registry.get("zzz")
    assert "mean" not in str(caught.value)


def test_a_repeated_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="one"):
        Registry("thing", [("one", "json:dumps"), ("one", "json:loads")])


@pytest.mark.parametrize("name", models.names())
def test_a_model_is_registered_under_its_own_name(name: str) -> None:
    model = models.get(name)
    assert model.name == name and model.inputs in (1, 2) and model.summary
    assert models.describe(name) == model.summary


def test_the_models_names_cost_no_framework() -> None:
    code = "import sys, serfuse.models as m; m.names(); [m.get(n) for n in m.names()]; print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
