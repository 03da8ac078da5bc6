"""What the embedding job costs beside the encoders' own work, and beside others: ``python -m benchmarks.embed``.

End to end (read, decode, prepare, encode, write) beside the bare forward pass over the same prepared samples in
batches of like cost, one modality at a time, in turn, the best round of each: 1 would mean that all the rest is free.
Then the job beside sentence-transformers and clip-retrieval, which do the forward pass and less, with equal weights and
vectors; above 1 the job is the faster. Last the peak memory of a job of 100,000 items over that of 10,000.
``--only text,memory`` measures a part.
"""

import argparse

from benchmarks.embed_contents import large_photos, mixed_texts, stamps, stamps_sounds, without_drawings
from benchmarks.embed_job import Contents, compared
from benchmarks.embed_memory import peak_of
from benchmarks.embed_rivals import beside_clip_retrieval, beside_sentence_transformers
from benchmarks.report import show
from mmrec.compute import configure_threads
from mmrec.encoders.presets import load_encoders
from mmrec.types import Modality

FORWARD = ("text", "mixed_text", "image", "png", "large_jpeg", "audio", "effects")
PARTS = (*FORWARD, "sentence_transformers", "clip_retrieval", "memory")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller run that shows whether it works")
    parser.add_argument("--only", default=",".join(PARTS), help=f"any of {', '.join(PARTS)}")
    given = parser.parse_args()
    parts = [part for part in PARTS if part in given.only.split(",")]
    configure_threads()
    beside_forward(parts, quick=given.quick)
    beside_others(parts, quick=given.quick)
    if "memory" in parts:
        memory(quick=given.quick)


def beside_forward(parts: list[str], *, quick: bool) -> None:
    """The job beside the bare forward pass."""
    makers = {
        "text": lambda: stamps(Modality.TEXT),
        "mixed_text": lambda: mixed_texts(400 if quick else 3000),
        "image": lambda: stamps(Modality.IMAGE),
        "png": lambda: without_drawings(stamps(Modality.IMAGE)),
        "large_jpeg": lambda: large_photos(40 if quick else 200),
        "audio": lambda: stamps_sounds(80 if quick else 8),
        "effects": lambda: stamps(Modality.AUDIO),
    }
    rows: list[tuple[object, ...]] = [("contents", "count", "prepare s", "forward s", "end to end s", "ratio")]
    figures = {}
    for part in (part for part in FORWARD if part in parts):
        contents: Contents = makers[part]()
        (encoder,) = (one for one in load_encoders("packaged", device="cpu") if contents.modality in one.spaces)
        found = compared(contents, encoder, 1 if quick else 3)
        rows.append((part, found.count, found.preparing, found.forward, found.whole, found.ratio))
        figures[f"end_to_end_{part}"] = found.ratio
    if figures:
        show("End to end beside the bare forward pass", rows, figures)


def beside_others(parts: list[str], *, quick: bool) -> None:
    """The job beside other people's programs."""
    rounds = 1 if quick else 3
    if "sentence_transformers" in parts:
        ratio, rows = beside_sentence_transformers(400 if quick else 3000, rounds)
        show("The job beside sentence-transformers", rows, {"vs_sentence_transformers": ratio})
    if "clip_retrieval" in parts:
        found = beside_clip_retrieval(100 if quick else 800, min(rounds, 2))
        if found is not None:
            show("The job beside clip-retrieval", found[1], {"vs_clip_retrieval": found[0]})


def memory(*, quick: bool) -> None:
    """Peak memory over the catalog's size."""
    few, many = (1_000, 10_000) if quick else (10_000, 100_000)
    rows: list[tuple[object, ...]] = [("items", few, many, "growth")]
    figures = {}
    for modality, name in ((Modality.TEXT, "memory_growth"), (Modality.IMAGE, "memory_growth_image")):
        peaks = [peak_of(modality, count) for count in (few, many)]
        rows.append((f"{modality}, MB", *peaks, peaks[1] / peaks[0]))
        figures[name] = peaks[1] / peaks[0]
    show("Peak memory of the job and its decoders", rows, figures)


if __name__ == "__main__":
    main()
