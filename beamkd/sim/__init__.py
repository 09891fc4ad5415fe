"""The world: street and traffic, arrays and codebooks, paths, channel and beam powers, LiDAR."""

from beamkd.sim.arrays import dft_codebook, planar_steering_vector, steered_codebook, steering_vector
from beamkd.sim.channel import beam_powers, channel
from beamkd.sim.geometry import Boxes, Walls
from beamkd.sim.lidar import RAYS, cast_rays, lidar_scan
from beamkd.sim.materials import MATERIALS, fresnel, permittivity
from beamkd.sim.paths import Paths, trace_paths
from beamkd.sim.simulate import SimulatedDrive, hardware_codebook, simulate, simulate_chunks, simulate_drive
from beamkd.sim.street import Building, Street, Traffic, drive_traffic

__all__ = [
    "MATERIALS",
    "RAYS",
    "Boxes",
    "Building",
    "Paths",
    "SimulatedDrive",
    "Street",
    "Traffic",
    "Walls",
    "beam_powers",
    "cast_rays",
    "channel",
    "dft_codebook",
    "drive_traffic",
    "fresnel",
    "hardware_codebook",
    "lidar_scan",
    "permittivity",
    "planar_steering_vector",
    "simulate",
    "simulate_chunks",
    "simulate_drive",
    "steered_codebook",
    "steering_vector",
    "trace_paths",
]
