"""The centre's features in a growing number of principal components: a reconstruction of FAPD (arXiv 2603.20296).

The abstract says that a teacher's features are projected on principal components, that their number grows, and that it
does so once accuracy is stable. By which shares of the variance, and what stable means, is ours.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from beamkd.base import Array, Rows
from beamkd.collab.aggregate import mean
from beamkd.collab.exchange import Exchange, as_up_and_down
from beamkd.collab.learning import Learner, beginner, learn
from beamkd.collab.messages import Message
from beamkd.collab.nodes import Kind, Own, output_of
from beamkd.collab.strategies.answers import among, draw, of_each
from beamkd.collab.strategy import Strategy, by_exchange
from beamkd.losses import masked_mean
from beamkd.training import Task, supervised_task
from beamkd.training.batches import over_rows

SHARES = (0.5, 0.7, 0.85, 0.95)
"""Of the variance of the teacher's features, that are sent one after another."""

STABLE = 0.01
"""Accuracy is stable that has changed by less than a point, between the best and the worst of:"""

ROUNDS = 5

UNKNOWN = np.arange(-ROUNDS, 0, dtype=np.float32)
"""Accuracies of rounds that there were not yet: far apart."""

ROUNDING = 1e-6
"""Of a share of the variance."""


@struct.dataclass
class Pupil:
    """What a node has.

    Attributes:
      learner: its network, and a linear 'map' from its features to the teacher's.
      asked: windows of its own that it has asked about, B of them.
    """

    learner: Learner
    asked: Rows

    @property
    def params(self) -> Any:
        """Of its network."""
        return self.learner.params["network"]


@struct.dataclass
class Projector:
    """What the centre has.

    Attributes:
      params: of its network.
      mean: of the features over the windows that it has learned from, [D].
      components: principal ones, the first ahead, [D, D], over the mean deviation of a feature.
      counts: how many of them make each of the shares, [levels] int32.
      level: which of these is sent, int32.
      accuracy: of nodes in the last rounds at this level, mean over nodes, [ROUNDS]; see `UNKNOWN`.
      features: projected ones for each node, [nodes, B, D].
      known: whether there are any yet.
    """

    params: Any
    mean: Array
    components: Array
    counts: Array
    level: Array
    accuracy: Array
    features: Array
    known: Array

    @property
    def kept(self) -> Array:
        """How many components are sent."""
        return self.counts[self.level]


def progressive(nodes: int, features: int, windows: int = 256, epochs: int = 1, weight: float = 1.0) -> Strategy:
    """Nodes learn labels, and to foretell the first principal components of the features of a large network.

    The centre's network is one that has learned before, as in `central_kd`. Nodes say numbers of windows, and how
    accurate they are on their own.

    Args:
      nodes: how many.
      features: D, of the centre's network.
      windows: that a node asks about, in a round.
      epochs: on these, in a round.
      weight: of the squared error of the components, mean over those that are sent, against the labels.
    """

    def node(kind, key, own, mine, heard):
        size = output_of(kind, mine, own).features.shape[-1]
        linear = jax.random.normal(key, (size, features)) / jnp.sqrt(size)
        return Pupil(beginner(kind.fit, {"network": mine, "map": linear}), draw(key, own.train, windows))

    def centre(kind, key, own, mine, heard):
        middle, components, counts = principal(*_features(kind, mine, own, own.train))
        accuracy, told = jnp.asarray(UNKNOWN), jnp.zeros((nodes, windows, features))
        return Projector(mine, middle, components, counts, jnp.int32(0), accuracy, told, jnp.bool_(False))

    def tell(kind, key, own, mine, heard):
        kept, known = (jnp.broadcast_to(each, (nodes,)) for each in (mine.kept, mine.known))
        return {"features": mine.features, "kept": kept, "known": known}

    def work(kind, key, own, mine, heard):
        to_learn, to_draw = jax.random.split(key)
        task = foretelling_task(kind, weight)
        data = own.data, mine.asked, heard["features"], heard["kept"] * heard["known"]
        every = Rows(jnp.arange(windows), mine.asked.mask)
        learner = learn(task, mine.learner, to_learn, data, every, epochs)
        asked = draw(to_draw, own.train, windows)
        return Pupil(learner, asked), {"windows": asked, "accuracy": _accuracy(kind, learner.params["network"], own)}

    def answer(kind, key, own, mine, heard):
        said, active = heard

        def project(rows):
            return (_features(kind, mine.params, own, rows)[0] - mine.mean) @ mine.components

        now = jnp.where(active.any(), mean(said["accuracy"], active.astype(jnp.float32)), mine.accuracy[-1])
        accuracy = jnp.concatenate([mine.accuracy[1:], now[None]])
        stable = accuracy.max() - accuracy.min() < STABLE
        ahead = stable & (mine.level < len(SHARES) - 1)
        return mine.replace(
            level=mine.level + ahead,
            accuracy=jnp.where(ahead, UNKNOWN, accuracy),
            features=jax.lax.map(project, said["windows"]),
            known=active.any(),
        )

    return by_exchange("progressive", Exchange(node, centre, tell, work, answer, addressed=True, messages=_as_sent))


