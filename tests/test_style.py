"""No function of the library or the command line takes a long row of arguments."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PUBLIC, PRIVATE = 5, 6  # positional arguments; what is more goes by keyword, or into an object

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.AST, hidden: bool = False, method: bool = False) -> Iterator[tuple[Function, bool, bool]]:
    """Every function with whether it is private, itself or by what it stands in, and whether it is a method."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            own = node.name.startswith("_") and not node.name.startswith("__")
            yield node, hidden or own, method
            yield from _functions(node, True)
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, hidden or node.name.startswith("_"), True)
        else:
            yield from _functions(node, hidden, method)


def _decorators(node: Function) -> set[str]:
    return {ast.unparse(item.func if isinstance(item, ast.Call) else item) for item in node.decorator_list}


def _too_long(source: str) -> list[tuple[str, int]]:
    """Name and number of positional arguments of each function that has too many."""
    found = []
    for node, hidden, method in _functions(ast.parse(source)):
        names = _decorators(node)
        # The parameters are a command's options, or those of a kernel, which Triton takes by name but not keyword-only.
        if any(name.startswith("click.") for name in names) or "triton.jit" in names:
            continue
        count = len(node.args.posonlyargs) + len(node.args.args) - (method and "staticmethod" not in names)
        if count > (PRIVATE if hidden else PUBLIC):
            found.append((node.name, count))
    return found


def test_functions_take_few_positional_arguments() -> None:
    files = sorted([*(ROOT / "serfuse").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])
    assert len(files) > 100
    found = {str(path.relative_to(ROOT)): _too_long(path.read_text("utf-8")) for path in files}
    assert {path: functions for path, functions in found.items() if functions} == {}


def test_the_rule_counts_what_a_caller_must_keep_in_order() -> None:
    assert _too_long("def f(a, b, c, d, e, *, g, h): ...") == []
    assert _too_long("def f(a, b, c, d, e, g): ...") == [("f", 6)]
    assert _too_long("def _f(a, b, c, d, e, g): ...") == [] and _too_long("def _f(a, b, c, d, e, g, h): ...")
    assert _too_long("class A:\n def __init__(self, a, b, c, d, e): ...") == []
    assert _too_long("class A:\n def __init__(self, a, b, c, d, e, f): ...") == [("__init__", 6)]
    assert _too_long("class A:\n @staticmethod\n def f(a, b, c, d, e, g): ...") == [("f", 6)]
    assert _too_long("@click.command()\n@click.option('--a')\ndef command(a, b, c, d, e, g, h): ...") == []
