"""CSV files that are not UTF-8: read when a person names the encoding, and the encoding named where they are not."""

from pathlib import Path

import pytest

from mmrec.errors import UsageError
from mmrec.events.files import open_events
from mmrec.events.import_export import import_events
from mmrec.events.kinds import Kinds
from mmrec.events.log import open_log
from mmrec.events.times import TimeRule
from mmrec.jobs.index_options import IndexOptions, with_spec
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.guess import guess_columns
from mmrec.sources.source import open_source
from mmrec.types import Item, Reject

TEXTS = {
    "windows-1252": "Caf\xe9 \u2013 d\xe9j\xe0 vu \u20ac5",
    "latin-1": "Gr\xfc\xdfe aus K\xf6ln",
    "cp1251": "\u041a\u0440\u0430\u0441\u043d\u0430\u044f \u043b\u043e\u0434\u043a\u0430",
    "shift_jis": "\u8d64\u3044\u8239\u3068\u9752\u3044\u6d77\u306e\u7269\u8a9e",
    "utf-16": "Caf\xe9 \u8d64\u3044",
    "utf-16-le": "Caf\xe9",
}
COLUMNS = ColumnSpec("id", text=("title",))


def written(path: Path, encoding: str) -> Path:
    lines = ["id,title", *(f"a{n},{TEXTS[encoding]}" for n in range(3)), "b,plain"]
    path.write_bytes("\r\n".join(lines).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", TEXTS)
def test_a_catalog_is_read_in_the_encoding_that_is_named(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path / "c.csv", encoding)
    assert guess_columns(path, encoding=encoding).text == ("title",)
    found = list(open_source(path, COLUMNS, encoding=encoding))
    assert [one.fields[0].text for one in found if isinstance(one, Item)] == [TEXTS[encoding]] * 3 + ["plain"]


def test_a_byte_order_mark_of_utf_16_needs_no_naming(tmp_path: Path) -> None:
    items = [one for one in open_source(written(tmp_path / "c.csv", "utf-16"), COLUMNS) if isinstance(one, Item)]
    assert items[0].fields[0].text == TEXTS["utf-16"]


@pytest.mark.parametrize(
    ("encoding", "named"),
    [("windows-1252", "windows-1252"), ("latin-1", "windows-1252"), ("cp1251", "cp1251"), ("shift_jis", "cp932")],
)
def test_lines_that_are_not_utf_8_say_what_would_read_them(tmp_path: Path, encoding: str, named: str) -> None:
    path = written(tmp_path / "c.csv", encoding)
    left = [one.reason for one in open_source(path, COLUMNS) if isinstance(one, Reject)]
    assert left == [f"The line is not UTF-8. It can be read as {named}: add --encoding {named}."] * 3
    read = [one for one in open_source(path, COLUMNS, encoding=named) if isinstance(one, Item)]
    assert read[0].fields[0].text == TEXTS[encoding]


def test_a_wrong_encoding_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "c.csv", "latin-1")
    with pytest.raises(UsageError, match="no encoding 'klingon'"):
        open_source(path, COLUMNS, encoding="klingon")
    with pytest.raises(UsageError, match="no encoding 'base64'"):
        open_source(path, COLUMNS, encoding="base64")
    lines = tmp_path / "c.jsonl"
    lines.write_text('{"id": "a", "title": "b"}\n')
    with pytest.raises(UsageError, match="no CSV file"):
        open_source(lines, COLUMNS, encoding="latin-1")
    left = [one.reason for one in open_source(path, COLUMNS, encoding="ascii") if isinstance(one, Reject)]
    assert left == ["The line is not ascii. Name the right encoding with --encoding."] * 3


def test_a_catalog_s_file_names_the_encoding_too(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text('source = "c.csv"\nencoding = "latin-1"\n')
    asked = IndexOptions(source=str(tmp_path / "catalog.toml"), store=tmp_path / "s")
    assert with_spec(asked, []).encoding == "latin-1"


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-16"])
def test_events_are_read_in_the_encoding_that_is_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "e.csv"
    path.write_bytes('user,item,time\nJos\xe9,i1,2024-01-01\n"Ren\xe9,\n x",i2,2024-01-02\n'.encode(encoding))
    log = open_log(tmp_path / "events.db")
    named = None if encoding == "utf-16" else encoding
    tally = import_events(open_events(path, encoding=named), log, Kinds(), TimeRule("auto", "UTC"))
    assert (tally.added, tally.refused) == (2, 0)
    assert len(log.history("Jos\xe9")) == 1
    if named is not None:
        tally = import_events(open_events(path), log, Kinds(), TimeRule("auto", "UTC"))
        assert "add --encoding windows-1252" in tally.examples[0].reason
        with pytest.raises(UsageError, match="no encoding"):
            open_events(path, encoding="klingon")
    log.close()


def test_wide_tables_list_their_first_columns_alone(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    names = [f"c{n}" for n in range(3000)]
    path.write_text(f"sku,{','.join(names)}\na,{','.join(names)}\n")
    with pytest.raises(UsageError, match=r"and 2,971 more") as refused:
        open_source(path, COLUMNS)
    assert len(str(refused.value)) < 2000
    with pytest.raises(UsageError, match="more"):
        guess_columns(path)
