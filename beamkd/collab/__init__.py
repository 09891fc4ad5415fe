"""Collaborative learning: a centre and nodes that teach one another, by a strategy."""

from beamkd.collab.codecs import CODECS, Codec
from beamkd.collab.exchange import Exchange
from beamkd.collab.faults import Faults
from beamkd.collab.ledger import Ledger, Rates, Work, work_of
from beamkd.collab.messages import Message, pack, size_of, unpack
from beamkd.collab.nodes import (
    Federation,
    Group,
    Kind,
    Own,
    by_dirichlet,
    by_drive,
    by_place,
    by_segment,
    make_group,
    share_out,
)
from beamkd.collab.privacy import Noise
from beamkd.collab.strategies import STRATEGIES
from beamkd.collab.strategy import State, Strategy, UnlikeNodes, by_exchange, run_rounds

__all__ = [
    "CODECS",
    "STRATEGIES",
    "Codec",
    "Exchange",
    "Faults",
    "Federation",
    "Group",
    "Kind",
    "Ledger",
    "Message",
    "Noise",
    "Own",
    "Rates",
    "State",
    "Strategy",
    "UnlikeNodes",
    "Work",
    "by_dirichlet",
    "by_drive",
    "by_exchange",
    "by_place",
    "by_segment",
    "make_group",
    "pack",
    "run_rounds",
    "share_out",
    "size_of",
    "unpack",
    "work_of",
]
