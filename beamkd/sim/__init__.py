"""The world: street and traffic, arrays and codebooks, paths, channel and beam powers, LiDAR and radar."""

from beamkd.sim.arrays import dft_codebook, planar_steering_vector, steered_codebook, steering_vector
from beamkd.sim.channel import beam_powers, channel
from beamkd.sim.geometry import Boxes, Walls
from beamkd.sim.lidar import RAYS, cast_rays, lidar_scan
from beamkd.sim.materials import MATERIALS, fresnel, permittivity
from beamkd.sim.paths import Paths, trace_paths
from beamkd.sim.radar import (
    Chirps,
    Scatterers,
    beat_signal,
    doppler_angle_map,
    range_angle_map,
    range_doppler_map,
    reflect,
)
from beamkd.sim.simulate import SimulatedDrive, hardware_codebook, simulate, simulate_chunks, simulate_drive
from beamkd.sim.street import Building, Street, Traffic, drive_traffic
from beamkd.sim.track import sense_track

__all__ = [
    "MATERIALS",
    "RAYS",
    "Boxes",
    "Building",
    "Chirps",
    "Paths",
    "Scatterers",
    "SimulatedDrive",
    "Street",
    "Traffic",
    "Walls",
    "beam_powers",
    "beat_signal",
    "cast_rays",
    "channel",
    "dft_codebook",
    "doppler_angle_map",
    "drive_traffic",
    "fresnel",
    "hardware_codebook",
    "lidar_scan",
    "permittivity",
    "planar_steering_vector",
    "range_angle_map",
    "range_doppler_map",
    "reflect",
    "sense_track",
    "simulate",
    "simulate_chunks",
    "simulate_drive",
    "steered_codebook",
    "steering_vector",
    "trace_paths",
]
