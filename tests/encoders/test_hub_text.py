"""Text models from directories, against sentence-transformers itself."""

import numpy as np
import pytest
from encoders import small_models

from mmrec.encoders.hub.text import HubText
from mmrec.encoders.queries import prepare_query
from mmrec.types import Modality

TEXTS = ["A cat.", "Red BOATS on a river", "一只猫坐在垫子上", "zwölf Äpfel " * 30, "ß", "the sea, the sea and a lamp"]
MODELS = {
    "old keys, mean": small_models.bert_mean,
    "class token, two Dense layers": small_models.bert_dense,
    "prompts": small_models.xlm_prompts,
    "prompt not pooled, five poolings": small_models.xlm_instructed,
    "decoder, last token": small_models.qwen_last,
    "encoder of a T5, Dense": small_models.t5_dense,
}


def encoded(encoder, texts, *, queries=False):
    prepare = (lambda text: prepare_query(encoder, Modality.TEXT, text)) if queries else None
    samples = [prepare(text) if prepare else encoder.prepare(Modality.TEXT, text) for text in texts]
    (vectors,) = encoder.encode(Modality.TEXT, samples).values()
    return vectors, samples


@pytest.mark.parametrize("kind", MODELS)
def test_vectors_are_those_of_sentence_transformers(kind):
    from sentence_transformers import SentenceTransformer

    folder = MODELS[kind]()
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    ours = HubText(str(folder))
    documents, samples = encoded(ours, TEXTS)
    expected = theirs.encode_document(TEXTS, normalize_embeddings=True)
    assert (ours.spaces[Modality.TEXT][0].dim,) == expected.shape[1:]
    np.testing.assert_allclose(documents, expected, atol=1e-5, rtol=0)
    queries, _ = encoded(ours, TEXTS, queries=True)
    np.testing.assert_allclose(queries, theirs.encode_query(TEXTS, normalize_embeddings=True), atol=1e-5, rtol=0)
    assert samples[3].truncated
    assert not any(sample.truncated for sample in samples[:3])
