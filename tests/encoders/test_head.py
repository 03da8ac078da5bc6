"""A head: unit vectors, what it starts as, and that its file is all of it."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mmrec.encoders.head import Head, HeadConfig, load_head, read_head_config, save_head
from mmrec.errors import EncoderError

INPUTS = (("wide", 12), ("narrow", 6))


def rows(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(count, dim, generator=generator) for name, dim in INPUTS}
    return {name: torch.nn.functional.normalize(value, dim=1) for name, value in drawn.items()}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hidden=st.sampled_from([0, 1, 9]),
    residual=st.booleans(),
    dropout=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 99),
)
def test_what_is_loaded_is_what_was_saved(hidden: int, residual: bool, dropout: float, seed: int, tmp_path: Path):
    torch.manual_seed(seed)
    config = HeadConfig(inputs=INPUTS, dim=6, hidden=hidden, residual="narrow" if residual else None, dropout=dropout)
    head = Head(config).eval()
    head.standardise(rows(30, seed))
    with torch.no_grad():
        head.outer.weight.add_(torch.randn_like(head.outer.weight))
    save_head(head, tmp_path / "head.safetensors")
    first = (tmp_path / "head.safetensors").read_bytes()
    save_head(head, tmp_path / "head.safetensors")
    assert (tmp_path / "head.safetensors").read_bytes() == first
    assert read_head_config(tmp_path / "head.safetensors") == config
    found = load_head(tmp_path / "head.safetensors")(rows(5))
    assert torch.equal(found, head(rows(5)))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))


def test_a_residual_head_starts_as_its_input():
    head = Head(HeadConfig(inputs=INPUTS, dim=6, hidden=4, residual="narrow"))
    head.standardise(rows(9))
    torch.testing.assert_close(head(rows(7)), rows(7)["narrow"])
    head(rows(7))[:, 0].sum().backward()
    assert head.outer.weight.grad is not None
    assert head.outer.weight.grad.abs().sum() > 0  # it can leave from there


def test_inputs_are_standardised_by_the_space():
    head = Head(HeadConfig(inputs=INPUTS, dim=3))
    given = {name: 5 * value + 2 for name, value in rows(200).items()}
    head.standardise(given)
    made = (torch.cat([given[name] for name, _ in INPUTS], dim=1) - head.shift) * head.scale
    torch.testing.assert_close(made.mean(dim=0), torch.zeros(18), atol=1e-5, rtol=0)
    for part in made.split([12, 6], dim=1):
        torch.testing.assert_close(part.square().mean(), torch.tensor(1.0), atol=1e-4, rtol=0)


def test_dropout_is_of_training_alone():
    head = Head(HeadConfig(inputs=INPUTS, dim=3, hidden=8, dropout=0.5))
    assert not torch.equal(head.train()(rows(4)), head(rows(4)))
    assert torch.equal(head.eval()(rows(4)), head(rows(4)))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"inputs": (("a", 4), ("a", 4)), "dim": 4}, "name a space twice"),
        ({"inputs": (("a", 4),), "dim": 5, "residual": "a"}, "must be an input of 5 numbers"),
        ({"inputs": (("a", 4),), "dim": 4, "residual": "b"}, "must be an input of 4 numbers"),
        ({"inputs": (), "dim": 4}, "at least 1 item"),
    ],
)
def test_mistakes_in_a_configuration_are_explained(config: dict[str, object], says: str):
    with pytest.raises(ValidationError, match=says):
        HeadConfig.model_validate(config)


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(EncoderError, match="holds no head"):
        load_head(tmp_path / "other.safetensors")
