import tracemalloc

import numpy as np
import pytest

from beamkd.data import read_deepsense, scenario_number, write_deepsense
from beamkd.data.deepsense.table import MOST_LINES, read_table
from tests.data.deepsense.refusals import CAR, FOURTH, POWER, refused

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
        table = read_table(tmp_path, 8, NEEDED, ["unit1_loc", "unit2_loc_cal"])
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


@pytest.mark.parametrize("below", [".", "DEV[95%]", "Scenario31/DEV[95%]"])
@pytest.mark.parametrize("suffix", ["", "_dev"])
def test_the_only_scenario_of_a_folder_needs_no_number(drives, tmp_path, below, suffix):
    write_deepsense(drives, tmp_path / "download" / below, 31)
    (path,) = (tmp_path / "download").rglob("scenario31.csv")
    path.rename(path.with_name(f"scenario31{suffix}.csv"))
    assert scenario_number(tmp_path / "download") == 31
    np.testing.assert_array_equal(read_deepsense(tmp_path / "download").power, drives.power)


def test_of_several_scenarios_8_is_meant_or_one_has_to_be_named(drives, scenario, tmp_path):
    for number in (31, 32):
        write_deepsense(drives, tmp_path / f"Scenario{number}", number)
    assert scenario_number(tmp_path) == 8
    assert scenario_number(tmp_path, 32) == 32
    (scenario / "scenario8.csv").unlink()
    message = refused(tmp_path)
    assert "scenario: expected a number" in message and "[31, 32]" in message


def test_a_scenario_further_up_is_preferred(drives, scenario):
    write_deepsense(drives, scenario / "more", 31)
    (scenario / "scenario8.csv").rename(scenario / "scenario9.csv")
    assert scenario_number(scenario) == 9


@pytest.mark.parametrize("name", ["scenario08.csv", "scenario.csv", "scenario8.csv.bak", "scenario99999999999.csv"])
def test_other_names_are_no_scenario(scenario, name):
    (scenario / "scenario8.csv").rename(scenario / name)
    assert "expected scenarioN.csv or scenarioN_dev.csv, found" in refused(scenario)
