"""Models of sounds, alone or with texts."""

import json
from pathlib import Path
from typing import Any

import torch
from encoders.small_models.saving import BERT, ROOT, WIDE, saved
from encoders.small_models.tokenizers_of import unigram


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
