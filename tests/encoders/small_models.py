# ruff: noqa: S106 -- tokens of a tokenizer, not passwords
"""Small checkpoints of the architectures that hub encoders read: initialised here, saved as their libraries save them.

Their weights are drawn at random, from a seed. Only what is in the files differs from a model of the hub.
"""

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = Path(tempfile.mkdtemp(prefix="mmrec-small-models-"))
atexit.register(shutil.rmtree, ROOT, ignore_errors=True)

CORPUS = [
    "A cat sat on the mat; a dog ran after it.",
    "red boats on a wide river under a bridge",
    "一只猫坐在垫子上, 一只狗追着它跑",
    "河上的红船和桥",
    "zwölf Äpfel und eine Straße, ß",
    "query: passage: a longer tale of the sea 1234567890",
    "a photo of a ripe fruit, a drum, an island and a lighthouse",
] * 4


def saved(build: Callable[[Path], None]) -> Callable[[], Path]:
    """Build a checkpoint once, in a folder named after its builder."""

    @functools.cache
    def folder() -> Path:
        path = ROOT / build.__name__
        path.mkdir()
        torch.manual_seed(0)
        build(path)
        return path

    return folder


# Wider than a trained network's first weights, so that contents lie well apart.
WIDE = {"initializer_range": 0.4}
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, **WIDE}


def word_pieces() -> Any:
    from transformers import PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=400, special_tokens=list(special.values())))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=_numbers(made, "[CLS]", "[SEP]")
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **special)


def unigram(length: int = 64) -> Any:
    """As XLM-RoBERTa's: sentence pieces of any script."""
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>"))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=_numbers(made, "<s>", "</s>")
    )
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=length, pad_token="<pad>", unk_token="<unk>", **names
    )


def byte_pairs(template: str = "$A <|end|>", *, length: int = 64, pad: str = "<|pad|>") -> Any:
    """As GPT-2's, CLIP's and their descendants'; the template says what stands around a text."""
    from transformers import PreTrainedTokenizerFast

    special = [pad, "<|end|>", "<|start|>"]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=400, special_tokens=list(dict.fromkeys(special)), initial_alphabet=alphabet),
    )
    made.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=_numbers(made, "<|start|>", "<|end|>")
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=length, pad_token=pad, eos_token="<|end|>", bos_token="<|start|>"
    )


def _numbers(made: Tokenizer, *names: str) -> list[tuple[str, int]]:
    return [(name, made.token_to_id(name)) for name in names]


def sentence_model(folder: Path, pooling: dict[str, Any], *, after: Iterable[str] = (), **settings: Any) -> None:
    """Put the configuration of sentence-transformers beside a transformer, by hand: old files or new."""
    base = "sentence_transformers.models"
    steps = [("", "Transformer"), ("1_Pooling", "Pooling"), *((f"{n}_{kind}", kind) for n, kind in enumerate(after, 2))]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"{base}.{kind}"} for n, (path, kind) in enumerate(steps)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for path, _ in steps[1:]:
        (folder / path).mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    own = {"max_seq_length": settings.get("length", 32), "do_lower_case": settings.get("lower", False)}
    (folder / "sentence_bert_config.json").write_text(json.dumps(own))
    general = {"prompts": settings.get("prompts", {}), "default_prompt_name": settings.get("default")}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(general))


def dense(folder: Path, wide: int, narrow: int, activation: str, *, safe: bool = True) -> None:
    from safetensors.torch import save_file

    keys = {"in_features": wide, "out_features": narrow, "bias": True, "activation_function": activation}
    (folder / "config.json").write_text(json.dumps(keys))
    weights = {"linear.weight": torch.randn(narrow, wide), "linear.bias": torch.randn(narrow)}
    if safe:
        save_file(weights, folder / "model.safetensors")
    else:
        torch.save(weights, folder / "pytorch_model.bin")


