"""Fine-tune the encoders of a store on its items, and write encoders, curves and a page with the verdict."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from accelerate import PartialState

from mmrec.compute import configure_threads, pick_device
from mmrec.encoders.presets import foreign_factories, read_encoder_specs
from mmrec.errors import UsageError
from mmrec.event_log import has_events, open_event_log
from mmrec.files import write_page
from mmrec.finetuning.config import FinetuneConfig, ObjectiveName, load_finetune_config
from mmrec.finetuning.estimate import estimate
from mmrec.finetuning.finetune import ENCODERS, WRITTEN, finetune
from mmrec.finetuning.model_card import FinetuneReport
from mmrec.finetuning.page import render_page
from mmrec.finetuning.preparing import Access
from mmrec.finetuning.towers import load_sources
from mmrec.jobs.index import encoders_of
from mmrec.jobs.train import report_epoch, training_folder
from mmrec.reporting import SILENT, Reporter
from mmrec.sources.media_access import opened_media
from mmrec.storage.layout import Layout

PAGE = "report.html"


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """One run of ``mmrec finetune``.

    Attributes:
        objective: ``align``, ``coengage`` or ``label``.
        store: What is learned from.
        config: Settings; heads on stored vectors if None.
        out: Where the encoders go; a folder beside the store if None.
        encoders: What is fine-tuned; the store's own if None.
        events: SQLAlchemy URL of the log of events; the store's own if None.
        column: Metadata column of the labels; the configuration's if None.
        media_root: Folder, or URL, outside which no image or audio is read; None: no bounds.
        allow_fetch: Fetch images and audio from public web addresses.
        trust_code: Run code that is not this package's own where a folder of encoders names it.

    """

    objective: ObjectiveName
    store: Path
    config: Path | FinetuneConfig | None = None
    out: Path | None = None
    encoders: str | Path | None = None
    events: str | None = None
    column: str | None = None
    media_root: str | None = None
    allow_fetch: bool = False
    trust_code: bool = False


def run(options: FinetuneOptions, reporter: Reporter = SILENT) -> dict[str, object] | None:
    """Fine-tune, and write encoders, curves and the page. Returns a summary; None in all processes but the main one.

    Raises UsageError, StoreError, EncoderError, StoreBusyError where another job is at work in the folder, and
    LinkError where what is written in it is a link.
    """
    started = time.perf_counter()
    configure_threads()
    layout, config = _settings(options)
    folder = options.out or layout.root.with_name(f"{layout.root.name}-{options.objective}")
    root = layout.root.resolve()
    if folder.resolve() in {root, *root.parents} or folder.resolve().is_relative_to(root):
        raise UsageError(f"--out {folder} is the store, in it, or holds it; name a folder of its own")
    chosen = encoders_of(options.encoders, layout, reporter)
    is_main = _is_main(config)
    with training_folder(folder, (PAGE, *WRITTEN), is_main=is_main), _access(options, layout) as access:
        sources = load_sources(chosen, device=config.device, trust_code=options.trust_code)
        on_epoch = partial(report_epoch, reporter, "validation", "") if is_main else None
        report = finetune(layout, sources, options.objective, config, folder, access, on_epoch)
    if not is_main:
        return None
    title = f"{options.objective} on {layout.root.name}"
    parents = ", ".join(spec.factory.rsplit(".", 1)[-1] for spec in read_encoder_specs(chosen))
    write_page(folder / PAGE, render_page(report, title, {"encoders": parents, "seed": str(config.seed)}))
    reporter.note(f"The page is {folder / PAGE}")
    return _summary(report, folder / ENCODERS, time.perf_counter() - started, reporter)


def run_dry(options: FinetuneOptions, reporter: Reporter = SILENT) -> dict[str, object] | None:
    """Estimate what a fine-tuning would learn from and cost, and write nothing.

    Returns a summary; None in all processes but the main one. Errors are those of `run`.
    """
    configure_threads()
    layout, config = _settings(options)
    chosen = encoders_of(options.encoders, layout, reporter)
    is_main = _is_main(config)
    with _access(options, layout) as access:
        sources = load_sources(chosen, device=config.device, trust_code=options.trust_code)
        cost = estimate(layout, sources, options.objective, config, access)
    if not is_main:
        return None
    reporter.note("Memory is in bytes; `step` is what a step was seen to hold at its worst, the others are counted.")
    return asdict(cost)


def _is_main(config: FinetuneConfig) -> bool:
    return bool(PartialState(cpu=pick_device(config.device).type == "cpu").is_main_process)


@contextmanager
def _access(options: FinetuneOptions, layout: Layout) -> Iterator[Access]:
    """Open media access and, for co-engagement, the event log."""
    with ExitStack() as opened:
        media = opened.enter_context(opened_media(options.media_root, allow_fetch=options.allow_fetch))
        log = None
        if options.objective == "coengage":
            if not has_events(layout, options.events):
                raise UsageError(
                    f"{layout.root} has no events to learn from: import some with `mmrec events import STORE FILE`"
                )
            log = opened.enter_context(closing(open_event_log(layout, options.events or None)))
        yield Access(media, log)


def _settings(options: FinetuneOptions) -> tuple[Layout, FinetuneConfig]:
    layout = Layout(options.store)
    layout.check()
    config = options.config or FinetuneConfig()
    config = load_finetune_config(config) if isinstance(config, Path) else config
    if options.column is not None:
        label = config.label.model_copy(update={"column": options.column})
        config = config.model_copy(update={"label": label})
    return layout, config


def _summary(report: FinetuneReport, encoders: Path, seconds: float, reporter: Reporter) -> dict[str, object]:
    reporter.note(report.verdict.sentence)
    if report.verdict.word == "hurt":
        reporter.warn("A worse model is not taken up by `mmrec reindex`, unless --force says so.")
    else:
        trust = " --trust-code" if foreign_factories(read_encoder_specs(encoders)) else ""
        reporter.note(f"To move a store to it: mmrec reindex STORE --encoders {encoders}{trust}")
    lines = [line for line in report.verdict.lines if line.metric == report.verdict.metric]
    metric = report.verdict.metric.upper()
    return {
        "objective": report.objective,
        **report.counts,
        "epochs": sum(point.epoch > 0 for point in report.curve),
        "best_epoch": report.best_epoch,
        "verdict": report.verdict.word,
        **{f"{metric} {line.asked}": f"{line.before.mean:.3f} before, {line.after.mean:.3f} after" for line in lines},
        "encoders": str(encoders),
        "page": str(encoders.parent / PAGE),
        "seconds": seconds,
    }
