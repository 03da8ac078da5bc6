"""Configuration of sentence-transformers models: modules, pooling and prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmrec.encoders.hub.source import read_json, read_json_list
from mmrec.errors import EncoderError

POOLINGS = {
    "cls": "cls_token",
    "max": "max_tokens",
    "mean": "mean_tokens",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}
"""Names of sentence-transformers' poolings, and their keys (after ``pooling_mode_``) in older configurations."""


def pool(
    how: tuple[str, ...], states: Float[Tensor, "batch tokens width"], counted: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch wide"]:
    """Pool the counted tokens of each row, by one way or by several side by side. `how` names keys of `POOLINGS`."""
    wide = states.to(torch.promote_types(states.dtype, torch.float32))
    return torch.cat([_pooled(name, wide, counted) for name in how], dim=1).to(states.dtype)


def _pooled(how: str, states: Tensor, counted: Tensor) -> Tensor:
    rows = torch.arange(len(states), device=states.device)
    if how == "cls":
        return states[rows, counted.int().argmax(dim=1)]
    if how == "lasttoken":
        return states[rows, states.shape[1] - 1 - counted.int().flip(1).argmax(dim=1)]
    if how == "max":
        return states.masked_fill(~counted[..., None], float("-inf")).amax(dim=1)
    weights = counted.to(states.dtype)
    if how == "weightedmean":
        # A token weighs as much as its position, from one. Source: Muennighoff 2022, arXiv 2202.08904, equation 2.
        weights = weights * torch.arange(1, states.shape[1] + 1, device=states.device, dtype=states.dtype)
    count = weights.sum(dim=1, keepdim=True).clamp_min(1)
    return (states * weights[..., None]).sum(dim=1) / (count.sqrt() if how == "mean_sqrt_len_tokens" else count)


_STEPS = ("Dense", "LayerNorm", "Normalize")
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


@dataclass(frozen=True, slots=True)
class HeadStep:
    """One step after the pooling: ``Dense``, ``LayerNorm`` or ``Normalize``, and the folder of its weights."""

    kind: str
    folder: Path


@dataclass(frozen=True, slots=True)
class SentenceConfig:
    """What the files say; the defaults are for a plain transformers model, which says nothing (`declared` is false).

    `transformer` is the folder of network and tokenizer, `steps` follow the pooling, and `dim` numbers of a vector are
    kept. Of `limits` (of tokens) and `prompts` the first is of documents, the second of queries. `pools_prompt`:
    whether the prompt's tokens count in the pooling; `lower`: whether texts are lower-cased first.
    """

    transformer: Path
    pooling: tuple[str, ...] = ("mean",)
    pools_prompt: bool = True
    steps: tuple[HeadStep, ...] = ()
    limits: tuple[int | None, int | None] = (None, None)
    lower: bool = False
    prompts: tuple[str, str] = ("", "")
    dim: int | None = None
    declared: bool = False


def read_sentence_config(folder: Path) -> SentenceConfig:
    """Read a model's directory. Raises EncoderError for modules that this encoder does not know."""
    # The class of a module is only ever compared with names known here.
    modules = [(kind.rpartition(".")[2], path) for kind, path in read_modules(folder)]
    if not modules:
        return SentenceConfig(folder)
    kinds = [kind for kind, _ in modules]
    if kinds[0] != "Transformer" or "Pooling" not in kinds[1:2]:
        raise _unknown(folder, kinds)
    known = {*_STEPS, "Dropout"}
    if any(kind not in known for kind in kinds[2:]):
        raise _unknown(folder, kinds)
    transformer, pooling = folder / modules[0][1], read_json(folder / modules[1][1] / "config.json")
    wanted = _transformer_settings(transformer)
    general = read_json(folder / "config_sentence_transformers.json")
    limit = _number(wanted.get("max_seq_length"))
    return SentenceConfig(
        transformer=transformer,
        pooling=_pooling(pooling, folder),
        pools_prompt=bool(pooling.get("include_prompt", True)),
        steps=tuple(HeadStep(kind, folder / path) for kind, path in modules[2:] if kind in _STEPS),
        limits=(_number(wanted.get("document_length")) or limit, _number(wanted.get("query_length")) or limit),
        lower=bool(wanted.get("do_lower_case", False)),
        prompts=_prompts(general),
        dim=_number(general.get("truncate_dim")),
        declared=True,
    )


def read_modules(folder: Path) -> list[tuple[str, str]]:
    """Return the class and the folder of each of a model's modules, in order; empty if it is not made of modules.

    Raises EncoderError for a damaged list, or a folder outside the model's own.
    """
    path = folder / "modules.json"
    found = []
    content = read_json_list(path)
    entries = [entry for entry in content if isinstance(entry, dict)]
    if len(entries) < len(content):
        raise EncoderError(f"{path} holds no list of modules. Copy or download the model again.")
    for entry in sorted(entries, key=lambda one: int(str(one.get("idx", 0)))):
        inside = str(entry.get("path", ""))
        if Path(inside).is_absolute() or ".." in Path(inside).parts:
            raise EncoderError(f"{path} names the folder {inside!r}, outside the model's own. Do not use this model.")
        found.append((str(entry.get("type", "")), inside))
    return found


def _transformer_settings(folder: Path) -> Mapping[str, object]:
    """Settings of the network's module; the file is named after the network in models of before 2021."""
    for path in sorted(folder.glob("sentence_*_config.json")):
        found = read_json(path)
        modalities = found.get("modality_config")
        if found.get("transformer_task", "feature-extraction") != "feature-extraction" or (
            isinstance(modalities, dict) and (set(modalities) - {"text"} or _output(modalities) != "last_hidden_state")
        ):
            raise EncoderError(
                f"{path} describes more than texts through one network. Read this model with "
                "mmrec.encoders.hub.multimodal.HubMultimodal."
            )
        return found
    return {}


def _output(modalities: Mapping[str, object]) -> object:
    text = modalities.get("text")
    return text.get("method_output_name") if isinstance(text, dict) else None


def _pooling(config: Mapping[str, object], folder: Path) -> tuple[str, ...]:
    named = config.get("pooling_mode")
    if isinstance(named, str | list):
        chosen = [named] if isinstance(named, str) else [str(name) for name in named]
    else:
        chosen = [name for name, key in POOLINGS.items() if config.get(f"pooling_mode_{key}")] or ["mean"]
    if unknown := [name for name in chosen if name not in POOLINGS]:
        raise EncoderError(f"The model in {folder} pools by {unknown[0]!r}; known are {', '.join(POOLINGS)}.")
    return tuple(chosen)


def _prompts(general: Mapping[str, object]) -> tuple[str, str]:
    """Prompts of a document and of a query; the default one for a kind that is not mentioned."""
    given = general.get("prompts")
    prompts = {str(name): str(text or "") for name, text in given.items()} if isinstance(given, dict) else {}
    default = prompts.get(str(general.get("default_prompt_name")), "")
    documents = [prompts[name] for name in _DOCUMENT_PROMPTS if name in prompts] or [default]
    return next((text for text in documents if text), ""), prompts.get("query", default)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _unknown(folder: Path, kinds: list[str]) -> EncoderError:
    return EncoderError(
        f"The model in {folder} is made of {', '.join(kinds)}; this encoder knows a Transformer, a Pooling, and then "
        f"{', '.join(_STEPS)} in any order. Read it with mmrec.encoders.hub.multimodal.HubMultimodal."
    )
