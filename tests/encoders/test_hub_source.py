"""Where models come from, what pins them, and what is said where they cannot be had."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import small_models

from mmrec.encoders.hub import source
from mmrec.encoders.hub.image_text import HubImageText
from mmrec.encoders.hub.source import find_model, space_name
from mmrec.encoders.hub.text import HubText
from mmrec.encoders.presets import PRESETS, load_encoders
from mmrec.errors import EncoderError, UsageError
from mmrec.types import Modality

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of a small text model that a test may change."""
    return Path(shutil.copytree(small_models.bert_mean(), tmp_path / "My Model_v2"))


def fingerprint(folder: Path, **settings) -> str:
    return HubText(str(folder), **settings).spaces[Modality.TEXT][0].fingerprint


def test_a_directory_is_pinned_by_all_that_decides_a_vector(own: Path):
    first = fingerprint(own)
    assert fingerprint(own) == first
    moved = own.rename(own.parent / "elsewhere")
    assert fingerprint(moved) == first
    (moved / "README.md").write_text("words")
    (moved / "optimizer.pt").write_bytes(b"left over")
    assert fingerprint(moved) == first
    for name in ("tokenizer.json", "model.safetensors", "1_Pooling/config.json", "sentence_bert_config.json"):
        before = fingerprint(moved)
        with (moved / name).open("ab") as file:
            file.write(b" ")
        assert fingerprint(moved) != before


def test_settings_that_decide_a_vector_are_in_the_fingerprint(own: Path):
    first = fingerprint(own)
    others = [{"pooling": "cls"}, {"document_prompt": "passage: "}, {"max_tokens": 20}, {"dim": 16}]
    found = [fingerprint(own, **settings) for settings in others]
    assert len({first, *found}) == 5
    assert fingerprint(own, query_prompt="query: ") == first


def test_a_file_is_read_again_only_if_it_changed(own: Path, monkeypatch):
    reads = []
    real = source.hashlib.file_digest
    monkeypatch.setattr(source.hashlib, "file_digest", lambda file, kind: reads.append(file.name) or real(file, kind))
    first = source.directory_digest(own)
    count = len(reads)
    assert count > 5
    assert source.directory_digest(own) == first
    assert len(reads) == count
    weights = own / "model.safetensors"
    content, stamp = weights.read_bytes(), weights.stat()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # of the same size and time of change
    assert source.directory_digest(own) != first
    assert len(reads) == count + 1


def test_names_of_spaces_are_made_of_the_models():
    assert space_name("intfloat/multilingual-e5-small", None) == "multilingual-e5-small"
    assert space_name("/models/My Model_v2/", None) == "my-model-v2"
    assert space_name("a/b", "words") == "words"
    for wrong in ("Words", "-", "a--b", "a b", ""):
        with pytest.raises(UsageError, match="lower case letters"):
            space_name("a/b", wrong)


def in_cache(root: Path, repository: str, source: Path, commit: str = COMMIT) -> Path:
    """Lay a model down as huggingface_hub keeps what it has downloaded."""
    place = root / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    return Path(shutil.copytree(source, place / "snapshots" / commit))


