import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmrec.encoders.factories import EncoderSpec
from mmrec.encoders.presets import load_encoders, read_encoder_specs, spaces_by_name
from mmrec.encoders.protocol import Encoder
from mmrec.errors import EncoderError, UsageError
from mmrec.types import Modality

LENGTH_ENCODER = '''
import hashlib
import numpy as np
import torch
from mmrec.encoders.protocol import Sample
from mmrec.types import Modality
from mmrec.types import Space


class Lengths:
    """Letters counted: the smallest encoder that does something."""

    batch_cost = 100

    def __init__(self, device, dtype, space="lengths", letters="abc"):
        self.letters = letters
        self.spaces = {Modality.TEXT: (Space(space, len(letters), hashlib.sha256(letters.encode()).hexdigest()),)}

    @property
    def module(self):
        return torch.nn.Identity()

    def prepare(self, modality, content):
        return Sample(torch.tensor([1.0 + content.count(letter) for letter in self.letters]), 1)

    def encode(self, modality, samples):
        rows = np.stack([sample.tensor.numpy() for sample in samples])
        (space,) = self.spaces[modality]
        return {space.name: rows / np.linalg.norm(rows, axis=1, keepdims=True)}


NOT_CALLABLE = 3


def make_nothing(device, dtype):
    return object()
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_lengths.py").write_text(LENGTH_ENCODER)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_lengths", raising=False)
    return tmp_path / "encoders.toml"


def test_packaged_fills_five_spaces():
    encoders = load_encoders()
    assert [modality for encoder in encoders for modality in encoder.spaces] == list(Modality)
    spaces = spaces_by_name(encoders)
    assert {name: space.dim for name, space in spaces.items()} == {
        "minilm": 384,
        "efficientnet-lite0": 1280,
        "efficientnet-lite0-bridge": 384,
        "yamnet": 1024,
        "yamnet-bridge": 384,
    }
    assert len({space.fingerprint for space in spaces.values()}) == 5


def test_packaged_reads_and_imports_nothing_before_it_is_needed():
    code = (
        "import sys; from mmrec.encoders.presets import load_encoders; encoders = load_encoders(device='cpu');"
        "print([name for name in ('transformers', 'timm', 'torchvision', 'onnx', 'faiss') if name in sys.modules],"
        "any('module' in vars(encoder) for encoder in encoders))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"


def test_an_own_encoder_by_its_dotted_path(own: Path):
    own.write_text('[[encoders]]\nfactory = "my_lengths.Lengths"\nletters = "xyz!"\n')
    assert read_encoder_specs(own) == (EncoderSpec("my_lengths.Lengths", {"letters": "xyz!"}),)
    (encoder,) = load_encoders(own)
    assert isinstance(encoder, Encoder)
    vectors = encoder.encode(Modality.TEXT, [encoder.prepare(Modality.TEXT, "xx")])["lengths"]
    np.testing.assert_allclose(vectors, np.array([[3, 1, 1, 1]]) / np.sqrt(12), rtol=1e-6)


def test_own_and_packaged_encoders_together(own: Path):
    factories = "mmrec.encoders.packaged.minilm.MiniLM", "my_lengths.Lengths"
    own.write_text("".join(f'[[encoders]]\nfactory = "{factory}"\n' for factory in factories))
    assert list(spaces_by_name(load_encoders(str(own)))) == ["minilm", "lengths"]


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        ("", UsageError, "names no encoder"),
        ("encoders = []", UsageError, "names no encoder"),
        ("encoders = [1]", UsageError, "must be"),
        ("[[encoders", UsageError, "not valid TOML"),
        ("[other]\n", UsageError, "unknown keys other"),
        ("[[encoders]]\nletters = 1", UsageError, "needs factory"),
        ('[[encoders]]\nfactory = "Lengths"', UsageError, "needs factory"),
        ('[[encoders]]\nfactory = "my_lengths.Lengths"\ndevice = "cpu"', UsageError, "for all, by --device"),
        ('[[encoders]]\nfactory = "my_lengths.Lengths"\nlettres = "a"', UsageError, "lettres.*It takes"),
        ('[[encoders]]\nfactory = "no_such_module.Name"', EncoderError, "beside the TOML file"),
        ('[[encoders]]\nfactory = "my_lengths.Nothing"', EncoderError, "has no 'Nothing'"),
        ('[[encoders]]\nfactory = "my_lengths.NOT_CALLABLE"', EncoderError, "must be a class or a function"),
        ('[[encoders]]\nfactory = "my_lengths.make_nothing"', EncoderError, "lacks spaces, batch_cost"),
        ('[[encoders]]\nfactory = "my_lengths.Lengths"\n' * 2, EncoderError, "Two encoders fill the space 'lengths'"),
    ],
)
def test_mistakes_are_explained(own: Path, content: str, error: type[Exception], says: str):
    own.write_text(content)
    with pytest.raises(error, match=says):
        load_encoders(own)


def test_an_unknown_preset_is_explained():
    with pytest.raises(UsageError, match=r"no encoder preset or TOML file 'paged'. Presets: packaged"):
        load_encoders("paged")