@saved
def bert_mean(folder: Path) -> None:
    """As all-MiniLM: mean pooling and length one, by the keys that sentence-transformers wrote until 2025."""
    from transformers import BertConfig, BertModel

    tokenizer = word_pieces()
    tokenizer.save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **BERT)).save_pretrained(folder)
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    sentence_model(folder, pooling, after=["Normalize"])


@saved
def bert_dense(folder: Path) -> None:
    """As LaBSE and its like: class token, a Dense layer in torch's own format, another in safetensors."""
    from transformers import BertConfig, BertModel

    tokenizer = word_pieces()
    tokenizer.save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **BERT)).save_pretrained(folder)
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    sentence_model(folder, pooling, after=["Dense", "Normalize", "Dense"], length=12, lower=True)
    dense(folder / "2_Dense", 32, 24, "torch.nn.modules.activation.Tanh", safe=False)
    dense(folder / "4_Dense", 24, 20, "torch.nn.modules.linear.Identity")


@saved
def xlm_prompts(folder: Path) -> None:
    """As multilingual E5 and BGE-M3: sentence pieces, Chinese and English, a prompt for each kind of text."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    tokenizer = unigram()
    tokenizer.save_pretrained(folder)
    config = XLMRobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=1, **BERT)
    XLMRobertaModel(config).save_pretrained(folder)
    prompts = {"query": "query: ", "document": "passage: "}
    sentence_model(folder, {"embedding_dimension": 32, "pooling_mode": "mean"}, after=["Normalize"], prompts=prompts)


@saved
def xlm_instructed(folder: Path) -> None:
    """As INSTRUCTOR: the prompt is read, but not pooled; several poolings side by side."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    tokenizer = unigram()
    tokenizer.save_pretrained(folder)
    config = XLMRobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=1, **BERT)
    XLMRobertaModel(config).save_pretrained(folder)
    pooling = {
        "embedding_dimension": 32,
        "pooling_mode": ["cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"],
        "include_prompt": False,
    }
    sentence_model(folder, pooling, prompts={"query": "a photo of ", "document": "the sea "})


@saved
def qwen_last(folder: Path) -> None:
    """As Qwen3-Embedding: a decoder, its last token, an instruction before queries."""
    from transformers import Qwen3Config, Qwen3Model

    tokenizer = byte_pairs()
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
    size = {**BERT, "num_key_value_heads": 2, "head_dim": 8}
    config = Qwen3Config(vocab_size=len(tokenizer), max_position_embeddings=128, pad_token_id=0, **size)
    Qwen3Model(config).save_pretrained(folder)
    prompts = {"query": "Instruct: find\nQuery:", "document": ""}
    sentence_model(
        folder, {"embedding_dimension": 32, "pooling_mode": "lasttoken"}, after=["Normalize"], prompts=prompts
    )


@saved
def t5_dense(folder: Path) -> None:
    """As sentence-t5 and GTR: the encoder of a T5, mean, a Dense layer without bend."""
    from transformers import T5Config, T5EncoderModel

    tokenizer = unigram()
    tokenizer.save_pretrained(folder)
    config = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=1)
    T5EncoderModel(config).save_pretrained(folder)
    sentence_model(
        folder, {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}, after=["Dense", "Normalize"]
    )
    dense(folder / "2_Dense", 32, 16, "torch.nn.modules.linear.Identity")


@saved
def plain_bert(folder: Path) -> None:
    """A transformers model that says nothing of pooling."""
    from transformers import BertConfig, BertModel

    tokenizer = word_pieces()
    tokenizer.save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **BERT)).save_pretrained(folder)


