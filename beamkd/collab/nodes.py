"""Nodes: whose windows are whose, groups of nodes that are alike, and how all of them compute at once."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.extend.core import ClosedJaxpr

from beamkd.base import Array, Batch, Forward, InputError, Model, Output, Rows, Windows, cached_method
from beamkd.collab.codecs import CODECS, Codec
from beamkd.collab.faults import Faults
from beamkd.collab.messages import Message
from beamkd.collab.privacy import Noise
from beamkd.data import Dataset, forward_of
from beamkd.models.layers import as_convolutions
from beamkd.training import FitConfig, map_members, to_host


@struct.dataclass
class Own:
    """The arrays that a node has, or the centre.

    Attributes:
      data: windows with the sensors of its network, all that there are.
      train: which of them are its own, to learn from.
      shared: which of them all nodes and the centre have, without labels.
    """

    data: Any
    train: Rows
    shared: Rows


PLACES = Own(data=None, train=0, shared=0)
"""Which of these have an axis of nodes."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What nodes that are alike have in common, apart from arrays.

    Attributes:
      forward: their network.
      take: take(data, rows) -> batch.
      fit: how they learn; `epochs` is how long the schedule of the learning rate is, over all rounds.
      spec: of their sensors, as `Dataset.spec` gives them.
      observed: L.
      future: J.
    """

    forward: Forward
    take: Callable[[Any, Rows], Batch]
    fit: FitConfig
    spec: Mapping[str, jax.ShapeDtypeStruct]
    observed: int
    future: int


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Nodes that are alike, for several seeds.

    Attributes:
      model: their network with initial weights, [seeds, nodes, ...].
      kind: what they have in common.
      own: what each has; its rows [seeds, nodes, N].
    """

    model: Model
    kind: Kind
    own: Own

    @property
    def size(self) -> int:
        """Number of nodes."""
        return self.own.train.mask.shape[1]

    def traced(self, function: Callable, mine: Any, heard: Any) -> tuple[ClosedJaxpr, Any]:
        """The program of `function`, as `Federation.at_nodes` has it, at one node, and shapes of what it gives.

        It is that of an accelerator, for the formulas' operations are to be counted in it (`as_convolutions`).
        """
        own = inner(self.own.replace(data=None), 2).replace(data=inner(self.own.data, 0))
        call = functools.partial(function, self.kind, jax.random.key(0))
        with as_convolutions():
            return jax.make_jaxpr(call, return_shape=True)(own, mine, heard)


