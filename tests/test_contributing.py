"""What CONTRIBUTING says works as written."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmrec.encoders.presets import load_encoders
from mmrec.encoders.protocol import Encoder
from mmrec.modality import Modality

PAGE = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")


def _block(language: str) -> str:
    (written,) = re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
    return textwrap.dedent(written)


def test_the_encoder_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mean_colour.py").write_text(_block("python"), encoding="utf-8")
    (tmp_path / "encoders.toml").write_text(_block("toml"), encoding="utf-8")
    (encoder,) = load_encoders(tmp_path / "encoders.toml", device="cpu")
    assert isinstance(encoder, Encoder)
    (space,) = encoder.spaces[Modality.IMAGE]
    red, blue = (encoder.prepare(Modality.IMAGE, Image.new("RGB", (9, 5), name)) for name in ("red", "blue"))
    together = encoder.encode(Modality.IMAGE, [red, blue])[space.name]
    alone = encoder.encode(Modality.IMAGE, [red])[space.name]
    assert together.shape == (2, space.dim)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together[0], alone[0], atol=1e-5)
