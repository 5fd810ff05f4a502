"""Build the documentation as a static site in build/site: README, docs, executed notebooks, API reference.

    make docs            (or: python docs/site.py, with the extra `docs` installed)

The build stops at a link that leads nowhere, in any page, and at anything that a browser would fetch from elsewhere.
"""

import dataclasses
import logging
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from house import rooms
from latex2mathml.converter import convert
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from slicer_lite.config import Config

ROOT = Path(__file__).parents[1]
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
COPIED = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff")


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    modules = lay_out()
    guides = sorted((SOURCE / "docs").glob("*.md"))
    lessons = sorted((SOURCE / "notebooks").glob("*.ipynb"))
    nav = [
        {"Home": "README.md"},
        {"Lessons": [relative(path) for path in lessons]},
        {"Guides": [relative(path) for path in guides]},
        {"Reference": [{module: f"reference/{module}.md"} for module in modules]},
        {"Project": ["CHANGELOG.md", "CONTRIBUTING.md"]},
    ]
    config = load_config(str(ROOT / "docs" / "mkdocs.yml"), nav=nav, strict=True)
    try:
        build(config)
    except Abort as error:
        sys.exit(str(error))
    drop_idle_scripts(SITE)
    wrong = problems(SITE)
    if wrong:
        sys.exit("\n".join(["The site is built, but:", *wrong]))
    print(f"{sum(1 for _ in SITE.rglob('*.html'))} pages, every link good: open {SITE / 'index.html'}")
    print(f"Browsers let the search work from a server only: python -m http.server --directory {SITE}")


def lay_out() -> list[str]:
    """Copy the sources side by side, as in the repository, so that their links hold; write a page for each room."""
    for folder in (SOURCE, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    (SOURCE / "reference").mkdir(parents=True)
    for name in COPIED:
        shutil.copy(ROOT / name, SOURCE / name)
    for folder, kinds in {
        "docs": (".md", ".svg", ".png", ".css"),
        "notebooks": (".ipynb",),
        "benchmarks/results": (".json", ".md"),
    }.items():
        (SOURCE / folder).mkdir(parents=True)
        for path in (ROOT / folder).iterdir():
            if path.suffix in kinds:
                shutil.copy(path, SOURCE / folder / path.name)
    for path in [*SOURCE.glob("*.md"), *SOURCE.glob("docs/*.md")]:
        path.write_text(with_marks(path.read_text(encoding="utf-8")), encoding="utf-8")
    for path in (SOURCE / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = with_mathml(cell.source)
        nbformat.write(notebook, path)
    modules = list(rooms((ROOT / "README.md").read_text(encoding="utf-8")))
    for module in modules:
        (SOURCE / "reference" / f"{module}.md").write_text(reference(module), encoding="utf-8")
    return modules


def reference(module: str) -> str:
    """The page of a room: of a module, or of a folder with all its modules."""
    if module == "config":
        return settings()
    packaged = ROOT / "slicer_lite" / module
    own = "{show_root_heading: false, members: false}" if packaged.is_dir() else "{show_root_heading: false}"
    page = f"# slicer_lite.{module}\n\n::: slicer_lite.{module}\n    options: {own}\n"
    for part in sorted(packaged.rglob("[a-z]*.py")):
        name = ".".join(part.relative_to(ROOT).with_suffix("").parts)
        page += f"\n## {name}\n\n::: {name}\n    options: {{show_root_heading: false, heading_level: 3}}\n"
    return page


def settings() -> str:
    """The page of config.py: a table of what stands beside each setting, instead of a long signature."""
    rows = ["| setting | default | unit | what it is | source |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(Config):
        about = field.metadata
        cells = f"`{field.name}`", f"`{field.default}`", about["unit"], about["what"], about["source"]
        rows.append(f"| {' | '.join(cells)} |")
    page = "# slicer_lite.config\n\n::: slicer_lite.config\n    options: {show_root_heading: false, members: false}\n"
    page += "\n::: slicer_lite.config.Config\n    options: {members: false, show_signature: false}\n\n"
    page += with_marks("\n".join(rows)) + "\n"
    for name in ("Config.replace", "Config.to_dict", "preset"):
        page += f"\n::: slicer_lite.config.{name}\n    options: {{show_root_heading: true}}\n"
    return page


def with_marks(text: str) -> str:
    """A source mark after another bracket is no link, though Markdown thinks so. (Docstrings put a comma between.)"""
    return re.sub(r"\[(P|R|B|C|M|ours)\](?![(:])", r"\\[\1\\]", text)


def with_mathml(text: str) -> str:
    """TeX between dollars as MathML, which browsers draw without any script. Code is left alone."""

    def drawn(match: re.Match[str]) -> str:
        if match["code"]:
            return match["code"]
        return convert(match["block"] or match["line"], display="block" if match["block"] else "inline")

    pattern = r"(?P<code>```.*?```|`[^`\n]*`)|\$\$(?P<block>.+?)\$\$|\$(?P<line>[^$\n]+)\$"
    return re.sub(pattern, drawn, text, flags=re.DOTALL)


def drop_idle_scripts(site: Path) -> None:
    """Take from the notebooks' pages what would fetch libraries for formulas and diagrams: they need none."""

    def kept(script: re.Match[str]) -> str:
        idle = ('src=""', "mathjax", "MathJax", "mermaid")
        return "" if any(word in script[0] for word in idle) else script[0]

    for path in (site / "notebooks").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"<script.*?</script>", kept, text, flags=re.DOTALL), encoding="utf-8")


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


class _Page(HTMLParser):
    """The anchors of a page, where its links lead, and what it loads."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") != "canonical":
            self.loads.append(given.get("href", ""))
        elif "src" in given:
            self.loads.append(given["src"])


def problems(site: Path) -> list[str]:
    """Links to pages or anchors that are not there, and everything that would be fetched from elsewhere."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links are absolute, for a server
            continue
        here = path.relative_to(site)
        for target in page.loads + page.links:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https") or parts.netloc:
                if target in page.loads:
                    found.append(f"{here} would fetch {target}")
            elif not parts.scheme:
                there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                if not there.exists():
                    found.append(f"{here}: {target} leads nowhere")
                elif (
                    parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].anchors
                ):
                    found.append(f"{here}: {target}: there is no such place on that page")
        imported = re.findall(
            r"""(?:import|url)\(\s*["']?(https?://[^"')]+)""", path.read_text(encoding="utf-8")
        )
        found += [f"{here} would fetch {address}" for address in imported]
    return sorted(set(found))


if __name__ == "__main__":
    main()
