"""A student with learned maps of its layers to the shapes of its teacher's, for losses that compare them."""

from typing import Any

from flax import linen as nn

from beamkd.base import Array, Output
from beamkd.models.layers import Linear


class Matched(nn.Module):
    """A network whose layers go through linear maps, over steps and over features, where their shape is another.

    Its weights are the network's, under 'network', and the maps', which are of use in training alone.
    """

    network: nn.Module
    shapes: tuple[tuple[str, tuple[int, int]], ...]
    """(layer, (steps, size)) of the teacher."""

    @nn.compact
    def __call__(self, frames: Any, **options: Any) -> Output:
        """The network's output, with layers [B, steps, size] as the teacher has them; arguments as of the network."""
        output = self.network(frames, **options)
        mapped = {name: self._mapped(name, output.layers[name], *shape) for name, shape in self.shapes}
        return output.replace(layers={**output.layers, **mapped})

    def _mapped(self, name: str, values: Array, steps: int, size: int) -> Array:
        if values.shape[1] != steps:
            values = Linear(steps, name=f"{name}_steps")(values.swapaxes(1, 2)).swapaxes(1, 2)
        return values if values.shape[2] == size else Linear(size, name=f"{name}_size")(values)
