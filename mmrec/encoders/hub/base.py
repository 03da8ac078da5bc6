"""Base classes of the encoders of hub models: settings, files, and the space that they fill."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mmrec.encoders.hub.loading import load_config, once
from mmrec.encoders.hub.preprocessing import load_processor
from mmrec.encoders.hub.source import ModelFiles, cached_json, find_model, space_name
from mmrec.encoders.protocol import fingerprint
from mmrec.encoders.vectors import TrainableEncoder
from mmrec.errors import UsageError
from mmrec.types import Modality, Space


@dataclass(frozen=True, eq=False)
class HubEncoder(TrainableEncoder):
    """An encoder of a hub model. Files are found when they are needed first, and weights read at first use.

    Attributes:
        model: A model's directory, or its id on the hub.
        revision: Branch, tag or commit on the hub; what is on this machine already, else `main`, where None.
        name: Name of the space; made of the model's own where None.

    """

    model: str
    revision: str | None = None
    name: str | None = None

    _reads: ClassVar[tuple[Modality, ...]] = ()

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """The one space, for each modality. Raises EncoderError if the model's files are not available."""
        return dict.fromkeys(self._modalities, (self._space,))

    @property
    def _modalities(self) -> tuple[Modality, ...]:
        """The modalities that the model reads."""
        return self._reads

    @once
    def _files(self) -> ModelFiles:
        return find_model(self.model, self.revision)

    @once
    def _space(self) -> Space:
        dim, settings = self._dim(), self._settings()
        return Space(space_name(self.model, self.name), dim, fingerprint(pin=self._pin, **settings))

    @property
    def _pin(self) -> str:
        return self._files.pin

    @once
    def _config(self) -> Any:  # noqa: ANN401
        return load_config(self._files.folder)

    @once
    def _processor(self) -> Callable[[Image.Image], Float[Tensor, "_ _ _"]]:
        return load_processor(self._files.folder)

    @abstractmethod
    def _dim(self) -> int:
        """Length of the vectors."""

    @abstractmethod
    def _settings(self) -> dict[str, object]:
        """What decides the vectors beside the model's files."""

    def _cached_dim(self, kind: str, find: Callable[[], int]) -> int:
        """Return a number that takes seconds to find out, kept on disk."""
        return int(cached_json(lambda: {"dim": find()}, pin=self._pin, of=kind, version=1)["dim"])


@dataclass(frozen=True, eq=False)
class JointEncoder(HubEncoder):
    """An encoder of several modalities into one space, so that text finds images or audio.

    Attributes:
        items: Which modalities of items are read, as in ``["image"]``; all where None. Queries may be any.

    """

    items: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for modalities that are not read."""
        if self._reads:
            self._check_items()

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """The one space, for items. Raises EncoderError if the model's files are not available."""
        self._check_items()
        return {
            modality: spaces
            for modality, spaces in self.query_spaces.items()
            if self.items is None or modality in self.items
        }

    @property
    def query_spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """The one space, for all that the model reads."""
        return dict.fromkeys(self._modalities, (self._space,))

    def _check_items(self) -> None:
        items, able = self.items, self._modalities
        if items is not None and (isinstance(items, str) or not items or not set(items) <= set(able)):
            raise UsageError(f"items = {items!r} was given; it must be a list of some of {', '.join(able)}.")
