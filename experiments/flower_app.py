"""What Flower runs of `experiments.collaborative --engine flower`: the centre, and a node for one message at a time."""

import dataclasses
import functools
import json
import logging
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from beamkd.base import InputError
from beamkd.collab.flower import Nodes, Place, client_app
from experiments.collaborative import GRIDS, Collaborative, quick, run
from experiments.common.collab_study import Study, open_places
from experiments.common.flags import parsed, prepare
from experiments.common.network import FLAGS, OUT
from experiments.common.run import Run

server = ServerApp()


@server.main()
def centre(grid: Grid, context: Context) -> None:
    """Run the study, its nodes being on the network."""
    config = dataclasses.replace(_flags(context), out=Path(context.run_config[OUT]))
    try:
        run(config, Nodes(grid, config.nodes, config.wait, functools.partial(print, flush=True)))
    except SystemExit as stop:  # Flower would take it for a crash of its own
        raise RuntimeError(f"stopped with status {stop.code}") from None


def _flags(context: Context) -> Any:
    """The flags of the command that started the run, as a run has them; JAX is set up as for it."""
    prepare()
    logging.getLogger("flwr").propagate = False  # it has a handler of its own
    config = parsed("collaborative", Collaborative, json.loads(context.run_config[FLAGS]))
    return quick(config) if config.quick else config


def _number(context: Context) -> int:
    return int(context.node_config["node"])


def _place(context: Context, name: str) -> Place:
    """Where a node stands in a setting: it opens the data as the flags say, or those in its own folder."""
    config, folder = _flags(context), Path(context.node_config["folder"])
    data = context.node_config.get("data-dir")
    changes = {"data_dir": (Path(data),)} if data else {}
    config = dataclasses.replace(config, out=folder / "run", resume=False, **changes)
    settings = {setting.name: setting for setting in GRIDS[config.grid](config)}
    if name not in settings:
        raise InputError(f"node: expected one of {', '.join(settings)}, found {name}")
    run = Run("collaborative", config, soon=config.quick)
    study = Study(run, *open_places(run, config), config, at_centre=False)
    federation = study.federation(settings[name])
    exchange = study.strategy(settings[name], federation).exchange
    return Place(exchange, federation, _number(context), folder / name)


client = client_app(_number, _place)
