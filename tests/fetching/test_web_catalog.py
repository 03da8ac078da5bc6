"""A catalog whose pictures are on the web, through the real job and the real encoders."""

import io
import json

import numpy as np
import pytest
from fetching.servers import answer
from PIL import Image

import mmrec
from mmrec.errors import MediaError
from mmrec.query import Part
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.media_access import MediaAccess
from mmrec.sources.source import open_source
from mmrec.storage.layout import Layout
from pipelines.outcome import ExitCode, run_app

NAMES = ("apple", "boat", "cat", "drum", "engine", "flower")


def _png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64)).save(out, "PNG")
    return out.getvalue()


class WebShop:
    """A catalog of which each item has a text and a picture on the web."""

    def __init__(self, folder, outside, media, encoders):
        self.outside, self.media, self.encoders = outside, media, encoders
        self.catalog = folder / "catalog.jsonl"
        self.layout = Layout(folder / "store")
        self.etags = dict.fromkeys(NAMES, 0)
        rows = [
            {"id": name, "title": f"a {name}", "picture": outside.url(f"/{name}.png", "public.test")} for name in NAMES
        ]
        self.catalog.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for name in NAMES:
            self.serve(name)

    def serve(self, name, **options):
        number = self.etags[name]
        body = _png(100 * NAMES.index(name) + number)
        self.outside.script[f"/{name}.png"] = answer(body, etag=f'"{number}"', **options)

    def index(self):
        self.outside.asked.clear()
        source = open_source(self.catalog, ColumnSpec("id", ("title",), ("picture",)))
        how = mmrec.Indexing(media=self.media)
        tally, _ = mmrec.index_items(source, source.metadata_schema, self.layout, self.encoders, how)
        return tally

    def asked(self, method):
        return sorted(path for asked, path, _ in self.outside.asked if asked == method)

    def open(self):
        return mmrec.open(self.layout.root, encoders=self.encoders, media=self.media)

    def with_pictures(self):
        engine = self.open()
        return {name for name in NAMES if "image" in engine.show(name).media}


@pytest.fixture
def shop(tmp_path, outside, fetcher, packaged):
    return WebShop(tmp_path, outside, MediaAccess(fetcher=fetcher), packaged)


def test_what_has_not_changed_is_not_fetched_again(shop):
    assert shop.index().encoded == {"text": 6, "image": 6}
    assert (len(shop.asked("GET")), shop.asked("HEAD")) == (6, [])
    shop.etags["boat"] = 1
    shop.serve("boat")
    tally = shop.index()
    assert (tally.read, tally.changed, tally.encoded) == (1, 1, {"image": 1})
    assert shop.asked("GET") == ["/boat.png"]
    assert len(shop.asked("HEAD")) == 6
    tally = shop.index()
    assert (tally.read, tally.changed, shop.asked("GET")) == (0, 0, [])


def test_a_query_by_a_picture_on_the_web(shop):
    shop.index()
    engine = shop.open()
    url = shop.outside.url("/cat.png", "public.test")
    assert engine.search(Part("image", url), against="image").hits[0].id == "cat"
    with pytest.raises(MediaError, match="--allow-fetch"):
        mmrec.open(shop.layout.root, encoders=shop.encoders).search(Part("image", url))


def test_a_server_that_is_down_takes_no_pictures_away(shop):
    shop.outside.script["/drum.png"] = answer(status="503 Busy")
    tally = shop.index()
    assert (tally.quarantined, tally.added) == (1, 6)
    (entry,) = shop.open().quarantined()
    assert (entry.id, entry.column, entry.transient) == ("drum", "picture", True)
    assert "status 503" in entry.reason
    shop.etags["boat"] = 1
    for name in NAMES:
        shop.outside.script[f"/{name}.png"] = answer(status="503 Busy")
    tally = shop.index()
    assert (tally.quarantined, tally.removed, tally.changed) == (6, 0, 0)
    assert shop.with_pictures() == set(NAMES) - {"drum"}
    kept = {entry.id: "is kept" in entry.reason for entry in shop.open().quarantined()}
    assert kept == {name: name != "drum" for name in NAMES}
    for name in NAMES:
        shop.serve(name)
    tally = shop.index()
    assert (tally.quarantined, tally.read, tally.encoded) == (0, 2, {"image": 2})
    assert shop.with_pictures() == set(NAMES)


def test_a_run_without_fetching_takes_no_pictures_away(shop):
    shop.index()
    fetching, shop.media = shop.media, MediaAccess()
    tally = shop.index()
    assert (tally.quarantined, tally.changed, shop.outside.asked) == (6, 0, [])
    assert all("--allow-fetch" in entry.reason for entry in shop.open().quarantined())
    assert shop.with_pictures() == set(NAMES)
    shop.media = fetching
    tally = shop.index()
    assert (tally.quarantined, tally.read, tally.encoded) == (0, 0, {})


def test_a_picture_that_is_gone_leaves_its_item(shop):
    shop.index()
    shop.outside.script["/cat.png"] = answer(status="404 Not Found")
    tally = shop.index()
    assert (tally.quarantined, tally.changed, tally.removed) == (1, 1, 0)
    (entry,) = shop.open().quarantined()
    assert (entry.id, entry.transient) == ("cat", False)
    assert "no such content" in entry.reason
    assert shop.with_pictures() == set(NAMES) - {"cat"}


def test_a_hostile_catalog_reaches_nothing_inside(shop, inside, outside):
    outside.script["/boat.png"] = answer(status="302 Found", location=inside.url("/secret"))
    rows = [json.loads(line) for line in shop.catalog.read_text().splitlines()]
    for row, picture in zip(
        rows, [None, None, inside.url("/secret"), "http://[::1]/", "http://a:b@public.test/"], strict=False
    ):
        row["picture"] = picture or row["picture"]
    shop.catalog.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tally = shop.index()
    assert (tally.quarantined, tally.added) == (4, 6)
    assert inside.connections == 0
    assert shop.with_pictures() == {"apple", "flower"}


def test_the_command_line_fetches_nothing_unless_told_to_and_then_not_from_here(shop, outside, tmp_path, capsys):
    store = tmp_path / "by-command"
    command = ["index", str(shop.catalog), str(store), "--id", "id", "--text", "title", "--image", "picture", "--json"]
    for flags, word in (([], "--allow-fetch"), (["--allow-fetch"], "allowed are 80, 443, 8080, 8443")):
        assert run_app_quietly([*command, *flags, "--strict"], capsys)[0] == ExitCode.PARTLY
        code, out = run_app_quietly(["quarantine", str(store), "--json"], capsys)
        assert code == ExitCode.DONE
        reasons = [entry["reason"] for entry in json.loads(out)["quarantined"]]
        assert len(reasons) == 6
        assert all(word in reason for reason in reasons)
    assert outside.connections == 0


def run_app_quietly(arguments, capsys):
    from pipelines.cli import app

    code = run_app(app, arguments)
    return code, capsys.readouterr().out
