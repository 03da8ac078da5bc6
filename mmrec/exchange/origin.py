"""What exported vectors are: which space they are of, and what made them. It travels inside the file."""

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mmrec.errors import UsageError

__all__ = ["METADATA_KEY", "Origin"]

METADATA_KEY = b"mmrec"
"""Key of a Parquet file's metadata under which its origin lies, as JSON."""


class Origin(BaseModel):
    """Where vectors come from. Vectors of two origins compare only where the fingerprints are equal.

    Attributes:
        kind: Item vectors, or the vectors of contents in one space.
        space: Name of the space; ``fused`` for item vectors.
        fingerprint: Hex digest over everything that decides a vector; of item vectors, that of the fusion.
        dim: Numbers of a vector.
        dtype: How a number is stored.
        encoders: Preset or config file that the store was made with.
        generation: The generation that the vectors belong to.
        blocks: Of item vectors: the parts that they are made of, in order, and how long each is.
        modalities: Which modalities the vectors are of.

    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: Literal["items", "contents"]
    space: str
    fingerprint: str
    dim: int
    dtype: Literal["float16", "float32"]
    encoders: str = ""
    generation: int = 0
    blocks: dict[str, int] = {}
    modalities: tuple[str, ...] = ()

    def dump(self) -> bytes:
        """As it lies in a file."""
        return json.dumps(self.model_dump()).encode()

    @classmethod
    def parse(cls, data: bytes, where: str) -> "Origin":
        """Read what `dump` wrote. Raises UsageError naming the file."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(
                f"what {where} says of its own vectors cannot be read ({first['msg']}); write the file again without "
                "the metadata key 'mmrec', and declare the space with --space"
            ) from error
