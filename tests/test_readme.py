"""The README's figures are those of the benchmarks, and CONTRIBUTING's tree is that of the folders."""

import re
from pathlib import Path

MOST_LINES = 120
TREE = re.compile(r"^```text\n(pipelines/.*?)^```$", re.DOTALL | re.MULTILINE)
FIGURE = re.compile(r"(?<![\d\w])\.\d{3,4}")


def test_the_readme_is_short(root):
    assert len((root / "README.md").read_text().splitlines()) <= MOST_LINES


def test_figures_are_those_of_the_benchmarks(root):
    figures = FIGURE.findall((root / "README.md").read_text())
    results = set(FIGURE.findall((root / "benchmarks" / "RESULTS.md").read_text()))
    assert len(figures) > 10
    assert [figure for figure in figures if figure not in results] == []


def test_links_and_images_lead_to_files(root):
    for name in ("README.md", "CONTRIBUTING.md"):
        links = re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", (root / name).read_text())
        assert [link for link in links if not link.startswith("http") and not (root / link).exists()] == []
    image = root / "docs" / "assets" / "contact-sheet.png"
    assert image.stat().st_size <= 300_000


def tree_of(root: Path) -> list[str]:
    """Return the paths that CONTRIBUTING's tree names."""
    (tree,) = TREE.findall((root / "CONTRIBUTING.md").read_text())
    top, named = "", []
    for line in tree.splitlines():
        name = line.split()[0]
        top = top if line.startswith(" ") else name
        named.append(top + name if line.startswith(" ") else name)
    return named


def test_the_tree_is_that_of_the_folders_both_ways(root):
    """Each line names what is there; each folder, and each module at the top of the library, has a line."""
    named = tree_of(root)
    assert [name for name in named if not (root / name).exists()] == []
    tops = ("pipelines", "mmrec", "indexers", "benchmarks", "docs", "notebooks", "tests")
    inside = [path for top in ("pipelines", "mmrec", "indexers") for path in (root / top).iterdir()]
    folders = [root / top for top in tops] + [
        path for path in inside if path.is_dir() and not path.name.startswith("_")
    ]
    modules = [path for path in inside if path.parent.name == "mmrec" and path.suffix == ".py" and path.name[0] != "_"]
    there = [f"{path.relative_to(root).as_posix()}/" for path in folders]
    there += [path.relative_to(root).as_posix() for path in modules]
    assert sorted(set(there) - set(named)) == []


def _holds_files(path: Path) -> bool:
    """Whether it is a folder of the checkout, and not what a cache has left of one."""
    return path.is_dir() and path.name[0] != "_" and any(each.is_file() for each in path.iterdir())
