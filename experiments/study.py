"""The paper's study (arXiv 2509.19092): its claims, judged over many seeds, and our recipe beside the published one.

Six grids. 'main': teacher, baselines, our recipe and one with a generator, and students of sequences that no metadata
shaped. 'generator': terms of the generator's loss, the parts of our recipes, how many generators and sequences.
'student': its loss, what chooses its epoch, its size, and the settings of KD. 'teacher': the recipes from another
teacher. 'baselines': teachers and student beside first works on one frame and on positions. 'transfer': from simulated
streets to the road.
"""

import dataclasses
from typing import Any

from beamkd.base import Model
from beamkd.claims import Claim
from beamkd.training import is_primary
from experiments.common.baselines import with_positions
from experiments.common.comparison import compare, methods_of, refuse_streamed, say_tables
from experiments.common.dataset import Trained, cost, cost_of, keep_networks, open_dataset
from experiments.common.distillation import Distillation
from experiments.common.flags import main
from experiments.common.methods import generator_module
from experiments.common.recipes import affordable, smaller
from experiments.common.roads import check_roads, roads_of, study_roads
from experiments.common.run import Run
from experiments.common.study_flags import Study
from experiments.common.study_grids import GRIDS, teacher_method

EQUAL = 0.01
"""What is still called equal: a point."""

CLAIMS = [
    Claim("a", "The data-free student equals or slightly beats its teacher.", "dfkd_paper", "teacher", EQUAL),
    Claim("b", "The metadata loss alone beats the activation loss alone.", "loss_metadata", "loss_activation"),
    Claim("b", "The metadata loss alone beats the entropy loss alone.", "loss_metadata", "loss_entropy"),
    Claim(
        "b",
        "Without the metadata loss the other two fall behind.",
        "loss_metadata_activation_entropy",
        "loss_activation_entropy",
    ),
    Claim("c", "MSE replaces KL.", "paper_mse", "paper_kl_2", EQUAL),
    Claim("d", "Data-free distillation is on a par with KD on the real data.", "dfkd_paper", "kd", EQUAL),
    Claim("e", "A CNN-GRU teacher's student beats a GRU teacher's.", "dfkd_paper", "gru_dfkd_paper"),
    Claim(
        "e",
        "A CNN-GRU teacher's student is nearer to its teacher.",
        ("dfkd_paper", "teacher"),
        ("gru_dfkd_paper", "gru_teacher"),
    ),
    Claim("ours", "Our recipe's student beats its teacher.", "dfkd_beamkd", "teacher"),
    Claim("ours", "Our recipe beats the published one.", "dfkd_beamkd", "dfkd_paper"),
    Claim("ours", "Hindsight makes our student better.", "dfkd_beamkd", "ours_no_hindsight"),
    *(
        Claim("ours", f"Our recipe beats {what}.", "dfkd_beamkd", control)
        for control, what in {
            "noise": "uniform noise",
            "sparse_noise": "sparse noise",
            "blobs": "moving blobs",
            "dfkd_scenes": "scenes of a generator",
            "scenes": "scenes of an untrained one",
            "street": "another simulated street",
            "streets": "simulated streets of all kinds",
        }.items()
    ),
    Claim("cost", "Choosing by real windows is better, published recipe.", "paper_real_selection", "dfkd_paper"),
    Claim("cost", "Choosing by real windows is better, our recipe.", "beamkd_real_selection", "dfkd_beamkd"),
]
"""Of the paper, a to e; of our recipe; and what data-freeness costs."""


QUICK = {"seeds": 2, "drives": 16, "teacher_fit": 4, "scratch_fit": 10, "kd_fit": 10}
"""What `--quick` makes smaller; and of each recipe:"""

QUICK_RECIPE = {"sequences": 500, "held_out": 100, "generator_fit": 50, "search": 50, "dfkd_fit": 10}


def run(config: Study) -> None:
    """Run the study, on each road if there are several; leaves its folder with results and report."""
    roads = roads_of(config)
    if not roads:
        _on_a_road(config)
        return
    check_roads(roads)
    run = study_roads(config, roads, _on_a_road)
    if is_primary():
        from beamkd.report import roads as report  # here, for Matplotlib would delay the first step

        report.write(run.folder)
        for table in report.console_tables(run.folder):
            run.say(table)
        run.say(f"report in {run.folder}, {run.seconds['total']:.0f} s in all")


def _on_a_road(config: Study) -> None:
    config = _quick(config) if config.quick else config
    ours = {name: affordable(getattr(config, name), config.sensors) for name in ("beamkd", "scenes")}
    config = dataclasses.replace(config, **ours)
    run = Run("study", config)
    dataset, keys = open_dataset(run, config)
    refuse_streamed(dataset)
    source = Distillation(run, dataset, keys, config)
    chosen = GRIDS if config.grid == "all" else {config.grid: GRIDS[config.grid]}
    comparisons = [comparison for grid in chosen.values() for comparison in grid(source)]
    methods = methods_of(comparisons, teacher_method(source))
    networks = {name: method.train() for name, method in methods.items()}
    keep_networks(run, config, {name: network.model for name, network in networks.items()})
    parts, _ = compare(run, config, with_positions(dataset), comparisons, methods, networks, CLAIMS)
    run.finish(**parts, models=_models(source, networks))
    if is_primary():
        from beamkd.report import study  # here, for Matplotlib would delay the first step

        study.write(run.folder)
    say_tables(run)


def _models(source: Distillation, networks: dict[str, Trained]) -> dict[str, Any]:
    """What teachers, students of each size and our generator cost."""
    shown = {name: own for name, own in networks.items() if name.endswith("teacher") or name.startswith("student_")}
    models = {name: cost(source.dataset, network.model.module) for name, network in shown.items()}
    models["student"] = cost(source.dataset, source.student.module)
    generator = generator_module(source.dataset, source.config.scenes)
    return models | {"generator": cost_of(Model(generator, None, {"noise": (generator.noise,)}))}


def _quick(config: Study) -> Study:
    recipes = {name: smaller(getattr(config, name), QUICK_RECIPE) for name in ("paper", "beamkd", "scenes")}
    return dataclasses.replace(smaller(config, QUICK), **recipes)


if __name__ == "__main__":
    main("study", Study, run)
