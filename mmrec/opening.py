"""Opening a store: where it is, which encoders it may use, how media are read."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from mmrec.compute import let_waiting_threads_sleep
from mmrec.encoders.presets import load_encoders
from mmrec.encoders.protocol import Encoder
from mmrec.engine import Engine
from mmrec.events.kinds import Kinds
from mmrec.recommend.user_events import StoreEvents
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.layout import Layout
from mmrec.trust import Confirm, check_encoders, check_named, remember

_KEPT = 2
"""Encoders that stay loaded: those of the current generation, and of the one before, to which a person may go back."""


def open_store(  # noqa: PLR0913 - one store, and all that it may be opened with by name
    path: str | Path,
    *,
    encoders: str | Path | Sequence[Encoder] | None = None,
    device: str = "auto",
    dtype: str = "fp32",
    media: MediaAccess | None = None,
    events: str | None = None,
    kinds: Kinds | None = None,
    confirm: Confirm | None = None,
    trust_code: bool = False,
) -> Engine:
    """Open a store for queries and changes. Encoders are loaded when first needed.

    Args:
        path: The store's directory.
        encoders: A preset, a folder of fine-tuned encoders, a TOML file, or loaded encoders. None takes what each
            generation was made with, where that is a preset, models of a hub, or folders that this user named for this
            store before: by indexing with them, or here.
        device: Where encoders run: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        dtype: Their number format: ``fp32``, or on a GPU ``bf16`` or ``fp16``.
        media: How pictures and sounds are read, of queries and of items that are upserted; without it from anywhere
            but the web.
        events: SQLAlchemy URL of the log of events; the store's own if None.
        kinds: What each kind of event weighs; the defaults of `mmrec.events.kinds` if None.
        confirm: Asked, in a sentence, whether a folder that the store names may be used; None says no, an error.
        trust_code: Run code that is not this package's own also where a folder in `encoders` names it.

    Raises:
        UsageError: Encoders inside the store.
        StoreError: The store is missing or of another format. One that is damaged or has no generation yet raises it
            at the first query.

    """
    let_waiting_threads_sleep()
    layout = Layout(Path(path))
    layout.check()
    if isinstance(encoders, str | Path):
        check_named(layout, encoders)

    @lru_cache(maxsize=_KEPT)
    def load(chosen: str | Path) -> Sequence[Encoder]:
        if encoders is None:
            check_encoders(layout, str(chosen), confirm)
        found = load_encoders(chosen, device=device, dtype=dtype, trust_code=trust_code and encoders is not None)
        if encoders is not None:
            remember(layout, chosen)
        return found

    def encoders_of(made_with: str) -> Sequence[Encoder]:
        chosen = made_with if encoders is None else encoders
        return load(chosen) if isinstance(chosen, str | Path) else chosen

    return Engine(
        layout,
        encoders_of,
        media or MediaAccess(),
        StoreEvents(layout, events, kinds),
    )
