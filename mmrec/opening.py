"""Opening a store: where it is, which encoders it may use, how media are read."""

from collections.abc import Sequence
from pathlib import Path

from mmrec.behaviour.kinds import Kinds
from mmrec.catalog.media_access import MediaAccess
from mmrec.encoders.presets import load_encoders, may_reopen
from mmrec.encoders.protocol import Encoder
from mmrec.engine import Engine
from mmrec.errors import StoreError
from mmrec.recommending.store_events import StoreEvents
from mmrec.store.layout import Layout

__all__ = ["open_store"]


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
        encoders: A preset, a TOML file or folder, or loaded encoders; None takes the preset, or the folder of
            fine-tuned encoders, that the store was made with.
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
    layout = Layout(Path(path))
    layout.check()
    return Engine(
        layout,
        lambda preset: _encoders_of(layout, encoders, preset, device, dtype),
        media or MediaAccess(),
        StoreEvents(layout, events, kinds),
    )


def _encoders_of(
    layout: Layout, given: str | Path | Sequence[Encoder] | None, made_with: str, device: str, dtype: str
) -> Sequence[Encoder]:
    """The encoders a person gave, or the preset that the store was made with."""
    if given is None and not may_reopen(made_with):
        raise StoreError(
            f"{layout.root} was made with the encoders of {made_with}; a store may not choose code to run, "
            f"so name them yourself: --encoders {made_with}"
        )
    chosen = made_with if given is None else given
    return load_encoders(chosen, device=device, dtype=dtype) if isinstance(chosen, str | Path) else chosen
