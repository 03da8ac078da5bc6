"""A saved folder as a preset: its spaces, its parents, and that it is opened from anywhere."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from finetuning.test_towers import CARD, learn
from finetuning.tower_cases import contents

from mmrec.encoders.presets import load_encoders, recorded_source, spaces_by_name
from mmrec.encoders.queries import prepare_query, query_spaces
from mmrec.encoders.tuned import Tuned
from mmrec.errors import EncoderError, UsageError
from mmrec.finetuning.config import HeadSettings, TowerSettings
from mmrec.finetuning.saving import save_encoders
from mmrec.finetuning.tower_building import build_towers
from mmrec.finetuning.towers import EncoderSource, load_sources
from mmrec.storage.layout import Layout
from mmrec.trust import is_consented, record_consent
from mmrec.types import Modality, Space

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
HEADS = {TEXT: TowerSettings(how="frozen"), IMAGE: TowerSettings(), AUDIO: TowerSettings()}
TASTE = {
    TEXT: TowerSettings(head=HeadSettings(name="minilm-taste", residual="minilm", replaces=("minilm",))),
    IMAGE: TowerSettings(head=HeadSettings(name="pictures-taste")),
}
WHOLE = {TEXT: TowerSettings(how="lora"), IMAGE: TowerSettings(how="lora", last_blocks=1, head=HeadSettings())}


def saved(folder: Path, settings: dict[Modality, TowerSettings], steps: int = 2) -> dict[str, Space]:
    torch.manual_seed(0)
    sources = load_sources(device="cpu")
    towers = build_towers(sources, settings)
    if steps:
        learn(towers, steps)
    return save_encoders(towers, sources, folder, *CARD)


def test_heads_give_spaces_that_texts_meet(tmp_path: Path):
    spaces = saved(tmp_path / "out", HEADS)
    assert spaces == spaces_by_name(load_encoders(tmp_path / "out", device="cpu"))
    plain = spaces_by_name(load_encoders(device="cpu"))
    assert {name: spaces[name] for name in plain} == plain  # nothing that was stored has to be made anew
    for name in ("efficientnet-lite0-aligned", "yamnet-aligned"):
        assert spaces[name].dim == 384
        assert spaces[name].approximates == plain["minilm"].fingerprint


def test_a_replaced_space_is_kept_for_queries_that_bridges_are_met_by(tmp_path: Path):
    spaces = saved(tmp_path / "out", TASTE)
    text, image, _ = load_encoders(tmp_path / "out", device="cpu")
    assert [space.name for space in text.spaces[TEXT]] == ["minilm-taste"]
    assert [space.name for space in query_spaces(text)[TEXT]] == ["minilm-taste", "minilm"]
    assert spaces["pictures-taste"].approximates == spaces["minilm-taste"].fingerprint
    sample = text.prepare(TEXT, "a red boat")
    asked = prepare_query(text, TEXT, "a red boat")
    assert text.encode(TEXT, [sample]).keys() == {"minilm-taste"}
    made = text.encode(TEXT, [asked])
    assert made.keys() == {"minilm-taste", "minilm"}
    (plain, *_) = load_encoders(device="cpu")
    np.testing.assert_array_equal(made["minilm"], plain.encode(TEXT, [sample])["minilm"])
    assert [space.name for space in image.spaces[IMAGE]][:2] == ["efficientnet-lite0", "efficientnet-lite0-bridge"]


@pytest.mark.slow
def test_texts_of_changed_weights_are_asked_with_the_plain_ones_too(tmp_path: Path):
    spaces = saved(tmp_path / "out", WHOLE)
    text, image, sound = load_encoders(tmp_path / "out", device="cpu")
    assert [space.name for space in query_spaces(text)[TEXT]] == ["minilm-tuned", "minilm"]
    made = text.encode(TEXT, [prepare_query(text, TEXT, "a red boat")])
    (plain, *_) = load_encoders(device="cpu")
    np.testing.assert_array_equal(made["minilm"], plain.encode(TEXT, [plain.prepare(TEXT, "a red boat")])["minilm"])
    assert np.abs(made["minilm"] - made["minilm-tuned"]).max() > 1e-6
    assert {space.name for space in image.spaces[IMAGE]} == {
        "efficientnet-lite0-tuned", "efficientnet-lite0-bridge-tuned", "efficientnet-lite0-aligned",
    }  # fmt: skip
    assert spaces["efficientnet-lite0-aligned"].approximates == spaces["minilm-tuned"].fingerprint
    # Bridges of pictures and sounds are still what plain texts meet.
    assert spaces["efficientnet-lite0-bridge-tuned"].approximates == spaces["minilm"].fingerprint
    assert sound.spaces[AUDIO][1].approximates == spaces["minilm"].fingerprint


def test_nothing_learned_changes_no_space(tmp_path: Path):
    spaces = saved(tmp_path / "out", {TEXT: TowerSettings(how="full")}, steps=0)
    assert spaces == spaces_by_name(load_encoders(device="cpu"))


def encoded_elsewhere(folder: Path, modalities: Sequence[Modality]) -> dict[str, np.ndarray]:
    """Vectors made by another process, in another directory."""
    code = (
        "import sys, numpy\nfrom finetuning.tower_cases import contents\n"
        "from mmrec.encoders.presets import load_encoders\n"
        "from mmrec.types import Modality\nfound = {}\n"
        "for encoder in load_encoders(sys.argv[1], device='cpu'):\n"
        "    for name in sys.argv[3:]:\n"
        "        kind = Modality(name)\n"
        "        if kind in encoder.spaces:\n"
        "            found |= encoder.encode(kind, [encoder.prepare(kind, one) for one in contents(kind)])\n"
        "numpy.savez(sys.argv[2], **found)\n"
    )
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
    made = folder.parent / "elsewhere.npz"
    command = [sys.executable, "-c", code, str(folder), str(made), *modalities]
    subprocess.run(command, check=True, cwd="/", env={**os.environ, "PYTHONPATH": path})
    with np.load(made, allow_pickle=False) as found:
        return dict(found)


@pytest.mark.slow
def test_another_process_in_another_directory_gets_the_same_vectors(tmp_path: Path):
    saved(tmp_path / "out", WHOLE)
    elsewhere = encoded_elsewhere(tmp_path / "out", [TEXT, IMAGE])
    assert elsewhere.keys() >= {"minilm-tuned", "efficientnet-lite0-aligned", "efficientnet-lite0-tuned"}
    for encoder in load_encoders(tmp_path / "out", device="cpu"):
        for modality in encoder.spaces.keys() & {TEXT, IMAGE}:
            samples = [encoder.prepare(modality, content) for content in contents(modality)]
            for name, rows in encoder.encode(modality, samples).items():
                np.testing.assert_allclose(elsewhere[name], rows, atol=1e-6)


def test_a_folder_may_be_moved_and_is_recorded_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spaces = saved(tmp_path / "out", WHOLE)
    (tmp_path / "out").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert recorded_source("moved") == str(tmp_path / "moved")
    store = Layout(tmp_path / "store")
    assert not is_consented(store, recorded_source("moved"))
    record_consent(store, "moved")
    assert is_consented(store, recorded_source("moved"))
    assert not is_consented(Layout(tmp_path / "other"), recorded_source("moved"))
    assert not is_consented(store, "moved")
    monkeypatch.chdir("/")
    found = load_encoders(str(tmp_path / "moved"), device="cpu")
    assert {s for encoder in found for s in query_spaces(encoder).get(TEXT, ())} <= set(spaces.values())


def test_a_store_reopens_no_folder_that_names_other_code(tmp_path: Path):
    saved(tmp_path / "out", HEADS)
    about = tmp_path / "out" / "yamnet" / "config.json"
    said = json.loads(about.read_text())
    said["parent"]["factory"] = "os.path.join"
    about.write_text(json.dumps(said))
    store = Layout(tmp_path / "store")
    record_consent(store, tmp_path / "out")
    assert not is_consented(store, str(tmp_path / "out"))


def test_another_parent_is_refused_with_both_fingerprints(tmp_path: Path):
    saved(tmp_path / "out", HEADS)
    about = tmp_path / "out" / "yamnet" / "config.json"
    said = json.loads(about.read_text())
    found = said["parent"]["fingerprints"]["yamnet"]
    said["parent"]["fingerprints"]["yamnet"] = "0" * 64
    about.write_text(json.dumps(said))
    with pytest.raises(EncoderError, match=f"(?s){'0' * 64}.*{found}.*train anew"):
        Tuned(str(tmp_path / "out" / "yamnet")).spaces  # noqa: B018 -- it is made when asked for


@pytest.mark.slow
def test_another_number_in_a_head_is_another_space(tmp_path: Path):
    first = saved(tmp_path / "first", HEADS)
    assert saved(tmp_path / "same", HEADS) == first
    other = saved(tmp_path / "other", HEADS, steps=3)
    changed = {name for name in first if first[name] != other[name]}
    assert changed == {"efficientnet-lite0-aligned", "yamnet-aligned"}


def test_a_fine_tuned_encoder_is_fine_tuned_again(tmp_path: Path):
    first = saved(tmp_path / "first", WHOLE)
    sources = load_sources(tmp_path / "first", device="cpu")
    towers = build_towers(sources, {TEXT: TowerSettings(how="full", space="minilm-tuned", last_blocks=1)})
    learn(towers, 1)
    spaces = save_encoders(towers, sources, tmp_path / "second", *CARD)
    assert spaces["minilm-tuned-tuned"].fingerprint != first["minilm-tuned"].fingerprint
    assert spaces["minilm"] == first["minilm"]


def test_damaged_folders_are_explained(tmp_path: Path):
    saved(tmp_path / "out", HEADS)
    head = tmp_path / "out" / "yamnet" / "yamnet-aligned.safetensors"
    head.write_bytes(b"no head")
    for says in ("holds no head that can be read", "yamnet-aligned"):
        with pytest.raises(EncoderError, match=says):
            Tuned(str(tmp_path / "out" / "yamnet")).spaces  # noqa: B018 -- it is made when asked for
        head.unlink(missing_ok=True)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds no encoders\.toml"):
        saved(tmp_path / "out", HEADS, steps=0)
    with pytest.raises(UsageError, match=r"holds encoders\.toml"):
        load_encoders(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_card_tells_what_was_done(tmp_path: Path):
    spaces = saved(tmp_path / "out", HEADS)
    card = (tmp_path / "out" / "yamnet" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name:")
    assert "| all, R@1 | 0.2500 | 0.5000 | +0.1000 to +0.4000 |" in card
    assert spaces["yamnet-aligned"].fingerprint in card
    assert '"seed": 0' in card


def test_sources_are_built_as_they_were_named():
    for source in load_sources(device="cpu"):
        assert isinstance(source, EncoderSource)
        assert source.spec.factory.endswith(type(source.encoder).__name__)
