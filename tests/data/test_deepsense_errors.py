import io
import os
import tracemalloc

import numpy as np
import pytest
from scipy.io import savemat

from beamkd.base import InputError
from beamkd.data.deepsense import read_deepsense
from beamkd.data.deepsense_table import MOST_LINES, read_table
from beamkd.data.deepsense_writer import write_deepsense

SCAN = "unit1/lidar_SCR_data/Lidar_data_3.mat"
POWER = "unit1/mmWave_data/mmWave_power_3.txt"
CAR = "unit2/GPS_data_calibrated/gps_location_3.txt"
FOURTH = "line 5 (index 4)"
"""How messages must name the row of those files."""


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


def refused(folder, **arguments) -> str:
    """The one line with which a folder is refused."""
    with pytest.raises(InputError) as caught:
        read_deepsense(folder, **arguments)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "expected" in message or "cannot be" in message
    return message


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


TABLE_FAULTS = {
    "no powers": (("unit1_pwr_60ghz", "power"), "'unit1_pwr_60ghz'"),
    "no scans": (("unit1_lidar_SCR", "scan"), "'unit1_lidar_SCR'"),
    "no drives": (("seq_index", "sequence"), "'seq_index'"),
    "no index": (("index,unit1_rgb", "number,unit1_rgb"), "'index'"),
    "column twice": (("unit1_rgb", "seq_index"), "'seq_index'"),
    "drive not an integer": ((",3,['16-45-00-333']", ",3.0,['16-45-00-333']"), "'3.0'"),
    "drive empty": ((",3,['16-45-00-333']", ",,['16-45-00-333']"), FOURTH),
    "drive too large": ((",3,['16-45-00-333']", ",99999999999,['16-45-00-333']"), "99999999999"),
    "index not an integer": (("\n4,", "\nfour,"), "'four'"),
    "index twice": (("\n4,", "\n3,"), "found 3"),
    "index going back": (("\n4,", "\n1,"), "found 1"),
    "drive split": ((",1,['16-45-00-777']", ",3,['16-45-00-777']"), "drive 3 again"),
    "cell too few": ((",3,['16-45-00-333']", ",3"), "line 5: expected 13 cells"),
    "cell too many": ((",3,['16-45-00-333']", ",3,4,5"), "line 5: expected 13 cells"),
    "quote left open": (("['16-45-00-333']", '"16'), "line"),
    "zero byte": (("['16-45-00-333']", "\0"), "zero byte"),
    "path up and out": ((f"./{POWER}", "../../secret.txt"), FOURTH),
    "path up and out from inside": ((f"./{POWER}", "./unit1/../../secret.txt"), FOURTH),
    "path absolute": ((f"./{POWER}", "/etc/passwd"), "'/etc/passwd'"),
    "path absolute after a slash": ((f"./{POWER}", "//etc/passwd"), FOURTH),
    "path of the unit and out": ((f"./{POWER}", "/unit1/../../secret.txt"), FOURTH),
    "path of a position out": ((f"./{CAR}", "../car.txt"), "unit2_loc_cal"),
}


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_a_bad_table_is_refused_also_when_bad_frames_are_dropped(scenario, edit_csv, fault, skip_bad):
    change, found = TABLE_FAULTS[fault]
    edit_csv(*change)
    message = refused(scenario, skip_bad=skip_bad)
    assert "scenario8.csv" in message
    assert found in message


@pytest.mark.parametrize("column", ["unit1_loc", "unit2_loc_cal"])
def test_raycast_needs_the_columns_of_positions(scenario, edit_csv, column):
    edit_csv(f"{column},", "gone,", 1)
    assert column in refused(scenario, lidar="raycast")


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("name", [POWER, "unit1/mmWave_data", "unit2", "scenario8.csv"])
def test_a_link_out_of_the_folder_is_refused(scenario, tmp_path, name, skip_bad):
    (scenario / name).rename(tmp_path / "elsewhere")
    (scenario / name).symlink_to(tmp_path / "elsewhere")
    message = refused(scenario, skip_bad=skip_bad)
    assert "scenario8.csv" in message


def test_a_link_within_the_folder_is_followed(drives, scenario):
    (scenario / POWER).rename(scenario / "power.txt")
    (scenario / POWER).symlink_to(scenario / "power.txt")
    np.testing.assert_array_equal(read_deepsense(scenario).power, drives.power)


