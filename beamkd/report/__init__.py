"""Reports of runs, from the files in their folders: `python -m beamkd.report RUN` draws one again."""
