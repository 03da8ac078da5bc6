"""Folders of encoders that would have code run: one for each kind of encoder and each way that a library offers.

The code that they carry makes a file, so that it shows whether any of it ran.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from encoders import small_models

HANDLE = "evil_folder_code"
"""Module of the code in each folder."""


class Touch:
    """What makes a file when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> Any:
        return Path.touch, (self.sentinel,)


@dataclass(frozen=True)
class Evil:
    """One folder: its kind among `--encoders`, the sound model it is made of, and what is changed in a copy of that."""

    name: str
    kind: str
    build: Callable[[], Path]
    spoil: Callable[[Path, Path], None]

    def lay_down(self, folder: Path, sentinel: Path) -> str:
        """Make the folder. Returns what is given to `--encoders`."""
        shutil.copytree(self.build(), folder)
        lines = [
            "from pathlib import Path",
            f"Path({str(sentinel)!r}).touch()",
            "class Evil:",
            "    def __init__(self, *given, **named): pass",
            "    @classmethod",
            "    def from_pretrained(cls, *given, **named): return cls()",
            "    load = register_for_auto_class = from_pretrained",
        ]
        (folder / f"{HANDLE}.py").write_text("\n".join(lines) + "\n")
        self.spoil(folder, sentinel)
        return f"{self.kind}={folder}"


def sets(file: str, **values: Any) -> Callable[[Path, Path], None]:
    """Write keys into a JSON file; ``a__b`` is the key b in the table a, ``FOLDER`` in a text the folder."""

    def spoil(folder: Path, sentinel: Path) -> None:
        path = folder / file
        found = json.loads(path.read_text()) if path.exists() else {}
        for key, value in values.items():
            *outer, last = key.split("__")
            table = found
            for name in outer:
                table = table.setdefault(name, {})
            table[last] = json.loads(json.dumps(value).replace("FOLDER", str(folder)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))

    return spoil


def pickles(file: str, *instead_of: str) -> Callable[[Path, Path], None]:
    """Put a pickle in place of weights."""

    def spoil(folder: Path, sentinel: Path) -> None:
        for name in instead_of:
            (folder / name).unlink()
        torch.save({"weight": Touch(sentinel)}, folder / file)

    return spoil