def test_a_folder_reached_through_a_link_is_read(drives, scenario, tmp_path):
    (tmp_path / "link").symlink_to(scenario)
    np.testing.assert_array_equal(read_deepsense(tmp_path / "link").power, drives.power)


@pytest.fixture
def given(tmp_path):
    """A folder to be given to the reader, with nothing in it yet but a folder."""
    (tmp_path / "given" / "sub").mkdir(parents=True)
    return tmp_path / "given"


@pytest.mark.parametrize("link", ["link", "sub/link"])
@pytest.mark.parametrize("target", ["Scenario8", "."])
def test_a_table_behind_a_link_out_of_the_folder_is_refused(given, scenario, link, target):
    (given / link).symlink_to(scenario.parent / target)
    message = refused(given)
    assert str(given) in message
    assert f"links that leave the folder: '{link}'" in message


@pytest.mark.parametrize("name", ["scenario8.csv", "scenario8_dev.csv"])
def test_a_table_that_is_a_link_out_of_the_folder_is_refused(given, scenario, name):
    (given / "sub" / name).symlink_to(scenario / "scenario8.csv")
    assert f"{given}: expected a CSV inside it, found 'sub/{name}', a link that leaves it" in refused(given)


def test_a_table_beside_a_link_out_of_the_folder_is_read(drives, given, scenario, tmp_path):
    write_deepsense(drives, tmp_path / "elsewhere")
    scenario.rename(given / "sub" / "Scenario8")
    (given / "link").symlink_to(tmp_path / "elsewhere")
    (given / "sub" / "link").symlink_to(tmp_path / "elsewhere")
    np.testing.assert_array_equal(read_deepsense(given).power, drives.power)


def test_a_table_behind_links_within_the_folder_is_read_as_one(drives, given, scenario):
    scenario.rename(given / "sub" / "deep")
    (given / "again").symlink_to(given / "sub" / "deep")
    (given / "once more").symlink_to("again")
    np.testing.assert_array_equal(read_deepsense(given).power, drives.power)


def test_a_table_that_is_a_link_within_the_folder_is_read(drives, given, scenario):
    scenario.rename(given / "sub" / "Scenario8")
    (given / "sub" / "Scenario8" / "scenario8.csv").rename(given / "table.txt")
    (given / "sub" / "Scenario8" / "scenario8.csv").symlink_to("../../table.txt")
    np.testing.assert_array_equal(read_deepsense(given).power, drives.power)


def test_links_of_any_name_are_refused_in_one_line(given, scenario):
    (given / "two\nlines").symlink_to(scenario)
    assert r"'two\nlines'" in refused(given)
    (given / "more\nlines").mkdir()
    (given / "more\nlines" / "scenario8.csv").symlink_to(scenario / "scenario8.csv")
    assert r"'more\nlines/scenario8.csv'" in refused(given)


def test_loops_of_links_end(drives, given, scenario):
    (given / "self").symlink_to("self")
    (given / "up").symlink_to(given)
    (given / "sub" / "up").symlink_to("..")
    assert "found 'self', 'sub', 'up'" in refused(given)
    scenario.rename(given / "sub" / "Scenario8")
    np.testing.assert_array_equal(read_deepsense(given).power, drives.power)


def test_a_folder_that_may_not_be_read_is_named(given, monkeypatch):
    listing = type(given).iterdir

    def forbid(path):
        if path == given / "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(type(given), "iterdir", forbid)
    assert f"{given}: cannot be looked through: Permission denied: '{given / 'sub'}'" in refused(given)


def test_a_folder_of_an_impossible_name_is_refused(tmp_path):
    refused(tmp_path / ("a" * 5000))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"\x89PNG\r\n\x1a\n\xff", "UTF-8"),
        (b"just some text", "just some text"),
        (b"index,unit1_pwr_60ghz,unit1_lidar_SCR,seq_index\n", "only the header"),
        (b'index,"' + b"a" * 200_000 + b'"', "field larger"),
    ],
)
def test_a_file_that_is_no_table_is_refused(scenario, content, found):
    (scenario / "scenario8.csv").write_bytes(content)
    message = refused(scenario)
    assert "scenario8.csv" in message
    assert found in message


NEEDED = ["index", "seq_index", "unit1_pwr_60ghz", "unit1_lidar_SCR"]
HEADER = ",".join(NEEDED)
SIZE = 4 * 2**20
"""Bytes of a CSV that says nothing at length."""

