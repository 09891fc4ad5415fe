"""What `experiments.predict --follow` does for long: `python -m tests.follow_for_long SECONDS [NETWORK]`.

100 scans a second appear in a folder, one in twenty damaged: cut off, empty, of another length, NaN, missing or late.
Whole ones are written in two parts, in place. Of files done long ago the folder is cleared, as a recorder would.
"""

import csv
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import jax
import numpy as np
from scipy.io import savemat

from beamkd.base import InputError, Model
from beamkd.data.deepsense.files import write_scan
from beamkd.models import GruStudent, save_network

RATE, ONE_IN = 100, 20
KINDS = ("cut", "empty", "short", "nan", "missing", "late")
LATE = 30
"""Scans later than its place that a late one comes."""

KEPT = 2000
"""Files in the folder."""

EACH = 30
"""Seconds after which memory is looked at again."""


def name_of(number):
    return f"Lidar_data_{number}.mat"


def student(folder):
    """A network with its first weights: as ONNX if that is installed."""
    scans = np.zeros((1, 8, 216), np.float32)
    model = Model(GruStudent(), GruStudent().init(jax.random.key(0), scans), {"lidar": (8, 216)})
    try:
        from beamkd.deploy import stream_to_onnx

        (folder / "student.stream.onnx").write_bytes(stream_to_onnx(model))
        return folder / "student.stream.onnx"
    except InputError:
        save_network(folder / "student.safetensors", model)
        return folder / "student.safetensors"


def contents_of(scan):
    file = io.BytesIO()
    write_scan(file, scan)
    return file.getvalue()


def pool():
    """Contents of 50 good scans, and of the damaged ones by kind."""
    rng = np.random.default_rng(0)
    scans = rng.uniform(1, 20, (50, 216)) * (rng.random((50, 216)) < 0.3)
    short = io.BytesIO()
    savemat(short, {"data": np.ones((100, 2))})
    good = [contents_of(scan) for scan in scans]
    return good, {"cut": good[0][:1000], "empty": b"", "short": short.getvalue(), "nan": contents_of(scans[0] + np.nan)}


def feed(folder, seconds, process):
    """Scans for so long: which numbers were damaged, with the kind, and the process's memory by second, KiB."""
    rng = np.random.default_rng(1)
    good, bad = pool()
    damaged, late, memory = {}, {}, {}
    began = time.monotonic()
    for number in range(1, RATE * seconds + 1):
        time.sleep(max(0, began + number / RATE - time.monotonic()))
        kind = str(rng.choice(KINDS)) if 1 < number < RATE * seconds - LATE and rng.random() < 1 / ONE_IN else None
        path = folder / name_of(number)
        if kind:
            damaged[number] = kind
        if kind == "late":
            late[number + LATE] = path
        elif kind is None:
            with open(path, "wb", 0) as file:
                contents = good[number % len(good)]
                file.write(contents[:1500])
                file.write(contents[1500:])
        elif kind != "missing":
            path.write_bytes(bad[kind])
        if number in late:
            late.pop(number).write_bytes(good[0])
        (folder / name_of(number - KEPT)).unlink(missing_ok=True)
        if number % (EACH * RATE) == 0:
            memory[number // RATE] = resident(process)
    return damaged, memory


def resident(process):
    """Memory of a process, KiB."""
    return int(re.search(r"VmRSS:\s*(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1])


def main(seconds, network=None):
    """Feed, end by SIGTERM, and print what came of it."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        folder, out, said = place / "scans", place / "out.csv", place / "said.txt"
        folder.mkdir()
        network = network or student(place)
        command = [sys.executable, "-m", "experiments.predict", "--network", str(network), "--data-dir", str(folder)]
        with open(said, "w") as errors:
            process = subprocess.Popen(
                [*command, "--follow", "--out", str(out)],
                stderr=errors,
                env={**os.environ, "JAX_PLATFORMS": "cpu"},
            )
            while not out.exists():
                time.sleep(0.1)
            damaged, samples = feed(folder, seconds, process)
            time.sleep(3)
            samples[seconds + 3] = resident(process)
            process.terminate()
            status = process.wait()
        used = os.times().children_user + os.times().children_system
        with open(out, newline="") as file:
            lines = list(csv.reader(file))
        named = re.findall(r"skipped Lidar_data_(\d+)\.mat", said.read_text())
        report(RATE * seconds, damaged, lines, list(map(int, named)))
        print(f"status {status}, memory by second, KiB: {samples}")
        print(f"processor time {used:.0f} s; last words: {said.read_text().splitlines()[-1]}")


def report(fed, damaged, lines, named):
    """Print what was fed, and what of it is in the lines of the CSV or named."""
    found = [int(re.search(r"\d+", line[0])[0]) for line in lines[1:]]
    lost = set(range(1, fed + 1)) - set(found) - set(named)
    print(f"fed {fed}, of these damaged {len(damaged)}: {dict(Counter(damaged.values()))}")
    print(f"lines {len(found)}, in order {found == sorted(set(found))}, whole {len({*map(len, lines)}) == 1}")
    unnamed = [damaged[number] for number in damaged if number not in named]
    twice = len(named) - len(set(named))
    print(f"named {len(named)}, twice {twice}, not named {dict(Counter(unnamed))}, lost {len(lost)}")
    print(f"damaged ones with a line {len(set(found) & set(damaged))}: late ones that were still waited for")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
