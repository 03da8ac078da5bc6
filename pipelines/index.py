"""The job behind ``mmrec index``."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from indexers.types import IndexSpec
from mmrec.adoption import adopt
from mmrec.catalog.columns import ColumnSpec
from mmrec.catalog.guess import guess_columns
from mmrec.catalog.source import Source, open_source
from mmrec.catalog.storage import configure
from mmrec.compute import own_threads
from mmrec.encoders.presets import PRESETS, load_encoders, may_reopen, recorded_source
from mmrec.errors import UsageError
from mmrec.finetuning.verdict import told_of
from mmrec.generation.agreement import advice_of
from mmrec.indexing import Indexing, index_items
from mmrec.modality import Modality
from mmrec.store.generations import current, manifest
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout
from pipelines import console
from pipelines.index_types import Columns, IndexOptions, IndexSummary
from pipelines.media import opened_media
from pipelines.progress import Reporter, progress

__all__ = ["encoders_of", "run"]

PACKAGED = "packaged"
AUTO = "auto"


def run(options: IndexOptions) -> IndexSummary:
    """Index a source into a store. Raises UsageError, StoreError or EncoderError; see `mmrec.errors`."""
    started = time.perf_counter()
    layout = Layout(options.store)
    if options.source is not None and options.store.exists():
        layout.create()
    configure(options.storage)
    source = None if options.source is None else _opened(options, options.source)
    if source is None:
        _check_bare(options, layout)
    own_threads()
    had_tower = _has_tower(layout)
    chosen = encoders_of(options.encoders, layout)
    _check_verdict(chosen, force=options.force)
    encoders = load_encoders(chosen, device=options.device, dtype=options.dtype)
    address, count = (source.address, source.count) if source else (None, len(ItemTable(layout.items)))
    with (
        opened_media(options.media_root, address, allow_fetch=options.allow_fetch) as media,
        progress("indexing", count) as advance,
    ):
        how = Indexing(
            encoder_source=recorded_source(chosen),
            weights=options.weights,
            keep_missing=options.keep_missing,
            delta=options.add,
            prune=options.prune,
            refit=options.refit,
            index=None if options.index in {None, AUTO} else IndexSpec(str(options.index), "ip"),
            index_memory=None if options.index_memory is None else int(options.index_memory * 1e9),
            choose_index=options.index == AUTO,
            media=media,
            report=Reporter(advance),
        )
        if source is None:
            tally, made = adopt(layout, encoders, how)
        else:
            tally, made = index_items(source, source.metadata_schema, layout, encoders, how)
    for sentence in advice_of(made):
        console.warn(f"{sentence}.")
    if had_tower and not made.has_tower:
        console.warn(f"What was learned of behaviour was of other vectors, and is gone: mmrec train {options.store}")
    return IndexSummary(
        items=len(ItemTable(layout.items)),
        added=tally.added,
        changed=tally.changed,
        removed=tally.removed,
        read=tally.read,
        encoded=dict(tally.encoded),
        truncated={name: count for name, count in tally.truncated.items() if count},
        quarantined=tally.quarantined,
        generation=made.number,
        seconds=time.perf_counter() - started,
    )


def encoders_of(given: str | None, layout: Layout) -> str:
    """The encoders as given, or those of the store. Raises UsageError where those are a person's own."""
    if given is not None:
        return given
    number = current(layout)
    made_with = PACKAGED if number is None else manifest(layout, number).encoders
    if not PRESETS.get(made_with, (None,)):
        raise UsageError(
            f"the vectors of {layout.root} were made elsewhere, so it has no encoders; name some with --encoders "
            f"{PACKAGED}, or bring more vectors with `mmrec import-vectors`"
        )
    if not may_reopen(made_with):
        raise UsageError(
            f"{layout.root} was made with the encoders of {made_with}; name them with --encoders {made_with}, or "
            f"move the store to others with --encoders {PACKAGED}"
        )
    return made_with


def _has_tower(layout: Layout) -> bool:
    number = current(layout)
    return number is not None and manifest(layout, number).has_tower


def _opened(options: IndexOptions, source: str | Path) -> Source:
    """A catalog, with the columns that are given or agreed to."""
    columns = _columns(options, source)
    _check_weights(options.weights, columns)
    return open_source(source, columns)


def _check_verdict(encoders: str, *, force: bool) -> None:
    """Raise UsageError for encoders that fine-tuning made worse, unless a person insists."""
    told = told_of(Path(encoders))
    if told is not None and told[0] == "hurt" and not force:
        raise UsageError(
            f"The encoders in {encoders} are worse than those they were made from. {told[1]} To take them "
            "up all the same: --force."
        )


def _check_bare(options: IndexOptions, layout: Layout) -> None:
    """Raise UsageError for what says something of a source where there is none."""
    if not options.store.is_dir():
        raise UsageError(
            f"There is no store {options.store} whose items could be encoded anew. To index a catalog, name both: "
            f"mmrec index {options.store} STORE"
        )
    layout.check()
    said = {"columns": options.columns != Columns(), "--keep-missing": options.keep_missing}
    said |= {"--add": options.add, "--prune": options.prune}
    if wrong := [name for name, is_said in said.items() if is_said]:
        raise UsageError(f"{wrong[0]} was given without a SOURCE. Name it before the store.")


def _columns(options: IndexOptions, source: str | Path) -> ColumnSpec:
    """The columns as given, or as guessed and agreed to."""
    given = options.columns
    if given.named:
        if given.id is None:
            raise UsageError("Contents are named but not the ids: add --id COL.")
        return ColumnSpec(given.id, given.text, given.image, given.audio, given.metadata, given.deleted)
    guessed = guess_columns(source, given.id)
    kept = tuple(name for name in given.metadata or guessed.metadata if name != given.deleted)
    chosen = replace(guessed, metadata=kept, deleted=given.deleted)
    console.note(f"Guessed columns of {source}:")
    console.notes.print(console.pairs(_shown(chosen)))
    console.note(f"To be asked no more: {_command(options, chosen)}")
    console.agree("Index with these columns", yes=options.yes, instead="Name them with --id, --text, --image, --audio.")
    return chosen


def _check_weights(weights: Mapping[Modality, float] | None, columns: ColumnSpec) -> None:
    """Raise UsageError before any work where nothing that is named weighs anything."""
    given = {Modality.TEXT: columns.text, Modality.IMAGE: columns.image, Modality.AUDIO: columns.audio}
    named = [modality for modality, names in given.items() if names]
    if weights is not None and not any(weights.get(modality, 1.0) for modality in named):
        raise UsageError(f"--weights gives {' and '.join(named)} no weight, and no other content is named.")


def _shown(columns: ColumnSpec) -> dict[str, object]:
    named = {"text": columns.text, "image": columns.image, "audio": columns.audio, "metadata": columns.metadata}
    return {"id": columns.id, **{name: ", ".join(some) or "none" for name, some in named.items()}}


def _command(options: IndexOptions, columns: ColumnSpec) -> str:
    """The command that names the columns that were guessed."""
    some = {"text": columns.text, "image": columns.image, "audio": columns.audio, "metadata": columns.metadata}
    named = {"id": (columns.id,), **some, "deleted": (columns.deleted,) if columns.deleted else ()}
    flags = [word for name, names in named.items() if names for word in (f"--{name}", ",".join(names))]
    return shlex.join(["mmrec", "index", str(options.source), str(options.store), *flags])
