"""Draw the report of a run again: `python -m beamkd.report RUN [--keep FILE.md] [--watch]`."""

import dataclasses
import sys
from pathlib import Path

import tyro

from beamkd.base import InputError
from beamkd.report import benchmark, collaborative, datafree, deploy, longterm, multimodal, privacy, roads, study, watch
from beamkd.report.results import read_results

STUDIES = {
    "study": study.write,
    "multimodal": multimodal.write,
    "longterm": longterm.write,
    "collaborative": collaborative.write,
    "privacy": privacy.write,
}
REPORTS = {"datafree": datafree.write, "deploy": deploy.write, "benchmark": benchmark.write, **STUDIES}
"""What writes the report of each experiment."""

TABLES = {"collaborative": collaborative.tables, "privacy": privacy.tables}
"""Of its own, that are kept, too."""


@dataclasses.dataclass(frozen=True)
class Redraw:
    """Draw the report of a run again, from the files in its folder."""

    run: tyro.conf.Positional[Path]
    """The folder of the run."""
    keep: Path | None = None
    """Write a study's tables to this FILE.md, too, and what they are made of to FILE.json beside it."""
    watch: bool = False
    """Write RUN/watch.html instead, a page that plays test drives: powers of the beams, and what networks pick."""


def main() -> None:
    """Draw the run again that the command line names, by the experiment that it is of."""
    config = tyro.cli(Redraw, prog="python -m beamkd.report")
    try:
        results = read_results(config.run)
        experiment = results.get("experiment")
        if experiment not in REPORTS:
            raise InputError(f"{config.run}: expected a run of {', '.join(REPORTS)}, found one of {experiment}")
        if config.keep and config.watch:
            raise InputError("--keep: expected it without --watch, found both")
        if config.watch:
            return watch.write(config.run, results)
        if config.keep and experiment not in STUDIES:
            raise InputError(f"--keep: expected it with a study, found one of {experiment}")
        several = experiment == "study" and "roads" in results
        (roads.write if several else REPORTS[experiment])(config.run)
        if config.keep and several:
            roads.keep(config.run, config.keep)
        elif config.keep:
            study.keep(config.run, config.keep, TABLES.get(experiment, lambda results: {}))
    except (InputError, KeyError) as error:
        older = f"{config.run}: expected what this version of beamkd leaves, found no {error}"
        print(f"report: {older if isinstance(error, KeyError) else error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
