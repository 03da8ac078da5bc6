"""Heads in closed form: what they are taught, against an exact oracle, and through a file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mmrec.encoders.head import HeadConfig, load_head, save_head
from mmrec.errors import UsageError
from mmrec.finetuning.config import FitSettings
from mmrec.finetuning.head_fitting import fit_head


def drawn(count: int, dim: int, seed: int) -> torch.Tensor:
    return normalize(torch.from_numpy(np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)), dim=1)


INPUTS = {"one": drawn(40, 12, 0), "two": drawn(40, 7, 1)}
TARGETS = drawn(40, 5, 2)
NEW = {"one": drawn(9, 12, 3), "two": drawn(9, 7, 4)}


def expected(radial: float, ridge: float) -> np.ndarray:
    taught = [rows.numpy().astype(np.float64) for rows in INPUTS.values()]
    means = [rows.mean(axis=0) for rows in taught]
    scales = [1 / np.sqrt(((rows - mean) ** 2).mean()) for rows, mean in zip(taught, means, strict=True)]

    def placed(parts: dict[str, torch.Tensor]) -> np.ndarray:
        return np.hstack(
            [(rows.numpy() - mean) * scale for rows, mean, scale in zip(parts.values(), means, scales, strict=True)]
        )

    def kernel(ours: np.ndarray, others: np.ndarray) -> np.ndarray:
        if radial:
            return np.exp(-radial / 2 * ((ours[:, None] - others[None]) ** 2).mean(axis=2))
        return ours @ others.T / others.shape[1]

    old, new = placed(INPUTS), placed(NEW)
    wide = TARGETS.numpy().astype(np.float64)
    wanted = wide - wide.mean(axis=0)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    made = kernel(new, old) @ np.linalg.inv(kernel(old, old) + ridge * np.eye(len(old))) @ wanted
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize("radial", [0.0, 3.0])
def test_the_head_is_kernel_ridge_and_comes_back_from_its_file(radial: float, tmp_path: Path) -> None:
    head = fit_head(INPUTS, TARGETS, FitSettings(radial=radial))
    np.testing.assert_allclose(head(NEW).detach().numpy(), expected(radial, 0.1), atol=2e-5)
    save_head(head, tmp_path / "head.safetensors")
    assert torch.equal(load_head(tmp_path / "head.safetensors")(NEW), head(NEW))


@pytest.mark.parametrize("target_scale", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("radial", [0.0, 3.0])
def test_from_a_start_what_is_missing_is_fitted(radial: float, target_scale: float, tmp_path: Path) -> None:
    """The likeness of what is new to what was taught, times the missing part solved for, beside the start."""
    old, start = {**INPUTS, "three": drawn(40, 5, 7)}, drawn(9, 5, 8)
    new = {**NEW, "three": start}
    head = fit_head(old, TARGETS, FitSettings(radial=radial, target_scale=target_scale), "three")
    plain = fit_head(old, TARGETS, FitSettings(radial=radial))
    mean = old["three"].double().mean(dim=0)
    states = [(torch.cat(list(rows.values()), dim=1) - plain.shift) * plain.scale for rows in (old, new)]
    taught, asked = (rows.double().numpy() for rows in states)
    if radial:
        near = [np.exp(-radial / 2 * ((some[:, None] - taught) ** 2).mean(axis=2)) for some in (taught, asked)]
    else:
        near = [some @ taught.T / taught.shape[1] for some in (taught, asked)]
    wanted = normalize(TARGETS.double() - TARGETS.double().mean(dim=0), dim=1)
    missing = (target_scale * wanted - (old["three"].double() - mean)).numpy()
    fitted = near[1] @ np.linalg.inv(near[0] + 0.1 * np.eye(40)) @ missing if target_scale else 0
    made = (start.double() - mean).numpy() + fitted
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    np.testing.assert_allclose(head(new).detach().numpy(), made, atol=5e-5)
    save_head(head, tmp_path / "head.safetensors")
    assert torch.equal(load_head(tmp_path / "head.safetensors")(new), head(new))


def test_infinity_forgets_the_start() -> None:
    head, plain = (
        fit_head(INPUTS, drawn(40, 7, 2), FitSettings(target_scale=np.inf), start) for start in ("two", None)
    )
    assert head.config == plain.config
    assert torch.equal(head(NEW), plain(NEW))


def test_far_from_all_that_was_taught_the_start_remains() -> None:
    targets = drawn(40, 7, 2)
    head = fit_head(INPUTS, targets, FitSettings(radial=200.0, target_scale=2.0), "two")
    stays = normalize(NEW["two"] - INPUTS["two"].mean(dim=0), dim=1)
    torch.testing.assert_close(head(NEW), stays, atol=1e-4, rtol=0)
    moved = normalize(targets - targets.mean(dim=0), dim=1)
    assert (head(INPUTS) * moved).sum(dim=1).min() > 0.9


def test_what_is_taught_lies_at_its_target() -> None:
    head = fit_head(INPUTS, TARGETS, FitSettings(radial=6.0, ridge=0.001))
    wanted = normalize(TARGETS - TARGETS.mean(dim=0), dim=1)
    assert (head(INPUTS) * wanted).sum(dim=1).min() > 0.98


def test_what_fits_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="2 to 10,000"):
        fit_head({"one": INPUTS["one"][:1]}, TARGETS[:1], FitSettings())
    with pytest.raises(ValueError, match="hidden"):
        HeadConfig(inputs=(("one", 12),), dim=5, radial=3.0)
