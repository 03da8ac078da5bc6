"""Which recipes are refused before it is known what the items have."""

from contextlib import nullcontext

import pytest

from indexers.protocol import IndexSpec
from mmrec.errors import UsageError
from mmrec.generation.fuse import check_choice
from mmrec.types import Modality, Space

WORDS, SIGHTS, SHAPES = (Space(name, dim, name * 8) for name, dim in (("words", 30), ("sights", 40), ("shapes", 24)))
SPACES = {Modality.TEXT: (WORDS,), Modality.IMAGE: (SIGHTS, SHAPES), Modality.AUDIO: ()}


@pytest.mark.parametrize(
    ("parts", "dim", "fits"),
    [
        (15, 512, True),  # texts alone have 30 dimensions
        (32, 512, True),  # pictures alone have 64, and never 40 or 24
        (47, 512, True),  # together they have 94
        (40, 512, False),
        (24, 512, False),
        (47, 64, False),  # cut to 64
        (10, 20, True),  # cut to 20 whatever they have
        (30, 20, False),
    ],
)
def test_a_recipe_is_refused_where_no_items_could_have_it(parts, dim, fits):
    spec = IndexSpec(f"PQ{parts}x4fs,RFlat", "ip")
    refused = pytest.raises(
        UsageError, match=f"PQ{parts}x4fs.* for {min(dim, 94)} dimensions.*Allowed are recipes like"
    )
    with nullcontext() if fits else refused:
        check_choice(spec, SPACES, dim)


def test_what_nobody_chose_always_suits():
    check_choice(None, SPACES, 512)
    check_choice(IndexSpec("Exact", "ip"), SPACES, 512)
