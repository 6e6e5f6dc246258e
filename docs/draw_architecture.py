"""Draw docs/architecture.png from the imports: `make architecture`.

A box is a role (a folder or module of `serfuse/`, and the command line), an arrow an import. A role stands above all
that it imports; an arrow that others imply is left out.
"""

import ast
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
# What every role may use: arrows to these would hide the others.
GROUND = ("errors", "registry", "atomic_io", "bounded_file", "progress")
WAYS = {  # the colour of a role: on the way of a clip, of a fold, of both, or of a prediction
    "a clip": ("#cfe3f7", ("audio", "corpora", "encoders", "extraction")),
    "a clip and a fold": ("#dfe7d5", ("store",)),
    "a fold": ("#fbe3c0", ("splits", "metrics", "ops", "layers", "models", "experiment", "runs")),
    "an answer": ("#f3d3dc", ("prediction",)),
    "a reader": ("#e4daf2", ("report", "published", "recommendation", "sweep", "cli")),
}


def files_of(role: str) -> list[Path]:
    """The modules of a role."""
    folder = ROOT / role if role == "cli" else ROOT / "serfuse" / role
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def roles() -> list[str]:
    """All roles, `cli` among them."""
    found = [
        path.stem
        for path in (ROOT / "serfuse").iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    ]
    return sorted({*found, "cli"})


def imports_of(role: str, names: list[str]) -> set[str]:
    """The other roles that a role's modules import, anywhere in them."""
    found: set[str] = set()
    for path in files_of(role):
        inside = path.relative_to(ROOT).parts
        package = ["serfuse", *inside[:-1]] if role == "cli" else list(inside[:-1])
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.ImportFrom):
                continue
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.module else base
            for alias in node.names:
                full = [*base, alias.name]
                if full[0] == "serfuse" and len(full) > 1:
                    found.add(full[1])
    return (found & set(names)) - {role}


def height(role: str, edges: dict[str, set[str]], within: tuple[str, ...] = ()) -> int:
    """The longest way down from a role.

    Raises:
        ValueError: the imports run in a circle.
    """
    if role in within:
        raise ValueError(f"The imports run in a circle: {' -> '.join([*within, role])}.")
    return max((1 + height(other, edges, (*within, role)) for other in edges[role]), default=0)


def reduced(edges: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The arrows that no chain of others implies."""

    def below(role: str) -> set[str]:
        return set().union(*({other} | below(other) for other in edges[role])) if edges[role] else set()

    return [
        (role, other)
        for role, others in edges.items()
        for other in others
        if not any(other in below(third) for third in others - {other})
    ]


def draw(target: Path) -> None:
    """Write the picture."""
    names = [role for role in roles() if role not in GROUND]
    edges = {role: imports_of(role, names) for role in names}
    levels: dict[int, list[str]] = {}
    for role in names:
        levels.setdefault(height(role, edges), []).append(role)
    places: dict[str, tuple[float, float]] = {}
    for level in sorted(levels):
        # Each row in the order of what it stands on, so that few arrows cross.
        def lean(role: str) -> tuple[float, str]:
            below = [places[other][0] for other in edges[role] if other in places]
            return (sum(below) / len(below) if below else 0.0, role)

        row = sorted(levels[level], key=lean)
        for number, role in enumerate(row):
            places[role] = ((number - (len(row) - 1) / 2) * 2.1 + 0.35 * (level % 2), level * 1.15)
    colours = {role: colour for colour, members in WAYS.values() for role in members}
    figure, axes = plt.subplots(figsize=(9.5, 9))
    for role, other in reduced(edges):
        (x0, y0), (x1, y1) = places[role], places[other]
        axes.annotate(
            "",
            xy=(x1, y1 + 0.27),
            xytext=(x0, y0 - 0.27),
            arrowprops={"arrowstyle": "-|>", "color": "#777777", "lw": 1.0, "connectionstyle": "arc3,rad=0.06"},
        )
    for role, (x, y) in places.items():
        axes.text(
            x,
            y,
            role,
            ha="center",
            va="center",
            fontsize=10.5,
            bbox={"boxstyle": "round,pad=0.45", "facecolor": colours.get(role, "#eeeeee"), "edgecolor": "#555555"},
        )
    bottom = -1.3
    axes.text(0, bottom, f"beneath all: {', '.join(GROUND)}", ha="center", va="center", fontsize=9.5, color="#444444")
    handles = [plt.Rectangle((0, 0), 1, 1, facecolor=colour, edgecolor="#555555") for colour, _ in WAYS.values()]
    axes.legend(handles, [f"on the way of {way}" for way in WAYS], loc="upper left", frameon=False, fontsize=9)
    xs = [x for x, _ in places.values()]
    axes.set_xlim(min(xs) - 1.3, max(xs) + 1.3)
    axes.set_ylim(bottom - 0.4, max(y for _, y in places.values()) + 0.8)
    axes.set_axis_off()
    figure.tight_layout()
    figure.savefig(target, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "architecture.png")
