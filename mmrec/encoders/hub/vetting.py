"""What the configuration files of a model may say: never which code runs, nor which other files or models are read.

Every JSON file of a model's folder is checked before a library sees one of them. Keys that name code, or another place
to load from, are refused wherever they stand; keywords that libraries take from files are on a list of allowed ones.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mmrec.errors import EncoderError

ADAPTER: Final = "adapter_config.json"

# Vocabularies: any word may be a key of theirs, and no library takes keywords from them.
_VOCABULARIES: Final = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json"})
_MOST_BYTES: Final = 64 * 1024 * 1024

# Refused unless empty, null or false. With them a library imports code, unpickles, or loads from elsewhere.
_REFUSED: Final = frozenset({
    "auto_map", "backbone", "backbone_kwargs", "base_model_name_or_path", "custom_generate", "custom_load",
    "custom_pipelines", "kernel_config", "peft_type", "quantization_config", "trust_remote_code", "use_kernels",
    "use_pretrained_backbone", "use_timm_backbone",
})  # fmt: skip
_REFUSED_OF_TIMM: Final = frozenset({"file", "hf_hub_filename", "hf_hub_id", "state_dict", "url"})

# Other names than these are taken for kernels, which are fetched from a hub and run.
_ATTENTION_KEYS: Final = frozenset({
    "_attn_implementation", "_attn_implementation_internal", "_experts_implementation", "attn_implementation",
    "experts_implementation",
})  # fmt: skip
_ATTENTIONS: Final = frozenset({"eager", "sdpa", "batched_mm", "grouped_mm"})

# A class or an architecture, by a name that its library knows: no module, path or address.
_NAME_KEYS: Final = frozenset({
    "architecture", "architectures", "fast_tokenizer_class", "feature_extractor_type", "image_processor_type",
    "model_type", "processor_class", "slow_tokenizer_class", "timm_model_name", "tokenizer_class",
    "video_processor_type",
})  # fmt: skip
_NAME: Final = re.compile(r"[\w-]+(\.[\w-]+)?", re.ASCII)
_CLASS: Final = re.compile(r"\w+", re.ASCII)
_WORD: Final = re.compile(r"(torch\.)?[\w +-]{0,40}", re.ASCII)
_DOTTED_NAMES: Final = frozenset({"architecture", "timm_model_name"})
_ACTIVATION: Final = re.compile(r"\w*|torch\.nn\.modules\.\w+\.\w+", re.ASCII)

SENTENCE_MODULES: Final = re.compile(r"sentence_transformers(\.\w+)*\.\w+", re.ASCII)
"""Dotted paths of sentence-transformers' own modules."""

# Keywords that a file may hand to a tokenizer, a processor or a network; processors' by modality one level deeper.
_KEYWORDS: Final = frozenset({
    "add_generation_prompt", "add_pooling_layer", "add_special_tokens", "attn_implementation", "clean",
    "continue_final_message", "do_center_crop", "do_lower_case", "do_normalize", "do_rescale", "do_resize", "dtype",
    "enable_thinking", "fps", "language", "logits_to_keep", "max_length", "max_num_patches", "max_pixels", "min_pixels",
    "model_max_length", "num_frames", "pad_to_multiple_of", "padding", "padding_side", "restore_suffix",
    "return_attention_mask", "sampling_rate", "size", "strip_sep_token", "torch_dtype", "truncation", "truncation_side",
    "use_cache", "use_fast",
})  # fmt: skip
_BY_MODALITY: Final = frozenset({"audio", "chat_template", "common", "image", "text", "video"})
_KEYWORD_TABLES: Final = frozenset(
    f"{of}_{what}" for of in ("config", "model", "processor", "processing", "tokenizer") for what in ("args", "kwargs")
)

# What sentence-transformers hands on as keywords, whole, from the file of its first module; numbers beside them.
_SENTENCE_FILE: Final = re.compile(r"sentence_\w+_config\.json", re.ASCII)
_SENTENCE_KEYS: Final = _KEYWORD_TABLES | frozenset({
    "do_lower_case", "document_length", "max_seq_length", "modality_config", "module_output_name", "query_expansion",
    "query_length", "transformer_task", "unpad_inputs",
})  # fmt: skip


def vet_model_files(folder: Path) -> None:
    """Raise EncoderError if a JSON file of a model would have code run, or something else than the model loaded."""
    for path in _json_files(folder):
        if path.name == ADAPTER:
            raise EncoderError(
                f"{path.parent} holds an adapter, not a model. Merge it into its base model (peft's "
                "merge_and_unload), save that, and name its directory."
            )
        content = _content(path)
        if path.name == "modules.json":
            _check_modules(path, content)
        if isinstance(content, Mapping) and _SENTENCE_FILE.fullmatch(path.name):
            named = {key: value for key, value in content.items() if isinstance(value, str | list | Mapping)}
            _check_known(path, named, _SENTENCE_KEYS)
        _check(path, content)


