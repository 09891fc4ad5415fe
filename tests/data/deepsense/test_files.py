import io
import os

import numpy as np
import pytest
from scipy.io import savemat

from beamkd.data import read_deepsense
from tests.data.deepsense.refusals import CAR, FOURTH, POWER, SCAN, refused


def mat(compressed: bool = False, **variables) -> bytes:
    content = io.BytesIO()
    savemat(content, variables, do_compression=compressed)
    return content.getvalue()


def damaged(content: bytes, at: int, byte: int) -> bytes:
    return content[:at] + bytes([byte]) + content[at + 1 :]


def scan_with(value: float) -> bytes:
    data = np.ones((216, 2))
    data[100, 0] = value
    return mat(data=data)


def powers(*first: str, count: int = 64) -> bytes:
    return "\n".join([*first, *(f"0.{i + 10}" for i in range(count - len(first)))]).encode()


BAD_FILES = {
    "power missing": (POWER, None, "found nothing"),
    "power empty": (POWER, b"", "0 bytes"),
    "power truncated": (POWER, powers(count=63), "found 63"),
    "power too long": (POWER, powers(count=65), "found 65"),
    "power of absurd size": (POWER, b"0.5\n" * 2**16, "262,144 bytes"),
    "power not a number": (POWER, powers("one"), "one"),
    "power not text": (POWER, bytes(range(128, 256)), "expected 64 powers"),
    "power NaN": (POWER, powers("nan"), "nan"),
    "power infinite": (POWER, powers("1", "inf"), "inf as number 2"),
    "power beyond float32": (POWER, powers("1e200"), "inf"),
    "power negative": (POWER, powers("-0.5"), "-0.5"),
    "best beam disagrees": (POWER, powers("9.0"), "unit1_beam_index: expected 1,"),
    "scan missing": (SCAN, None, "found nothing"),
    "scan empty": (SCAN, b"", "0 bytes"),
    "scan truncated in its header": (SCAN, scan_with(1)[:100], "another format"),
    "scan truncated in its data": (SCAN, scan_with(1)[:2000], "damaged"),
    "scan not a .mat": (SCAN, b"range,bearing\n" * 50, "range,bearing"),
    "scan of MATLAB 7.3": (SCAN, scan_with(1).replace(b"\x00\x01IM", b"\x00\x02IM", 1), "another format"),
    "scan of absurd size": (SCAN, mat(data=np.ones((30000, 2))), "480,"),
    "scan that inflates to an absurd size": (SCAN, mat(True, data=np.zeros((10**6, 2))), "more than"),
    "scan with a damaged type code": (SCAN, damaged(scan_with(1), 176, 200), "damaged"),
    "scan with a damaged size": (SCAN, damaged(scan_with(1), 183, 127), "damaged"),
    "scan with a damaged shape": (SCAN, damaged(scan_with(1), 163, 255), "damaged"),
    "scan of another variable": (SCAN, mat(scan=np.ones((216, 2))), "'scan' of numbers"),
    "scan of another shape": (SCAN, mat(data=np.ones((215, 2))), "[215, 2]"),
    "scan turned": (SCAN, mat(data=np.ones((2, 216))), "[2, 216]"),
    "scan of cells": (SCAN, mat(data=np.full((216, 2), "1", object)), "'data' of cells"),
    "scan of text": (SCAN, mat(data="range"), "'data' of text"),
    "scan complex": (SCAN, mat(data=np.ones((216, 2)) * 1j), "complex"),
    "range NaN": (SCAN, scan_with(np.nan), "nan as number 101"),
    "range infinite": (SCAN, scan_with(np.inf), "inf"),
    "range negative": (SCAN, scan_with(-2.0), "-2.0"),
    "position empty": (CAR, b"", "0 bytes"),
    "latitude out of range": (CAR, b"90.5\n0.1\n", "latitude"),
    "longitude out of range": (CAR, b"0.5\n-180.1\n", "longitude"),
    "latitude NaN": (CAR, b"nan\n0.1\n", "latitude"),
    "longitude missing": (CAR, b"0.5\n", "found 1"),
    "position not numbers": (CAR, b"north east", "north east"),
}


def spoil(file, content) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


@pytest.mark.parametrize("fault", BAD_FILES)
def test_a_bad_file_is_named_with_its_row_and_what_was_found(scenario, fault):
    name, content, found = BAD_FILES[fault]
    spoil(scenario / name, content)
    message = refused(scenario)
    assert FOURTH in message
    assert name in message or "unit1_beam_index" in message
    assert found in message


@pytest.mark.parametrize("fault", BAD_FILES)
def test_a_frame_with_a_bad_file_is_dropped_when_asked(drives, scenario, fault, caplog):
    name, content, _ = BAD_FILES[fault]
    spoil(scenario / name, content)
    read = read_deepsense(scenario, skip_bad=True)
    np.testing.assert_array_equal(read.slot, [0, 1, 2, 4, 0, 1, 2, 3])
    np.testing.assert_array_equal(read.power, np.delete(drives.power, 3, 0))
    assert "1 frames bad, dropped" in caplog.text


@pytest.mark.parametrize("name", [CAR, "unit1/GPS_data/gps_location.txt"])
def test_raycast_needs_positions(scenario, name):
    (scenario / name).unlink()
    assert name in refused(scenario, lidar="raycast")


@pytest.mark.parametrize("name", [POWER, SCAN])
def test_only_plain_files_are_opened(scenario, name):
    (scenario / name).unlink()
    (scenario / name).mkdir()
    assert FOURTH in refused(scenario)
    (scenario / name).rmdir()
    os.mkfifo(scenario / name)  # opening it would wait for ever
    assert FOURTH in refused(scenario)


@pytest.mark.parametrize("cell", ["", "15.0", "nan", "0", "65", "first"])
def test_a_best_beam_that_is_not_the_largest_power_is_refused(drives, scenario, edit_csv, cell):
    edit_csv(f",,{int(drives.beam[3]) + 1},3,['16-45-00-333']", f",,{cell},3,['16-45-00-333']")
    message = refused(scenario)
    assert FOURTH in message
    assert repr(cell) in message


def test_an_empty_cell_is_a_bad_frame(scenario, edit_csv):
    edit_csv(f"./{POWER}", "")
    assert FOURTH in refused(scenario)
    assert len(read_deepsense(scenario, skip_bad=True).slot) == 8


def test_dropping_every_frame_is_refused(scenario):
    for file in (scenario / "unit1" / "mmWave_data").iterdir():
        file.unlink()
    assert "9 bad" in refused(scenario, skip_bad=True)
