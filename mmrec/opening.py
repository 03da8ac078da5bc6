"""Opening a store: where it is, which encoders it may use, how media are read."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from mmrec.behaviour.kinds import Kinds
from mmrec.catalog.media_access import MediaAccess
from mmrec.compute import let_waiting_threads_sleep
from mmrec.encoders.presets import load_encoders, may_reopen
from mmrec.encoders.protocol import Encoder
from mmrec.engine import Engine
from mmrec.errors import StoreError
from mmrec.recommending.store_events import StoreEvents
from mmrec.store.layout import Layout

__all__ = ["check_may_reopen", "open_store"]

_KEPT = 2
"""Encoders that stay loaded: those of the current generation, and of the one before, to which a person may go back."""


def open_store(
    path: str | Path,
    *,
    encoders: str | Path | Sequence[Encoder] | None = None,
    device: str = "auto",
    dtype: str = "fp32",
    media: MediaAccess | None = None,
    events: str | None = None,
    kinds: Kinds | None = None,
) -> Engine:
    """Open a store for queries and changes. Encoders are loaded when first needed.

    Args:
        path: The store's directory.
        encoders: A preset, a folder of fine-tuned encoders, a TOML file, or loaded encoders. None takes what each
            generation was made with, where that is a preset or a folder of fine-tuned encoders on this machine.
        device: Where encoders run: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        dtype: Their number format: ``fp32``, or on a GPU ``bf16`` or ``fp16``.
        media: How pictures and sounds are read, of queries and of items that are upserted; without it from anywhere
            but the web.
        events: SQLAlchemy URL of the log of events; the store's own if None.
        kinds: What each kind of event weighs; the defaults of `mmrec.behaviour.kinds` if None.

    Raises:
        StoreError: The store is missing or of another format. One that is damaged or has no generation yet raises it
            at the first query.

    """
    let_waiting_threads_sleep()
    layout = Layout(Path(path))
    layout.check()

    @lru_cache(maxsize=_KEPT)
    def load(chosen: str | Path) -> Sequence[Encoder]:
        return load_encoders(chosen, device=device, dtype=dtype)

    def encoders_of(made_with: str) -> Sequence[Encoder]:
        chosen = _chosen(layout, encoders, made_with)
        return load(chosen) if isinstance(chosen, str | Path) else chosen

    return Engine(
        layout,
        encoders_of,
        media or MediaAccess(),
        StoreEvents(layout, events, kinds),
    )


def _chosen(
    layout: Layout, given: str | Path | Sequence[Encoder] | None, made_with: str
) -> str | Path | Sequence[Encoder]:
    """The encoders a person gave, or what a generation was made with."""
    if given is not None:
        return given
    check_may_reopen(layout, made_with)
    return made_with


def check_may_reopen(layout: Layout, made_with: str) -> None:
    """Raise StoreError where a person has to name the encoders that a generation was made with."""
    if not may_reopen(made_with):
        raise StoreError(
            f"{layout.root} was made with the encoders of {made_with}; a store may not choose code to run, "
            f"so name them yourself: --encoders {made_with}"
        )
