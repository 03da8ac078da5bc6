"""Speech models of torchaudio (wav2vec 2.0, HuBERT, WavLM) as encoders, by the name of a bundle.

[[encoders]]
factory = "mmrec.encoders.hub.speech.SpeechBundle"
bundle = "WAVLM_BASE_PLUS"
checkpoint = "/models/torchaudio"     # the bundle's file of weights, or its folder; torch's own cache if left out
layer = 6
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmrec.encoders.contents import checked_audio
from mmrec.encoders.hub.loading import explain_errors, once
from mmrec.encoders.hub.preprocessing import resampled, windows
from mmrec.encoders.hub.source import file_digest, space_name
from mmrec.encoders.protocol import Sample, fingerprint
from mmrec.encoders.vectors import TrainableEncoder, unit_rows
from mmrec.errors import EncoderError, UsageError
from mmrec.types import Content, Modality, Space

_WINDOW_SECONDS, _MOST_WINDOWS = 10.0, 12
_FRAME = 320  # samples of a frame: the product of the strides of the first layers
_SHORTEST = 400  # samples that the first layers see at once
_PLACE = "https://download.pytorch.org/torchaudio/models/"


@dataclass(frozen=True, eq=False)
class SpeechBundle(TrainableEncoder):
    """Audio -> the mean of one layer's states over time. Weights are read at first use, and never downloaded.

    An audio clip longer than ten seconds is heard in windows over all of it, at most twelve.

    Attributes:
        bundle: Name of a bundle in `torchaudio.pipelines`, as in ``HUBERT_BASE``.
        checkpoint: The bundle's file of weights or the folder it lies in; torch's own cache where None.
        layer: Which layer of the transformer, from 1; the last where None.
        name: Name of the space; made of the bundle's own where None.

    """

    bundle: str
    checkpoint: str | None = None
    layer: int | None = None
    name: str | None = None

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """One space for audio. Raises EncoderError where there is no such bundle, or no weights of it."""
        return {Modality.AUDIO: (self._space,)}

    _batch_costs = (1_000, 64_000)  # frames of 20 ms a batch

    @once
    def module(self) -> nn.Module:
        """The network, loaded at first use. Raises EncoderError where its weights do not fit."""
        file = self._weights
        settings = {"model_dir": str(file.parent), "file_name": file.name, "map_location": "cpu", "weights_only": True}
        with explain_errors(
            f"{self.bundle}, from {file},", "It must be that bundle's own file of weights: download it again."
        ):
            made = self._bundle.get_model(dl_kwargs={**settings, "progress": False})
        # The wrapper around some of them normalises a whole batch at once; here each clip is, in `prepare`.
        return cast("nn.Module", getattr(made, "model", made)).to(self.device, self.dtype).eval()

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Resample one clip and cut it into windows. Raises MediaError for silence."""
        audio = checked_audio(self.bundle, modality, content)
        rate = int(self._bundle.sample_rate)
        heard, truncated = windows(resampled(audio, rate), int(_WINDOW_SECONDS * rate), _MOST_WINDOWS)
        waves = torch.stack([torch.from_numpy(window.copy()) for window in heard])
        if waves.shape[1] < _SHORTEST:
            waves = nn.functional.pad(waves, (0, _SHORTEST - waves.shape[1]))
        if self._settings["_normalize_waveform"]:
            waves = nn.functional.layer_norm(waves, waves.shape[1:])
        return Sample(waves, cost=max(1, waves.numel() // _FRAME), truncated=truncated)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        del modality  # it has one
        rows: list[Tensor | None] = [None] * len(samples)
        # Only clips of one length together: the first layers normalise over time, so that padding would be heard.
        by_length = sorted(range(len(samples)), key=lambda number: samples[number].tensor.shape[1])
        lengths = [samples[number].tensor.shape[1] for number in by_length]
        edges = [0, *(place for place in range(1, len(lengths)) if lengths[place] != lengths[place - 1]), len(lengths)]
        for start, end in pairwise(edges):
            group = by_length[start:end]
            for number, row in zip(group, self._means([samples[number].tensor for number in group]), strict=True):
                rows[number] = row
        return {self._space.name: unit_rows(torch.stack([row for row in rows if row is not None]))}

    def _means(self, waves: list[Float[Tensor, "windows n"]]) -> list[Tensor]:
        network: Any = self.module
        joined = torch.cat(waves)
        most = max(1, self.batch_cost * _FRAME // joined.shape[1])  # a long clip alone can be many batches
        made = []
        for chunk in torch.split(joined, most):
            states, _ = network.extract_features(self.to_device(chunk).to(self.dtype), num_layers=self._layer)
            made.append(states[-1].float().mean(dim=1))
        parts = torch.split(torch.cat(made), [len(wave) for wave in waves])
        return [part.mean(dim=0) for part in parts]

    @once
    def _bundle(self) -> Any:  # noqa: ANN401
        import torchaudio  # noqa: PLC0415 (takes seconds)

        pipelines = torchaudio.pipelines
        kinds = (pipelines.Wav2Vec2Bundle, pipelines.Wav2Vec2ASRBundle)
        found = getattr(pipelines, self.bundle, None)
        if not isinstance(found, kinds):
            known = sorted(name for name, value in vars(pipelines).items() if isinstance(value, kinds))
            raise UsageError(f"torchaudio has no audio bundle {self.bundle!r}. Allowed: {', '.join(known)}.")
        return found

    @property
    def _settings(self) -> Mapping[str, Any]:
        return dataclasses.asdict(self._bundle)

    @property
    def _layer(self) -> int:
        layers = int(self._settings["_params"]["encoder_num_layers"])
        if self.layer is not None and not 1 <= self.layer <= layers:
            raise UsageError(f"layer = {self.layer} was given; {self.bundle} has the layers 1 to {layers}.")
        return self.layer or layers

    @once
    def _weights(self) -> Path:
        file = Path(self._settings["_path"]).name
        place = Path(self.checkpoint).expanduser() if self.checkpoint else Path(torch.hub.get_dir()) / "checkpoints"
        found = place / file if place.is_dir() or not self.checkpoint else place
        if not found.is_file():
            address = _PLACE + os.fspath(self._settings["_path"])
            raise EncoderError(
                f"There are no weights of {self.bundle} at {found}. Download {address} to there, or set checkpoint to "
                "where that file lies."
            )
        return found

    @once
    def _space(self) -> Space:
        decided = fingerprint(
            weights=file_digest(self._weights), bundle=self.bundle, layer=self._layer, windows=_MOST_WINDOWS, version=1
        )
        width = int(self._settings["_params"]["encoder_embed_dim"])
        return Space(space_name(self.bundle, self.name), width, decided)
