"""Simulated drives: traffic, then beam powers and what sensors see in each frame, as one compiled program."""

import functools
from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from beamkd.base import Array, Drives, InputError, named_keys
from beamkd.sim import camera, gps, lidar, radar
from beamkd.sim.arrays import steered_codebook
from beamkd.sim.channel import beam_powers, channel
from beamkd.sim.paths import CARRIER, LIGHT, Paths, trace_paths
from beamkd.sim.street import Street, Traffic, drive_traffic, smooth, smooth_draws

CHUNK = 64
"""Drives that a device simulates at once: memory stays bounded and one compilation serves any number of drives. With
another number XLA rounds differently."""

SENSORS = {
    "lidar": lidar.observe,
    "radar": functools.partial(radar.observe, radar.range_angle_of),
    "doppler": functools.partial(radar.observe, radar.doppler_angle_of),
    "camera": camera.observe,
    "gps": gps.observe,
}
"""Sensors by name: observe(key, traffic, street) -> [T, ...]."""

DRAWS_AS = {"doppler": "radar"}
"""Sensors that see the same reflections as another, and so draw from its key."""

DEVICES = "devices"
"""The axis of a mesh of devices."""


@struct.dataclass
class SimulatedDrive:
    """One drive, padded to T = max_frames.

    Attributes:
      sensors: what was sensed, by name, [T, ...].
      power: [T, M] float32, linear, in units of a perfect beam's power at the middle of the lane.
      traffic: where everything truly is, and how many frames are the drive's.
    """

    sensors: Mapping[str, Array]
    power: Array
    traffic: Traffic


def simulate(
    key: Array, street: Street, drives: int, sensors: Sequence[str] = ("lidar",), devices: int | None = None
) -> Drives:
    """Drives along a street: what sensors see, beam powers and positions.

    Drive i depends on the key and i alone, not on how many are asked for, nor on how many devices simulate them. A
    sensor draws from a key of its own, so that one more changes nothing of the others.

    Args:
      key: PRNG key.
      street: the street; or one for each drive, with numbers [drives], as `Family.streets` draws them.
      drives: how many.
      sensors: names: 'lidar', scans [F, 216] float32, m; 'radar', range-angle maps [F, 256, 64] float32; 'doppler',
        Doppler-angle maps [F, 128, 64] float32; 'camera', gray frames [F, 224, 224] uint8; 'gps', what a receiver
        says, [F, 2] float32, m.
      devices: how many of this process's devices may take part; all if None.

    Returns:
      The drives, numbered from 1.

    Raises:
      InputError: drives < 1, an unknown sensor, devices not from 1 to as many as there are, or too few streets.
    """
    pieces = list(simulate_chunks(key, street, drives, sensors, devices))
    return jax.device_put(jax.tree.map(lambda *parts: np.concatenate(parts), *pieces))


