"""Models of all three kinds of content."""

from pathlib import Path

from encoders.small_models.pictures import plain_vit
from encoders.small_models.saving import saved
from encoders.small_models.sounds import plain_hubert
from encoders.small_models.texts import plain_bert


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
