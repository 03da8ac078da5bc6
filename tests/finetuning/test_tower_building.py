"""From settings to towers: what is frozen, what a head reads, and what is refused."""

import pytest
import torch
from finetuning.test_towers import learn, towers_of
from finetuning.tower_cases import CASES, Case, contents

from mmrec.errors import UsageError
from mmrec.finetuning.config import HeadSettings, TowerSettings
from mmrec.finetuning.tower_building import build_towers
from mmrec.finetuning.towers import VectorTower, load_sources
from mmrec.types import Modality

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


def asking(case: Case, **settings: object) -> set[str]:
    source = case.source()
    towers_of(case, source, **settings)
    return {name for name, value in source.encoder.module.named_parameters() if value.requires_grad}


def starts(names: set[str]) -> set[str]:
    return {".".join(name.split(".")[:2]) for name in names}


def test_the_last_blocks_of_a_transformer_train_and_nothing_before_them():
    names = asking(CASES["minilm"], how="full", last_blocks=2)
    assert starts(names) == {"layers.4", "layers.5"}
    assert len(names) == 2 * 16


def test_all_that_follows_the_last_blocks_trains_with_them():
    names = asking(CASES["efficientnet-lite0"], how="full", last_blocks=1)
    assert starts(names) == {
        "blocks.6",
        "conv_head.weight",
        "bn2.weight",
        "bn2.bias",
        "classifier.weight",
        "classifier.bias",
    }
    assert starts(asking(CASES["yamnet"], how="full", last_blocks=2)) == {
        "body.25", "body.26", "classifier.weight", "classifier.bias",
    }  # fmt: skip


def test_a_joint_models_towers_are_frozen_each_by_itself():
    names = asking(CASES["open_clip"], how="full", last_blocks=1)
    assert "visual.proj" in names  # registered before the blocks, used after them
    assert "text_projection" in names
    assert not any(".resblocks.0." in name for name in names)
    assert "visual.conv1.weight" not in names
    assert "token_embedding.weight" not in names
    assert "logit_scale" not in names


def test_one_half_of_a_joint_model_trains_alone():
    source = CASES["CLIP"].source()
    build_towers([source], {IMAGE: TowerSettings(how="full")})
    names = {name for name, value in source.encoder.module.named_parameters() if value.requires_grad}
    assert starts(names) == {"vision_model.embeddings", "vision_model.pre_layrnorm", "vision_model.encoder",
                             "vision_model.post_layernorm", "visual_projection.weight"}  # fmt: skip


def test_more_blocks_than_there_are_are_refused():
    with pytest.raises(UsageError, match="this network has 6 blocks"):
        asking(CASES["minilm"], how="full", last_blocks=7)


def test_checkpointed_gradients_are_the_plain_ones():
    def gradients(*, again: bool) -> dict[str, torch.Tensor]:
        source = CASES["minilm"].source()
        towers = towers_of(CASES["minilm"], source, how="full", last_blocks=3, gradient_checkpointing=again)
        learn(towers, 1)
        named = source.encoder.module.named_parameters()
        return {name: value.grad for name, value in named if value.grad is not None}

    plain, again = gradients(again=False), gradients(again=True)
    assert plain.keys() == again.keys()
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, atol=1e-6, rtol=1e-4)


def test_batch_statistics_and_dropout_stay_as_they_are_unless_asked():
    case = CASES["efficientnet-lite0"]
    for asked in (False, True):
        source = case.source()
        towers = towers_of(case, source, how="full", last_blocks=1, batch_statistics=asked)
        before = {name: value.clone() for name, value in source.encoder.module.named_buffers()}
        learn(towers, 1)
        moved = [n for n, value in source.encoder.module.named_buffers() if not torch.equal(value, before[n])]
        assert bool(moved) == asked
    towers = towers_of(CASES["text"], CASES["text"].source(), how="full", dropout=True)
    samples = [towers[TEXT].prepare(text) for text in contents(TEXT)]
    towers[TEXT].network.train()
    assert not torch.equal(towers[TEXT].embed(samples), towers[TEXT].embed(samples))
    towers[TEXT].network.eval()
    assert torch.equal(towers[TEXT].embed(samples), towers[TEXT].embed(samples))


def test_heads_train_on_stored_vectors_and_have_the_length_of_the_frozen_tower():
    sources = load_sources(device="cpu")
    head = HeadSettings(residual="efficientnet-lite0-bridge", hidden=32)
    towers = build_towers(sources, {TEXT: TowerSettings(how="frozen"), IMAGE: TowerSettings(head=head)})
    assert all(isinstance(tower, VectorTower) for tower in towers.values())
    assert {tower.dim for tower in towers.values()} == {384}
    assert not list(towers[TEXT].network.parameters())
    encoder = sources[1].encoder
    samples = [encoder.prepare(IMAGE, picture) for picture in contents(IMAGE)]
    stored = encoder.encode(IMAGE, samples)
    tower = towers[IMAGE]
    assert isinstance(tower, VectorTower)
    rows = tower.embed([tower.sample({name: stored[name][n] for name, _ in tower.inputs}) for n in range(4)])
    bridged = torch.from_numpy(stored["efficientnet-lite0-bridge"])
    torch.testing.assert_close(rows, bridged, atol=1e-6, rtol=0)  # it starts as the residual
    torch.testing.assert_close(tower.embed([tower.prepare(contents(IMAGE)[0])])[0], bridged[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({TEXT: TowerSettings(how="frozen", space="yamnet")}, "no encoder of text that fills the space 'yamnet'"),
        ({TEXT: TowerSettings(how="frozen"), AUDIO: TowerSettings(how="frozen")}, "different lengths"),
        ({IMAGE: TowerSettings(head=HeadSettings(inputs=("minilm",)))}, "'minilm' is no space of"),
        ({AUDIO: TowerSettings(head=HeadSettings(dim=384, residual="yamnet"))}, "must be an input of 384 numbers"),
    ],
)
def test_mistakes_are_explained(settings: dict[Modality, TowerSettings], says: str):
    with pytest.raises(UsageError, match=says):
        build_towers(load_sources(device="cpu"), settings)
