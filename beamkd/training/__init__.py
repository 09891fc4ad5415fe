"""Training, evaluation, checkpoints and devices."""

from beamkd.base import Stream
from beamkd.training import checkpoints
from beamkd.training.batches import all_rows, over_batches
from beamkd.training.devices import BATCH, fast_options, map_members
from beamkd.training.evaluate import (
    Scores,
    evaluate,
    flops,
    lower_on_cpu,
    mean_scores,
    measure,
    score_batch,
    sums_by_drive,
)
from beamkd.training.fit import FitConfig, FitState, Task, advance, fit, start, stopped
from beamkd.training.hosts import distributed, from_primary, is_primary, to_host
from beamkd.training.metrics import dba, power_loss_db, power_ratio, top_k
from beamkd.training.savings import (
    adaptive_sweep,
    beam_switches,
    beams_at_equal_power,
    beams_for,
    calibration_error,
    coverage_for,
    fit_temperature,
    fixed_sweeps,
    horizon,
    outage,
    spectral_efficiency,
    sweep_ratios,
    switched,
)
from beamkd.training.stream import epoch_of_stream, map_batches, start_stream
from beamkd.training.supervised import mean_over_labels, supervised_task
from beamkd.training.trainer import Trainer

__all__ = [
    "BATCH",
    "FitConfig",
    "FitState",
    "Scores",
    "Stream",
    "Task",
    "Trainer",
    "adaptive_sweep",
    "advance",
    "all_rows",
    "beam_switches",
    "beams_at_equal_power",
    "beams_for",
    "calibration_error",
    "checkpoints",
    "coverage_for",
    "dba",
    "distributed",
    "epoch_of_stream",
    "evaluate",
    "fast_options",
    "fit",
    "fit_temperature",
    "fixed_sweeps",
    "flops",
    "from_primary",
    "horizon",
    "is_primary",
    "lower_on_cpu",
    "map_batches",
    "map_members",
    "mean_over_labels",
    "mean_scores",
    "measure",
    "outage",
    "over_batches",
    "power_loss_db",
    "power_ratio",
    "score_batch",
    "spectral_efficiency",
    "start",
    "start_stream",
    "stopped",
    "sums_by_drive",
    "supervised_task",
    "sweep_ratios",
    "switched",
    "to_host",
    "top_k",
]