def noise(width: int, height: int, seed: int) -> Any:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (max(height // 8, 1), max(width // 8, 1), 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
CLIP_TEMPLATE = "<|start|> $A <|end|>"


@saved
def clip(folder: Path) -> None:
    """As OpenAI's CLIP in transformers' format: byte pairs, causal text tower, padding with the end token."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    tokenizer = byte_pairs(CLIP_TEMPLATE, length=24, pad="<|end|>")
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    end = tokenizer.eos_token_id
    text = {
        **VISION,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 24,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    vision = {**VISION, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)


@saved
def siglip(folder: Path) -> None:
    """As SigLIP and the fixed-size SigLIP 2: sentence pieces, every text padded to its full length."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    tokenizer = unigram(16)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    text = {**VISION, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "pad_token_id": 1, "eos_token_id": 2}
    vision = {**VISION, "image_size": 32, "patch_size": 8}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)


@saved
def siglip2(folder: Path) -> None:
    """As SigLIP 2 NaFlex: pictures keep their shape, in patches of which there are more or fewer."""
    from transformers import Siglip2Config, Siglip2ImageProcessor, Siglip2Model

    tokenizer = unigram(16)
    tokenizer.save_pretrained(folder)
    Siglip2ImageProcessor(patch_size=8, max_num_patches=24).save_pretrained(folder)
    text = {**VISION, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "pad_token_id": 1, "eos_token_id": 2}
    vision = {**VISION, "num_patches": 16, "patch_size": 8}
    Siglip2Model(Siglip2Config(text_config=text, vision_config=vision)).save_pretrained(folder)


@saved
def dinov2(folder: Path) -> None:
    """As DINOv2 with registers: class token, registers, patches of 14 pixels."""
    from transformers import BitImageProcessor, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 2}
    config = Dinov2WithRegistersConfig(image_size=28, patch_size=14, num_register_tokens=2, **size, **WIDE)
    Dinov2WithRegistersModel(config).save_pretrained(folder)


@saved
def convnext(folder: Path) -> None:
    """A network of convolutions, whose states are maps."""
    from transformers import ConvNextConfig, ConvNextImageProcessor, ConvNextModel

    ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(folder)
    ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], **WIDE)).save_pretrained(folder)


@saved
def timm_vit(folder: Path) -> None:
    """As timm saves its vision transformers, with the preprocessing they were evaluated with."""
    import timm
    from timm.models import save_for_hf

    size = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=7, **size)
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.2)
    own = {"input_size": (3, 32, 32), "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.2), "crop_pct": 0.9}
    save_for_hf(network, folder, model_config=own, model_args=size, safe_serialization=True)


CLIP_SIZE = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2},
}


def _save_open_clip(folder: Path, size: dict[str, Any], preprocess: dict[str, Any]) -> None:
    """As open_clip's `push_to_hf_hub` writes: its own configuration and weights, of the model it builds from that."""
    import open_clip
    from safetensors.torch import save_file

    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": size, "preprocess_cfg": preprocess}))
    network = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False)
    generator = torch.Generator().manual_seed(1)
    for value in network.parameters():
        if value.ndim > 1:
            value.data.normal_(std=0.1, generator=generator)
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )


@saved
def open_clip_vit(folder: Path) -> None:
    """As LAION's CLIP models: byte pairs, squashed nowhere, cropped."""
    _save_open_clip(folder, CLIP_SIZE, {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.2]})


@saved
def open_clip_siglip(folder: Path) -> None:
    """As SigLIP in open_clip: a vision tower of timm, a tokenizer of transformers, pictures squashed."""
    unigram(16).save_pretrained(folder)
    vision = {"image_size": 32, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"}
    text = {**CLIP_SIZE["text_cfg"], "context_length": 16, "vocab_size": 300, "hf_tokenizer_name": "some/where"}
    text |= {"no_causal_mask": True, "pool_type": "last", "tokenizer_kwargs": {"clean": "canonicalize"}}
    size = {"embed_dim": 24, "custom_text": True, "vision_cfg": vision, "text_cfg": text}
    _save_open_clip(folder, size, {"resize_mode": "squash", "interpolation": "bicubic"})


@saved
def open_clip_xlm(folder: Path) -> None:
    """As LAION's multilingual CLIP: a text tower of transformers, described by files of its own."""
    unigram(32).save_pretrained(folder)
    text = {"hf_model_name": str(xlm_prompts()), "hf_tokenizer_name": "some/where", "hf_pooler_type": "mean_pooler"}
    size = {**CLIP_SIZE, "text_cfg": {**text, "context_length": 32}}
    _save_open_clip(folder, size, {})


def _save_clap(folder: Path, *, fused: bool) -> None:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    tokenizer = unigram()
    tokenizer.save_pretrained(folder)
    ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc").save_pretrained(folder)
    text = {**BERT, "vocab_size": len(tokenizer), "max_position_embeddings": 66, "pad_token_id": 1, "eos_token_id": 2}
    audio = {"patch_embeds_hidden_size": 16, "hidden_size": 32, "depths": [1, 1], "num_attention_heads": [2, 2]}
    audio |= {"enable_fusion": fused, "num_hidden_layers": 2, "fusion_type": "aff_2d" if fused else None}
    network = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=24, **WIDE))
    for name, value in network.named_parameters():
        if value.ndim > 1 and "norm" not in name:
            value.data.normal_(std=0.2)
    network.save_pretrained(folder)


