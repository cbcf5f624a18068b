"""Draw the rooms of ``bundle/`` and how many modules of each import another: ``docs/images/rooms.png``."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import fire

HOME = Path(__file__).parents[2]
FLOORS = (
    ("common",),
    ("images",),
    ("data", "networks"),
    ("preparation", "staining"),
    ("evaluation", "hospital"),
    ("training", "report"),
    ("nuclei", "studies"),
    ("commands",),
)


def arrows(bundle: Path) -> Counter:
    """How many modules of a room import one of another, by (room, other)."""
    found: Counter = Counter()
    for path in bundle.rglob("*.py"):
        room = path.relative_to(bundle).parts[0]
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        others = {name.split(".")[1] for name in names if name.startswith("bundle.")} - {room}
        found.update((room, other) for other in others if room != "__init__.py")
    return found


def draw(output: str = str(HOME / "docs/images/rooms.png")) -> str:
    """Draw the rooms.

    Args:
        output: the picture to make.
    """
    from matplotlib import pyplot as plt

    places = {}
    for across, rooms in enumerate(FLOORS):
        for down, room in enumerate(rooms):
            places[room] = (across * 1.7, (len(rooms) - 1) / 2 * 2.2 - down * 2.2)
    figure, axes = plt.subplots(figsize=(12, 4.6))
    most = max(arrows(HOME / "bundle").values())
    for (room, other), number in sorted(arrows(HOME / "bundle").items(), key=lambda each: each[1]):
        weight = 0.15 + 0.75 * number / most
        style = {"arrowstyle": "-|>", "lw": 0.6 + 3.4 * number / most, "color": str(0.85 - 0.6 * weight)}
        bend = 0.25 if abs(places[room][0] - places[other][0]) > 2 else 0.0
        style |= {"shrinkA": 26, "shrinkB": 28, "connectionstyle": f"arc3,rad={bend}"}
        axes.annotate("", places[other], places[room], arrowprops=style)
    for room, (x, y) in places.items():
        modules = sum(1 for path in (HOME / "bundle" / room).rglob("*.py") if path.name != "__init__.py")
        box = {"boxstyle": "round,pad=0.5", "fc": "#eef3f8", "ec": "#35516b"}
        axes.text(x, y, f"{room}\n{modules} modules", ha="center", va="center", bbox=box, fontsize=9)
    axes.set_xlim(-1, 1.7 * (len(FLOORS) - 1) + 1)
    axes.set_ylim(-1.7, 2.3)
    axes.axis("off")
    figure.tight_layout()
    figure.savefig(output, dpi=110)
    return output


if __name__ == "__main__":
    fire.Fire(draw)
