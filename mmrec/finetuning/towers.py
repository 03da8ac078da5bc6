"""What is trained of each modality: contents -> unit vectors in the space that is learned."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from mmrec.encoders.protocol import Sample
from mmrec.items import Content
from mmrec.modality import Modality

__all__ = ["ContentTower"]


@runtime_checkable
class ContentTower(Protocol):
    """One modality's way into the space that is learned: an encoder, or its stored vectors, and perhaps a head.

    Two towers may share a network, as those of a joint model do.
    """

    @property
    def modality(self) -> Modality:
        """What it reads."""
        ...

    @property
    def dim(self) -> int:
        """Length of its vectors; the same for all towers that are aligned with each other."""
        ...

    @property
    def network(self) -> nn.Module:
        """All its weights. Those that ask for gradients are trained, and no others."""
        ...

    @property
    def batch_cost(self) -> int:
        """How much of `Sample.cost` it is fastest to embed at once."""
        ...

    def prepare(self, content: Content) -> Sample:
        """Preprocess one content, in any thread. Raises MediaError where it cannot be encoded."""
        ...

    def embed(self, samples: Sequence[Sample]) -> Float[Tensor, "n dim"]:
        """Unit vectors in float32, through which gradients flow to all that is trained."""
        ...