@dataclasses.dataclass(frozen=True, eq=False)
class Federation:
    """Nodes in groups, and a centre; for several seeds at once.

    Nodes are numbered from 0, one group after the other.

    Attributes:
      groups: of nodes.
      centre: the same of the centre, as one node.
      over_members: as `beamkd.training.map_members` on some devices; its members are nodes and seeds.
      faults: what goes wrong; None: nothing does.
      codec: how messages are written.
      noise: what hides nodes' data in what they say; None: nothing does.
    """

    groups: tuple[Group, ...]
    centre: Group
    over_members: Callable = map_members
    faults: Faults | None = None
    codec: Codec = CODECS["float32"]
    noise: Noise | None = None

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.centre.own.train.mask)

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return sum(group.size for group in self.groups)

    @property
    def firsts(self) -> list[int]:
        """Number of each group's first node."""
        return np.cumsum([0, *(group.size for group in self.groups[:-1])]).tolist()

    def keys(self, keys: Array, number: int) -> Array:
        """A key of each node of a group, [seeds, nodes], of keys [seeds]."""
        return split(folded(keys, number), self.groups[number].size)

    def alone(self, node: int) -> "Federation":
        """The same with a single node."""
        number = max(n for n, first in enumerate(self.firsts) if first <= node)
        group, place = self.groups[number], node - self.firsts[number]

        def own(tree):
            return jax.tree.map(lambda leaf: np.asarray(leaf)[:, place : place + 1], tree)

        rows = group.own.replace(train=own(group.own.train), shared=own(group.own.shared))
        model = dataclasses.replace(group.model, params=own(group.model.params))
        return dataclasses.replace(self, groups=(Group(model, group.kind, rows),))

    def hidden(self, keys: Array, says: Any) -> Any:
        """What a group's nodes say, [seeds, nodes, ...], after the noise; keys [seeds, nodes]."""
        if self.noise is None or not jax.tree.leaves(says):
            return says
        return _over_axes(self.noise.added, 2)(keys, says)

    def crossed(self, arrays: Any, axes: int) -> Any:
        """Messages as they arrive; so many axes in front tell them apart."""
        return _over_axes(self.codec.crossed, axes)(arrays) if jax.tree.leaves(arrays) else arrays

    def written(self, arrays: Any, axes: int) -> Any:
        """Messages as they cross."""
        return _over_axes(self.codec.sent, axes)(arrays) if jax.tree.leaves(arrays) else arrays

    def read(self, written: Any, like: Any) -> Any:
        """Those of seeds, [seeds, ...], as they arrive; `like` has the shapes of one."""
        return jax.vmap(lambda one: self.codec.arriving(one, like))(written) if jax.tree.leaves(like) else written

    def sent(self, message: Message) -> Message:
        """A message as it crosses."""
        return dataclasses.replace(message, arrays=self.written(message.arrays, 2))

    def output(self, number: int | None = None) -> Output:
        """Shapes of what a network gives for all of its windows: a node's of a group, or the centre's if None."""
        group, axes = (self.centre, 1) if number is None else (self.groups[number], 2)

        def out(kind, key, own, mine, heard):
            return kind.forward(mine, kind.take(own.data, own.train), None)

        return group.traced(out, inner(group.model.params, axes), None)[1]

    def by_group(self, each: Array) -> list[Array]:
        """What each node has, [seeds, nodes, ...], of each group."""
        return np.split(np.asarray(each), self.firsts[1:], axis=1)

    @cached_method  # a process has no room for the programs of all federations of a study
    def at_nodes(self, function: Callable, number: int, addressed: bool = False) -> Callable:
        """`function` at all nodes of a group.

        Args:
          function: function(kind, key, own, mine, heard) -> results, of one node: `mine` is what it has besides its
            own data, `heard` what it is told.
          number: of the group.
          addressed: whether each node is told something else.

        Returns:
          A function of keys [seeds, nodes], mine [seeds, nodes, ...] and heard [seeds, ...], or [seeds, nodes, ...] if
          it is addressed, nodes being those of all groups; with results [seeds, nodes, ...].
        """
        return self._mapped(function, self.groups[number], self.firsts[number] if addressed else None)

    @cached_method
    def at_centre(self, function: Callable) -> Callable:
        """The same at the centre: of keys [seeds], mine [seeds, ...] and heard [seeds, ...]; results [seeds, ...]."""
        mapped = self._mapped(function, self.centre, None)

        def call(keys, mine, heard):
            found = mapped(split(keys, 1), jax.tree.map(lambda leaf: leaf[:, None], mine), heard)
            return jax.tree.map(lambda leaf: leaf[:, 0], found)

        return call

    def _mapped(self, function: Callable, group: Group, first: int | None) -> Callable:
        """`function` at all nodes of a group; with a `first` number each hears what is for it."""
        seeds, size = self.seeds, group.size

        def member(place, key, own, mine, heard):
            index = (place // size,) if first is None else (place // size, first + place % size)
            return function(group.kind, key, own, mine, jax.tree.map(lambda leaf: leaf[index], heard))

        def flat(tree):
            return jax.tree.map(lambda leaf: leaf.reshape(seeds * size, *leaf.shape[2:]), tree)

        over = self.over_members(member, (0, 0, PLACES, 0, None))
        rows = jax.tree.map(jnp.asarray, {"train": flat(group.own.train), "shared": flat(group.own.shared)})
        own = group.own.replace(**rows)

        def call(keys, mine, heard):
            # On the host, for devices would wait for one another in whatever is done next with their shares.
            found = to_host(over(jnp.arange(seeds * size), keys.reshape(-1), own, flat(mine), heard))
            return jax.tree.map(lambda leaf: leaf.reshape(seeds, size, *leaf.shape[1:]), found)

        return call


def inner(tree: Any, axes: int) -> Any:
    """Shapes of arrays without so many axes in front."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[axes:], leaf.dtype), tree)


@functools.partial(jax.jit, static_argnums=1)
def split(keys: Array, count: int) -> Array:
    """So many keys of each, [seeds, count]."""
    return jax.vmap(lambda key: jax.random.split(key, count))(keys)


@jax.jit
def folded(keys: Array, number: int) -> Array:
    """A key of each for a purpose by its number, [seeds]."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


@functools.lru_cache  # or each round would compile it
def _over_axes(function: Callable, axes: int) -> Callable:
    """`function` of arrays with so many axes in front."""
    for _ in range(axes):
        function = jax.vmap(function)
    return jax.jit(function)


def make_group(dataset: Dataset, model: Model, fit: FitConfig, train: Rows, shared: Rows) -> Group:
    """A group of nodes.

    Args:
      dataset: windows with the sensors of its network.
      model: the network with initial weights, [seeds, nodes, ...].
      fit: how its nodes learn.
      train: rows of each node, [seeds, nodes, N].
      shared: rows that all have, [seeds, N'].
    """
    size = train.mask.shape[1]
    shared = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[:, None], size, axis=1), shared)
    spec = dataset.spec(tuple(model.inputs))
    kind = Kind(forward_of(model, predicted_only=True), dataset.take, fit, spec, dataset.observed, dataset.future)
    return Group(model, kind, Own(dataset.source(model.inputs), train, shared))