ENDLESS = {  # how the table starts, what is repeated after that, and what is found
    "rows of one cell": (f"{HEADER}\n", "1\n", "line 2: expected 4 cells as in the header, found 1"),
    "rows of one cell from the start": ("index\n", "1\n", "'seq_index'"),
    "blank lines": (f"{HEADER}\n", "\n", f"at most {MOST_LINES:,} lines"),
    "blank lines of an old Mac": (f"{HEADER}\r", "\r", f"at most {MOST_LINES:,} lines"),
    "a header of empty cells": ("", ",", "line 1: expected a row of at most"),
    "a row of empty cells": (f"{HEADER}\n", ",", "line 2: expected a row of at most"),
    "a row of cells": (f"{HEADER}\n", "12,", "line 2: expected a row of at most"),
    "a row of quoted lines": (f"{HEADER}\n", '"a\n",', "expected a row of at most"),
    "one open quote": (f'{HEADER},"', "a", "line 1: expected a row of at most"),
}


@pytest.mark.parametrize("fault", ENDLESS)
def test_a_table_is_refused_before_it_fills_the_memory(tmp_path, fault):
    start, repeated, found = ENDLESS[fault]
    (tmp_path / "scenario8.csv").write_bytes((start + repeated * (SIZE // len(repeated))).encode())
    tracemalloc.start()
    try:
        message = refused(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2 * SIZE
    finally:
        tracemalloc.stop()
    assert found in message


def test_rows_are_counted_while_they_are_read(tmp_path):
    rows = "".join(f"{i},1,a,b\n" for i in range(MOST_LINES))  # with the header, one line too many
    (tmp_path / "scenario8.csv").write_text(f'{HEADER}\n{rows}"not looked at')
    assert f"at most {MOST_LINES:,} lines" in refused(tmp_path)


def test_columns_are_counted(tmp_path):
    (tmp_path / "scenario8.csv").write_text(HEADER + 997 * ",more" + "\n")
    assert "at most 1,000 columns, found 1,001" in refused(tmp_path)


def test_a_long_cell_is_refused_where_it_is_read_only(drives, scenario, edit_csv):
    edit_csv("./unit1/camera_data/image_3.jpg", "a" * 20_000)
    np.testing.assert_array_equal(read_deepsense(scenario).power, drives.power)
    edit_csv(f"./{POWER}", "a/" * 2500)
    message = refused(scenario, skip_bad=True)
    assert "line 5: unit1_pwr_60ghz: expected a cell of at most 4,096 characters, found 5,000" in message


def test_a_table_takes_less_memory_than_its_file(tmp_path):
    path = tmp_path / "scenario8.csv"
    places = ",".join(f"./unit1/a_folder_of_some_length/{name}_🚗_{{}}.txt" for name in "abcdef")
    rows = "".join(f"{i},1,{places},\n".replace("{}", str(i)) for i in range(6000))
    path.write_text(f"{HEADER},unit1_loc,unit2_loc_cal,a,b,\n{rows}", encoding="utf-8")
    tracemalloc.start()
    try:
        table = read_table(tmp_path, 8, NEEDED)
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size
    finally:
        tracemalloc.stop()
    assert len(table.lines) == 6000
    assert table.columns["unit2_loc_cal"][5999] == "./unit1/a_folder_of_some_length/d_🚗_5999.txt"


def test_a_row_of_several_lines_is_named_by_its_last(scenario, edit_csv):
    edit_csv("./unit1/camera_data/image_1.jpg", '"a\r\nb\nc"')
    edit_csv("\n4,", "\nfour,")
    assert "line 7 (index 'four')" in refused(scenario)


def test_a_byte_that_is_no_text_is_named_wherever_it_stands(scenario):
    path = scenario / "scenario8.csv"
    content = path.read_bytes()
    for place in (300, len(content), 100_001):
        path.write_bytes(content.ljust(place, b"\n")[:place] + b"\xff\n" + content)
        assert f"UTF-8, found byte {place} that" in refused(scenario)


def test_a_missing_folder_is_named(tmp_path):
    assert "nowhere" in refused(tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder_is_refused(scenario):
    assert "found a file" in refused(scenario / "scenario8.csv")


def test_a_missing_table_is_refused_with_what_was_found(scenario):
    message = refused(scenario, scenario=9)
    assert "scenario9.csv" in message
    assert "'scenario8.csv'" in message


def test_two_tables_of_one_scenario_are_refused(drives, scenario, tmp_path):
    write_deepsense(drives, tmp_path / "copy")
    assert "copy" in refused(tmp_path)
