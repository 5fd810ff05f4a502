"""Draw who imports whom in slicer_lite, room by room, as docs/house.svg: python docs/house.py

The rooms, their order from the ground up and a line on each are README's; the imports are read from the code, also
those inside functions. tests/test_house.py holds the house to its rules.
"""

import ast
import re
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "house.svg"

# Imports that go up, all inside functions or for a while: who, whom, and why.
EXCEPTIONS = {
    # `Encoder.from_audiontt`, a public name, reads what other projects have written.
    ("method.encoder", "share.audiontt"),
}


def rooms(readme: str) -> dict[str, str]:
    """Name and line of each room, from the ground up, as README lists them."""
    listed = readme.partition("slicer_lite/\n")[2].partition("\n```")[0]
    return dict(re.findall(r"^  (\w+)(?:/|\.py) +(\S.*)$", listed, re.MULTILINE))


def imports(package: Path) -> dict[str, set[str]]:
    """For each module of a package, named without it, the modules of the package that it imports anywhere.

    The package's own `__init__` is left out, as importer and as imported: it loads public names when they are asked
    for, and the others ask it for the version alone.
    """
    paths = {_name(path, package): path for path in sorted(package.rglob("*.py"))}
    found: dict[str, set[str]] = {name: set() for name in paths if name}
    for name in found:
        for node in ast.walk(ast.parse(paths[name].read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                asked = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                inside = f"{package.name}.{name}".split(".")
                # `from . import x` in a package begins at it, in a module at the package around it.
                up = node.level - (paths[name].name == "__init__.py")
                begin = ".".join(inside[: len(inside) - up]) if node.level else ""
                base = ".".join(part for part in (begin, node.module) if part)
                asked = [f"{base}.{alias.name}" for alias in node.names]
            else:
                continue
            for target in asked:
                first, _, rest = target.partition(".")
                while rest and rest not in paths:  # a name inside a module
                    rest = rest.rpartition(".")[0]
                if first == package.name and rest and rest != name:
                    found[name].add(rest)
    return found


def room(module: str) -> str:
    """The room of a module: its folder, or, of a module that is a room by itself, its name."""
    first = module.partition(".")[0]
    return "cli" if first == "__main__" else first


def upward(graph: dict[str, set[str]], order: list[str]) -> set[tuple[str, str]]:
    """Importer and imported of every import from a lower room to a higher one."""
    return {
        (one, other)
        for one, others in graph.items()
        for other in others
        if order.index(room(one)) < order.index(room(other))
    }


def _name(path: Path, package: Path) -> str:
    return ".".join(path.relative_to(package).with_suffix("").parts).removesuffix("__init__").rstrip(".")


# Pixels: the height of a row, the width of the texts, that of a column, the height of the heading.
ROW, TEXT, CELL, TOP = 38, 560, 30, 44
STYLE = """
    .ground { fill: #ffffff } .room { fill: #f4f6f8; stroke: #c9d1d9 } .name { fill: #0b4f79; font-weight: bold }
    .line, .label { fill: #333333 } .stair { fill: #0072b2 } .dot { fill: #d55e00 }
    .ring { fill: none; stroke: #d55e00; stroke-width: 2 } .rail { stroke: #d0d7de; fill: none }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #0d1117 } .room { fill: #161b22; stroke: #3d444d } .name { fill: #79c0ff }
      .line, .label { fill: #d1d7e0 } .stair { fill: #56b4e9 } .dot { fill: #ff9a52 }
      .ring { stroke: #ff9a52 } .rail { stroke: #30363d }
    }
"""


def drawn(lines: dict[str, str], graph: dict[str, set[str]]) -> str:
    """The picture: a row for each room, the ground at the bottom; a dot in a row is an import of the column's room.

    Columns stand in the same order, so that a room's own cell is a stair, and dots lie left of the stairs.
    """
    order = list(lines)
    every = {(room(one), room(other)) for one, others in graph.items() for other in others}
    edges = {(one, other) for one, other in every if one != other}
    width, bottom = 2 * 16 + TEXT + CELL * len(order), TOP + ROW * len(order)
    height = bottom + 76

    def across(name: str) -> float:
        return 16 + TEXT + CELL * (order.index(name) + 0.5)

    def down(name: str) -> float:
        return bottom - ROW * (order.index(name) + 0.5)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="13" role="img" '
        'font-family="Helvetica, Arial, sans-serif" aria-label="The rooms of slicer_lite from the ground up, and '
        'which room imports which: one below, but for a single ring.">',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{width}" height="{height}" rx="10"/>',
        '<text class="label" x="28" y="28" font-size="12">The house, from the ground up. A dot: files of its row '
        "import from the room whose stair is below it. The ring goes up, for Encoder.from_audiontt alone.</text>",
    ]
    for name, line in lines.items():
        y = down(name)
        used = [other for other in order if (name, other) in edges]
        parts.append(
            f'<rect class="room" x="16" y="{y - ROW / 2 + 3:g}" width="{TEXT - 10}" height="{ROW - 6}" rx="6"/>'
            f'<text class="name" x="28" y="{y + 4.5:g}">{name}</text>'
            f'<text class="line" x="106" y="{y + 4.5:g}" font-size="12">{escape(line)}</text>'
        )
        x, users = across(name), [other for other in order if (other, name) in edges]
        # From the farthest that it uses to the farthest that uses it.
        left, top = across([*used, name][0]), down([name, *users][-1])
        parts.append(f'<path class="rail" d="M{left:g},{y:g} H{x:g} V{top:g}"/>')
        parts.append(f'<path class="rail" d="M{x:g},{y:g} V{bottom + 6}" stroke-dasharray="1 4"/>')
        parts.append(
            f'<text class="label" font-size="12" text-anchor="end" transform="translate({x + 4:g},'
            f'{bottom + 12}) rotate(-60)">{name}</text>'
        )
    parts += [
        f'<rect class="stair" x="{across(name) - 9:g}" y="{down(name) - 9:g}" width="18" height="18" rx="4"/>'
        for name in order
    ]
    parts += [
        f'<circle class="{"ring" if across(other) > across(name) else "dot"}" '
        f'cx="{across(other):g}" cy="{down(name):g}" r="5">'
        f"<title>{name} imports from {other}</title></circle>"
        for name, other in sorted(edges)
    ]
    return "\n".join([*parts, "</svg>\n"])


def picture() -> str:
    """The picture of this package."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return drawn(rooms(readme), imports(ROOT / "slicer_lite"))


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(f"{PICTURE} is drawn.")