def output_of(kind: Kind, params: Any, own: Own) -> Output:
    """Shapes of what a node's network gives for its own windows, all at once."""
    return jax.eval_shape(lambda: kind.forward(params, kind.take(own.data, own.train), None))


Partition = Callable[[np.random.Generator, Windows, np.ndarray, int], np.ndarray]
"""partition(rng, windows, rows [N], nodes) -> owners [N]: which node has each of some windows of a dataset."""


def by_drive(rng: np.random.Generator, windows: Windows, rows: np.ndarray, nodes: int) -> np.ndarray:
    """Each node has drives of its own, dealt out at random."""
    numbers, place = np.unique(np.asarray(windows.drive)[rows], return_inverse=True)
    if len(numbers) < nodes:
        raise InputError(f"--nodes: expected at most the {len(numbers)} drives, found {nodes}")
    return (rng.permutation(len(numbers)) % nodes)[place]


def by_place(place: np.ndarray) -> Partition:
    """Nodes take places in turn, and each has drives of its own place, dealt out at random.

    Args:
      place: of each drive by its number, whole numbers from 0.

    Raises:
      InputError: there is one place alone, or there are fewer nodes than places.
    """
    places = int(place.max()) + 1
    if places < 2:
        raise InputError("--partition place: expected several folders, or --stations, found a single place")

    def partition(rng, windows, rows, nodes):
        if nodes < places:
            raise InputError(f"--nodes: expected {places} or more, as many as there are places, found {nodes}")
        here, owners = place[np.asarray(windows.drive)[rows]], np.zeros(len(rows), int)
        for number in range(places):
            own = np.flatnonzero(here == number)
            own_nodes = np.arange(number, nodes, places)
            owners[own] = own_nodes[by_drive(rng, windows, rows[own], len(own_nodes))] if len(own) else 0
        return owners

    return partition


def by_segment(rng: np.random.Generator, windows: Windows, rows: np.ndarray, nodes: int) -> np.ndarray:
    """Each node has a part of the road: windows whose best beam now is among some neighbours, as many to each node."""
    beams = _beams(windows, rows)
    edges = np.quantile(beams, np.arange(1, nodes) / nodes, method="inverted_cdf")
    return np.searchsorted(edges, beams, side="left")


def by_dirichlet(alpha: float) -> Partition:
    """Each beam's windows are shared out by a draw of Dirichlet(α): the less α, the fewer beams a node has.

    The usual measure of unequal data (Hsu et al., arXiv 1909.06335).

    Raises:
      InputError: α is not a finite number of more than 0.
    """
    if not 0 < alpha < float("inf"):
        raise InputError(f"--alpha-dirichlet: expected a finite number of more than 0, found {alpha}")

    def partition(rng, windows, rows, nodes):
        beams, owners = _beams(windows, rows), np.zeros(len(rows), int)
        for beam in np.unique(beams):
            chosen = rng.permutation(np.flatnonzero(beams == beam))
            shares = rng.dirichlet(np.full(nodes, alpha))
            owners[chosen] = np.searchsorted(np.cumsum(shares)[:-1], (np.arange(len(chosen)) + 0.5) / len(chosen))
        return owners

    return partition


def _beams(windows: Windows, rows: np.ndarray) -> np.ndarray:
    """Best beams in the current slots of some windows."""
    frames = np.asarray(windows.predicted)[rows, 0]
    return np.asarray(windows.frames.power)[frames].argmax(-1)


def share_out(seeds: Sequence[int], partition: Partition, windows: Windows, rows: Rows, nodes: int) -> Rows:
    """Rows of each seed's nodes, [seeds, nodes, N], of those [seeds, N'] that are to be shared out.

    Args:
      seeds: a number for each, of what is drawn.
      partition: how.
      windows: of a dataset.
      rows: [seeds, N'].
      nodes: how many.

    Raises:
      InputError: a node would be without windows.
    """
    if nodes < 1:
        raise InputError(f"--nodes: expected 1 or more, found {nodes}")
    index, mask = np.asarray(rows.index), np.asarray(rows.mask)
    parts = []
    for seed, own, there in zip(seeds, index, mask, strict=True):
        chosen = own[there]
        owners = partition(np.random.default_rng(seed), windows, chosen, nodes)
        parts.append([chosen[owners == node] for node in range(nodes)])
        without = [node for node, part in enumerate(parts[-1]) if len(part) == 0]
        if without:
            raise InputError(f"--nodes: expected windows for each of {nodes}, found none for number {without[0]}")
    longest = max(len(part) for nodes_ in parts for part in nodes_)

    def padded(values):
        return np.stack([np.stack([np.pad(v, (0, longest - len(v))) for v in one]) for one in values])

    masks = [[np.ones(len(part), bool) for part in one] for one in parts]
    return Rows(padded(parts).astype(np.int32), padded(masks))