def test_a_hub_id_is_its_snapshot_here_and_pinned_by_its_commit(tmp_path: Path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    in_cache(tmp_path, "owner/words", small_models.xlm_prompts())
    files = find_model("owner/words", None)
    assert (files.pin, files.repository) == (COMMIT, "owner/words")
    assert find_model("owner/words", COMMIT).folder == files.folder
    by_id, by_path = HubText("owner/words"), HubText(str(small_models.xlm_prompts()))
    assert by_id.spaces[Modality.TEXT][0].name == "words"
    sample = by_id.prepare(Modality.TEXT, "红船")
    (one,), (other,) = (encoder.encode(Modality.TEXT, [sample]).values() for encoder in (by_id, by_path))
    np.testing.assert_array_equal(one, other)
    with pytest.raises(EncoderError, match=r"did not give the model owner/words at revision v9.*To go on"):
        find_model("owner/words", "v9")
    with pytest.raises(EncoderError, match=r"did not give the model owner/other: "):
        find_model("owner/other", None)


def test_every_encoder_of_the_hub_preset_reads_checkpoints_of_its_architecture(tmp_path: Path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    models = [str(spec.settings["model"]) for spec in PRESETS["hub"]]
    for model, build in zip(models, (small_models.xlm_prompts, small_models.siglip, small_models.clap), strict=True):
        in_cache(tmp_path, model, build())
    encoders = load_encoders("hub", device="cpu")
    assert [list(encoder.spaces) for encoder in encoders] == [[Modality.TEXT], [Modality.IMAGE], [Modality.AUDIO]]
    assert [encoder.spaces[kind][0].name for encoder, kind in zip(encoders, Modality, strict=True)] == [
        "multilingual-e5-small",
        "siglip2-base-patch16-224",
        "clap-htsat-unfused",
    ]
    text, joint, _ = encoders
    assert not torch.equal(text.prepare(Modality.TEXT, "船").tensor, text.prepare_query(Modality.TEXT, "船").tensor)
    upper, lower = (joint.prepare(Modality.TEXT, words).tensor for words in ("A RED BOAT", "a red boat"))
    assert torch.equal(upper, lower)
    for encoder in encoders:
        assert encoder.module is not None


@pytest.mark.parametrize(
    ("model", "settings", "error", "says"),
    [
        ("/no/such/place", {}, EncoderError, "There is no directory '/no/such/place'. Name a model's directory"),
        ("./here", {}, EncoderError, "There is no directory"),
        ("a/b/c", {}, EncoderError, "There is no directory"),
        (".", {"revision": "main"}, UsageError, "has no revision 'main'"),
        ("a/b", {"max_tokens": 0}, UsageError, "max_tokens = 0"),
        ("a/b", {"dim": -1}, UsageError, "dim = -1"),
        ("a/b", {"pooling": "mean+sum"}, UsageError, "no pooling 'sum'"),
    ],
)
def test_mistakes_are_explained(model: str, settings: dict, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        _ = HubText(model, **settings).spaces


def test_models_that_cannot_be_read_are_explained(own: Path, tmp_path: Path):
    with pytest.raises(EncoderError, match="holds no model"):
        _ = HubText(str(empty(tmp_path))).spaces
    with pytest.raises(UsageError, match=r"dim = 33 was given; the vectors of .* have 32"):
        _ = HubText(str(own), dim=33).spaces
    with pytest.raises(UsageError, match="at most 64"):
        HubText(str(own), max_tokens=65).prepare(Modality.TEXT, "a cat")
    (own / "adapter_config.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"an adapter, not a model. Merge it"):
        _ = HubText(str(own)).module
    (own / "adapter_config.json").unlink()
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(EncoderError, match=r"lack 16 of the network's tensors, encoder.layer.2"):
        _ = HubText(str(own)).module
    (own / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "evil.Config"}}))
    (own / "evil.py").write_text("raise SystemExit('run')")
    with pytest.raises(EncoderError, match="code of its own is never run"):
        _ = HubText(str(own)).module
    (own / "config.json").write_text("{")
    with pytest.raises(EncoderError, match="cannot be read"):
        _ = HubText(str(own)).spaces
    with pytest.raises(EncoderError, match="does not join images and text"):
        _ = HubImageText(str(small_models.plain_bert())).module


def empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_weights_that_are_code_are_never_run(own: Path, tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    (own / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Evil()}, own / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        _ = HubText(str(own)).module
    assert not (tmp_path / "run").exists()


def test_a_plain_model_says_that_it_is_pooled_by_the_mean(caplog):
    encoder = HubText(str(small_models.plain_bert()))
    assert encoder.spaces[Modality.TEXT][0].dim == 32
    assert "pooled by the mean" in caplog.text
    caplog.clear()
    _ = HubText(str(small_models.plain_bert()), pooling="cls").spaces
    assert not caplog.text


def test_a_known_models_spaces_need_neither_its_weights_nor_transformers(own: Path):
    expected = HubText(str(own)).spaces  # makes the notes
    code = (
        "import sys; from mmrec.encoders.hub.text import HubText; from mmrec.types import Modality;"
        f"found = HubText({str(own)!r}); print(found.spaces[Modality.TEXT][0].fingerprint,"
        "'module' in vars(found), [name for name in ('transformers', 'faiss', 'lance') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected[Modality.TEXT][0].fingerprint, "False", "[]"]
