"""A joint model end to end: texts find pictures in one space, with no bridge between two."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import small_models
from PIL import Image
from typer.testing import CliRunner

import mmrec
from mmrec.encoders.factories import EncoderSpec
from mmrec.encoders.hub.image_text import HubImageText
from mmrec.encoders.presets import load_encoders, read_encoder_specs
from mmrec.errors import SpaceMismatchError, UsageError
from mmrec.query import Part
from mmrec.types import Modality
from pipelines.cli import app

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 180, 40),
    "blue": (30, 50, 220),
    "yellow": (230, 220, 40),
    "black": (10, 10, 10),
    "white": (250, 250, 250),
}


def painted(colour: str, seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    pixels = np.clip(np.array(COLOURS[colour]) + random.integers(-25, 25, (40, 40, 3)), 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory) -> Path:
    """A small CLIP that has learnt six colours, through the encoder's own gradients, and is saved by transformers."""
    encoder = HubImageText(str(small_models.clip()))
    network = encoder.module.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    torch.manual_seed(0)
    texts = [encoder.prepare(Modality.TEXT, f"a photo of a {colour} thing") for colour in COLOURS]
    for step in range(60):
        pictures = [encoder.prepare(Modality.IMAGE, painted(colour, step)) for colour in COLOURS]
        (left,), (right,) = (
            encoder.embed(modality, samples).values()
            for modality, samples in ((Modality.TEXT, texts), (Modality.IMAGE, pictures))
        )
        scores, own = 10 * left @ right.T, torch.arange(len(COLOURS))
        loss = torch.nn.functional.cross_entropy(scores, own) + torch.nn.functional.cross_entropy(scores.T, own)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    folder = tmp_path_factory.mktemp("models") / "colour-clip"
    network.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((small_models.clip() / name).read_bytes())
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Pictures of colours, each twice, whose texts do not say which; and two items that are texts alone."""
    rows = [{"id": name, "title": f"article {number}", "picture": f"{name}.png"} for number, name in enumerate(named())]
    for seed, name in enumerate(named()):
        painted(name.partition("-")[0], 1_000 + seed).save(tmp_path / f"{name}.png")
    rows += [
        {"id": "said-red", "title": "a photo of a red thing"},
        {"id": "said-blue", "title": "a photo of a blue thing"},
    ]
    path = tmp_path / "catalog.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def named() -> list[str]:
    return [f"{colour}-{number}" for colour in COLOURS for number in (1, 2)]


def run(*arguments: str) -> dict:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def index(catalog: Path, store: Path, encoders: str) -> None:
    run("index", catalog, store, "--id", "id", "--text", "title", "--image", "picture", "--encoders", encoders)


def test_a_text_finds_pictures_by_the_command_line(catalog: Path, colour_model: Path, tmp_path: Path):
    encoders = f"image-text={colour_model}"
    index(catalog, tmp_path / "store", encoders)
    for colour in ("red", "blue", "yellow"):
        asked = ["--text", f"a photo of a {colour} thing", "--against", "image", "-k", "2", "--encoders", encoders]
        hits = run("search", tmp_path / "store", *asked)["results"]
        assert {hit["id"] for hit in hits} == {f"{colour}-1", f"{colour}-2"}
        assert all(list(hit["shares"]) == ["image"] for hit in hits)


def test_a_picture_finds_pictures_and_texts_in_the_one_space(catalog: Path, colour_model: Path, tmp_path: Path):
    index(catalog, tmp_path / "store", f"image-text={colour_model}")
    engine = mmrec.open(tmp_path / "store", encoders=f"image-text={colour_model}")
    asked = Part("image", str(tmp_path / "red-1.png"))
    assert {hit.id for hit in engine.search(asked, against="image", k=2).hits} == {"red-1", "red-2"}
    texts = engine.search(asked, against="text", k=14).hits
    assert [hit.id for hit in texts].index("said-red") < [hit.id for hit in texts].index("said-blue")


def test_texts_of_items_may_be_left_to_another_encoder(catalog: Path, colour_model: Path, tmp_path: Path):
    spec = tmp_path / "encoders.toml"
    spec.write_text(
        f"""
        [[encoders]]
        factory = "mmrec.encoders.hub.text.HubText"
        model = "{small_models.xlm_prompts()}"
        name = "words"

        [[encoders]]
        factory = "mmrec.encoders.hub.image_text.HubImageText"
        model = "{colour_model}"
        items = ["image"]
        """
    )
    index(catalog, tmp_path / "store", str(spec))
    engine = mmrec.open(tmp_path / "store", encoders=spec)
    assert set(engine.status()["contents"]) == {"words.text", "colour-clip.image"}
    hits = engine.search("a photo of a green thing", against="image", k=2).hits
    assert {hit.id for hit in hits} == {"green-1", "green-2"}
    with pytest.raises(SpaceMismatchError):
        engine.search(Part("image", str(tmp_path / "red-1.png")), against="text")


def test_models_are_named_by_kind():
    assert read_encoder_specs("text=owner/name, image=/models/dino") == (
        EncoderSpec("mmrec.encoders.hub.text.HubText", {"model": "owner/name"}),
        EncoderSpec("mmrec.encoders.hub.image.HubImage", {"model": "/models/dino"}),
    )
    assert read_encoder_specs("speech=HUBERT_BASE")[0].settings == {"bundle": "HUBERT_BASE"}
    for wrong in ("txt=owner/name", "text=", "text=a,image"):
        with pytest.raises(UsageError, match=r"names no encoder.*kinds: text, image, timm"):
            read_encoder_specs(wrong)


def test_wrong_settings_are_explained(tmp_path: Path):
    spec = tmp_path / "encoders.toml"
    spec.write_text('[[encoders]]\nfactory = "mmrec.encoders.hub.text.HubText"\nmodel = "a/b"\npoling = "mean"\n')
    with pytest.raises(UsageError, match="poling"):
        load_encoders(spec)
    spec.write_text('[[encoders]]\nfactory = "mmrec.encoders.hub.text.HubText"\nmodel = "a/b"\npooling = "average"\n')
    with pytest.raises(UsageError, match=r"no pooling 'average'. Allowed: cls, max, mean"):
        load_encoders(spec)
    spec.write_text(
        '[[encoders]]\nfactory = "mmrec.encoders.hub.image_text.HubImageText"\nmodel = "a/b"\nitems = "image"\n'
    )
    with pytest.raises(UsageError, match="list of some of text, image"):
        load_encoders(spec)
