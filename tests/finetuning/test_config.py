"""Settings of fine-tuning: each field by itself, what is refused by its name, and the files that are there."""

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from mmrec.errors import UsageError
from mmrec.finetuning import config
from mmrec.finetuning.config import FinetuneConfig, FitSettings, HeadSettings, TowerSettings, load_finetune_config
from mmrec.types import Modality

CONFIGS = sorted((Path(__file__).parents[2] / "pipelines" / "configs").glob("finetune-*.toml"))

# For each field a value that is not its default, and one that cannot be meant; None where any value of its type can.
FIELDS = {
    "loss": ('"siglip"', '"triplet"'),
    "scale": ("10.0", "0.0"),
    "bias": ("-5.0", "nan"),
    "batch": ("2", "1"),
    "part_cost": ("100", "-1"),
    "cached": ("false", '"perhaps"'),
    "shards": ("2", "0"),
    "rate": ("1e-4", "0.0"),
    "scale_rate": ("1e-3", "-0.1"),
    "warmup": ("0", "-1"),
    "anneal": ("true", '"never"'),
    "decay": ("0.0", "-0.1"),
    "clip": ("0.5", "0.0"),
    "average": ("0.9", "1.0"),
    "epochs": ("3", "0"),
    "evaluate_every": ("2", "0"),
    "patience": ("1", "0"),
    "seed": ("7", '"seven"'),
    "device": ('"cpu"', '"tpu"'),
    "precision": ('"bf16"', '"fp8"'),
    "memory": ("0", "-1"),
    "align.pairs": ('[["text", "image"]]', '[["text", "smell"]]'),
    "align.alike": ('"any"', '"none"'),
    "coengage.window": ("1", "0"),
    "coengage.factors": ("2", "1"),
    "coengage.hours": ("2.5", "0.0"),
    "coengage.correct": ("0.0", "1.1"),
    "coengage.subsample": ("0.001", "1.0"),
    "coengage.pairs": ("17", "0"),
    "coengage.before": ("0.8", "1.0"),
    "label.column": ('"brand"', "3"),
    "label.each": ("2", "1"),
    "mining.count": ("1", "-1"),
    "mining.every": ("2", "0"),
    "mining.after": ("1", "0"),
    "mining.margin": ("0.0", "2.1"),
    "held_out.validation": ("0.2", "0.5"),
    "held_out.test": ("0.2", "0.0"),
    "held_out.together": ('["text"]', '["words"]'),
    "towers.text.how": ('"lora"', '"frosted"'),
    "towers.text.space": ('"minilm"', "1"),
    "towers.text.last_blocks": ("2", "0"),
    "towers.text.rank": ("4", "0"),
    "towers.text.alpha": ("8", "0"),
    "towers.text.gradient_checkpointing": ("true", '"partly"'),
    "towers.text.dropout": ("true", '"some"'),
    "towers.text.batch_statistics": ("true", '"some"'),
    "towers.text.fit.radial": ("0.0", "-1.0"),
    "towers.text.fit.ridge": ("1.0", "0.0"),
    "towers.text.fit.target_scale": ("2.0", "-1.0"),
    "towers.text.head.name": ('"mine"', '"not a name"'),
    "towers.text.head.inputs": ('["minilm"]', "[1]"),
    "towers.text.head.dim": ("32", "0"),
    "towers.text.head.hidden": ("16", "-1"),
    "towers.text.head.residual": ('"minilm"', "1"),
    "towers.text.head.dropout": ("0.1", "1.0"),
    "towers.text.head.replaces": ('["minilm"]', "[1]"),
}


def read(tmp_path, text):
    path = tmp_path / "tune.toml"
    path.write_text(text)
    return load_finetune_config(path)


def value_of(settings, name):
    for part in name.split("."):
        settings = settings[part] if isinstance(settings, dict) else getattr(settings, part)
    return settings


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_taken_as_it_is_given_and_refused_by_its_name(tmp_path, name):
    good, bad = FIELDS[name]
    taken = read(tmp_path, f"{name} = {good}")
    dumped = value_of(taken.model_dump(mode="json"), name)
    assert dumped == tomllib.loads(f"x = {good}")["x"]
    default = FinetuneConfig(towers={Modality.TEXT: TowerSettings(head=HeadSettings())})
    assert value_of(default.model_dump(mode="json"), name) != dumped
    with pytest.raises(UsageError, match=rf"tune\.toml: {name.replace('.', '[.]')}.*: .*FinetuneConfig, with tables"):
        read(tmp_path, f"{name} = {bad}")


