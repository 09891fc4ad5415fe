"""Training, evaluation, checkpoints and devices."""

from beamkd.training import checkpoints
from beamkd.training.batches import all_rows
from beamkd.training.devices import map_members, spread_batch
from beamkd.training.evaluate import evaluate, flops, measure, predict
from beamkd.training.fit import FitConfig, FitState, Task, advance, fit, start, stopped
from beamkd.training.hosts import fetch, from_first, is_first, joined
from beamkd.training.metrics import dba, power_loss_db, power_ratio, top_k
from beamkd.training.supervised import mean_over_labels, supervised_task

__all__ = [
    "FitConfig",
    "FitState",
    "Task",
    "advance",
    "all_rows",
    "checkpoints",
    "dba",
    "evaluate",
    "fetch",
    "fit",
    "flops",
    "from_first",
    "is_first",
    "joined",
    "map_members",
    "mean_over_labels",
    "measure",
    "power_loss_db",
    "power_ratio",
    "predict",
    "spread_batch",
    "start",
    "stopped",
    "supervised_task",
    "top_k",
]