@saved
def clap(folder: Path) -> None:
    """As LAION's unfused CLAP: 48 kHz, ten seconds, one spectrogram a window."""
    _save_clap(folder, fused=False)


@saved
def clap_fused(folder: Path) -> None:
    """As LAION's fused CLAP: a long sound at two scales at once."""
    _save_clap(folder, fused=True)


def small_bundle(name: str) -> Any:
    """A bundle of torchaudio with a narrower transformer; all that loads it stays as it is."""
    import dataclasses

    import torchaudio

    whole = getattr(torchaudio.pipelines, name)
    size = {"encoder_embed_dim": 32, "encoder_ff_interm_features": 48, "encoder_num_heads": 4, "encoder_num_layers": 3}
    layers = [
        (32, kernel, stride)
        for _, kernel, stride in dataclasses.asdict(whole)["_params"]["extractor_conv_layer_config"]
    ]
    size |= {"extractor_conv_layer_config": layers, "encoder_pos_conv_kernel": 16, "encoder_pos_conv_groups": 4}
    return dataclasses.replace(whole, _params={**dataclasses.asdict(whole)["_params"], **size})


def bundle_weights(name: str) -> Path:
    """The folder of a small bundle's weights, in the file that the bundle names."""
    import dataclasses

    import torchaudio

    bundle = small_bundle(name)
    described = dataclasses.asdict(bundle)
    build = torchaudio.models.wavlm_model if described["_model_type"] == "WavLM" else torchaudio.models.wav2vec2_model
    folder = ROOT / f"bundle-{name}"
    file = folder / described["_path"]
    if not file.exists():
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        torch.save(build(**described["_params"]).state_dict(), file)
    return folder


@saved
def three_in_one(folder: Path) -> None:
    """A model of sentence-transformers that reads texts, pictures and sounds: a network for each, one space."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    parts = {"text": plain_bert, "image": plain_vit, "audio": plain_hubert}
    routes = {kind: [Transformer(str(build())), Pooling(32, "mean")] for kind, build in parts.items()}
    model = SentenceTransformer(modules=[Router(sub_modules=routes), Normalize()], device="cpu")
    model.prompts |= {"query": "query: ", "document": "passage: "}
    model.save_pretrained(str(folder), create_model_card=False)


@saved
def plain_vit(folder: Path) -> None:
    """A vision transformer as transformers saves it."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    ViTModel(ViTConfig(image_size=32, patch_size=8, **BERT)).save_pretrained(folder)


@saved
def plain_hubert(folder: Path) -> None:
    """A HuBERT whose first layers normalise each frame alone, so that padding is masked."""
    from transformers import (
        HubertConfig,
        HubertModel,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Processor,
    )

    letters = {name: number for number, name in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", "a", "b"])}
    (folder / "vocab.json").write_text(json.dumps(letters))
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)
    Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))).save_pretrained(folder)
    config = HubertConfig(
        feat_extract_norm="layer", conv_dim=(32,) * 7, conv_bias=True, do_stable_layer_norm=True,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, **BERT,
    )  # fmt: skip
    HubertModel(config).save_pretrained(folder)
