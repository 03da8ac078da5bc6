"""No folder of encoders has its code run, whatever kind it is of and whichever way of its libraries it tries."""

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from encoders import small_models
from encoders.evil_folders import EVIL, HANDLE, Evil, Touch

from mmrec.encoders.hub.speech import SpeechBundle
from mmrec.encoders.presets import HUB_KINDS, load_encoders
from mmrec.encoders.queries import prepare_query, query_spaces
from mmrec.encoders.tuned_config import ParentConfig, TunedConfig, write_tuned_config
from mmrec.errors import EncoderError, UsageError
from mmrec.types import Modality, Waveform
from pipelines.cli import app
from pipelines.outcome import run_app

CONTENTS = {
    Modality.TEXT: "a red boat",
    Modality.IMAGE: small_models.noise(40, 40, 0),
    Modality.AUDIO: Waveform(np.sin(np.arange(16_000) * 0.1).astype(np.float32), 16_000),
}


@pytest.fixture(autouse=True)
def no_module_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import transformers.dynamic_module_utils as dynamic

    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, HANDLE, raising=False)
    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture
def items(tmp_path: Path) -> Path:
    (tmp_path / "items.jsonl").write_text(json.dumps({"id": "a", "text": "a red boat"}) + "\n")
    return tmp_path / "items.jsonl"


def command(items: Path, encoders: str | Path) -> list[str]:
    store = items.parent / "store"
    return ["index", str(items), str(store), "--id", "id", "--text", "text", "--encoders", str(encoders)]


def index(items: Path, encoders: str | Path, *more: str) -> int:
    return run_app(app, [*command(items, encoders), *more])


def use(kind: str, model: Path) -> None:
    """Build an encoder and do all that it can do, the network before the spaces."""
    factory, setting = HUB_KINDS[kind]
    module, _, name = factory.rpartition(".")
    encoder = getattr(import_module(module), name)(**{setting: str(model)})
    assert encoder.module is not None
    for modality in query_spaces(encoder):
        encoder.encode(modality, [prepare_query(encoder, modality, CONTENTS[modality])])


@pytest.mark.parametrize("evil", EVIL, ids=lambda evil: evil.name)
def test_a_models_folder_runs_nothing_and_is_refused(evil: Evil, tmp_path: Path) -> None:
    sentinel = tmp_path / "ran"
    evil.lay_down(tmp_path / "model", sentinel)
    with pytest.raises(EncoderError, match=f"{tmp_path}"):
        use(evil.kind, tmp_path / "model")
    assert not sentinel.exists()


@pytest.mark.parametrize("kind", sorted({evil.kind for evil in EVIL}))
def test_the_folders_are_refused_for_what_is_spoiled_in_them(kind: str) -> None:
    for build in {evil.build for evil in EVIL if evil.kind == kind}:
        use(kind, build())


@pytest.mark.slow
def test_a_command_says_so_in_a_sentence(tmp_path: Path, items: Path) -> None:
    (evil,) = [one for one in EVIL if one.name == "open-clip-tokenizer"]
    given = evil.lay_down(tmp_path / "model", tmp_path / "ran")
    program = "import sys; from pipelines.cli import main; sys.argv[0] = 'mmrec'; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command(items, given)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "trust_remote_code" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "ran").exists()


def foreign(sentinel: Path, folder: Path) -> None:
    (folder / f"{HANDLE}.py").write_text(f"from pathlib import Path\nPath({str(sentinel)!r}).touch()\nEvil = None\n")


def listed(folder: Path, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "encoders.toml").write_text("\n".join(["[[encoders]]", *lines, ""]))
    return folder


def tuned(folder: Path, factory: str, /, **settings: str) -> Path:
    listed(folder, 'factory = "mmrec.encoders.tuned.Tuned"', 'folder = "./child"')
    (folder / "child").mkdir()
    parent = ParentConfig(factory=factory, settings=settings, fingerprints={})
    write_tuned_config(TunedConfig(parent=parent), folder / "child")
    return folder


