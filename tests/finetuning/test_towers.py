"""What holds for the towers of every encoder: what trains and what does not, and that it is saved as it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from encoders import small_models
from finetuning.tower_cases import CASES, Case, contents

from mmrec.encoders.presets import load_encoders
from mmrec.encoders.queries import query_spaces
from mmrec.evaluation.bootstrap import Interval
from mmrec.finetuning.config import FinetuneConfig, TowerSettings
from mmrec.finetuning.model_card import FinetuneReport
from mmrec.finetuning.saving import save_encoders
from mmrec.finetuning.tower_building import FinetuneTower, build_towers
from mmrec.finetuning.towers import ContentTower, EncoderSource, EncoderTower
from mmrec.finetuning.verdict import Line, Verdict
from mmrec.types import Modality

MEANS = ((0.25, 0.0, 1.0), (0.5, 0.0, 1.0), (0.25, 0.1, 0.4))
LINE = Line("all", "r@1", 4, *(Interval(*mean, 2, 4) for mean in MEANS))
VERDICT = Verdict("helped", "It helped.", "r@1", (LINE,))
CARD = (FinetuneReport("align", {"pairs": 4}, (), 0, VERDICT), FinetuneConfig())
STEPS = 4


@pytest.fixture(autouse=True)
def small_bundles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """torchaudio's bundles narrowed, their weights where torch keeps them."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for name in ("HUBERT_BASE", "WAVLM_LARGE"):
        weights, small = small_models.bundle_weights(name), small_models.small_bundle(name)
        (tmp_path / "hub").mkdir(exist_ok=True)
        place = tmp_path / "hub" / "checkpoints"
        place.mkdir(exist_ok=True)
        for file in weights.iterdir():
            (place / file.name).write_bytes(file.read_bytes())
        monkeypatch.setattr(torchaudio.pipelines, name, small)


def towers_of(case: Case, source: EncoderSource, **settings: Any) -> dict[Modality, FinetuneTower]:
    torch.manual_seed(0)
    wanted = TowerSettings(head=case.head, **settings)
    return build_towers([source], dict.fromkeys(case.modalities, wanted))


def learn(towers: Mapping[Modality, FinetuneTower], steps: int = STEPS) -> list[float]:
    """Draw vectors to fixed directions; returns the loss at each step."""
    samples = {m: [tower.prepare(content) for content in contents(m)] for m, tower in towers.items()}
    generator = torch.Generator().manual_seed(1)
    aims = {m: torch.randn(len(samples[m]), towers[m].dim, generator=generator) for m in towers}
    networks = torch.nn.ModuleList([tower.network for tower in towers.values()])
    networks.train()
    optimiser = torch.optim.Adam([p for p in networks.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        cosines = [torch.cosine_similarity(towers[m].embed(samples[m]), aims[m]) for m in towers]
        loss = -torch.cat(cosines).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    networks.eval()
    return losses


def vectors(tower: ContentTower) -> np.ndarray:
    with torch.no_grad():
        return tower.embed([tower.prepare(content) for content in contents(tower.modality)]).numpy()


def loaded(folder: Path, modality: Modality) -> dict[str, np.ndarray]:
    """Vectors of items and queries of a saved folder's encoders."""
    found: dict[str, np.ndarray] = {}
    for encoder in load_encoders(folder, device="cpu"):
        if modality in query_spaces(encoder):
            samples = [encoder.prepare(modality, content) for content in contents(modality)]
            found |= encoder.encode(modality, samples)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "lora"])
@pytest.mark.parametrize("name", CASES)
def test_what_should_train_is_trained_and_saved_as_it_is(name: str, how: str, tmp_path: Path):
    case = CASES[name]
    source = case.source()
    towers = towers_of(case, source, how=how)
    network = source.encoder.module
    before = {tensor: value.clone() for tensor, value in network.state_dict().items()}
    losses = learn(towers)
    assert losses[-1] < losses[0]
    for tower in towers.values():
        assert isinstance(tower, ContentTower)
        assert isinstance(tower, EncoderTower)
        for parameter, value in tower.network.named_parameters():
            assert (value.grad is not None) == value.requires_grad, parameter
    every = network.named_parameters(remove_duplicate=False)
    asked = {parameter for parameter, value in every if value.requires_grad}
    moved = {n for n, value in network.state_dict().items() if not torch.equal(value, before[n])}
    assert moved
    assert moved <= asked
    if how == "lora":
        assert all(".lora_" in parameter for parameter in asked)
    live = {modality: vectors(tower) for modality, tower in towers.items()}
    spaces = save_encoders(towers, [source], tmp_path / "out", *CARD)
    fresh = case.source().by_name()
    assert not {space.fingerprint for space in fresh.values()} & {space.fingerprint for space in spaces.values()}
    for modality, expected in live.items():
        found = loaded(tmp_path / "out", modality)
        assert any(rows.shape == expected.shape and np.abs(rows - expected).max() < 2e-5 for rows in found.values())
    again = save_encoders(towers, [source], tmp_path / "again", *CARD)
    assert again == spaces