def principal(features: Array, mask: Array) -> tuple[Array, Array, Array]:
    """Principal components of features [N, D] where `mask` holds.

    Returns:
      Their mean [D]; the components [D, D], a column each, the first ahead, over the mean deviation of a feature; and
      how many of them have each of `SHARES` of the variance.
    """
    middle = masked_mean(features, mask, 0)
    apart = jnp.where(mask[:, None], features - middle, 0)
    covariance = jnp.matmul(apart.T, apart, precision="highest") / jnp.maximum(mask.sum() - 1, 1)
    variances, vectors = (found[..., ::-1] for found in jnp.linalg.eigh(covariance))
    shares = jnp.cumsum(variances) / variances.sum()
    counts = (shares[:, None] < jnp.array(SHARES) - ROUNDING).sum(0) + 1
    return middle, vectors / jnp.sqrt(variances.mean()), jnp.minimum(counts, len(middle))


def foretelling_task(kind: Kind, weight: float) -> Task:
    """Train a network and its map; data are windows, which of them [B], and their components [B, D] with how many."""
    on_labels = supervised_task(kind.forward, kind.take).loss

    def take(data, places):
        windows, rows, components, kept = data
        return kind.take(windows, among(rows, places)), components[places.index], kept

    def loss(params, batch, key, **axis):
        windows, components, kept = batch
        total, parts = on_labels(params["network"], windows, key, **axis)
        found = kind.forward(params["network"], windows, key, **axis).features @ params["map"]
        sent = jnp.arange(components.shape[-1]) < kept
        apart = jnp.where(sent, jnp.square(found - components), 0).sum(-1) / jnp.maximum(kept, 1)
        error = masked_mean(apart, windows.mask, **axis)
        return total + weight * error, parts | {"components": error}

    return Task(loss, take, kind.fit)


def _as_sent(told: Any, said: Sequence[Any], active: Sequence[Array]) -> tuple[Message, ...]:
    """What crosses: of features the components that are sent alone."""
    kept, hears = np.asarray(told["kept"])[:, 0], np.concatenate(active, axis=1)
    down = [
        Message("down", told | {"features": told["features"][..., :count]}, hears * (kept == count)[:, None])
        for count in np.unique(kept)
    ]
    return (*down, *as_up_and_down(None, said, active))


def _features(kind: Kind, params: Any, own: Own, rows: Rows) -> tuple[Array, Array]:
    """Of some windows [N], [N, D], and which there are."""
    return of_each(lambda batch: kind.forward(params, batch, None).features, kind, own, rows), rows.mask


def _accuracy(kind: Kind, params: Any, own: Own) -> Array:
    """Top-1 of a node on its own windows, mean over slots."""

    def hits(batch):
        logits, labelled = kind.forward(params, batch, None).logits, batch.labels >= 0
        return (labelled & (logits.argmax(-1) == batch.labels)).sum(), labelled.sum()

    right, all_ = (found.sum() for found in over_rows(hits, own.data, own.train, kind.take))
    return right / jnp.maximum(all_, 1)
