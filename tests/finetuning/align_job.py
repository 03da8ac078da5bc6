"""Aligns small towers and writes their curve and weights; run by one or several processes."""

import json
import sys
from pathlib import Path

from finetuning.towers import AUDIO, IMAGE, TEXT, loop_of, paired, run, small_config, weights_of
from safetensors.torch import save_file

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    corpus, vectors = paired(modalities=(TEXT, IMAGE, AUDIO), duplicates=5, noise=0.4)
    config = small_config(epochs=3, part_cost=5, mining={"count": 1, "margin": 0.0}, loss=sys.argv[2])
    loop = loop_of(corpus, vectors, config)
    curve = run(loop, folder)
    if loop.accelerator.is_main_process:
        numbers = [(epoch.loss, epoch.score, epoch.scale) for epoch in curve]
        (folder / "curve.json").write_text(json.dumps(numbers))
    rank = loop.accelerator.process_index
    save_file(weights_of(loop), folder / f"{rank}.safetensors")