def both(*spoils: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    def spoil(folder: Path, sentinel: Path) -> None:
        for one in spoils:
            one(folder, sentinel)

    return spoil


def module_type(kind: str) -> Callable[[Path, Path], None]:
    """Change the class of a model's first module."""

    def spoil(folder: Path, sentinel: Path) -> None:
        path = folder / "modules.json"
        found = json.loads(path.read_text())
        found[0]["type"] = kind
        path.write_text(json.dumps(found))

    return spoil


def router_type(kind: str) -> Callable[[Path, Path], None]:
    """Change the class of the first module within a router."""

    def spoil(folder: Path, sentinel: Path) -> None:
        (path,) = folder.rglob("router_config.json")
        found = json.loads(path.read_text())
        found["types"][next(iter(found["types"]))] = kind
        path.write_text(json.dumps(found))

    return spoil


CLASS = f"{HANDLE}.Evil"
MAP = dict.fromkeys(("AutoConfig", "AutoModel", "AutoProcessor", "AutoImageProcessor", "AutoFeatureExtractor"), CLASS)
TOKENIZER = {"auto_map": {"AutoTokenizer": [CLASS, None]}, "tokenizer_class": "Unheard"}
OPEN_CLIP = "open_clip_config.json"
SENTENCE = "sentence_bert_config.json"

text, image = small_models.bert_mean, small_models.dinov2

EVIL = [
    Evil("tokenizer", "text", text, sets("tokenizer_config.json", **TOKENIZER)),
    Evil("tokenizer-class", "text", text, sets("tokenizer_config.json", tokenizer_class=CLASS)),
    Evil("config", "text", text, sets("config.json", auto_map=MAP)),
    Evil("unknown-config", "text", text, sets("config.json", auto_map=MAP, model_type="unheard")),
    Evil("nested-config", "text", text, sets("config.json", text_config={"layers": [{"auto_map": MAP}]})),
    Evil("trust", "text", text, sets("config.json", trust_remote_code=True)),
    Evil("kernels", "text", text, sets("config.json", attn_implementation="evil/kernel")),
    Evil("nested-kernels", "text", text, sets("config.json", _attn_implementation={"text": "evil/kernel"})),
    Evil("use-kernels", "text", text, sets("config.json", use_kernels=True)),
    Evil("quantization", "text", text, sets("config.json", quantization_config={"quant_method": "evil"})),
    Evil("generation", "text", text, sets("generation_config.json", custom_generate="FOLDER")),
    Evil("adapter", "text", text, sets("adapter_config.json", base_model_name_or_path="FOLDER", peft_type="LORA")),
    Evil("adapter-in-a-module", "text", text, sets("1_Pooling/adapter_config.json", peft_type="LORA", auto_mapping={})),
    Evil("module", "text", text, module_type(f"{HANDLE}.Transformer")),
    Evil("tokenizer-elsewhere", "text", text, sets(SENTENCE, tokenizer_name_or_path="FOLDER")),
    Evil("unsafe-weights", "text", text, sets(SENTENCE, model_kwargs={"weights_only": False})),
    Evil("trusting-arguments", "text", text, sets(SENTENCE, tokenizer_args={"trust_remote_code": True})),
    Evil("backend", "text", text, sets(SENTENCE, backend="onnx")),
    Evil("activation", "text", small_models.bert_dense, sets("2_Dense/config.json", activation_function=CLASS)),
    Evil("pickled-weights", "text", text, pickles("pytorch_model.bin", "model.safetensors")),
    Evil("pickled-layer", "text", small_models.bert_dense, pickles("2_Dense/pytorch_model.bin")),
    Evil(
        "image-processor", "image", image, sets("preprocessor_config.json", auto_map=MAP, image_processor_type="Evil")
    ),
    Evil("image-processor-class", "image", image, sets("preprocessor_config.json", image_processor_type=CLASS)),
    Evil("backbone", "image", image, sets("config.json", backbone="FOLDER", use_pretrained_backbone=True)),
    Evil("backbone-config", "image", image, sets("config.json", backbone_config={"auto_map": MAP})),
    Evil("timm-backbone", "image", image, sets("config.json", use_timm_backbone=True)),
    Evil("pickled-pictures", "image", image, pickles("pytorch_model.bin", "model.safetensors")),
    Evil("timm-elsewhere", "timm", small_models.timm_vit, sets("config.json", architecture="local-dir:FOLDER")),
    Evil("timm-hub", "timm", small_models.timm_vit, sets("config.json", architecture="hf-hub:evil/evil")),
    Evil("timm-file", "timm", small_models.timm_vit, sets("config.json", pretrained_cfg__file="FOLDER/evil.bin")),
    Evil("timm-url", "timm", small_models.timm_vit, sets("config.json", pretrained_cfg__url="file://FOLDER/evil.bin")),
    Evil("timm-custom", "timm", small_models.timm_vit, sets("config.json", pretrained_cfg__custom_load="hf")),
    Evil(
        "timm-keyword", "timm", small_models.timm_vit, sets("config.json", model_args__checkpoint_path="FOLDER/e.bin")
    ),
    Evil("timm-value", "timm", small_models.timm_vit, sets("config.json", model_args__block_fn=CLASS)),
    Evil("timm-pickle", "timm", small_models.timm_vit, pickles("pytorch_model.bin", "model.safetensors")),
    Evil("clip-processor", "image-text", small_models.clip, sets("preprocessor_config.json", auto_map=MAP)),
    Evil("clip-tokenizer", "image-text", small_models.clip, sets("tokenizer_config.json", **TOKENIZER)),
    Evil("clip-tower", "image-text", small_models.clip, sets("config.json", vision_config__auto_map=MAP)),
    Evil(
        "open-clip-tokenizer",
        "open-clip",
        small_models.open_clip_siglip,
        both(
            sets(OPEN_CLIP, model_cfg__text_cfg__tokenizer_kwargs={"trust_remote_code": True}),
            sets("tokenizer_config.json", **TOKENIZER),
        ),
    ),
    Evil(
        "open-clip-keyword",
        "open-clip",
        small_models.open_clip_vit,
        sets(OPEN_CLIP, model_cfg__text_cfg__tokenizer_kwargs={"bpe_path": "FOLDER/evil.gz"}),
    ),
    Evil(
        "open-clip-timm",
        "open-clip",
        small_models.open_clip_siglip,
        sets(OPEN_CLIP, model_cfg__vision_cfg__timm_model_name="local-dir:FOLDER"),
    ),
    Evil(
        "open-clip-text-tower",
        "open-clip",
        small_models.open_clip_xlm,
        both(
            sets("tower/config.json", model_type="unheard", auto_map=MAP),
            sets(OPEN_CLIP, model_cfg__text_cfg__hf_model_name="FOLDER/tower"),
        ),
    ),
    Evil("open-clip-unknown", "open-clip", small_models.open_clip_vit, sets(OPEN_CLIP, model_cfg__cache_dir="FOLDER")),
    Evil(
        "open-clip-pickle",
        "open-clip",
        small_models.open_clip_vit,
        pickles("open_clip_pytorch_model.bin", "open_clip_model.safetensors"),
    ),
    Evil("sound-extractor", "audio-text", small_models.clap, sets("preprocessor_config.json", auto_map=MAP)),
    Evil("sound-config", "audio-text", small_models.clap, sets("config.json", audio_config__auto_map=MAP)),
    Evil("pickled-sounds", "audio-text", small_models.clap, pickles("pytorch_model.bin", "model.safetensors")),
    Evil("three-kinds-module", "multimodal", small_models.three_in_one, module_type(CLASS)),
    Evil("three-kinds-foreign", "multimodal", small_models.three_in_one, module_type("sentence_transformers.Evil")),
    Evil("three-kinds-router", "multimodal", small_models.three_in_one, router_type(CLASS)),
    Evil(
        "three-kinds-words",
        "multimodal",
        small_models.three_in_one,
        router_type("sentence_transformers.sentence_transformer.modules.WordEmbeddings"),
    ),
    Evil(
        "three-kinds-model",
        "multimodal",
        small_models.three_in_one,
        sets("config_sentence_transformers.json", model_type="CrossEncoder"),
    ),
    Evil("three-kinds-weights", "multimodal", small_models.clip, pickles("pytorch_model.bin", "model.safetensors")),
]
