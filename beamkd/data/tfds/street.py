"""TFDS dataset `beamkd_street`: drives along the simulated street."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
import tensorflow_datasets as tfds

from beamkd.base import Drives
from beamkd.data.tfds.frames import FrameBuilder, Recording, frame_features, known, part_of_drives
from beamkd.data.tfds.layout import SIMULATED
from beamkd.sim import Street, simulate_chunks

DESCRIPTION = """
A car passes a base station on a simulated street. In each frame there are what the station's sensors see, the 60 GHz
receive power of each beam of its codebook, and where the car is. The default street has the statistics of DeepSense 6G
Scenario 8. An example is a frame; splits are by drive, and all drives are drawn from one distribution.
"""

HOMEPAGE = "https://arxiv.org/abs/2509.19092"

CITATION = """
@misc{beamkd,
  title = {beamkd: knowledge distillation for sensing-aided mmWave beam tracking, in JAX},
  note = {Data-free distillation: arXiv 2509.19092. Statistics of the street: DeepSense 6G Scenario 8.}
}
"""


@dataclasses.dataclass(eq=False, kw_only=True)
class StreetConfig(tfds.core.BuilderConfig):
    """A street of one's own needs a name of its own: TFDS looks prepared data up by name.

    Attributes:
      street: the street.
      drives: how many.
      seed: of the key that they are drawn from.
      sensors: names.
    """

    street: Street = Street()
    drives: int = 83
    seed: int = 0
    sensors: tuple[str, ...] = ("lidar",)


class BeamkdStreet(FrameBuilder):
    """Builder of `beamkd_street`. The same drives as `simulate(jax.random.key(seed), street, drives)`."""

    BUILDER_CONFIGS = [StreetConfig(name="default", description="83 drives along the default street.")]

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            description=DESCRIPTION,
            features=frame_features(known(config.sensors), config.street.beams),
            metadata=tfds.core.MetadataDict({SIMULATED: True}),
            homepage=HOMEPAGE,
            citation=CITATION,
            license="Apache-2.0",
            disable_shuffling=True,
        )

    def _recording(self, dl_manager: tfds.download.DownloadManager) -> Recording:
        config = self.builder_config
        part = part_of_drives(range(1, config.drives + 1))
        chunks = simulate_chunks(jax.random.key(config.seed), config.street, config.drives, config.sensors)
        return Recording(part, config.street.max_frames, _numbered(chunks))


def _numbered(pieces: Iterator[Drives]) -> Iterator[tuple[np.ndarray, Drives]]:
    """Pieces with the number of each frame; drives are simulated in the order of their splits."""
    first = 0
    for piece in pieces:
        yield first + np.arange(len(piece.slot)), piece
        first += len(piece.slot)
