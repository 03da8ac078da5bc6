"""Index a catalog into a store, or reindex a store with other encoders: columns, encoders, consent, summary."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from indexers.protocol import IndexSpec
from mmrec.compute import configure_threads
from mmrec.encoders.presets import PRESETS, load_encoders, recorded_source
from mmrec.errors import UsageError
from mmrec.generation.fuse import advice_of
from mmrec.indexing import Indexing, drops_tower, index_items, reindex_items
from mmrec.jobs.index_options import IndexOptions, IndexSummary
from mmrec.reporting import SILENT, Reporter, running_total, warn_of
from mmrec.sources.columns import CHOICES, ColumnSpec, type_name
from mmrec.sources.guess import guess_columns
from mmrec.sources.media_access import opened_media
from mmrec.sources.source import CatalogSource, open_source
from mmrec.sources.storage import configure
from mmrec.storage.generations import current_number, read_manifest
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.staging import retypings
from mmrec.trust import check_encoders, check_outside_store
from mmrec.types import Modality

PACKAGED = "packaged"
AUTO = "auto"
_MOST_SHOWN = 40
_ROLES = ("text", "image", "audio", "metadata")


def run(options: IndexOptions, reporter: Reporter = SILENT) -> IndexSummary:
    """Index a source into a store. Raises UsageError, StoreError or EncoderError; see `mmrec.errors`."""
    started = time.perf_counter()
    layout = Layout(options.store)
    if options.source is not None and options.store.exists():
        layout.create()  # fails early for a directory that is no store; a new store is created after the source opened
    configure(options.storage)
    source = None if options.source is None else _open_source_with_consent(options, options.source, reporter)
    if source is None:
        layout.check()
    configure_threads()
    number = current_number(layout)
    had_tower = number is not None and read_manifest(layout, number).has_tower
    chosen = encoders_of(options.encoders, layout, reporter)
    _check_verdict(chosen, force=options.force)
    encoders = load_encoders(
        chosen,
        device=options.device,
        dtype=options.dtype,
        trust_code=options.trust_code,
        own_file=not options.encoders_from_file,
    )
    how = _settings(options, chosen)
    tower_warning_shown = drops_tower(layout, encoders, how)
    if tower_warning_shown:
        _ask_about_tower(options, reporter)
    address, count = (source.address, source.count) if source else (None, len(ItemTable(layout.items)))
    with (
        opened_media(options.media_root, address, allow_fetch=options.allow_fetch) as media,
        reporter.progress("indexing", count) as advance,
    ):
        steps = running_total(advance)
        how = replace(how, media=media, report=lambda tally: steps(tally.seen))
        if source is None:
            tally, made = reindex_items(layout, encoders, how)
        else:
            tally, made = index_items(source, source.metadata_schema, layout, encoders, how)
    for sentence in advice_of(made):
        reporter.warn(f"{sentence}.")
    if had_tower and not made.has_tower and not tower_warning_shown:
        reporter.warn(
            f"The trained tower does not fit the new vectors and was dropped. Run: mmrec train {options.store}"
        )
    warn_of(made, reporter)
    counts = {name: getattr(tally, name) for name in ("added", "changed", "removed", "read", "quarantined")}
    return IndexSummary(
        items=len(ItemTable(layout.items)),
        encoded=dict(tally.encoded),
        truncated={name: count for name, count in tally.truncated.items() if count},
        generation=made.number,
        seconds=time.perf_counter() - started,
        **counts,
    )


def encoders_of(given: str | Path | None, layout: Layout, reporter: Reporter = SILENT) -> str:
    """The encoders as given, or those of the store. Raises UsageError or StoreError where they may not be used."""
    if given is not None:
        check_outside_store(layout, given)
        return str(given)
    number = current_number(layout)
    made_with = PACKAGED if number is None else read_manifest(layout, number).encoders
    if made_with in PRESETS and not PRESETS[made_with]:
        raise UsageError(
            f"the vectors of {layout.root} were imported, so it has no encoders; name some with --encoders "
            f"{PACKAGED}, or import more vectors with `mmrec import-vectors`"
        )
    check_encoders(layout, made_with, reporter.ask_yes_no)
    return made_with


def _settings(options: IndexOptions, chosen: str) -> Indexing:
    return Indexing(
        encoder_source=recorded_source(chosen),
        weights=options.weights,
        keep_missing=options.keep_missing,
        changes_only=options.add,
        prune=options.prune,
        refit=options.refit,
        index=None if options.index in {None, AUTO} else IndexSpec(str(options.index), "ip"),
        index_memory=None if options.index_memory is None else int(options.index_memory * 1e9),
        choose_index=options.index == AUTO,
    )


def _ask_about_tower(options: IndexOptions, reporter: Reporter) -> None:
    """Warn that the trained tower will be dropped, and ask at a terminal. Raises UsageError."""
    reporter.warn(
        "The store moves to other vectors. Its trained tower belongs to the current vectors and will be dropped: "
        f"recommendations go by contents alone until `mmrec train {options.store}`. To go back: "
        f"`mmrec rollback {options.store}`."
    )
    reporter.require_consent("Go on", yes=options.yes, otherwise="The store is as it was.", at_terminal_only=True)


def _open_source_with_consent(options: IndexOptions, source: str | Path, reporter: Reporter) -> CatalogSource:
    """A catalog, with the columns that are given or agreed to. Raises UsageError where it has no rows."""
    columns = _columns(options, source)
    _check_weights(options.weights, columns)
    opened = open_source(source, columns, _types(options), options.encoding)
    if opened.count == 0 and not options.add:
        raise UsageError(f"{source} has no rows, so there is nothing to index; a source of changes takes --add.")
    if not options.columns.names_content:
        _agree_to_guess(options, columns, reporter)
    _warn_of_types(options, opened, reporter)
    return opened


def _types(options: IndexOptions) -> Mapping[str, pa.DataType]:
    """The given types of columns. Raises UsageError for an unknown one."""
    for column, kind in options.types.items():
        if kind not in CHOICES:
            raise UsageError(f"Column {column!r} cannot be {kind!r}: choose among {', '.join(CHOICES)}.")
    return {column: CHOICES[kind] for column, kind in options.types.items()}


def _warn_of_types(options: IndexOptions, source: CatalogSource, reporter: Reporter) -> None:
    """Warn about columns that are text because of a few values, or have another type in the store."""
    for one in source.mixed_columns:
        retyped = f"--types {one.column}={one.main_type} quarantines such values"
        reporter.warn(
            f"column {one.column!r} is text, as {one.outliers:,} of its {one.values:,} values "
            f"{'is' if one.outliers == 1 else 'are'} no {one.main_type}: {one.example!r} in {one.where}. Filters "
            f"compare it as text; {retyped if one.main_type in CHOICES else 'correct it'}."
        )
    for change in retypings(ItemTable(Layout(options.store).items).metadata_schema, source.metadata_schema):
        if change.becomes == pa.string() and not source.is_empty(change.column):
            stored, given = type_name(change.stored), type_name(change.given)
            stays = "stays text" if change.stored == pa.string() else "becomes text, the items before included"
            lists = ", lists as JSON" if "list" in {stored, given} else ""
            reporter.warn(
                f"column {change.column!r} holds {stored} in {options.store} and {given} in the source: it {stays}"
                f"{lists}, and filters compare it as text. A new store would keep it as {given}."
            )


def _check_verdict(encoders: str, *, force: bool) -> None:
    """Raise UsageError for encoders that fine-tuning made worse, without `force`."""
    if force or not any(Path(encoders).glob("verdict.json")):
        return
    from mmrec.finetuning.verdict import read_verdict  # noqa: PLC0415 - loads scipy.stats, which takes seconds

    verdict = read_verdict(Path(encoders))
    if verdict is not None and verdict[0] == "hurt":
        raise UsageError(
            f"The encoders in {encoders} are worse than those they were made from. {verdict[1]} To use them "
            "all the same: --force."
        )


def _columns(options: IndexOptions, source: str | Path) -> ColumnSpec:
    """The columns as given, or as guessed."""
    given = options.columns
    if given.names_content:
        if not given.id:
            raise UsageError("Contents are named but not the ids: add --id COL.")
        return given
    guessed = guess_columns(source, given.id or None, options.encoding)
    kept = tuple(name for name in given.metadata or guessed.metadata if name != given.deleted)
    return replace(guessed, metadata=kept, deleted=given.deleted)


def _agree_to_guess(options: IndexOptions, columns: ColumnSpec, reporter: Reporter) -> None:
    """Show what was guessed, and ask. Raises UsageError where the answer is no."""
    reporter.note(f"Guessed columns of {options.source}:")
    reporter.values(_shown(columns))
    if len(columns.names) <= _MOST_SHOWN:
        reporter.note(f"To skip this question: {_command(options, columns)}")
    else:
        reporter.note(f"That is {len(columns.names):,} columns; name those you filter by and show with --metadata.")
    reporter.require_consent(
        "Index with these columns", yes=options.yes, otherwise="Name them with --id, --text, --image, --audio."
    )


def _check_weights(weights: Mapping[Modality, float] | None, columns: ColumnSpec) -> None:
    """Raise UsageError, before any work, if all named modalities have weight 0."""
    named = [modality for modality in Modality if getattr(columns, modality)]
    if weights is not None and not any(weights.get(modality, 1.0) for modality in named):
        raise UsageError(f"--weights gives {' and '.join(named)} no weight, and no other content is named.")


def _shown(columns: ColumnSpec) -> dict[str, object]:
    shown: dict[str, object] = {"id": columns.id}
    for role in _ROLES:
        names: tuple[str, ...] = getattr(columns, role)
        more = f" and {len(names) - _MOST_SHOWN:,} more" if len(names) > _MOST_SHOWN else ""
        shown[role] = ", ".join(names[:_MOST_SHOWN]) + more or "none"
    return shown


def _command(options: IndexOptions, columns: ColumnSpec) -> str:
    """The command that names the columns that were guessed."""
    named = {"id": (columns.id,), **{role: getattr(columns, role) for role in _ROLES}}
    named["deleted"] = (columns.deleted,) if columns.deleted else ()
    flags = [word for name, names in named.items() if names for word in (f"--{name}", ",".join(names))]
    flags += [] if options.encoding is None else ["--encoding", options.encoding]
    return shlex.join(["mmrec", "index", str(options.source), str(options.store), *flags])
