"""Entry points, one a study: `python -m experiments.NAME --help`."""
