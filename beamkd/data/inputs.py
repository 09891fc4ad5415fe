"""What networks take of a batch: which sensors, which frames, in which units.

A sensor that networks take in other units than those of `Drives` has a line in `UNITS`; nothing else here knows one.
"""

import dataclasses
from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from beamkd.base import MISSING, Array, Batch, Forward, Model, Shared, as_taken, steps
from beamkd.models.network import network

METRES_PER_UNIT = 10.0
"""Networks take LiDAR ranges and positions in units of 10 m."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """How networks take a sensor that `Drives` has in another form.

    Attributes:
      taken: from the form of `Drives` to the networks'.
      stored: back.
    """

    taken: Callable[[Array], Array]
    stored: Callable[[Array], Array]


def _multiple(unit: float) -> Unit:
    """What is `unit` in `Drives` is 1 to networks."""
    return Unit(lambda values: values / unit, lambda values: values * unit)


def _unpacked(masks: Array) -> Array:
    """Masks [..., H, W] float32, 0 or 1, of bits [..., H, W / 8]; others as they are."""
    return jnp.unpackbits(masks, axis=-1).astype(jnp.float32) if masks.dtype == jnp.uint8 else masks


def _packed(masks: Array) -> Array:
    """Bits [..., H, W / 8] of masks that are yes or no; of others, which a generator may draw softly, no bits."""
    return jnp.packbits(masks, axis=-1) if masks.dtype == bool else masks


def _widened(maps: Array) -> Array:
    """Maps float32 of their upper halves; others as they are."""
    return jax.lax.bitcast_convert_type(maps, jnp.bfloat16).astype(jnp.float32) if maps.dtype == jnp.uint16 else maps


def _shortened(maps: Array) -> Array:
    """The bits of maps of type bfloat16, whole arrays of which XLA would widen to take a few; others as they are."""
    return jax.lax.bitcast_convert_type(maps, jnp.uint16) if maps.dtype == jnp.bfloat16 else maps


_METRES = _multiple(METRES_PER_UNIT)
_MAP = Unit(_widened, _shortened)

UNITS = {"lidar": _METRES, "gps": _METRES, "radar": _MAP, "doppler": _MAP, "masks": Unit(_unpacked, _packed)}
"""By sensor; those that are not here are taken as they are, as floating-point numbers. Maps are
stored as float32, or as their upper halves, uint16; motion masks as the bits of `numpy.packbits` along the last axis,
[F, H, W / 8] uint8."""

AS_STORED = _multiple(1.0)


def taken_by_networks(name: str, values: Array | Shared) -> Array | Shared:
    """A sensor's frames [..., F, ...] as networks take them, of those in the form of `Drives`."""
    taken = UNITS.get(name, AS_STORED).taken
    return values.replace(frames=taken(values.frames)) if isinstance(values, Shared) else taken(values)


def sensor_input(*names: str, frames: int | None = None) -> Callable[[Batch], Array | dict[str, Array]]:
    """What a network of these sensors takes from a batch.

    Args:
      *names: of the sensors.
      frames: only the last so many observed frames; all if None.

    Returns:
      inputs(batch) -> of one sensor an array [B, L, ...]; of several such arrays by name.
    """

    def inputs(batch):
        def seen(name):
            length = batch.sensors[name].shape[1]
            count = length if frames is None else min(frames, length)
            return taken_by_networks(name, steps(batch.sensors[name], length - count, count))

        return as_taken({name: seen(name) for name in names})

    return inputs


def sensor_batch(inputs: Array | Mapping[str, Array], future: int, name: str | None = None) -> Batch:
    """The inverse of `sensor_input`: a batch without labels.

    Args:
      inputs: as networks take them: of one sensor an array [B, L, ...]; of several such arrays by name. Masks of type
        bool and maps of type bfloat16 become bits, others stay numbers.
      future: J, slots ahead that are to be predicted.
      name: of the sensor, where there is one.
    """
    seen = inputs if name is None else {name: inputs}
    chex.assert_rank([*seen.values()], {3, 4, 5})
    chex.assert_equal_shape_prefix([*seen.values()], 1)
    count = len(next(iter(seen.values())))
    return Batch(
        sensors={name: UNITS.get(name, AS_STORED).stored(values) for name, values in seen.items()},
        labels=jnp.full((count, future + 1), MISSING),
        power=jnp.zeros((count, future + 1, 0)),
        mask=jnp.ones(count, bool),
    )


def forward_of(model: Model, predicted_only: bool = False) -> Forward:
    """A model as a function of batches that have its sensors, and as many frames as it takes or more.

    Args:
      model: of sensors; of its weights nothing is looked at.
      predicted_only: as in `beamkd.models.network`.
    """
    (frames,) = {shape[0] for shape in model.inputs.values()}
    return network(model.module, sensor_input(*model.inputs, frames=frames), predicted_only=predicted_only)


def initial_model(
    keys: Array, module: nn.Module, spec: Mapping[str, jax.ShapeDtypeStruct], frames: int | None = None
) -> Model:
    """A network of sensors with its initial weights.

    Args:
      keys: [members].
      module: the network.
      spec: of its sensors, as `Dataset.spec` gives them.
      frames: how many of the observed frames it is to see, the last ones; all if None.

    Returns:
      The model, with weights [members, ...].
    """
    shapes = {name: (frames or leaf.shape[0], *leaf.shape[1:]) for name, leaf in spec.items()}
    one = {name: jnp.zeros((1, 1, *shape[1:])) for name, shape in shapes.items()}  # weights do not depend on frames
    return Model(module, jax.jit(jax.vmap(lambda key: module.init(key, as_taken(one))))(keys), shapes)
