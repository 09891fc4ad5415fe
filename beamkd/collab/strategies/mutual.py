"""Neighbours learn from one another, without a centre or by way of servers at the edge.

Deep mutual learning is of Zhang et al., CVPR 2018. A node's loss there is cross-entropy and the mean over its peers j
of KL(p_j ‖ p_i); what of that depends on p_i is the cross-entropy with the mean of their probabilities.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from beamkd.base import InputError
from beamkd.collab.aggregate import counted
from beamkd.collab.messages import Message
from beamkd.collab.strategies.answers import STEPS, Digest, by_answers, epochs_of
from beamkd.collab.strategy import Strategy
from beamkd.losses import soft_cross_entropy


def ring(nodes: int) -> np.ndarray:
    """Each node's neighbours are the one before and the one behind it, [nodes, nodes] bool."""
    place = np.arange(nodes)
    apart = (place[:, None] - place) % nodes
    return ((apart == 1) | (apart == nodes - 1)) & (apart != 0)


def complete(nodes: int) -> np.ndarray:
    """All are neighbours of all."""
    return ~np.eye(nodes, dtype=bool)


def random_graph(nodes: int, seed: int = 0, share: float = 0.3) -> np.ndarray:
    """A ring, and of other pairs a share drawn at random."""
    drawn = np.triu(np.random.default_rng(seed).random((nodes, nodes)) < share, 1)
    return ring(nodes) | drawn | drawn.T


def checked(graph: np.ndarray) -> np.ndarray:
    """The graph, bool, if neighbours can reach all.

    Raises:
      InputError: it is not a square matrix, not symmetric, or not connected.
    """
    graph = np.asarray(graph)
    if graph.ndim != 2 or graph.shape[0] != graph.shape[1]:
        raise InputError(f"adjacency matrix: expected nodes x nodes, found {' x '.join(map(str, graph.shape))}")
    graph = graph.astype(bool) & ~np.eye(len(graph), dtype=bool)
    if not (graph == graph.T).all():
        row, column = np.argwhere(graph != graph.T)[0]
        raise InputError(f"adjacency matrix: expected a symmetric one, found {row} and {column} unequal")
    reached = np.linalg.matrix_power(graph.astype(float) + np.eye(len(graph)), len(graph)) > 0
    if not reached.all():
        alone = np.flatnonzero(~reached[0])[0]
        raise InputError(f"adjacency matrix: expected a connected graph, found no way from node 0 to {alone}")
    return graph


def mutual(graph: np.ndarray, windows: int = 256, epochs: int = 1, steps: int = STEPS) -> Strategy:
    """Each node learns from its neighbours' answers on shared windows, then from its own windows.

    Args:
      graph: which nodes are neighbours, [nodes, nodes]; `ring`, `complete`, `random_graph`, or another.
      windows: shared ones, in a round.
      epochs: on own windows, in a round.
      steps: on the answers, in a round.

    Raises:
      InputError: see `checked`.
    """
    graph = checked(graph)

    def pool(logits, active):
        near = graph & active
        share = near / jnp.maximum(near.sum(1, keepdims=True), 1)
        return jnp.tensordot(share, counted(jax.nn.softmax(logits), active), 1, precision="highest")

    return by_answers(
        "mutual",
        Digest(windows, soft_cross_entropy, epochs_of(steps, windows)),
        pool,
        epochs,
        nodes=len(graph),
        messages=functools.partial(_between, graph),
    )


def _between(graph: np.ndarray, told, said, active) -> tuple[Message, ...]:
    """Each active node's answers to its active neighbours."""
    active = jnp.concatenate(active, axis=1)
    receivers = jnp.where(active, (graph & active[:, None]).sum(-1), 0)
    answers = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), *said)
    return (Message("between", answers, receivers),)


def edges_of(nodes: int, servers: int = 3) -> tuple[int, ...]:
    """The server of each node, where neighbours share one, and each has about as many."""
    return tuple(node * min(servers, nodes) // nodes for node in range(nodes))


def hierarchical(edges: tuple[int, ...], windows: int = 256, epochs: int = 1, steps: int = STEPS) -> Strategy:
    """Nodes learn from the mean of all answers; servers at the edge gather these and hand on the mean of theirs.

    Args:
      edges: the server of each node, from 0.
      windows: shared ones, in a round.
      epochs: on own windows, in a round.
      steps: on the answers, in a round.

    Raises:
      InputError: a server without nodes.
    """
    servers = max(edges) + 1
    lacking = sorted(set(range(servers)) - set(edges))
    if lacking:
        raise InputError(f"edges: expected nodes for each of {servers} servers, found none for {lacking[0]}")
    belongs = np.asarray(edges) == np.arange(servers)[:, None]  # [servers, nodes]

    def pool(logits, active):
        near = belongs & active
        share = near / jnp.maximum(near.sum(1, keepdims=True), 1)
        at_edges = jnp.tensordot(share, counted(jax.nn.softmax(logits), active), 1, precision="highest")
        there = near.any(1)
        return jnp.tensordot(there / jnp.maximum(there.sum(), 1), at_edges, 1, precision="highest")

    return by_answers(
        "hierarchical",
        Digest(windows, soft_cross_entropy, epochs_of(steps, windows)),
        pool,
        epochs,
        messages=functools.partial(_by_way_of_edges, belongs),
    )


def _by_way_of_edges(belongs: np.ndarray, told, said, active) -> tuple[Message, ...]:
    """Nodes to servers, these to the centre, and the way back."""
    active = jnp.concatenate(active, axis=1)
    answers = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), *said)
    there = (belongs & active[:, None]).any(-1).astype(int)  # [seeds, servers]
    one = jax.tree.map(lambda leaf: leaf[:, :1], answers)  # of one shape at both levels
    at_edges = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(belongs), axis=1), one)
    down = jax.tree.map(lambda leaf: leaf[:, None], told)
    return (
        Message("up", answers, active.astype(int)),
        Message("edge up", at_edges, there),
        Message("edge down", down, there.sum(1, keepdims=True)),
        Message("down", down, active.sum(1, keepdims=True)),
    )
