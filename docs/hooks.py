"""MkDocs hook: pages generated from the code, drawings set into pages, and llms.txt at the site's root.

The command-line page comes from typer's own tree of commands, the configuration page from the models that parse the
files, the Python page from the names that `import mmrec` offers.
"""  # noqa: INP001 - read by its path

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import griffe
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
DRAWING = re.compile(r"^!\[(?P<title>[^]]+)\]\((?:\.\./)*drawings/(?P<name>[\w-]+)\.svg\)$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and llms.txt."""
    pages = {
        "reference/command-line.md": command_line,
        "reference/configuration.md": configuration,
        "reference/python.md": python_reference,
        "llms.txt": llms,
    }
    for name, made in pages.items():
        files.append(File.generated(config, name, content=made()))
    return files


def llms() -> str:
    """Return llms.txt with its links as they are in the site."""
    return re.sub(r"\(docs/([\w/-]+)\.md\)", r"(\1.html)", (ROOT / "llms.txt").read_text(encoding="utf-8"))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Set the source of each drawing into the page, where it takes the colour of the text."""
    del page, config, files
    return DRAWING.sub(lambda found: drawing(found["name"], found["title"]), markdown)


def drawing(name: str, title: str) -> str:
    """Return a drawing as a figure of HTML, without blank lines, which would end it in Markdown."""
    svg = (ROOT / "docs" / "drawings" / f"{name}.svg").read_text(encoding="utf-8")
    svg = re.sub(r"^<\?xml.*?\?>\s*", "", svg).replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
    lines = [line for line in svg.splitlines() if line.strip()]
    return "\n".join(['<figure class="drawing">', *lines, "</figure>"])


# The command line


def commands() -> Iterator[tuple[str, Any]]:
    """Yield each command with its whole name, groups opened."""
    from pipelines.cli import app  # noqa: PLC0415 - loaded when a site is built

    yield from _leaves("mmrec", typer.main.get_command(app))


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer's own click has no public types
    inside: Mapping[str, Any] = getattr(command, "commands", {})
    if not inside:
        yield name, command
    for own, each in inside.items():
        yield from _leaves(f"{name} {own}", each)


_COMMANDS = """# Command line

Generated from the commands themselves: what `mmrec COMMAND --help` shows. With `--json` a command prints one JSON
document on stdout and everything else on stderr.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed, or `verify` found damage |
| 2 | wrong usage, or a store, item, file or column that is not there |
| 3 | with `--strict`: something was quarantined, refused, or of no item |
| 4 | a fault in mmrec |
| 130 | interrupted |"""


def command_line() -> str:
    """Write the page of all commands."""
    parts = [_COMMANDS]
    for name, command in commands():
        parts += [f"## `{name}`", _plain(command.help or ""), _usage(name, command)]
        parts += [table for table in (_arguments(command), _options(command)) if table]
        if command.epilog:
            parts.append(f"Example: `{command.epilog.removeprefix('Example: ')}`")
    return "\n\n".join(parts) + "\n"


def _usage(name: str, command: Any) -> str:  # noqa: ANN401 - as above
    wanted = [_shown(one) if one.required else f"[{_shown(one)}]" for one in command.params if _is_argument(one)]
    return f"```text\n{' '.join([name, *wanted, '[OPTIONS]'])}\n```"


def _arguments(command: Any) -> str:  # noqa: ANN401 - as above
    rows = [(f"`{_shown(one)}`", one.help or "") for one in command.params if _is_argument(one)]
    return _table(("argument", "meaning"), rows)


def _options(command: Any) -> str:  # noqa: ANN401 - as above
    rows = []
    for one in command.params:
        if not _is_argument(one) and not one.hidden:
            flags = ", ".join(f"`{flag}`" for flag in (*one.opts, *one.secondary_opts))
            rows.append((flags, "" if one.is_flag else f"`{_shown(one)}`", one.help or "", _default_of(one)))
    return _table(("option", "value", "meaning", "default"), rows)


def _is_argument(one: Any) -> bool:  # noqa: ANN401 - as above
    return bool(one.param_type_name == "argument")


def _shown(one: Any) -> str:  # noqa: ANN401 - as above
    if one.metavar:
        return str(one.metavar).strip("[]")
    choices = get_args(one.type_descriptor.annotation)  # of a Literal
    return "|".join(map(str, choices)) if choices else str(one.name).upper()


def _default_of(one: Any) -> str:  # noqa: ANN401 - as above
    if one.required:
        return "required"
    if isinstance(one.show_default, str):
        return one.show_default
    plain = one.default is None or one.default is False or one.default == () or callable(one.default)
    return "" if plain else f"`{one.default}`" if not one.is_flag else "on"


# Configuration files


def configuration() -> str:
    """Write the page of configuration files."""
    parts = [_CONFIGURATION]
    for title, about, model, examples in _FILES:
        parts += [f"## {title}", about]
        if model:
            module, _, name = model.rpartition(".")
            parts += list(_tables(getattr(import_module(module), name), ""))
        for example in examples:
            text = (ROOT / "pipelines" / "configs" / example).read_text(encoding="utf-8")
            parts.append(f"`pipelines/configs/{example}`:\n\n```toml\n{text.strip()}\n```")
    return "\n\n".join(parts) + "\n"


_CONFIGURATION = """# Configuration files

Generated from the models that parse them. A key that is not listed is an error, which names the keys allowed."""

_CATALOG = """\
`mmrec index catalog.toml STORE`: a source with its columns and options. Relative paths start at the file's
folder; options of the command line go over those of the file."""

_ENCODERS = """\
`--encoders FILE.toml`: one `[[encoders]]` table for each encoder, with `factory`, the dotted path of a class
or function, and the keywords that it is called with beside `device` and `dtype`. Modules beside the file are found.

```toml
[[encoders]]
factory = "mmrec.encoders.packaged.minilm.MiniLM"
```"""

_KINDS = """\
`--kinds FILE.toml` of `mmrec events import`, `recommend`, `train` and `evaluate`. What it names goes over the
defaults. It may have the tables `[weights]`, `[ratings]` and `[aliases]`."""

_FILES = (
    ("Catalog", _CATALOG, "mmrec.jobs.index_options.CatalogSpec", ()),
    ("Encoders", _ENCODERS, None, ()),
    ("Kinds of events", _KINDS, None, ("events.toml",)),
    (
        "Training of a user tower",
        "`mmrec train STORE --config FILE.toml`.",
        "mmrec.training.config.TrainingConfig",
        ("train-small.toml", "train-cpu.toml", "train-gpu.toml"),
    ),
    (
        "Fine-tuning",
        "`mmrec finetune OBJECTIVE STORE --config FILE.toml`.",
        "mmrec.finetuning.config.FinetuneConfig",
        ("finetune-heads-cpu.toml", "finetune-lora-gpu.toml", "finetune-full-gpus.toml"),
    ),
)


def _tables(model: type[BaseModel], path: str) -> Iterator[str]:
    """Yield a table of a model's keys, then those of the models inside it."""
    about = _flags() | attributes(model)
    rows, inside = [], []
    for name, field in model.model_fields.items():
        nested = _nested(field.annotation)
        if nested is None:
            rows.append((f"`{name}`", f"`{_spelled(field.annotation)}`", _value(field), about.get(name, "")))
        else:
            kept = ".MODALITY" if get_origin(field.annotation) is Mapping else ""
            inside.append((f"{path}{name}{kept}", nested, about.get(name, "")))
    if rows:
        yield _table(("key", "type", "default", "meaning"), rows)
    for name, nested, meaning in inside:
        yield f"### `[{name}]` {{: #{model.__name__.lower()}-{name.lower().replace('.', '-')} }}"
        if meaning:
            yield meaning
        yield from _tables(nested, f"{name}.")


@cache
def _flags() -> dict[str, str]:
    """Return what the options of ``mmrec index`` mean: a catalog's file has keys of the same names."""
    command = next(command for name, command in commands() if name == "mmrec index")
    spelled = {flag.lstrip("-").replace("-", "_"): one for one in command.params for flag in one.opts}
    return {name: one.help or "" for name, one in spelled.items()} | {
        "storage": "Options of object stores, a table each: `[storage.s3]`, `[storage.gs]`."
    }


def attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return what a class's docstring says of each of its attributes."""
    sections = griffe.Docstring(model.__doc__ or "", parser="google").parse(warnings=False)
    listed = [one for one in sections if one.kind is griffe.DocstringSectionKind.attributes]
    found = [attribute for one in listed for attribute in one.value]
    return {one.name: " ".join(one.description.split()).replace("``", "`") for one in found}


def _nested(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = (_nested(each) for each in get_args(annotation) if get_origin(annotation) is not Literal)
    return next((model for model in models if model is not None), None)


def _spelled(annotation: Any) -> str:  # noqa: ANN401 - any annotation
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return _spelled(arguments[0])
    if origin is Literal:
        return " | ".join(f'"{each}"' for each in arguments)
    if origin in (Union, UnionType):
        return " | ".join(_spelled(each) for each in arguments if each is not NoneType)
    if origin is tuple:
        inner = _spelled(arguments[0])
        return f"list of {inner}"
    if origin is not None and len(arguments) == 2:
        return f"table of {_spelled(arguments[1])}"
    return {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", "any").lower()
    )


def _value(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value in (None, (), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{[list(map(str, each)) if isinstance(each, tuple) else str(each) for each in value]}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


# Python


def python_reference() -> str:
    """Write the page of the names that ``import mmrec`` offers, functions first."""
    import mmrec  # noqa: PLC0415 - loaded when a site is built

    functions = [name for name in mmrec.__all__ if name[0].islower()]
    errors = [name for name in mmrec.__all__ if name.endswith("Error")]
    classes = [name for name in mmrec.__all__ if name not in {*functions, *errors}]
    tree = (import_module("mmrec.errors").__doc__ or "").split("\n\n")[1]
    parts = ["# Python", "All that `import mmrec` offers. It loads nothing heavy before it is used."]
    for title, names in (("Functions", functions), ("Classes", classes)):
        parts.append(f"## {title}")
        parts += [f"::: mmrec.{name}" for name in names]
    parts += [
        "## Errors",
        f"Each is in `mmrec.errors`.\n\n```text\n{tree}\n```",
        *(f"::: mmrec.{name}" for name in errors),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(_cell(each) for each in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _plain(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
