"""Fine-tune the encoders of a store, save them as a folder, and measure whether it helped.

    report = finetune(layout, load_sources("packaged"), "align", config, folder)
    report.verdict         # before and after on held-out items, and a plain sentence

The folder gets ``encoders/``, which `mmrec reindex STORE --encoders` takes, ``report.json``, ``curves.png``,
``tensorboard/`` and ``checkpoint.safetensors``, from which the same call resumes if it was interrupted. Under
``torchrun`` or ``accelerate launch`` every process makes this call; all return the same, and one writes.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from mmrec.files import write_atomically
from mmrec.finetuning.config import FinetuneConfig, ObjectiveName
from mmrec.finetuning.model_card import FinetuneReport
from mmrec.finetuning.preparing import Access, FinetuneRun, prepare
from mmrec.finetuning.questions import centred
from mmrec.finetuning.saving import save_encoders
from mmrec.finetuning.towers import EncoderSource
from mmrec.finetuning.verdict import judge, write_verdict
from mmrec.storage.layout import Layout
from mmrec.training.trainer import Epoch, draw_curves, tensorboard_log

CHECKPOINT = "checkpoint.safetensors"
REPORT = "report.json"
ENCODERS = "encoders"
WRITTEN = (CHECKPOINT, REPORT, ENCODERS, "tensorboard", "curves.png")
"""What a fine-tuning writes in its folder."""


def finetune(
    layout: Layout,
    sources: Sequence[EncoderSource],
    objective: ObjectiveName,
    config: FinetuneConfig,
    folder: Path,
    access: Access | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> FinetuneReport:
    """Fine-tune encoders on a store, or resume an interrupted fine-tuning.

    Args:
        layout: The store; it is read and not changed.
        sources: Its encoders. Their networks are trained in place.
        objective: ``align``, ``coengage`` or ``label``.
        config: Settings.
        folder: Where results are kept; made if it is not there.
        access: How images and audio are read, and, for ``coengage``, the event log.
        on_epoch: Called after each epoch.

    Raises:
        UsageError: There is nothing to learn from, or the folder holds another training.
        MediaError: An image or audio file was there at first and is no longer.

    """
    with torch.random.fork_rng(enabled=True):
        torch.manual_seed(config.seed)
        ready = prepare(layout, sources, objective, config, access)
        folder.mkdir(parents=True, exist_ok=True)
        is_main, metric, curve = ready.accelerator.is_main_process, ready.task.metric, list[Epoch]()
        if ready.trains:
            with tensorboard_log(folder / "tensorboard", on_epoch, metric.upper(), enabled=is_main) as log:
                curve = ready.loop.run(folder / CHECKPOINT, ready.fingerprint, log)
        after = [*ready.unchanged, centred(ready.loop.embedder.embed_corpus(ready.data.corpus))]
    test = ready.task.test
    verdict = judge(test.rank(ready.before), test.rank(after), metric, config.seed)
    report = FinetuneReport(objective, ready.counts(), tuple(curve), ready.loop.progress.best_epoch, verdict)
    if is_main:
        _write(ready, report, folder)
    ready.accelerator.wait_for_everyone()
    return report


def _write(ready: FinetuneRun, report: FinetuneReport, folder: Path) -> None:
    save_encoders(ready.towers, ready.sources, folder / ENCODERS, report, ready.config)
    if report.curve:
        draw_curves(report.curve, folder / "curves.png", ready.task.metric.upper())
    write_atomically(folder / REPORT, json.dumps(_plain(asdict(report)), indent=1, allow_nan=False).encode())
    write_verdict(report.verdict, folder / ENCODERS)


def _plain(value: object) -> object:
    """Return a value without NaN and infinity, which JSON lacks: they become null."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
