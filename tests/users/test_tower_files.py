"""Towers on disk."""

import json

import numpy as np
import pytest
from users.towers import NEW, ROWS, contents, past, small_model

from mmrec.errors import StoreError
from mmrec.users.tower import load_tower, save_tower


@pytest.mark.parametrize("sizes", [{}, {"content": False}, {"interests": 3, "ask_time": False}, {"adaptor": 5}])
def test_a_loaded_tower_does_what_the_saved_one_did(tmp_path, sizes):
    model = small_model(**sizes)
    save_tower(model, tmp_path)
    loaded = load_tower(tmp_path)
    rows = np.concatenate([ROWS, NEW])
    placed = model.items(rows, contents(len(rows)))
    assert (loaded.items(rows, contents(len(rows))) == placed).all()
    mine = past(ROWS)
    (one,), (other,) = model.users([mine], [placed[:5]]), loaded.users([mine], [placed[:5]])
    assert (one.vectors == other.vectors).all()
    assert (one.weights == other.weights).all()
    assert one.short_share == other.short_share
    assert loaded.tower.config == model.tower.config
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tower.json", "tower.safetensors"]


def test_what_is_damaged_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no tower that can be read"):
        load_tower(tmp_path)
    save_tower(small_model(), tmp_path)
    config = tmp_path / "tower.json"
    weights = tmp_path / "tower.safetensors"
    good_config, good_weights = config.read_text(), weights.read_bytes()
    weights.write_bytes(good_weights[:-1] + bytes([good_weights[-1] ^ 1]))
    with pytest.raises(StoreError, match="not the file"):
        load_tower(tmp_path)
    weights.write_bytes(good_weights)
    for changed in (
        good_config[:-5],
        json.dumps({**json.loads(good_config), "version": 2}),
        json.dumps({**json.loads(good_config), "tower": {"dim": 9, "width": 8}}),
    ):
        config.write_text(changed)
        with pytest.raises(StoreError):
            load_tower(tmp_path)
