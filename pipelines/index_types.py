"""What the index job is asked and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmrec.modality import Modality

__all__ = ["Columns", "IndexOptions", "IndexSummary"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a source are what. Several text columns of one item are joined in this order."""

    id: str | None = None
    text: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    deleted: str | None = None

    @property
    def named(self) -> bool:
        """Whether any content column is named; if none is, they are guessed."""
        return bool(self.text or self.image or self.audio)


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """One run of ``mmrec index``.

    Attributes:
        source: Path or URL of a catalog; see `mmrec.catalog.source.open_source`. None: the store's own items.
        store: The store's directory, made where it does not exist.
        columns: What is indexed; where none is named, a guess is shown and needs consent.
        types: What metadata columns hold, by name: ``integer``, ``number``, ``text``, ``boolean``, ``date``, ``time``.
        encoding: Of a CSV file; None for UTF-8, or what its byte order mark says.
        encoders: A preset, models by kind (``text=owner/name``), or the path of a TOML file; None keeps those of the
            store.
        weights: What each modality counts in an item's vector; None keeps what the store has, an empty mapping has it
            measured.
        keep_missing: Keep items that the source no longer has.
        add: Take the source for changes alone: what it does not name stays as it is.
        prune: Let the source remove more than half of the items.
        refit: Fit centring and projection anew.
        index: FAISS factory string of the index, or ``auto``; None keeps what the store has.
        index_memory: The most gigabytes that an index chosen by itself may take; None keeps what the store has.
        dtype: Number format of the encoders: ``fp32``, or on a GPU ``bf16`` or ``fp16``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        media_root: Folder, or URL, outside which no picture or sound is read; None: no bounds.
        allow_fetch: Fetch pictures and sounds from public web addresses.
        yes: Consent to the guess beforehand.
        force: Take up encoders that fine-tuning made worse.
        trust_code: Run code that is not this package's own where a folder of encoders names it.
        encoders_from_file: Whether it was a catalog's file that named the encoders: it may come from anyone.
        storage: Options of object stores, by scheme, s3 or gs.

    """

    source: str | Path | None
    store: Path
    columns: Columns = field(default_factory=Columns)
    types: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    encoders: str | None = None
    weights: Mapping[Modality, float] | None = None
    keep_missing: bool = False
    add: bool = False
    prune: bool = False
    refit: bool = False
    index: str | None = None
    index_memory: float | None = None
    device: str = "auto"
    dtype: str = "fp32"
    media_root: str | None = None
    allow_fetch: bool = False
    yes: bool = False
    force: bool = False
    trust_code: bool = False
    encoders_from_file: bool = False
    storage: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What one run of ``mmrec index`` did.

    Attributes:
        items: Items now in the store.
        added: Items that are new.
        changed: Items whose contents or metadata changed.
        removed: Items that the source no longer has.
        read: Contents read from where they lie.
        encoded: Contents encoded in this run, by modality.
        truncated: Contents cut to their model's limit, by modality.
        quarantined: Rows and fields left out, kept with their reasons.
        generation: Number of the generation now current.
        seconds: Time the run took.

    """

    items: int
    added: int
    changed: int
    removed: int
    read: int
    encoded: Mapping[str, int]
    truncated: Mapping[str, int]
    quarantined: int
    generation: int
    seconds: float
