# ruff: noqa: S106 -- tokens of a tokenizer, not passwords
"""Tokenizers of the usual kinds, trained on a few lines of several languages."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "A cat sat on the mat; a dog ran after it.",
    "red boats on a wide river under a bridge",
    "一只猫坐在垫子上, 一只狗追着它跑",
    "河上的红船和桥",
    "zwölf Äpfel und eine Straße, ß",
    "query: passage: a longer tale of the sea 1234567890",
    "a photo of a ripe fruit, a drum, an island and a lighthouse",
] * 4


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