@pytest.mark.parametrize("kind", ["listed", "fine-tuned", "dotted", "of-a-library", "itself"])
def test_a_folder_names_no_code_but_this_packages_own(kind: str, tmp_path: Path, items: Path, capfd) -> None:
    sentinel, folder = tmp_path / "ran", tmp_path / "enc"
    match kind:
        case "listed":
            listed(folder, f'factory = "{HANDLE}.Evil"')
        case "fine-tuned":
            tuned(folder, f"{HANDLE}.Evil")
        case "dotted":  # within this package, and no encoder
            listed(folder, 'factory = "mmrec.encoders.hub.text.Path"')
        case "of-a-library":
            listed(folder, 'factory = "subprocess.run"', f'args = ["touch", "{sentinel}"]')
        case "itself":
            tuned(folder, "mmrec.encoders.tuned.Tuned", folder="./")
    foreign(sentinel, folder)
    code = index(items, folder)
    said = capfd.readouterr().err
    assert not sentinel.exists()
    assert code in {1, 2}
    assert "fault in mmrec" not in said
    assert str(folder) not in sys.path
    assert "mmrec index" not in said
    if kind in {"listed", "fine-tuned"}:
        assert "--trust-code" in said
        index(items, folder, "--trust-code")  # it is no encoder, but it was imported
        assert sentinel.exists()


def test_a_file_runs_its_code_only_where_the_user_names_the_file(tmp_path: Path, items: Path, capfd) -> None:
    sentinel = tmp_path / "ran"
    folder = listed(tmp_path / "enc", f'factory = "{HANDLE}.Evil"')
    foreign(sentinel, folder)
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(f'source = "{items}"\nencoders = "enc/encoders.toml"\n[columns]\nid = "id"\ntext = "text"\n')
    assert run_app(app, ["index", str(catalog), str(tmp_path / "store")]) == 2
    assert "--trust-code" in capfd.readouterr().err
    child = tuned(tmp_path / "tuned", f"{HANDLE}.Evil")
    foreign(sentinel, child)
    assert index(items, child / "encoders.toml") == 2
    assert not sentinel.exists()
    index(items, folder / "encoders.toml")
    assert sentinel.exists()


def test_what_a_file_sets_does_not_allow_its_own_code(tmp_path: Path) -> None:
    sentinel = tmp_path / "ran"
    folder = tuned(tmp_path / "enc", f"{HANDLE}.Evil")
    foreign(sentinel, folder)
    monkey = (folder / "encoders.toml").read_text() + "trust_code = true\n"
    (folder / "encoders.toml").write_text(monkey)
    with pytest.raises(UsageError, match="trust_code is not set for each encoder"):
        load_encoders(folder)
    nested = tuned(tmp_path / "nested", "mmrec.encoders.tuned.Tuned", folder=str(folder / "child"), trust_code="yes")
    with pytest.raises(UsageError, match="not mmrec's own"):
        load_encoders(nested)
    assert not sentinel.exists()


def test_a_bundle_of_sounds_is_not_unpickled(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torchaudio.pipelines, "HUBERT_BASE", small_models.small_bundle("HUBERT_BASE"))
    name = next(small_models.bundle_weights("HUBERT_BASE").iterdir()).name
    torch.save({"weight": Touch(tmp_path / "ran")}, tmp_path / name)
    with pytest.raises(EncoderError, match="code in it is never run"):
        _ = SpeechBundle("HUBERT_BASE", str(tmp_path)).module
    assert not (tmp_path / "ran").exists()


def test_a_template_has_no_way_out_of_its_sandbox(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(small_models.bert_mean(), tmp_path / "model"))
    way_out = "{{ cycler.__init__.__globals__.os.system('touch " + str(tmp_path / "ran") + "') }}"
    (folder / "chat_template.jinja").write_text(way_out)
    (encoder,) = load_encoders(f"text={folder}", device="cpu")
    assert encoder.spaces
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == way_out
    with pytest.raises(Exception, match="unsafe"):
        tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert not (tmp_path / "ran").exists()


def test_the_folders_would_run_their_code_if_they_were_trusted(tmp_path: Path) -> None:
    """What the tests above look for does happen: without this they could not fail."""
    from transformers import AutoTokenizer

    by_name = {evil.name: evil for evil in EVIL}
    by_name["tokenizer"].lay_down(tmp_path / "tokenizer", tmp_path / "ran")
    AutoTokenizer.from_pretrained(tmp_path / "tokenizer", trust_remote_code=True)
    assert (tmp_path / "ran").exists()
    by_name["pickled-weights"].lay_down(tmp_path / "weights", tmp_path / "unpickled")
    torch.load(tmp_path / "weights" / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "unpickled").exists()


def test_errors_of_an_unreadable_folder_stay_errors(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_models.bert_mean(), tmp_path / "model"))
    (folder / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(EncoderError, match="nested too deeply"):
        use("text", folder)
