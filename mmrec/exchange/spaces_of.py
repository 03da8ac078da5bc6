"""Which space imported vectors are of: as the person declares it, as their file says, as the store has it."""

from dataclasses import dataclass

from mmrec.errors import SpaceMismatchError, UsageError
from mmrec.exchange.vector_files import VectorFile
from mmrec.exchange.vectors_of import read_fusion
from mmrec.fusion.blocks import Block
from mmrec.modality import Modality
from mmrec.store.declared import Declared, check, declared, fingerprint_of
from mmrec.store.generations import current
from mmrec.store.layout import Layout

__all__ = ["Declaration", "decide", "known_blocks"]


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a person says of vectors; what is left out is taken from their file or from the store.

    Attributes:
        space: Name of the space.
        modality: What the vectors are of.
        model: What made them, as text: a model's name and revision. By default the name of the space.
        fingerprint: Its fingerprint, where it is that of an encoder that is to encode queries.

    """

    space: str | None = None
    modality: Modality | None = None
    model: str | None = None
    fingerprint: str | None = None


def known_blocks(layout: Layout) -> tuple[Block, ...]:
    """The blocks of the current generation, none before the first."""
    return read_fusion(layout, None)[1].blocks if current(layout) is not None else ()


def decide(layout: Layout, said: Declaration, file: VectorFile) -> Declared:
    """The space of a file's vectors.

    Raises UsageError where that cannot be known, SpaceMismatchError where the person, the file and the store differ.
    """
    origin = file.origin
    name = said.space or (origin.space if origin else None)
    if name is None:
        raise UsageError("Say which space the vectors are of: --space NAME, and --model for what made them.")
    same_name = [one for one in declared(layout) if one.name == name]
    same_name += [
        Declared(name=name, dim=b.space.dim, fingerprint=b.space.fingerprint, modality=b.modality)
        for b in known_blocks(layout)
        if b.space.name == name
    ]
    modality = said.modality or _modality(name, file, same_name)
    fingerprint = _fingerprint(name, said, file, same_name)
    known = next((one.model for one in same_name if one.model and one.fingerprint == fingerprint), None)
    model = said.model or known or (origin.space if origin else "")
    new = Declared(name=name, dim=file.dim, fingerprint=fingerprint, modality=modality, model=model)
    check(new)
    if origin is not None and (origin.fingerprint, origin.dim) != (fingerprint, file.dim):
        raise SpaceMismatchError(
            f"{file.path} says that its vectors are of space {origin.space!r}, fingerprint {origin.fingerprint[:12]}, "
            f"and they were declared as {name!r}, fingerprint {fingerprint[:12]}; leave --model and --fingerprint out "
            "to import them as what they are"
        )
    other = next((one for one in same_name if one.space != new.space), None)
    if other is not None:
        raise SpaceMismatchError(
            f"space {name!r} of {layout.root} has {other}; the vectors of {file.path} have {new}, and the two cannot "
            "be compared. Import them under another name with --space"
        )
    return new


def _modality(name: str, file: VectorFile, same_name: list[Declared]) -> Modality:
    there = {one.modality for one in same_name} or {
        Modality(one) for one in (file.origin.modalities if file.origin else ())
    }
    if len(there) != 1:
        raise UsageError(
            f"Say what the vectors of {name!r} are of: --modality text, image or audio. An item's picture vectors "
            "count beside its other pictures."
        )
    return there.pop()


def _fingerprint(name: str, said: Declaration, file: VectorFile, same_name: list[Declared]) -> str:
    if said.fingerprint is not None:
        return said.fingerprint
    if said.model is not None:
        return fingerprint_of(said.model, file.dim)
    if file.origin is not None:
        return file.origin.fingerprint
    return next((one.fingerprint for one in same_name), fingerprint_of(name, file.dim))