def check_keywords(path: Path, given: object, allowed: frozenset[str] = _KEYWORDS) -> dict[str, object]:
    """Return keywords that a file hands to a library. Raises EncoderError if one may not be, or is no plain value.

    Plain are numbers, booleans, short words, and lists and tables of them.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise _refused(path, "keywords", given)
    _check_known(path, given, allowed)
    for key, value in given.items():
        if not _is_plain(value):
            raise _refused(path, str(key), value)
    return dict(given)


def _check(path: Path, content: object) -> None:
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            for key, value in one.items():
                _check_entry(path, str(key), value)
            _check_timm(path, one)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _check_entry(path: Path, key: str, value: object) -> None:
    if key in _REFUSED:
        allowed = not value
    elif key in _ATTENTION_KEYS:
        chosen = value.values() if isinstance(value, Mapping) else [value]
        allowed = all(one is None or (isinstance(one, str) and one in _ATTENTIONS) for one in chosen)
    elif key in _NAME_KEYS:
        named = value if isinstance(value, list) else [value]
        form = _NAME if key in _DOTTED_NAMES else _NAME if key == "model_type" else _CLASS
        allowed = all(one is None or not isinstance(one, str) or bool(form.fullmatch(one)) for one in named)
    elif key in {"activation_function", "activation_fn"}:
        allowed = not isinstance(value, str) or bool(_ACTIVATION.fullmatch(value))
    elif key == "types" and isinstance(value, Mapping):  # of a router among modules
        allowed = all(not isinstance(one, str) or bool(SENTENCE_MODULES.fullmatch(one)) for one in value.values())
    else:
        allowed = True
    if not allowed:
        raise _refused(path, key, value)
    if key in _KEYWORD_TABLES and isinstance(value, Mapping):
        _check_table(path, key, value)


def _check_table(path: Path, key: str, value: Mapping[str, object]) -> None:
    """Check keywords: of timm's networks by their values, whose names are many; of all else by names too."""
    if key == "model_args" and path.name == "config.json":
        check_keywords(path, value, frozenset(value) - {"checkpoint_path", "pretrained_filter_fn", "pretrained_strict"})
    elif key.startswith("processing"):
        for modality, some in value.items():
            _check_known(path, {modality: some}, _BY_MODALITY)
            check_keywords(path, some)
    else:
        check_keywords(path, value)


def _check_timm(path: Path, table: Mapping[str, object]) -> None:
    """Refuse places to load from in timm's description of its weights, which older files have at their top level."""
    inside = table.get("pretrained_cfg")
    for one in (inside, table if "architecture" in table else None):
        if isinstance(one, Mapping) and (bad := sorted(key for key in _REFUSED_OF_TIMM if one.get(key))):
            raise _refused(path, bad[0], one[bad[0]])


def _check_modules(path: Path, content: object) -> None:
    for entry in content if isinstance(content, list) else ():
        kind = entry.get("type") if isinstance(entry, Mapping) else None
        if isinstance(kind, str) and not SENTENCE_MODULES.fullmatch(kind):
            raise EncoderError(
                f"The model in {path.parent} needs code of its own ({kind[:80]!r}), which is never run. Name a model "
                "that is made of sentence-transformers' modules alone."
            )


def _check_known(path: Path, given: Mapping[str, object], allowed: frozenset[str]) -> None:
    if unknown := sorted(str(key) for key in given if key not in allowed):
        raise _refused(path, unknown[0], given[unknown[0]])


def _is_plain(value: object, depth: int = 4) -> bool:
    if isinstance(value, str):
        return bool(_WORD.fullmatch(value))
    if isinstance(value, list | Mapping):
        inside = [*value, *value.values()] if isinstance(value, Mapping) else value
        return depth > 0 and all(_is_plain(one, depth - 1) for one in inside)
    return value is None or isinstance(value, bool | int | float)


def _refused(path: Path, key: str, value: object) -> EncoderError:
    shown = json.dumps(value, default=str)
    return EncoderError(
        f"{path} sets {key} to {shown if len(shown) <= 80 else shown[:79] + '…'}. A model's file may not choose code "
        "to run, or other files or models to load: code of its own is never run. Name another model; or, where this "
        "model works without it, take that key out of a copy of its files."
    )


def _content(path: Path) -> object:
    """A file's content; None if it is no JSON, which whatever reads it will say."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise EncoderError(f"{path} is larger than {_MOST_BYTES >> 20} MiB. Name another model.")
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    except RecursionError as error:
        raise EncoderError(f"{path} is nested too deeply. Name another model.") from error


def _json_files(folder: Path) -> Iterator[Path]:
    """All of a folder's JSON files but vocabularies and lists of shards; links are followed, as libraries do."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in names:
            if name.endswith(".json") and name not in _VOCABULARIES and not name.endswith(".index.json"):
                yield Path(place) / name
