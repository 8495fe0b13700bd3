"""Draw the code's structure from its imports: docs/architecture.svg, and the table in docs/architecture.md.

    python docs/draw_architecture.py

A room is a folder of src/stillhouse, a method, or a module beside them; an arrow is an import, wherever in a file it stands.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parent
SOURCE = DOCS.parent / "src" / "stillhouse"
PAGE, PICTURE = DOCS / "architecture.md", DOCS / "architecture.svg"
WIDTH, GAP, BOX = 1180, 8, 46
METHODS = """dmd2 disback multi_student swiftbrush diswot similar_tasks distiller autodistil impossible modular_encoder forum_qa
biomedical_relations mirage fair_tables"""
"""By what they stand on, so that few arrows cross."""
ROWS = (
    ("commands", ("cli", "serving", "exporting", "doctor", "completion", "launch", "catalog")),
    ("methods", tuple(METHODS.split())),
    ("engine and reports", ("diffusion", "reporting")),
    ("workbenches", ("vision", "encoders", "corpus", "knowledge", "graphs", "tables")),
    ("core", ("core",)),
)
"""From the top down: imports point down."""
HEIGHTS = (60, 190, 350, 480, 610)
LEFT_OUT = ("__init__", "__main__", "methods")
COLOURS = {"commands": "#e8eef7", "methods": "#fdf1dc", "engine and reports": "#e4f1e6", "workbenches": "#e4f1e6"}
ARROWS = {"commands": "#5b7aa8", "methods": "#b98a3a", "engine and reports": "#4d8a5b", "workbenches": "#4d8a5b"}


@dataclass
class Room:
    """A folder, a method or a module of its own."""

    modules: int = 0
    lines: int = 0
    imports: set[str] = field(default_factory=set)


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a module, by its path below the package."""
    return parts[1] if parts[0] == "methods" and len(parts) > 1 else parts[0]


def imported(tree: ast.Module) -> set[str]:
    """Rooms that a file imports from."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "stillhouse":
            below = tuple((node.module or "").split(".")[1:])
            found |= {room_of((*below, name.name)) for name in node.names}
    return found


def rooms(source: Path = SOURCE) -> dict[str, Room]:
    """Every room with its size and what it imports."""
    found: dict[str, Room] = defaultdict(Room)
    for file in sorted(source.rglob("*.py")):
        parts = file.relative_to(source).with_suffix("").parts
        room = found[room_of(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)]
        text = file.read_text(encoding="utf-8")
        room.modules += 1
        room.lines += len(text.splitlines())
        room.imports |= imported(ast.parse(text))
    for name in LEFT_OUT:
        found.pop(name, None)
    for name, room in found.items():
        room.imports &= found.keys() - {name}
    found["catalog"].imports |= set(ROWS[1][1])  # by name, when one is asked for
    return dict(found)


def places() -> dict[str, tuple[str, float, float, float]]:
    """Row, left edge, top and width of every box."""
    found = {}
    for (row, names), top in zip(ROWS, HEIGHTS, strict=True):
        width = WIDTH / 5 if len(names) == 2 else (WIDTH - GAP * (len(names) + 1)) / len(names)
        step = (WIDTH - 2 * GAP - width) / max(1, len(names) - 1)
        for i, name in enumerate(names):
            found[name] = (row, GAP + i * step, float(top), width)
    return found


def arrow(start: tuple[str, float, float, float], end: tuple[str, float, float, float]) -> str:
    """From the foot of one box to the head of another; between boxes of one row, over their heads."""
    row, x, y, width = start
    x1, x2 = x + width / 2, end[1] + end[3] / 2
    y1, y2 = (y, end[2]) if y == end[2] else (y + BOX, end[2])
    bend = -28 if y == end[2] else (y2 - y1) / 2
    return (
        f'<path d="M{x1:.0f} {y1:.0f} C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 + (bend if y == end[2] else -bend):.0f} '
        f'{x2:.0f} {y2:.0f}" stroke="{ARROWS[row]}" fill="none" stroke-width="1.2" marker-end="url(#head)"/>'
    )


def box(name: str, room: Room, place: tuple[str, float, float, float]) -> list[str]:
    """A room's box, its name (in two lines where it is long), modules and lines."""
    row, x, y, width = place
    words = name.split("_") if 6.2 * len(name) > width else [name]
    size = f"{room.modules} · {room.lines / 1000:.1f}k"
    made = [
        f'<rect x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{BOX}" rx="4" '
        f'fill="{COLOURS.get(row, "#eeeeee")}" stroke="#555"/>'
    ]
    for i, line in enumerate([*words, size]):
        place_y = y + BOX / 2 + 4 + 13 * (i - len(words) / 2)
        kind = 'font-size="10" fill="#444"' if i == len(words) else 'font-size="11" font-weight="600"'
        made.append(
            f'<text x="{x + width / 2:.1f}" y="{place_y:.1f}" text-anchor="middle" {kind}>{escape(line)}</text>'
        )
    return made


def picture(found: dict[str, Room]) -> str:
    """The structure as SVG. Arrows to core are left out: every room has one."""
    where = places()
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 690" role="img" aria-labelledby="t d" '
        'font-family="sans-serif">',
        '<title id="t">Rooms of the code and their imports</title>',
        '<desc id="d">Commands on top, then the fourteen methods, the diffusion engine and reports, the workbenches, '
        "and core. All arrows point down. The table below says the same.</desc>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
        f'<rect width="{WIDTH}" height="690" fill="white"/>',
    ]
    for name, room in sorted(found.items()):
        parts += [arrow(where[name], where[other]) for other in sorted(room.imports - {"core"})]
    for name, room in sorted(found.items()):
        parts += box(name, room, where[name])
    for (row, _), top in zip(ROWS, HEIGHTS, strict=True):
        parts.append(f'<text x="{GAP}" y="{top - 8}" font-size="11" fill="#555">{row}</text>')
    note = "a box: modules, lines; arrows to core are left out"
    parts.append(f'<text x="{WIDTH - GAP}" y="682" font-size="11" fill="#555" text-anchor="end">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def table(found: dict[str, Room]) -> str:
    """The same in words, row by row."""
    lines = ["| room | modules | lines | imports |", "|---|---:|---:|---|"]
    for _, names in ROWS:
        for name in names:
            room = found[name]
            others = "all methods, by name" if name == "catalog" else ", ".join(sorted(room.imports - {"core"}))
            told = ", ".join(filter(None, (others, "core" if "core" in room.imports else "")))
            lines.append(f"| {name} | {room.modules} | {room.lines:,} | {told} |")
    return "\n".join(lines)


def main() -> None:
    found = rooms()
    PICTURE.write_text(picture(found), encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    between = f"\n\n{table(found)}\n\n"
    kept = re.sub(r"(<!-- rooms -->).*?(<!-- end -->)", lambda m: m[1] + between + m[2], page, flags=re.S)
    PAGE.write_text(kept, encoding="utf-8")


if __name__ == "__main__":
    main()
