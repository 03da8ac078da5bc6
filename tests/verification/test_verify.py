"""Each kind of damage is found, named, and mended by the commands that the report names."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from small_store import SPACE, index, mend_wholly

from indexers.protocol import IndexSpec
from mmrec.errors import StoreError
from mmrec.files import file_sha256
from mmrec.storage.generations import Manifest, current_number, read_manifest
from mmrec.storage.layout import Layout
from mmrec.verification.verify import verify_store


def generation(layout):
    return layout.generations / "2"


def resign(layout, **changes):
    """Write a manifest that agrees with changed files, as a faulty build would."""
    folder = generation(layout)
    made = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    sums = {name: file_sha256(folder / name) for name in made.sha256}
    made = made.model_copy(update={"sha256": sums, **changes}).signed()
    (folder / "manifest.json").write_text(made.model_dump_json())


def flipped_index(layout, flip):
    flip(generation(layout) / "index.faiss")
    return "checksum", "SHA-256"


def missing_vector_file(layout, _):
    shutil.rmtree(layout.vectors(SPACE))
    return "content", "60 contents have no vector"


def manifest_of_another_generation(layout, _):
    shutil.copy(layout.generations / "1" / "manifest.json", generation(layout) / "manifest.json")
    return "manifest", "is the manifest of generation 1"


def edited_manifest(layout, _):
    path = generation(layout) / "manifest.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "items_version": told["items_version"] - 1}))
    return "manifest", "is not the manifest that was published"


def row_without_its_vector(layout, _):
    lance.dataset(str(layout.vectors(SPACE))).delete("_rowid = 7")
    return "content", "1 contents have no vector: 'i"


def row_missing_from_the_generation(layout, _):
    folder = generation(layout)
    for name in ("rows", "vectors", "modalities"):
        np.save(folder / f"{name}.npy", np.delete(np.load(folder / f"{name}.npy"), 5, axis=0))
    resign(layout, items=59)
    return "count", "its index has other row numbers"


def swapped_pair_of_fused_vectors(layout, _):
    path = generation(layout) / "vectors.npy"
    vectors = np.load(path)
    vectors[[3, 4]] = vectors[[4, 3]]
    np.save(path, vectors)
    resign(layout)
    return "pairing", "2 items have other vectors in it than their contents: 'i3', 'i4'"


def swapped_pair_in_the_file(layout, _):
    path = generation(layout) / "vectors.npy"
    vectors = np.load(path)
    vectors[[3, 4]] = vectors[[4, 3]]
    np.save(path, vectors)
    return "checksum", "not the file that was published"


def rewrite_vectors(layout, change):
    path = layout.vectors(SPACE)
    table = lance.dataset(str(path)).to_table()
    lance.write_dataset(change(table), str(path), mode="overwrite", enable_stable_row_ids=True)


def swapped_pair_of_stored_vectors(layout, _):
    def swap(table):
        order = list(range(len(table)))
        order[8], order[9] = 9, 8
        return table.set_column(1, table.schema.field("vector"), table["vector"].take(pa.array(order)))

    rewrite_vectors(layout, swap)
    return "pairing", "2 items have other vectors in it than their contents: 'i"


def vector_that_is_not_finite(layout, _):
    def spoil(table):
        flat = np.array(table["vector"].combine_chunks().flatten())
        flat[16 * 3] = np.nan
        spoilt = pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float16()), 16)
        return table.set_column(1, table.schema.field("vector"), pa.chunked_array([spoilt]))

    rewrite_vectors(layout, spoil)
    return "vectors", "1 vectors are not finite or not of length 1"


def doubled_content(layout, _):
    path = layout.vectors(SPACE)
    lance.write_dataset(lance.dataset(str(path)).take([4]), str(path), mode="append")
    return "vectors", "1 contents have a vector twice"


def doubled_id(layout, _):
    table = lance.dataset(str(layout.items))
    lance.write_dataset(table.take([4]), str(layout.items), mode="append")
    return "ids", "1 ids are there twice: 'i4'"


def vectors_of_another_space(layout, _):
    path = layout.vectors(SPACE)
    other = lance.dataset(str(path)).to_table().replace_schema_metadata({"fingerprint": "d" * 40})
    shutil.rmtree(path)
    lance.write_dataset(other, str(path), enable_stable_row_ids=True)
    return "fingerprint", "it says it holds vectors of ddd"


def truncated_fusion(layout, _):
    path = generation(layout) / "fusion.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    return "checksum", "fusion.safetensors"


def current_naming_no_generation(layout, _):
    layout.current.write_text("7")
    return "manifest", "cannot be read"


def current_naming_nonsense(layout, _):
    layout.current.write_bytes(b"\xff\x00")
    return "store", "CURRENT"


def missing_current(layout, _):
    layout.current.unlink()
    return "store", "no generation is current; there are [1, 2]"


def flipped_fused_vectors(layout, flip):
    flip(generation(layout) / "vectors.npy")
    return "checksum", "not the file that was published"


def flipped_older_generation(layout, flip):
    flip(layout.generations / "1" / "index.faiss")
    return "checksum", "not the file that was published"


def flipped_byte_in_a_text(layout, _):
    (path,) = (file for file in (layout.items / "data").iterdir() if b"i59" in file.read_bytes())
    path.write_bytes(path.read_bytes().replace(b"i58i59", b"i58j59"))
    return "checksum", "it is not what was written"


def flipped_table_manifest(layout, _):
    newest = lance.dataset(str(layout.items)).version
    path = layout.items / "_versions" / f"{2**64 - 1 - newest:020}.manifest"
    path.write_bytes(path.read_bytes().replace(b"mmrec_text", b"mmrec_tezt"))
    return "checksum", "it is not what was written"


def missing_file_of_items(layout, _):
    for path in (layout.items / "data").iterdir():
        path.unlink()
    return "store", "is damaged"


def truncated_file_of_vectors(layout, _):
    for path in (layout.vectors(SPACE) / "data").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return "checksum", "it is not what was written"


def missing_items(layout, _):
    shutil.rmtree(layout.items)
    return "store", "the table of items is missing"


def items_set_back(layout, _):
    newest = lance.dataset(str(layout.items)).version
    (layout.items / "_versions" / f"{2**64 - 1 - newest:020}.manifest").unlink()
    return "count", "and generation 2 was built from"


def damaged_quarantine(layout, _):
    for path in (layout.quarantine / "_versions").iterdir():
        path.write_bytes(b"nonsense")
    return "checksum", "it is not what was written"


def damaged_store_json(layout, _):
    (layout.root / "store.json").write_bytes(b"{")
    return "store", "store.json cannot be read"


DAMAGES = [
    flipped_index,
    missing_vector_file,
    manifest_of_another_generation,
    edited_manifest,
    row_without_its_vector,
    row_missing_from_the_generation,
    swapped_pair_of_fused_vectors,
    swapped_pair_in_the_file,
    swapped_pair_of_stored_vectors,
    vector_that_is_not_finite,
    doubled_content,
    doubled_id,
    vectors_of_another_space,
    truncated_fusion,
    current_naming_no_generation,
    current_naming_nonsense,
    missing_current,
    flipped_fused_vectors,
    flipped_older_generation,
    flipped_byte_in_a_text,
    flipped_table_manifest,
    missing_file_of_items,
    truncated_file_of_vectors,
    missing_items,
    items_set_back,
    damaged_quarantine,
    damaged_store_json,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found_and_mended_as_the_report_says(layout, flip, damage):
    assert verify_store(layout, full=True).findings == []
    check, words = damage(layout, flip)
    findings = verify_store(layout).findings
    assert [one for one in findings if one.check == check and words in one.what], findings
    assert all(one.run for one in findings)
    mend_wholly(layout)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="not a mmrec store"):
        verify_store(Layout(tmp_path / "nothing"))


def test_what_was_checked_is_told(layout):
    report = verify_store(layout)
    assert report.checked == {
        "items": 60,
        "vectors": 60,
        "contents": 61,  # the one in quarantine is told apart
        "paired": 60,
        "generations": 2,
        "quarantined": 1,
        "self_query": 1.0,
        "recall": 1.0,
    }
    assert read_manifest(layout, 2).digest


KILLED = """
import sys, importlib
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/embedding"]
crash_job, small_store = map(importlib.import_module, ("crash_job", "small_store"))
from mmrec.storage.layout import Layout
from mmrec.verification.repair import repair_store
module, function, number, moment = sys.argv[3].split(":")
crash_job.Step(module, function, int(number), moment).arm()
repair_store(Layout(Path(sys.argv[2])), small_store.spaces)
"""


def test_mending_keeps_the_index_that_a_person_chose(layout, flip):
    _, made = index(layout, index=IndexSpec("HNSW8,Flat", "ip", {"efSearch": 50}))
    flip(layout.generations / str(made.number) / "index.faiss")
    mend_wholly(layout)
    kept = read_manifest(layout, current_number(layout))
    assert (kept.index_factory, kept.index_search, kept.index_given) == ("HNSW8,Flat", {"efSearch": 50}, True)
    assert kept.number > made.number


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        "mmrec.verification.salvage:create_table:1:after",
        "mmrec.verification.repair:install_salvaged:1:before",
        "mmrec.verification.salvage:set_aside:1:after",
        "mmrec.verification.repair:drop_bad:1:after",
        "mmrec.verification.repair:build_generation:1:before",
        "mmrec.verification.repair:build_generation:1:after",
    ],
)
def test_mending_that_is_killed_can_be_done_again(layout, step):
    doubled_id(layout, None)
    flipped_byte_in_a_text(layout, None)
    tests = Path(__file__).parents[1]
    job = [sys.executable, "-c", KILLED, tests, layout.root, step]
    assert subprocess.run(job, check=False).returncode == -signal.SIGKILL
    mend_wholly(layout)
    assert not list(layout.root.glob(".*"))
