"""What was trained of a hub's model is loaded by that model's own library, with the same vectors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finetuning.test_towers import CARD, learn, small_bundles, towers_of, vectors  # noqa: F401 - a fixture
from finetuning.tower_cases import CASES, contents

from mmrec.encoders.presets import read_encoder_specs
from mmrec.encoders.vectors import unit_rows
from mmrec.finetuning.saving import save_encoders
from mmrec.types import Modality


def trained(name: str, folder: Path) -> tuple[Any, dict[Modality, np.ndarray]]:
    """Train and save one case; returns its encoder as trained, and its vectors by modality."""
    source = CASES[name].source()
    towers = towers_of(CASES[name], source, how="full")
    learn(towers, 2)
    save_encoders(towers, [source], folder, *CARD)
    return source.encoder, {modality: vectors(tower) for modality, tower in towers.items()}


def model_folder(folder: Path) -> str:
    (spec,) = read_encoder_specs(folder)
    return str(spec.settings["model"])


def test_sentence_transformers_loads_a_text_model(tmp_path: Path):
    from sentence_transformers import SentenceTransformer

    for name in ("text", "text, Dense layers"):
        _, found = trained(name, tmp_path / name.replace(", ", "-"))
        model = SentenceTransformer(model_folder(tmp_path / name.replace(", ", "-")), device="cpu")
        made = model.encode(contents(Modality.TEXT), normalize_embeddings=True)
        np.testing.assert_allclose(made, found[Modality.TEXT], atol=1e-5)


def test_transformers_loads_a_model_of_pictures_and_texts(tmp_path: Path):
    from transformers import AutoModel, AutoProcessor

    _, found = trained("CLIP", tmp_path / "out")
    folder = model_folder(tmp_path / "out")
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    with torch.no_grad():
        for number, text in enumerate(contents(Modality.TEXT)):
            given = processor(text=[text], return_tensors="pt")
            made = unit_rows(model.get_text_features(**given).pooler_output)
            np.testing.assert_allclose(made.numpy()[0], found[Modality.TEXT][number], atol=1e-5)
        given = processor(images=contents(Modality.IMAGE), return_tensors="pt")
        made = unit_rows(model.get_image_features(**given).pooler_output)
        np.testing.assert_allclose(made.numpy(), found[Modality.IMAGE], atol=1e-5)


def test_transformers_loads_a_model_of_sounds_and_texts(tmp_path: Path):
    from transformers import AutoModel

    encoder, found = trained("CLAP", tmp_path / "out")
    model = AutoModel.from_pretrained(model_folder(tmp_path / "out")).eval()
    mels = torch.cat([encoder.prepare(Modality.AUDIO, sound).tensor for sound in contents(Modality.AUDIO)[:2]])
    with torch.no_grad():
        features = model.get_audio_features(input_features=mels, is_longer=torch.zeros(2, 1, dtype=torch.bool))
    np.testing.assert_allclose(unit_rows(features.pooler_output).numpy(), found[Modality.AUDIO][:2], atol=1e-5)


def test_transformers_loads_a_model_of_pictures(tmp_path: Path):
    from transformers import AutoImageProcessor, AutoModel

    _, found = trained("image", tmp_path / "out")
    folder = model_folder(tmp_path / "out")
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
    for number, picture in enumerate(contents(Modality.IMAGE)):
        with torch.no_grad():
            states = model(**processor(picture, return_tensors="pt")).last_hidden_state
        np.testing.assert_allclose(unit_rows(states[:, 0]).numpy()[0], found[Modality.IMAGE][number], atol=1e-4)


def test_open_clip_loads_a_model(tmp_path: Path):
    import open_clip

    _, found = trained("open_clip", tmp_path / "out")
    name = f"local-dir:{model_folder(tmp_path / 'out')}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    with torch.no_grad():
        pictures = model.eval().encode_image(torch.stack([transform(one) for one in contents(Modality.IMAGE)]))
        texts = model.encode_text(tokenizer(contents(Modality.TEXT)))
    np.testing.assert_allclose(unit_rows(pictures).numpy(), found[Modality.IMAGE], atol=1e-5)
    np.testing.assert_allclose(unit_rows(texts).numpy(), found[Modality.TEXT], atol=1e-5)


def test_timm_loads_a_model(tmp_path: Path):
    import timm

    encoder, found = trained("timm", tmp_path / "out")
    model = timm.create_model(f"local-dir:{model_folder(tmp_path / 'out')}", pretrained=True).eval()
    pixels = torch.stack([encoder.prepare(Modality.IMAGE, picture).tensor for picture in contents(Modality.IMAGE)])
    with torch.no_grad():
        np.testing.assert_allclose(unit_rows(model(pixels)).numpy(), found[Modality.IMAGE], atol=1e-5)


@pytest.mark.parametrize("name", ["HuBERT", "WavLM"])
def test_torchaudio_loads_a_bundle(name: str, tmp_path: Path):
    import torchaudio

    encoder, found = trained(name, tmp_path / "out")
    (spec,) = read_encoder_specs(tmp_path / "out")
    bundle = getattr(torchaudio.pipelines, str(spec.settings["bundle"]))
    folder = str(spec.settings["checkpoint"])
    model = bundle.get_model(dl_kwargs={"model_dir": folder, "progress": False})
    network = getattr(model, "model", model).eval()
    wave = encoder.prepare(Modality.AUDIO, contents(Modality.AUDIO)[0]).tensor
    with torch.no_grad():
        states, _ = network.extract_features(wave)
    np.testing.assert_allclose(unit_rows(states[-1].mean(dim=1)).numpy()[0], found[Modality.AUDIO][0], atol=1e-5)


def test_sentence_transformers_loads_a_multimodal_model(tmp_path: Path):
    from sentence_transformers import SentenceTransformer

    _, found = trained("multimodal", tmp_path / "out")
    model = SentenceTransformer(model_folder(tmp_path / "out"), device="cpu")
    made = model.encode_document(contents(Modality.TEXT), normalize_embeddings=True)
    np.testing.assert_allclose(made, found[Modality.TEXT], atol=1e-5)
