"""Kinds, their weights and their other names."""

import tomllib

import pytest

from mmrec.errors import UsageError
from mmrec.events.files import open_events
from mmrec.events.import_export import import_events
from mmrec.events.kinds import DEFAULT_WEIGHTS, Kinds, load_kinds
from mmrec.events.log import open_log
from mmrec.events.times import TimeRule


def test_the_file_that_is_shipped_says_the_defaults(root):
    path = root / "pipelines" / "configs" / "events.toml"
    assert tomllib.loads(path.read_text())["weights"] == DEFAULT_WEIGHTS
    assert load_kinds(path) == Kinds()
    assert path.read_text().startswith("# mmrec events import ")


def test_a_file_adds_kinds_and_other_names(tmp_path):
    path = tmp_path / "kinds.toml"
    path.write_text('[weights]\nview = 0.5\nshare = 6\n[aliases]\naddtocart = "cart"\n')
    kinds = load_kinds(path)
    assert (kinds.weights["view"], kinds.weights["share"], kinds.weights["hide"]) == (0.5, 6.0, -8.0)
    assert [kinds.resolve(word) for word in (" AddToCart", "Share", "stare")] == ["cart", "share", None]
    (tmp_path / "a.csv").write_text("user,item,time,event\nu,i,1700000000,addtocart\nu,j,1700000000,SHARE\n")
    log = open_log(tmp_path / "events.db")
    import_events(open_events(tmp_path / "a.csv"), log, kinds, TimeRule())
    assert log.history("u")["kind"].to_pylist() == ["cart", "share"]
    log.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[weights", "not a TOML file"),
        ("[weigths]\nview = 1", "'weigths', which is not known"),
        ("[weights]\nview = 'much'", "a number for each kind"),
        ("[weights]\nView = 1", "lower-case"),
        ("[weights]\nview = inf", "must be a number from"),
        ("[weights]\nview = true", "a number for each kind"),
        ("[aliases]\nlook = 'gaze'", "'look' = 'gaze' must be"),
        ("[aliases]\nview = 'click'", "'view' = 'click' must be"),
        ("weights = 3", "a number for each kind"),
    ],
)
def test_a_file_that_is_wrong_is_told(tmp_path, text, said):
    path = tmp_path / "kinds.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_kinds(path)
    with pytest.raises(UsageError, match="not a TOML file"):
        load_kinds(tmp_path / "none.toml")


def test_weights_of_several_kinds():
    assert Kinds({"like": 4.0, "hide": -8.0}).weights_of(["hide", "like", "nothing"]).tolist() == [-8.0, 4.0, 0.0]
