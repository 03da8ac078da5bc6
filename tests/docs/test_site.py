"""The site: generated pages are whole, links of llms.txt lead somewhere, and nothing is asked of other hosts."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmrec
from mmrec.finetuning.config import FinetuneConfig
from mmrec.training.config import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]
DRAWN = ("space", "fusion", "generation", "label-bridge", "user-tower", "cold-start")
LOADED = re.compile(
    r"""(?:src|data-src)=["'](?:https?:)?//|<link[^>]+href=["'](?:https?:)?//|@import|url\(["']?https?:"""
)


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_line_page_has_every_command_and_option(hooks):
    page = hooks.command_line()
    names = [name for name, _ in hooks.commands()]
    assert {"mmrec index", "mmrec search", "mmrec events import"} <= set(names)
    for name, command in hooks.commands():
        section = page.partition(f"## `{name}`\n")[2].partition("\n## ")[0]
        assert command.epilog.removeprefix("Example: ") in section, name
        for one in command.params:
            assert all(f"`{flag}`" in section for flag in one.opts if flag.startswith("-")), (name, one.name)
            assert one.help, (name, one.name)


def test_the_configuration_page_has_every_key_with_its_meaning(hooks):
    page = hooks.configuration()
    for model in (TrainingConfig, FinetuneConfig):
        for name in model.model_fields:
            assert f"`{name}`" in page or f"[{name}" in page, name
    for line in page.splitlines():
        if re.match(r"\| `\w+` \|", line):
            assert line.rstrip(" |").count(" | ") >= 3, f"no meaning: {line}"


def test_the_python_page_has_every_name(hooks):
    page = hooks.python_reference()
    assert [name for name in mmrec.__all__ if f"::: mmrec.{name}\n" not in page] == []


def test_each_concept_has_a_drawing_that_takes_the_colour_of_the_text(hooks):
    for name in DRAWN:
        page = (ROOT / "docs" / "concepts" / f"{name}.md").read_text()
        figure = hooks.DRAWING.sub(lambda found: hooks.drawing(found["name"], found["title"]), page)
        assert figure.count('<figure class="drawing">\n<svg role="img" aria-label="') == 1, name
        drawing = (ROOT / "docs" / "drawings" / f"{name}.svg").read_text()
        assert "currentColor" in drawing
        assert not re.search(r'(?:fill|stroke)="#|href="http', drawing), name


def test_links_of_llms_txt_lead_to_pages():
    text = (ROOT / "llms.txt").read_text()
    generated = {"docs/reference/command-line.md", "docs/reference/python.md", "docs/reference/configuration.md"}
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if link not in generated and not (ROOT / link).is_file()] == []
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")} - {"docs/index.md"}
    assert sorted(pages - set(links)) == []


@pytest.mark.slow
def test_the_site_is_built_strictly_and_asks_nothing_of_other_hosts(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [*(tmp_path / "site").rglob("*.html"), *(tmp_path / "site").rglob("*.css")]
    assert len(pages) > 20
    assert [str(path) for path in pages if LOADED.search(path.read_text(encoding="utf-8"))] == []
    assert "(quickstart.html)" in (tmp_path / "site" / "llms.txt").read_text()
