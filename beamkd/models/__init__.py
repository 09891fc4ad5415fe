"""Flax modules: beam-tracking networks, generators; weights in and out."""

from beamkd.models.baselines import (
    NearestNeighbours,
    OccupancyCnn,
    PositionNetwork,
    PositionTable,
    RadarLeNet,
    fit_neighbours,
    fit_table,
)
from beamkd.models.camera import CollaborativeStudent, CollaborativeTeacher, LongTermStudent, LongTermTeacher
from beamkd.models.encoders import ENCODERS
from beamkd.models.failures import FAILURES, Failing, failing
from beamkd.models.generator import Generator
from beamkd.models.layers import Conv1d, Gru, Linear, count_weights, encode_frames
from beamkd.models.lidar import CnnGruTeacher, GruStudent, GruTeacher, PatchStudent
from beamkd.models.maps import Conv2d
from beamkd.models.matched import Matched
from beamkd.models.network import network
from beamkd.models.published import load_published, published_model
from beamkd.models.saved import load_network, save_network
from beamkd.models.scene import SceneGenerator
from beamkd.models.streaming import Streaming, StreamState, streaming
from beamkd.models.tracker import SensorStudent, SensorTeacher

__all__ = [
    "ENCODERS",
    "FAILURES",
    "CnnGruTeacher",
    "CollaborativeStudent",
    "CollaborativeTeacher",
    "Conv1d",
    "Conv2d",
    "Failing",
    "Generator",
    "Gru",
    "GruStudent",
    "GruTeacher",
    "Linear",
    "LongTermStudent",
    "LongTermTeacher",
    "Matched",
    "NearestNeighbours",
    "OccupancyCnn",
    "PatchStudent",
    "PositionNetwork",
    "PositionTable",
    "RadarLeNet",
    "SceneGenerator",
    "SensorStudent",
    "SensorTeacher",
    "StreamState",
    "Streaming",
    "count_weights",
    "encode_frames",
    "failing",
    "fit_neighbours",
    "fit_table",
    "load_network",
    "load_published",
    "network",
    "published_model",
    "save_network",
    "streaming",
]
