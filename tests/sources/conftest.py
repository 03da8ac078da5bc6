"""Writers of the same records in every kind of source, and makers of real media."""

import csv
import io
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image


def _parquet(records, folder):
    pq.write_table(pa.Table.from_pylist(records), folder / "catalog.parquet", row_group_size=2)
    return folder / "catalog.parquet"


def _parquet_directory(records, folder):
    (folder / "parts").mkdir()
    schema = pa.Table.from_pylist(records).schema
    for number in range(0, len(records), 2):
        part = pa.Table.from_pylist(records[number : number + 2], schema=schema)
        pq.write_table(part, folder / "parts" / f"part-{number:04d}.parquet")
    return folder / "parts"


def _jsonl(records, folder):
    lines = (json.dumps(record, ensure_ascii=False, default=lambda v: v.isoformat()) for record in records)
    (folder / "catalog.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return folder / "catalog.jsonl"


def _csv(records, folder):
    with (folder / "catalog.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        for record in records:
            writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in record.items()})
    return folder / "catalog.csv"


def _dataset(records, folder):
    datasets.disable_progress_bars()
    datasets.Dataset(pa.Table.from_pylist(records)).save_to_disk(str(folder / "saved"))
    return folder / "saved"


WRITERS = {
    "parquet": _parquet,
    "parquet directory": _parquet_directory,
    "json lines": _jsonl,
    "csv": _csv,
    "datasets": _dataset,
}


@pytest.fixture(params=WRITERS)
def write(request, tmp_path):
    """A function: records -> path of a source that holds them."""
    return lambda records, folder=tmp_path: WRITERS[request.param](records, folder)


@pytest.fixture
def png():
    """A function: colour, mode, size -> PNG bytes."""
    return lambda colour="red", mode="RGB", size=(40, 30): picture(Image.new(mode, size, colour), "PNG")


def picture(image: Image.Image, kind: str, **options: object) -> bytes:
    """Encode a picture."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def encoded():
    """A function: picture, format -> bytes."""
    return picture


@pytest.fixture
def sound():
    """A function: samples, rate, format, subtype -> bytes."""

    def make(samples, rate=16_000, kind="WAV", subtype=None):
        out = io.BytesIO()
        soundfile.write(out, samples, rate, format=kind, subtype=subtype)
        return out.getvalue()

    return make


@pytest.fixture
def tone():
    """A function: seconds, rate -> half-scale 440 Hz samples."""
    return lambda seconds=0.5, rate=16_000: (
        0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    ).astype(np.float32)


@pytest.fixture
def media_folder(tmp_path, png, sound, tone) -> Path:
    """A folder of pictures, texts and sounds of the same and of different names."""
    root = tmp_path / "media"
    (root / "animals" / "鳥").mkdir(parents=True)
    (root / "animals" / "owl.png").write_bytes(png())
    (root / "animals" / "owl.txt").write_text("An owl.\n猫头鹰", encoding="utf-8")
    (root / "animals" / "owl.ogg").write_bytes(sound(tone(), kind="OGG"))
    (root / "animals" / "鳥" / "鶴.png").write_bytes(png("white"))
    (root / "alone.txt").write_text("Only words", encoding="utf-8")
    (root / ".hidden.png").write_bytes(png())
    (root / "notes.pdf").write_bytes(b"%PDF")
    return root
