"""What strategies have in common whose nodes answer on shared windows, and learn from what all have answered."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from beamkd.base import Array, Batch, Rows
from beamkd.collab.exchange import Exchange
from beamkd.collab.learning import Learner, learn
from beamkd.collab.messages import Message
from beamkd.collab.nodes import Kind, Own
from beamkd.collab.strategies.local import begin, on_own_windows
from beamkd.collab.strategy import Strategy, by_exchange
from beamkd.losses import cross_entropy, masked_mean
from beamkd.training import FitConfig, Task, mean_over_labels
from beamkd.training.batches import over_rows, shuffled
from beamkd.training.fit import where

Messages = Callable[[Any, Sequence[Any], Sequence[Array]], tuple[Message, ...]]

STEPS = 20
"""On answers in a round: about as many as FedMD's epoch on 5,000 windows. With 4, nodes hardly learned from one another
(BUILD_NOTES.md)."""


@struct.dataclass
class Consensus:
    """What the centre has.

    Attributes:
      asked: shared windows that nodes have answered on last, B of them.
      targets: what is made of that, [B, J + 1, M], or [nodes, B, J + 1, M].
      known: whether there are any yet.
      ask: windows that they are to answer on next.
    """

    asked: Rows
    targets: Array
    known: Array
    ask: Rows


@dataclasses.dataclass(frozen=True)
class Digest:
    """How a network learns from answers on some windows.

    Attributes:
      windows: B, how many are drawn for a round.
      loss: of logits and targets [..., M].
      epochs: on them, in a round.
      fit: how; the optimizer is that of the network's other training.
      alpha: weight of this loss against the labels; at 1 no label is looked at.
    """

    windows: int
    loss: Callable[[Array, Array], Array]
    epochs: int
    fit: FitConfig = FitConfig(batch_size=64, schedule="constant", l2=0.0)
    alpha: float = 1.0


def epochs_of(steps: int, windows: int) -> int:
    """Epochs on so many windows that are about so many steps, the more the fewer windows are asked about."""
    return max(1, round(steps / math.ceil(windows / Digest.fit.batch_size)))


def by_answers(
    name: str,
    digest: Digest,
    pool: Callable[[Array, Array], Array],
    epochs: int,
    nodes: int | None = None,
    messages: Messages | None = None,
) -> Strategy:
    """In each round nodes learn what was made of all answers, then from their own windows, and answer anew.

    Args:
      name: of the strategy.
      digest: how they learn from answers.
      pool: pool(logits [nodes, B, J + 1, M], active [nodes] bool) -> targets [B, J + 1, M]; or with `nodes` those of
        each of so many, [nodes, B, J + 1, M].
      epochs: on their own windows, in a round.
      nodes: see above.
      messages: as of `Exchange`.
    """

    def centre(kind, key, own, mine, heard):
        ask = draw(key, own.shared, digest.windows)
        (_, *shape) = jax.eval_shape(lambda: answers(kind, mine, own, ask)).shape
        targets = jnp.zeros((*([] if nodes is None else [nodes]), digest.windows, *shape))
        return Consensus(ask, targets, jnp.bool_(False), ask)

    def tell(kind, key, own, mine, heard):
        if nodes is None:
            return mine
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (nodes, *leaf.shape)), mine).replace(
            targets=mine.targets
        )

    def work(kind, key, own, mine, heard):
        to_digest, to_learn = jax.random.split(key)
        knowing = digested(kind, digest, mine, to_digest, own, heard.asked, heard.targets)
        mine = where(heard.known, knowing.replace(epoch=mine.epoch), mine)  # shared windows leave its schedule alone
        mine = on_own_windows(kind, mine, to_learn, own, epochs)
        return mine, {"logits": answers(kind, mine.params, own, heard.ask)}

    def hear(kind, key, own, mine, heard):
        said, active = heard
        targets = pool(said["logits"], active)
        return Consensus(mine.ask, targets, active.any(), draw(key, own.shared, digest.windows))

    return by_exchange(name, Exchange(begin, centre, tell, work, hear, addressed=nodes is not None, messages=messages))


def draw(key: Array, shared: Rows, count: int) -> Rows:
    """So many of the shared windows, or all if there are fewer; the rest is padding."""
    chosen = jax.tree.map(lambda leaf: leaf[:count], shuffled(key, shared))
    lacking = max(count - len(shared.mask), 0)
    return jax.tree.map(lambda leaf: jnp.pad(leaf, (0, lacking)), chosen)


def answers(kind: Kind, params: Any, own: Own, rows: Rows) -> Array:
    """A node's logits on shared windows [B], [B, J + 1, M]."""
    return of_each(lambda batch: kind.forward(params, batch, None).logits, kind, own, rows)


def of_each(function: Callable[[Batch], Any], kind: Kind, own: Own, rows: Rows) -> Any:
    """What `function` gives of batches [B, ...] of a node's windows [N], of each window, [N, ...]."""
    found = over_rows(function, own.data, rows, kind.take)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: len(rows.mask)], found)


def among(rows: Rows, places: Rows) -> Rows:
    """Of some rows those at some places, which may be padding."""
    return Rows(rows.index[places.index], rows.mask[places.index] & places.mask)


def taught(
    kind: Kind, digest: Digest, mine: Learner, key: Array, own: Own, rows: Rows, targets: Array, known: Array
) -> Learner:
    """A learner after training as `digested` does, or on labels alone as long as the targets are not `known`."""
    alone = on_own_windows(kind, mine, key, own, digest.epochs)
    return where(known, digested(kind, digest, mine, key, own, rows, targets), alone)


def digested(kind: Kind, digest: Digest, mine: Learner, key: Array, own: Own, rows: Rows, targets: Array) -> Learner:
    """A learner after training on targets [B, J + 1, M] of some windows [B]."""
    on_labels = mean_over_labels(cross_entropy)

    def take(data, places):
        windows, rows, targets = data
        return kind.take(windows, among(rows, places)), targets[places.index]

    def loss(params, batch, key, **axis):
        windows, targets = batch
        logits = kind.forward(params, windows, key, **axis).logits
        parts = {"answers": masked_mean(digest.loss(logits, targets), windows.mask, **axis)}
        if digest.alpha < 1:
            parts["labels"] = on_labels(logits, windows.labels, **axis)
        return digest.alpha * parts["answers"] + (1 - digest.alpha) * parts.get("labels", 0.0), parts

    every = Rows(jnp.arange(len(rows.mask)), rows.mask)
    return learn(Task(loss, take, digest.fit), mine, key, (own.data, rows, targets), every, digest.epochs)
