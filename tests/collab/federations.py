"""Small federations for tests, and a network that compiles in no time."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from beamkd.base import Output
from beamkd.collab import Federation, by_drive, make_group, share_out
from beamkd.data import deal, initial_model, make_windows
from beamkd.sim import Street, simulate
from beamkd.training import FitConfig

SEEDS = 2


class Tiny(nn.Module):
    """A dense layer on each frame, and one on the mean of that."""

    beams: int = 64
    size: int = 3

    @nn.compact
    def __call__(self, frames, future=0, train=False, slots=None, axis_name=None):
        codes = nn.Dense(self.size)(frames)
        features = codes.mean(1)
        steps = frames.shape[1] + future if slots is None else slots
        logits = nn.Dense(self.beams)(features)
        return Output(jnp.broadcast_to(logits[:, None], (len(logits), steps, self.beams)), features, {"codes": codes})


@functools.cache
def dataset_of(drives=10, seeds=SEEDS):
    """Windows of a small street."""
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    return deal(keys, make_windows(simulate(jax.random.key(0), Street(), drives)))


@functools.cache
def _network(seeds, module, frames):
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    return initial_model(keys, module, {"lidar": frames})


def networks(dataset, nodes, size=3):
    """Networks with initial weights, [seeds, nodes, ...], all of a seed with the same ones."""
    module, spec = Tiny(beams=dataset.beams, size=size), dataset.spec(("lidar",))
    model = _network(len(dataset.split.train.mask), module, spec["lidar"])
    params = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[:, None], nodes, axis=1), model.params)
    return dataclasses.replace(model, params=params)


def federation_of(dataset, train=None, sizes=(3, 3), fit=FitConfig(epochs=4, batch_size=16), **options):
    """Nodes whose networks have these sizes, those of one size a group, each with its rows, [seeds, nodes, N]."""
    seeds = len(dataset.split.train.mask)
    if train is None:
        train = share_out(range(seeds), by_drive, dataset.windows, dataset.split.train, len(sizes))
    groups, first = [], 0
    for size in dict.fromkeys(sizes):
        count = sizes.count(size)
        own = jax.tree.map(lambda leaf, first=first, count=count: leaf[:, first : first + count], train)
        groups.append(make_group(dataset, networks(dataset, count, size), fit, own, dataset.split.val))
        first += count
    whole = jax.tree.map(lambda leaf: leaf[:, None], dataset.split.train)
    centre = make_group(dataset, networks(dataset, 1, sizes[0]), fit, whole, dataset.split.val)
    first_only = jax.tree.map(lambda leaf: leaf[:, 0], centre.model.params)
    centre = dataclasses.replace(centre, model=dataclasses.replace(centre.model, params=first_only))
    return Federation(tuple(groups), centre, **options)


def keys_of(seeds=SEEDS):
    """Of rounds."""
    return jax.vmap(jax.random.key)(100 + jnp.arange(seeds))


def leaves(tree):
    """All numbers of a pytree."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
