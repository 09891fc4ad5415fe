"""TFDS dataset `deepsense6g`: scenarios of DeepSense 6G, from folders that were downloaded by hand."""

import dataclasses

import jax
import numpy as np
import tensorflow_datasets as tfds

from beamkd.base import BEAMS
from beamkd.data.deepsense import origin, read_deepsense
from beamkd.data.tfds.frames import FrameBuilder, Recording, frame_features, known, part_of_drives
from beamkd.data.tfds.layout import PARTS, SIMULATED

HOMEPAGE = "https://www.deepsense6g.net"

DESCRIPTION = """
DeepSense 6G: a car passes a roadside unit with sensors and a 60 GHz receiver. In each frame there are what the unit's
sensors saw, the receive power of each of its 64 beams, and where the car was. An example is a frame; splits are by
drive, in the order of recording.
"""

CITATION = """
@article{alkhateeb2023deepsense,
  title = {{DeepSense 6G}: A Large-Scale Real-World Multi-Modal Sensing and Communication Dataset},
  author = {Alkhateeb, Ahmed and Charan, Gouranga and Osman, Tawfik and Hredzak, Andrew and Morais, Joao and
            Demirhan, Umut and Srinivas, Nikhil},
  journal = {IEEE Communications Magazine},
  year = {2023}
}
"""

SCENARIOS = (8, 9, 31, 32, 33, 34)


@dataclasses.dataclass(eq=False, kw_only=True)
class DeepSenseConfig(tfds.core.BuilderConfig):
    """A scenario; fields are the arguments of `read_deepsense`. Other settings need another name."""

    scenario: int = 8
    sensors: tuple[str, ...] = ("lidar",)
    lidar: str = "measured"
    broadside: float = 0.0
    skip_bad: bool = False


class DeepSense6g(FrameBuilder):
    """Builder of `deepsense6g`: `manual_dir` is the scenario's folder, or is one or two folders above it."""

    name = "deepsense6g"
    BUILDER_CONFIGS = [
        DeepSenseConfig(name=f"scenario{number}", scenario=number, description=f"LiDAR of Scenario {number}.")
        for number in SCENARIOS
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Download a scenario from {HOMEPAGE}, unpack it, and give its folder, or one above it, as `manual_dir`.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=DESCRIPTION,
            features=frame_features(known(self.builder_config.sensors), BEAMS),
            metadata=tfds.core.MetadataDict({SIMULATED: False}),
            homepage=HOMEPAGE,
            citation=CITATION,
            license="CC BY-NC-SA 4.0",
            disable_shuffling=True,
        )

    def _recording(self, dl_manager: tfds.download.DownloadManager) -> Recording:
        config, folder = self.builder_config, dl_manager.manual_dir
        drives = read_deepsense(
            folder,
            config.scenario,
            lidar=config.lidar,
            sensors=config.sensors,
            broadside=config.broadside,
            skip_bad=config.skip_bad,
        )
        self.info.metadata[SIMULATED] = origin(folder, config.scenario) is not None
        drives = jax.tree.map(np.asarray, drives)
        numbers, firsts, lengths = np.unique(drives.drive, return_index=True, return_counts=True)
        part = part_of_drives(numbers)
        order = np.argsort([PARTS.index(part[number]) for number in drives.drive.tolist()], kind="stable")
        recorded = {int(number): part[int(number)] for number in numbers[np.argsort(firsts)]}
        return Recording(recorded, int(lengths.max()), [(order, jax.tree.map(lambda array: array[order], drives))])
