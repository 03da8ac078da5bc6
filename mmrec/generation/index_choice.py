"""Which index recipe a person chose: now, or for a generation before."""

from collections.abc import Iterable, Mapping
from itertools import chain, combinations

from indexers.recipes import check_spec
from indexers.types import IndexersError, IndexSpec
from mmrec.errors import UsageError
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.store.generations import Manifest

__all__ = ["check_choice", "chosen_before"]


def chosen_before(made: Manifest | None) -> tuple[IndexSpec | None, int | None]:
    """Return the recipe, and the most bytes of memory, that a person chose for a generation; None where nobody did."""
    if made is None:
        return None, None
    search = {} if made.index_tuned else made.index_search
    return IndexSpec(made.index_factory, "ip", search) if made.index_given else None, made.index_memory


def check_choice(spec: IndexSpec | None, spaces: Mapping[Modality, Iterable[Space]], dim: int) -> None:
    """Raise UsageError where a recipe suits no item vector that these spaces can give, whatever contents items have.

    Args:
        spec: The recipe; None, as what is chosen by size, always suits.
        spaces: The spaces of each modality that counts.
        dim: Most dimensions of an item vector.

    """
    if spec is None:
        return
    refusals = [_refusal(spec, possible) for possible in _dimensions(spaces, dim)]
    if refusals and all(refusals):
        raise UsageError(f"{refusals[0]} Nothing was read yet") from refusals[0]


def _refusal(spec: IndexSpec, dim: int) -> IndexersError | None:
    try:
        check_spec(spec, dim)
    except IndexersError as error:
        return error
    return None


def _dimensions(spaces: Mapping[Modality, Iterable[Space]], dim: int) -> list[int]:
    """What length an item vector may have, by which modalities the items turn out to have; the longest first."""
    wide = [whole for some in spaces.values() if (whole := sum(space.dim for space in some))]
    found = chain.from_iterable(combinations(wide, count) for count in range(1, len(wide) + 1))
    return sorted({min(dim, sum(some)) for some in found}, reverse=True)
