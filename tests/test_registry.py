"""Registries: lazily imported, no name twice, unknown names answered with the choices."""

import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

import serfuse
from serfuse import models
from serfuse.errors import ExtensionError, SerfuseError, UnknownNameError
from serfuse.metrics import METRICS, Metric
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
    with pytest.raises(ExtensionError, match="'one' is registered twice"):
        Registry("thing", [("one", "json:dumps"), ("one", "json:loads")])


def agreement(labels, predicted, present) -> float:
    return float((labels == predicted).mean())


def test_what_a_process_registers_is_there_until_it_is_taken_back() -> None:
    mine = Metric("mine", "mine", agreement)
    serfuse.register("metric", "mine", mine)
    try:
        assert METRICS.get("mine") is mine and METRICS.names()[-1] == "mine" and "mine" in METRICS
        assert METRICS.origin("mine") == "this process" and METRICS.origin("uar") == "serfuse"
        with pytest.raises(ExtensionError, match=r"'mine' is there already, from this process\. replace=True"):
            serfuse.register("metric", "mine", mine)
        other = Metric("mine", "other", agreement)
        serfuse.register("metric", "mine", other, replace=True)
        assert METRICS.get("mine") is other
    finally:
        METRICS.unregister("mine")
    assert "mine" not in METRICS
    with pytest.raises(ExtensionError, match="'uar' was not registered in this process"):
        METRICS.unregister("uar")


@pytest.mark.parametrize(
    ("name", "target", "says"),
    [
        ("uar", Metric("uar", "uar", agreement), "'uar' is there already, from serfuse. Choose another name"),
        ("confusion", Metric("confusion", "", agreement), "the name is reserved"),
        ("a b", Metric("a b", "", agreement), "a name is 1 to 64 letters"),
        ("../up", Metric("../up", "", agreement), "a name is 1 to 64 letters"),
        ("mine", agreement, "'mine' from this process is of the type function; expected a serfuse.metrics.base.Metric"),
        ("mine", Metric("yours", "", agreement), "calls itself 'yours'"),
    ],
)
def test_what_cannot_be_registered_says_why(name: str, target: object, says: str) -> None:
    with pytest.raises(ExtensionError, match=says):
        serfuse.register("metric", name, target, replace=True)
    assert METRICS.names() == METRICS.serfuse_names()


def test_only_the_five_kinds_are_registered() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown kind 'metrics'\. Did you mean 'metric'"):
        serfuse.register("metrics", "mine", agreement)


_GROUPS = count()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry]:
    """A table that packages add to: `installed({"pack": {"name": "module:attribute"}}, module="its source")`."""

    def make(packages: dict[str, dict[str, str]], **modules: str) -> Registry:
        group = f"serfuse.test{next(_GROUPS)}"  # what is installed is looked up once for a group
        for package, entries in packages.items():
            metadata = tmp_path / f"{package}-1.0.dist-info"
            metadata.mkdir()
            (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
            lines = [f"{name} = {target}" for name, target in entries.items()]
            (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        return Registry("thing", [("own", "json:dumps")], group=group)

    return make


def test_an_installed_package_adds_a_name_and_is_imported_when_it_is_asked_for(installed) -> None:
    registry = installed({"adds": {"new": "adds_a_thing:thing"}}, adds_a_thing="def thing():\n    return 7\n")
    assert registry.names() == ["own", "new"] and "new" in registry and registry.origin("new") == "adds 1.0"
    assert registry.own_names() == ["own"] and "adds_a_thing" not in sys.modules
    assert registry.get("new")() == 7 and "adds_a_thing" in sys.modules
    with pytest.raises(ExtensionError, match=r"'new' is there already, from adds 1\.0"):
        registry.register("new", agreement)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("other = 1", "AttributeError: .*has no attribute 'thing'"),
        ("thing = 1", "'new' from broken 1.0 is of the type int; expected a function"),
    ],
)
def test_a_broken_package_is_named_and_breaks_nothing_else(installed, monkeypatch, source: str, says: str) -> None:
    monkeypatch.delitem(sys.modules, "broken_thing", raising=False)
    registry = installed({"broken": {"new": "broken_thing:thing"}}, broken_thing=source)
    assert registry.names() == ["own", "new"] and registry.get("own")([1]) == "[1]"
    with pytest.raises(ExtensionError, match=says) as caught:
        registry.get("new")
    assert "broken 1.0" in str(caught.value)


def test_a_package_takes_no_name_of_serfuses_and_none_of_another_package(installed) -> None:
    registry = installed(
        {"bold": {"own": "json:loads", "../up": "json:loads"}, "left": {"same": "json:dumps"}, "right": {"same": "a:b"}}
    )
    assert registry.get("own")([1]) == "[1]" and registry.origin("own") == "serfuse"
    assert registry.names() == ["own", "same"]
    reserved, taken, twice = registry.problems()
    assert "bold 1.0" in taken and "serfuse has one of that name" in taken and "'../up' is left out" in reserved
    assert twice == "left 1.0 and right 1.0 both add the thing 'same': neither can be used."
    with pytest.raises(ExtensionError, match=r"added by left 1\.0 and right 1\.0\. Uninstall one"):
        registry.get("same")


@pytest.mark.parametrize("name", models.names())
def test_a_model_is_registered_under_its_own_name(name: str) -> None:
    model = models.get(name)
    assert model.name == name and model.inputs in (1, 2) and model.summary
    assert models.describe(name) == model.summary


def test_the_models_names_cost_no_framework() -> None:
    code = "import sys, serfuse.models as m; m.names(); [m.get(n) for n in m.names()]; print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
