"""Models of texts."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from encoders.small_models.saving import BERT, saved
from encoders.small_models.tokenizers_of import byte_pairs, unigram, word_pieces


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
