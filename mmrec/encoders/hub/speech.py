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
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmrec.encoders.contents import checked_audio, resampled
from mmrec.encoders.hub.loading import explain_errors, once
from mmrec.encoders.hub.preprocessing import windows
from mmrec.encoders.hub.source import file_digest, space_name
from mmrec.encoders.protocol import Sample, fingerprint
from mmrec.encoders.vectors import TrainableEncoder, forward_alike, unit_rows, window_means
from mmrec.errors import EncoderError, UsageError
from mmrec.types import Content, Modality, Space

_WINDOW_SECONDS, _MOST_WINDOWS = 10.0, 12
_FRAME = 320  # samples of a frame: the product of the strides of the first layers
_SHORTEST = 400  # samples that the first layers see at once
_PLACE = "https://download.pytorch.org/torchaudio/models/"


@dataclass(frozen=True, eq=False)
class SpeechBundle(TrainableEncoder):
    """Audio -> the mean of one layer's states over time. Weights are read at first use, and never downloaded.

    An audio clip longer than ten seconds is encoded in windows over all of it, at most twelve.

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
        """One space for audio. Raises EncoderError if there is no such bundle, or no weights of it."""
        return {Modality.AUDIO: (self._space,)}

    _batch_costs = (1_000, 64_000)  # frames of 20 ms per batch

    @once
    def module(self) -> nn.Module:
        """The network, loaded at first use. Raises EncoderError if its weights do not fit."""
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
        samples = resampled(audio.samples, audio.rate, rate)
        parts, truncated = windows(samples, int(_WINDOW_SECONDS * rate), _MOST_WINDOWS)
        waves = torch.stack([torch.from_numpy(part.copy()) for part in parts])
        if waves.shape[1] < _SHORTEST:
            waves = nn.functional.pad(waves, (0, _SHORTEST - waves.shape[1]))
        if self._settings["_normalize_waveform"]:
            waves = nn.functional.layer_norm(waves, waves.shape[1:])
        return Sample(waves, cost=max(1, waves.numel() // _FRAME), truncated=truncated)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        del modality  # it has one
        # Only clips of one length together: the first layers normalise over time, so that padding would change them.
        rows = forward_alike(samples, lambda sample: sample.tensor.shape[1], self._means)
        return {self._space.name: unit_rows(rows)}

    def _means(self, samples: list[Sample]) -> Float[Tensor, "n dim"]:
        network: Any = self.module

        def forward(waves: Float[Tensor, "windows n"]) -> Float[Tensor, "windows dim"]:
            states, _ = network.extract_features(self.to_device(waves).to(self.dtype), num_layers=self._layer)
            return cast("Tensor", states[-1]).float().mean(dim=1)

        most = max(1, self.batch_cost * _FRAME // samples[0].tensor.shape[1])
        return window_means([sample.tensor for sample in samples], most, forward)

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