def simulate_chunks(
    key: Array, street: Street, drives: int, sensors: Sequence[str] = ("lidar",), devices: int | None = None
) -> Iterator[Drives]:
    """The drives of `simulate` as NumPy arrays, `CHUNK` of each device at a time.

    `beamkd.data.store_drives` takes any number of them. Of several processes each simulates all drives.
    """
    if drives < 1:
        raise InputError(f"drives: expected at least 1, found {drives}")
    if isinstance(sensors, str) or not set(sensors) <= set(SENSORS):
        raise InputError(f"sensors: expected names out of {sorted(SENSORS)}, found {sensors!r}")
    alone = not np.ndim(street.lane)
    if not alone and len(street.lane) != drives:
        raise InputError(f"street: expected one, or one for each of {drives} drives, found {len(street.lane)}")
    mesh = _mesh(devices, chunks=-(-drives // CHUNK))
    key = jax.device_put(key, NamedSharding(mesh, PartitionSpec()))
    for first in range(0, drives, mesh.size * CHUNK):
        firsts = first + CHUNK * np.arange(mesh.size)
        numbers = np.minimum(first + np.arange(mesh.size * CHUNK), drives - 1)
        each = None if alone else jax.tree.map(lambda leaf: np.asarray(leaf)[numbers], street)  # noqa: B023
        common, names = street if alone else None, tuple(sorted(set(sensors)))
        simulated = _simulate_chunks(key, firsts, each, common, names, mesh)
        seen, power, position, frames = jax.tree.map(np.asarray, simulated)
        frames = frames[: drives - first]
        keep = np.arange(street.max_frames) < frames[:, None]  # [drives of this piece, T]
        number, slot = np.nonzero(keep)
        seen, power, position = jax.tree.map(lambda padded: padded[: len(frames)][keep], (seen, power, position))  # noqa: B023
        number, slot = (first + 1 + number).astype(np.int32), slot.astype(np.int32)
        yield Drives(sensors=seen, power=power, position=position, drive=number, slot=slot)


def _mesh(devices: int | None, chunks: int) -> Mesh:
    """The devices of this process that take part: no more than there are chunks."""
    present = jax.local_devices()
    devices = len(present) if devices is None else devices
    if not 1 <= devices <= len(present):
        raise InputError(f"devices: expected 1 to {len(present)}, found {devices}")
    return Mesh(np.array(present[: min(devices, chunks)]), (DEVICES,), axis_types=(AxisType.Auto,))


@functools.partial(jax.jit, static_argnames=("common", "sensors", "mesh"))
def _simulate_chunks(
    key: Array, firsts: Array, each: Street | None, common: Street | None, sensors: tuple[str, ...], mesh: Mesh
) -> tuple[dict[str, Array], Array, Array, Array]:
    """CHUNK drives on each device, padded: sensors, power, recorded position, and the drives' lengths.

    `firsts` [devices] has the number of each device's first drive; `each`, with numbers [devices * CHUNK], has the
    street of each drive, unless there is a `common` one. A device's program is the same however many there
    are, and so is its rounding, as long as XLA has no function of constants to compute ahead (see `lidar`).
    """

    def chunk(key, first, each):
        def one(number, street):
            drive = simulate_drive(jax.random.fold_in(key, number), street or common, sensors, number)
            return drive.sensors, drive.power, drive.traffic.recorded, drive.traffic.frames

        return jax.vmap(one)(first + jnp.arange(CHUNK), each)

    shared, own = PartitionSpec(), PartitionSpec(DEVICES)
    specs = {"in_specs": (shared, own, own), "out_specs": own}
    return jax.shard_map(chunk, mesh=mesh, **specs, check_vma=False)(key, firsts, each)


def simulate_drive(
    key: Array, street: Street, sensors: Sequence[str] = ("lidar",), number: Array | int = 0
) -> SimulatedDrive:
    """One drive along a street; `jit` (street and sensors static) and `vmap` over keys as you like.

    Args:
      key: PRNG key.
      street: the street.
      sensors: names out of `SENSORS`.
      number: of the drive, from 0, for what drifts.

    Returns:
      The drive, padded to `street.max_frames`.
    """
    traffic_key, power_key, lidar_key = jax.random.split(key, 3)
    traffic = drive_traffic(traffic_key, street, number)
    others = jax.tree.map(lambda x: x[:, 1:], traffic.vehicles)
    trace = jax.vmap(trace_paths, (0, 0, None, 0, None))
    paths = trace(traffic.antenna, others, street.walls, traffic.velocity, traffic.other_velocity)
    power = _measured_power(power_key, paths, street)

    keys = {name: lidar_key if name == "lidar" else named_keys(key, DRAWS_AS.get(name, name)) for name in sensors}
    return SimulatedDrive({name: SENSORS[name](keys[name], traffic, street) for name in sensors}, power, traffic)


def hardware_codebook(street: Street) -> Array:
    """The codebook that the base station really radiates: steered beams, set in few bits and with errors.

    Neighbouring beams then share many settings, and some are the best one over a wider sector than others. Beams are
    numbered like the testbed's, against the azimuth: the first looks to the left, towards +y.

    Args:
      street: the street, whose hardware this is.

    Returns:
      [M, N] complex64, rows of unit norm but for the gain ripple.
    """
    errors = jax.random.normal(jax.random.key(street.hardware_seed), (street.beams, street.antennas + 1))
    codebook = steered_codebook(street.beams, street.antennas, np.deg2rad(street.sector))
    phase = jnp.angle(codebook[::-1])
    if street.phase_bits:
        setting = 2 * jnp.pi / 2**street.phase_bits
        phase = setting * jnp.round(phase / setting)
    phase = phase - jnp.deg2rad(street.phase_error) * errors[:, 1:]
    gain = 10 ** (street.gain_ripple * errors[:, :1] / 20)
    return gain / jnp.sqrt(street.antennas) * jnp.exp(1j * phase)


def _measured_power(key: Array, paths: Paths, street: Street) -> Array:
    """[T, M] powers as the receiver reports them, of paths [T, P]."""
    # In units of a perfect beam's power at the middle of the lane.
    unit = street.antennas * (LIGHT / CARRIER / (4 * jnp.pi * street.lane)) ** 2
    azimuth = paths.azimuth - jnp.deg2rad(street.boresight)
    pattern = jnp.maximum(jnp.cos(azimuth), 0.0) ** (street.element_exponent / 2)
    paths = paths.replace(azimuth=azimuth, amplitude=paths.amplitude * pattern / jnp.sqrt(unit))
    spacing = street.bandwidth / street.subcarriers
    response = channel(paths, street.antennas, street.subcarriers, spacing)
    count, slots = smooth_draws(street.max_frames, street.fading_slots), street.max_frames
    draws = jax.random.normal(key, (count + slots * street.beams,))  # one draw compiles faster than two
    fading = street.fading * smooth(draws[:count], slots, street.fading_slots)
    signal = beam_powers(response, hardware_codebook(street)) * 10 ** (fading[:, None] / 10)
    noise = street.measurement_noise * draws[count:].reshape(signal.shape)
    return (signal + 10 ** (street.noise_floor / 10)) * 10 ** (noise / 10)
