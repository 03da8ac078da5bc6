"""SigLIP 2's positions resized: against the triangle filter written out, and torch's own where that is right."""

import numpy as np
import pytest
import torch
from encoders import small_models

from mmrec.encoders.hub.image_text import HubImageText, resized_positions
from mmrec.types import Modality

SHAPES = [(4, 4), (1, 1), (1, 16), (16, 1), (24, 1), (2, 12), (3, 5), (40, 6), (256, 1), (100, 2)]


def written_out(grid, rows, columns):
    """Each new place as the mean of the old ones under a triangle around it, in float64."""

    def weights(size, wanted):
        reach = max(size / wanted, 1.0)
        table = np.zeros((wanted, size))
        for new in range(wanted):
            centre = (new + 0.5) * size / wanted
            for old in range(size):
                table[new, old] = max(0.0, 1 - abs(old + 0.5 - centre) / reach)
            table[new] /= table[new].sum()
        return table

    return np.einsum("ri,ijd,cj->rcd", weights(len(grid), rows), grid, weights(len(grid[0]), columns))


@pytest.mark.parametrize("side", [4, 16])
def test_positions_are_the_filter_written_out_whatever_the_shape(side):
    grid = torch.randn(side, side, 8, generator=torch.Generator().manual_seed(side))
    found = resized_positions(grid, torch.tensor(SHAPES), 256)
    for (rows, columns), positions in zip(SHAPES, found.numpy(), strict=True):
        exact = written_out(grid.numpy().astype("f8"), rows, columns).reshape(rows * columns, 8)
        np.testing.assert_allclose(positions[: rows * columns], exact, atol=1e-5)
        assert not positions[rows * columns :].any()
        if columns > 1 or rows == 1:
            channels_first = grid.permute(2, 0, 1)[None]
            theirs = torch.nn.functional.interpolate(
                channels_first, (rows, columns), mode="bilinear", align_corners=False, antialias=True
            )
            np.testing.assert_allclose(
                positions[: rows * columns], theirs[0].permute(1, 2, 0).reshape(rows * columns, 8), atol=1e-5
            )


def test_a_picture_of_one_column_of_patches_is_placed_right():
    """In float64 throughout, torch's resizing replaced by the filter written out."""
    encoder = HubImageText(str(small_models.siglip2()))
    sample = encoder.prepare(Modality.IMAGE, small_models.noise(20, 900, 0))
    rows, columns = sample.tensor.shape[:2]
    assert rows > columns == 1
    (found,) = encoder.encode(Modality.IMAGE, [sample]).values()
    embeddings = encoder.module.vision_model.embeddings
    side = embeddings.position_embedding_size
    grid = embeddings.position_embedding.weight.detach().numpy().reshape(side, side, -1)
    exact = torch.from_numpy(written_out(grid.astype("f8"), rows, columns).astype("f4").reshape(1, rows, -1))
    vars(embeddings)["resize_positional_embeddings"] = lambda *_args, **_named: exact
    (expected,) = encoder.encode(Modality.IMAGE, [sample]).values()
    np.testing.assert_allclose(found, expected, atol=1e-5)