def test_no_field_is_left_out_above():
    def names(kind: type[BaseModel], prefix=""):
        for name in kind.model_fields:
            inner = {
                "align": config.AlignConfig,
                "coengage": config.CoEngageConfig,
                "label": config.LabelConfig,
                "mining": config.MiningConfig,
                "held_out": config.HeldOutConfig,
                "head": HeadSettings,
                "fit": FitSettings,
            }.get(name)
            if name == "towers":
                yield from names(TowerSettings, "towers.text.")
            elif inner is None or prefix.endswith((".head.", ".fit.")):
                yield f"{prefix}{name}"
            else:
                yield from names(inner, f"{prefix}{name}.")

    assert set(names(FinetuneConfig)) == set(FIELDS)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, (good, _) in FIELDS.items()
        if isinstance(tomllib.loads(f"x = {good}")["x"], float) and not name.endswith("target_scale")
    ],
)
@pytest.mark.parametrize("number", ["inf", "nan", "-inf"])
def test_what_is_no_number_is_refused(tmp_path, name, number):
    with pytest.raises(UsageError, match=rf"tune\.toml: {name.replace('.', '[.]')}"):
        read(tmp_path, f"{name} = {number}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rates = 1", "rates: Extra inputs are not permitted"),
        ("[aligned]\npairs = []", "aligned: Extra inputs are not permitted"),
        ("[align]\nalikes = 1", r"align\.alikes: Extra inputs are not permitted"),
        ('[towers.smell]\nhow = "head"', r"towers\.smell.*'text'"),
        ("rate = ", "is not a TOML file that can be read: Invalid value"),
        ("rate = 1\nrate = 2", "is not a TOML file that can be read: .*overwrite a value"),
        ('[align]\npairs = [["text", "text"]]', r"align\.pairs: .*two unlike modalities, and text"),
        ('[align]\npairs = [["text", "image"], ["image", "text"]]', r"align\.pairs: .*twice"),
        ("[align]\npairs = []", r"align\.pairs: .*at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read(tmp_path, text)


def test_an_infinite_target_scale_is_meant(tmp_path):
    assert read(tmp_path, "[towers.image.fit]\ntarget_scale = inf").towers[Modality.IMAGE].fit.target_scale == float(
        "inf"
    )


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.toml is not a TOML file that can be read: .*No such file"):
        load_finetune_config(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="is not a TOML file"):
        load_finetune_config(tmp_path)
    (tmp_path / "picture.toml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UsageError, match=r"picture\.toml is not a TOML file"):
        load_finetune_config(tmp_path / "picture.toml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_file_is_read_and_opens_with_a_command_that_takes_it(path):
    assert load_finetune_config(path) != FinetuneConfig()
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert "finetune" in first
    assert f"--config pipelines/configs/{path.name}" in first


def test_there_are_files():
    assert "finetune-heads-cpu" in {path.stem for path in CONFIGS}


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        FinetuneConfig().rate = 1.0


@pytest.mark.parametrize("able", [{Modality.TEXT}, {Modality.TEXT, Modality.IMAGE}, set(Modality)])
def test_usual_towers_are_those_that_an_encoder_is_there_for(able):
    usual = FinetuneConfig()
    aligned = usual.towers_for("align", frozenset(able))
    assert aligned.keys() == able
    assert aligned[Modality.TEXT].how == "frozen"
    assert {tower.how for kind, tower in aligned.items() if kind is not Modality.TEXT} <= {"fitted"}
    for objective, how in (("coengage", "fitted"), ("label", "head")):
        taught = usual.towers_for(objective, frozenset(able))
        assert taught.keys() == able
        assert {tower.how for tower in taught.values()} == {how}
    named = FinetuneConfig(towers={Modality.AUDIO: TowerSettings(how="full")})
    for objective in ("align", "coengage", "label"):
        assert named.towers_for(objective, frozenset(able)) == named.towers
