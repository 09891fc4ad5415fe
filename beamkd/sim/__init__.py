"""The world: street and traffic, arrays and codebooks, paths, channel and beam powers; LiDAR, radar, camera, GPS."""

from beamkd.sim.arrays import dft_codebook, planar_steering_vector, steered_codebook, steering_vector
from beamkd.sim.camera import Camera, camera_frame, motion_masks
from beamkd.sim.channel import beam_powers, channel
from beamkd.sim.family import Family
from beamkd.sim.geometry import Boxes, Walls
from beamkd.sim.gps import Receiver, gps_fixes
from beamkd.sim.lidar import RAYS, cast_rays, lidar_scan
from beamkd.sim.materials import MATERIALS, fresnel, permittivity
from beamkd.sim.paths import Paths, trace_paths
from beamkd.sim.radar import (
    Chirps,
    Scatterers,
    beat_signal,
    doppler_angle_map,
    doppler_angle_of,
    range_angle_map,
    range_angle_of,
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
    "Camera",
    "Chirps",
    "Family",
    "Paths",
    "Receiver",
    "Scatterers",
    "SimulatedDrive",
    "Street",
    "Traffic",
    "Walls",
    "beam_powers",
    "beat_signal",
    "camera_frame",
    "cast_rays",
    "channel",
    "dft_codebook",
    "doppler_angle_map",
    "doppler_angle_of",
    "drive_traffic",
    "fresnel",
    "gps_fixes",
    "hardware_codebook",
    "lidar_scan",
    "motion_masks",
    "permittivity",
    "planar_steering_vector",
    "range_angle_map",
    "range_angle_of",
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
