"""Radar, camera and GPS of a folder: read, derived, written, simulated, joined."""

import csv
import functools
import io
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import gaussian_filter

from beamkd.base import InputError
from beamkd.data import make_windows, on_host, read_deepsense, write_deepsense
from beamkd.data.deepsense import derived, reader
from beamkd.data.deepsense.columns import COLUMNS, SENSORS
from beamkd.data.geodesy import to_metres
from beamkd.sim import doppler_angle_map, motion_masks, range_angle_map, sense_track
from beamkd.sim.track import cast_track
from tests.data.deepsense.refusals import FOURTH, refused

BEAT = "unit1/radar_data/data_3.mat"
PICTURE = "unit1/camera_data/image_3.jpg"
RAW = "unit2/GPS_data/gps_location_3.txt"


def mat(compressed: bool = False, **variables) -> bytes:
    content = io.BytesIO()
    savemat(content, variables, do_compression=compressed)
    return content.getvalue()


def picture(shape=(540, 960, 3), form="JPEG", mode=None, **options) -> bytes:
    content = io.BytesIO()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    (image if mode is None else image.convert(mode)).save(content, form, **options)
    return content.getvalue()


def claims(width: int, height: int) -> bytes:
    """A picture whose header claims another size."""
    content = picture((300, 300))
    at = content.index(b"\xff\xc0") + 5  # start of the frame: length, precision, height, width
    return content[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[at + 4 :]


def moving_frames(count: int = 9) -> np.ndarray:
    """A bright patch that goes to the right in front of a rough wall."""
    rng = np.random.default_rng(2)
    wall, patch = rng.normal(90, 6, (224, 224)), rng.integers(0, 256, (50, 60))
    frames = np.repeat(wall[None], count, 0)
    for t in range(count):
        frames[t, 90:140, 10 + 12 * t : 70 + 12 * t] = patch
    return np.clip(gaussian_filter(frames, (0, 0.7, 0.7)), 0, 255).astype(np.uint8)


@pytest.fixture
def whole(drives):
    """The small drives with all sensors that files hold; eight chirps of the radar."""
    rng = np.random.default_rng(1)
    beat = rng.normal(size=(9, 4, 256, 8)) + 1j * rng.normal(size=(9, 4, 256, 8))
    more = {
        "beat": jnp.asarray(beat, jnp.complex64),
        "camera": jnp.asarray(moving_frames()),
        "gps": drives.position + jnp.asarray(rng.normal(size=(9, 2)), jnp.float32),
    }
    return drives.replace(sensors={**drives.sensors, **more})


@pytest.fixture
def folder(whole, tmp_path):
    write_deepsense(whole, tmp_path / "Scenario9", 9)
    return tmp_path / "Scenario9"


def test_beat_signals_and_gps_come_back_to_the_last_bit_and_frames_within_two_levels(whole, folder):
    read = read_deepsense(folder, sensors=[*SENSORS])
    assert set(read.sensors) == set(whole.sensors)
    for name in ("lidar", "beat", "gps"):
        assert read.sensors[name].dtype == whole.sensors[name].dtype
        np.testing.assert_array_equal(read.sensors[name], whole.sensors[name])
    np.testing.assert_array_equal(read.position, whole.position)
    frames, written = np.asarray(read.sensors["camera"]), np.asarray(whole.sensors["camera"])
    assert frames.dtype == np.uint8
    assert np.abs(frames.astype(int) - written).max() <= 2
    same = np.asarray(motion_masks(frames)) == np.asarray(motion_masks(written))
    assert same.mean() > 0.999


@pytest.mark.parametrize("name", ["radar", "doppler", "masks"])
def test_what_is_derived_is_not_written(whole, tmp_path, name):
    source = {"radar": "beat", "doppler": "beat", "masks": "camera"}[name]
    with pytest.raises(InputError, match=f"expected '{source}', .*, found '{name}'"):
        write_deepsense(whole.replace(sensors={name: whole.power}), tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
def test_a_real_cube_goes_through_the_reader_to_the_maps_of_the_simulators_functions(folder, kind, compressed):
    rng = np.random.default_rng(5)
    cubes = (rng.normal(size=(9, 4, 256, 128)) + 1j * rng.normal(size=(9, 4, 256, 128))).astype(kind)
    for number, cube in enumerate(cubes[:2]):
        (folder / f"unit1/radar_data/data_{number}.mat").write_bytes(mat(compressed, data=cube))
    cut_table(folder, 2)
    read = read_deepsense(folder, sensors=("doppler", "radar")).sensors
    beat = cubes[:2].astype(np.complex64)
    np.testing.assert_allclose(read["radar"], range_angle_map(beat), rtol=1e-5)
    np.testing.assert_allclose(read["doppler"], doppler_angle_map(beat), rtol=1e-5)
    assert read["radar"].shape == (2, 256, 64) and read["doppler"].shape == (2, 128, 64)


def cut_table(folder, rows: int) -> None:
    path = folder / "scenario9.csv"
    path.write_text("\n".join(path.read_text().splitlines()[: rows + 1]))


def test_a_picture_is_resized_and_made_gray_as_published_work_does(folder):
    smooth = gaussian_filter(np.random.default_rng(3).normal(size=(540, 960, 3)), (20, 20, 0))
    colour = np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    Image.fromarray(colour).save(folder / PICTURE, quality=100, subsampling=0)
    found = np.asarray(read_deepsense(folder, sensors=("camera",)).sensors["camera"][3])
    luminance = colour.astype(float) @ [0.2125, 0.7154, 0.0721]
    expected = triangle(960) @ (triangle(540) @ luminance).T
    assert np.abs(found - expected.T).max() < 2.5


def triangle(size: int) -> np.ndarray:
    """[224, size] weights of a triangle over the pixels that one of 224 covers, two to each side."""
    scale = size / 224
    away = (np.arange(size) + 0.5 - (np.arange(224)[:, None] + 0.5) * scale) / scale
    weights = np.clip(1 - np.abs(away), 0, None)
    return weights / weights.sum(1, keepdims=True)


def independent_masks(frames, drive, slot) -> np.ndarray:
    masks = np.zeros(frames.shape, bool)
    smooth = [gaussian_filter(frame.astype(np.float32), 1) for frame in frames]
    for i in range(1, len(frames)):
        if drive[i] == drive[i - 1] and slot[i] == slot[i - 1] + 1:
            change = np.abs(smooth[i] - smooth[i - 1])
            masks[i] = change > 0.1 * change.max()
    return masks


def test_masks_are_of_a_frame_and_the_slot_before_in_its_drive(whole, tmp_path):
    gaps = whole.replace(slot=jnp.array([0, 1, 4, 5, 9, 0, 2, 3, 4], jnp.int32))
    write_deepsense(gaps, tmp_path / "gaps")
    read = read_deepsense(tmp_path / "gaps", sensors=("masks", "camera"))
    masks = np.unpackbits(np.asarray(read.sensors["masks"]), axis=-1).astype(bool)
    assert read.sensors["masks"].shape == (9, 224, 28) and read.sensors["masks"].dtype == jnp.uint8
    expected = independent_masks(np.asarray(read.sensors["camera"]), np.asarray(gaps.drive), np.asarray(gaps.slot))
    np.testing.assert_array_equal(expected.any((1, 2)), [False, True, False, True, False, False, False, True, True])
    assert (masks != expected).mean() < 1e-5  # a change that is the threshold may round either way


@pytest.mark.parametrize("piece", [1, 2, 3])
def test_drives_longer_than_a_piece_give_the_same(folder, cache, monkeypatch, piece):
    names = ("lidar", "radar", "doppler", "camera", "masks")
    expected = read_deepsense(folder, sensors=names)
    monkeypatch.setattr(reader, "PIECE", piece)
    shutil.rmtree(cache)
    found = read_deepsense(folder, sensors=names)
    for name in names:
        np.testing.assert_allclose(found.sensors[name], expected.sensors[name], rtol=1e-6, err_msg=name)
    np.testing.assert_array_equal(found.slot, expected.slot)


def test_only_the_files_of_the_sensors_asked_for_are_needed(whole, folder):
    for other in ("lidar_SCR_data", "camera_data"):
        shutil.rmtree(folder / "unit1" / other)
    shutil.rmtree(folder / "unit2" / "GPS_data_calibrated")
    read = read_deepsense(folder, sensors=("radar", "gps"))
    np.testing.assert_allclose(read.sensors["radar"], range_angle_map(whole.sensors["beat"]), rtol=1e-5)
    np.testing.assert_array_equal(read.sensors["gps"], whole.sensors["gps"])
    assert np.isnan(read.position).all()


def test_raw_positions_are_metres_from_the_base_station_turned_like_the_others(folder):
    place, station = (33.42, -111.929), (33.4201, -111.9295)
    for frame in range(9):
        (folder / f"unit2/GPS_data/gps_location_{frame}.txt").write_text("{}\n{}\n".format(*place))
    (folder / "unit1/GPS_data/gps_location.txt").write_text("{}\n{}\n".format(*station))
    found = read_deepsense(folder, sensors=("gps",), broadside=30.0).sensors["gps"]
    np.testing.assert_allclose(found, [to_metres(np.array(place), np.array(station), 30.0)] * 9, rtol=1e-6)


def test_scenarios_31_to_34_have_fewer_columns_and_more_chirps(whole, tmp_path):
    folder = tmp_path / "Scenario31" / "DEV[95%]"
    write_deepsense(whole.replace(sensors={name: whole.sensors[name] for name in ("camera", "gps")}), folder, 31)
    rng = np.random.default_rng(4)
    cubes = rng.normal(size=(2, 4, 256, 250)) + 1j * rng.normal(size=(2, 4, 256, 250))
    (folder / "unit1/radar_data").mkdir()
    for number, cube in enumerate(cubes):
        savemat(folder / f"unit1/radar_data/data_{number}.mat", {"data": cube.astype(np.complex64)})
    with open(folder / "scenario31.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    (folder / "scenario31.csv").unlink()
    kept = [
        "index",
        "unit1_rgb",
        "unit1_radar",
        "unit1_lidar",
        "unit1_loc",
        "unit2_loc",
        "unit1_pwr_60ghz",
        "seq_index",
    ]
    with open(folder / "scenario31_dev.csv", "w", newline="") as file:
        table = csv.DictWriter(file, kept, extrasaction="ignore")
        table.writeheader()
        table.writerows({**row, "unit1_lidar": row["unit1_lidar"].replace(".mat", ".ply")} for row in rows[:2])
    read = read_deepsense(tmp_path / "Scenario31", sensors=("radar", "doppler", "masks", "gps"))
    shapes = {name: seen.shape[1:] for name, seen in read.sensors.items()}
    assert shapes == {"radar": (256, 64), "doppler": (250, 64), "masks": (224, 28), "gps": (2,)}
    np.testing.assert_array_equal(read.sensors["gps"], whole.sensors["gps"][:2])
    assert "'unit1_lidar_SCR'" in refused(tmp_path / "Scenario31")


def beat_with(value: complex) -> bytes:
    data = np.ones((4, 256, 8), complex)
    data[1, 2, 3] = value
    return mat(data=data)


def claims_chirps(count: int) -> bytes:
    """A cube whose header claims another number of chirps."""
    content = beat_with(1)
    at = content.index(np.array([4, 256, 8], "<i4").tobytes()) + 8
    return content[:at] + count.to_bytes(4, "little") + content[at + 4 :]


SENSOR_OF = {BEAT: "radar", PICTURE: "masks", RAW: "gps"}

BAD_FILES = {
    "cube missing": (BEAT, None, "found nothing"),
    "cube empty": (BEAT, b"", "0 bytes"),
    "cube not a .mat": (BEAT, b"range,angle\n" * 50, "range,angle"),
    "cube truncated": (BEAT, beat_with(1)[:50_000], "damaged"),
    "cube real": (BEAT, mat(data=np.ones((4, 256, 8))), "found real [4, 256, 8]"),
    "cube of another variable": (BEAT, mat(beat=np.ones((4, 256, 8)) * 1j), "'beat' of numbers"),
    "cube turned": (BEAT, mat(data=np.ones((8, 256, 4)) * 1j), "found complex [8, 256, 4]"),
    "cube of two antennas": (BEAT, mat(data=np.ones((2, 256, 8)) * 1j), "found complex [2, 256, 8]"),
    "cube of one chirp": (BEAT, mat(data=np.ones((4, 256)) * 1j), "found complex [4, 256]"),
    "cube of other chirps than the first": (BEAT, mat(data=np.ones((4, 256, 9)) * 1j), "expected [4, 256, 8], as"),
    "cube of too many chirps": (BEAT, mat(data=np.ones((4, 256, 513), np.complex64) * 1j), "2 to 512"),
    "cube of absurd size": (BEAT, mat(data=np.ones((4, 256, 600)) * 1j), "found 9,8"),
    "cube that inflates to an absurd size": (BEAT, mat(True, data=np.zeros((4, 256, 2000)) * 1j), "more than"),
    "cube that claims a huge shape": (BEAT, claims_chirps(2**31 - 1), "damaged"),
    "cube of cells": (BEAT, mat(data=np.full((4, 256, 8), "1", object)), "'data' of cells"),
    "beat NaN": (BEAT, beat_with(np.nan), "found nan"),
    "beat NaN in its imaginary part": (BEAT, beat_with(complex(0, np.nan)), "found nan"),
    "beat infinite": (BEAT, beat_with(-np.inf), "found inf"),
    "beat beyond float32": (BEAT, beat_with(1e200j), "found 1e+200"),
    "picture missing": (PICTURE, None, "found nothing"),
    "picture empty": (PICTURE, b"", "0 bytes"),
    "picture that is none": (PICTURE, b"a photograph" * 100, "another format"),
    "picture in another format": (PICTURE, picture(form="PNG"), "another format"),
    "picture animated": (PICTURE, picture(form="GIF"), "another format"),
    "picture truncated": (PICTURE, picture()[:20_000], "truncated"),
    "picture truncated in its header": (PICTURE, picture()[:100], "expected a JPEG"),
    "picture too small": (PICTURE, picture((200, 300, 3)), "found 300 × 200"),
    "picture in four inks": (PICTURE, picture(mode="CMYK"), "found CMYK"),
    "picture of absurd size": (PICTURE, bytes(9 * 2**20), "9,437,184 bytes"),
    "picture that claims to be large": (PICTURE, claims(4000, 4000), "found 4000 × 4000"),
    "picture that claims to be absurdly large": (PICTURE, claims(65500, 65500), "expected"),
    "picture of many scans": (PICTURE, picture() + b"\xff\xda" * 101, "found 102"),
    "position missing": (RAW, None, "found nothing"),
    "latitude NaN": (RAW, b"nan\n0.1\n", "latitude"),
    "longitude out of range": (RAW, b"0.5\n-180.1\n", "longitude"),
    "position not numbers": (RAW, b"north east", "north east"),
}


def spoil(file, content) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


@pytest.mark.parametrize("fault", BAD_FILES)
def test_a_bad_file_is_named_with_its_row_and_what_was_found_or_dropped(whole, folder, fault, caplog, recwarn):
    name, content, found = BAD_FILES[fault]
    spoil(folder / name, content)
    sensor = SENSOR_OF[name]
    message = refused(folder, sensors=(sensor,))
    assert FOURTH in message and name in message and found in message
    for _ in range(2):  # of which the second finds what the first kept
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            read = read_deepsense(folder, sensors=(sensor,), skip_bad=True)
        np.testing.assert_array_equal(read.slot, [0, 1, 2, 4, 0, 1, 2, 3])
        assert len(caplog.messages) == 1 and "1 frames bad, dropped" in caplog.text and name in caplog.text
    if sensor == "masks":
        moved = np.asarray(read.sensors["masks"]).any((1, 2))
        np.testing.assert_array_equal(moved, [False, True, True, False, False, True, True, True])
    assert not [warning for warning in recwarn if "ecompression" in str(warning.message)]


@pytest.mark.parametrize("column", ["unit1_rgb", "unit1_radar", "unit2_loc"])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_path_that_leaves_the_folder_is_refused(folder, column, skip_bad):
    path = folder / "scenario9.csv"
    cell = f"./{COLUMNS[{COLUMNS[name].name: name for name in COLUMNS}[column]].path.format(3)}"
    path.write_text(path.read_text().replace(cell, "../../outside"))
    sensors = {"unit1_rgb": ("camera",), "unit1_radar": ("beat",), "unit2_loc": ("gps",)}[column]
    message = refused(folder, sensors=sensors, skip_bad=skip_bad)
    assert FOURTH in message and "inside" in message and "outside" in message


def test_gps_needs_the_base_station(folder):
    (folder / "unit1/GPS_data/gps_location.txt").unlink()
    assert "unit1_loc" in refused(folder, sensors=("gps",))


def test_any_damage_to_a_picture_gives_a_frame_or_one_line(folder):
    whole_file, rng = picture((240, 250)), np.random.default_rng(7)
    path = folder / PICTURE
    for _ in range(300):
        content = bytearray(whole_file)
        for at in rng.integers(0, len(content), 3):
            content[at] = rng.integers(256)
        path.write_bytes(bytes(content[: rng.integers(1, 2 * len(content))]))
        try:
            frame = COLUMNS["camera"].read(str(path))
        except InputError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert frame.shape == (224, 224) and frame.dtype == np.uint8


BAD_DRIVES = {
    "real beat signals": ("beat", lambda beat: beat.real),
    "beat signals of one antenna": ("beat", lambda beat: beat[:, :1]),
    "beat signals with a NaN": ("beat", lambda beat: beat.at[2, 0, 0, 0].set(jnp.nan)),
    "frames of other pixels": ("camera", lambda frames: frames[:, :100]),
    "frames of floats": ("camera", lambda frames: frames.astype(jnp.float32)),
    "positions that are NaN": ("gps", lambda places: places.at[2, 1].set(jnp.nan)),
    "positions too far": ("gps", lambda places: places.at[2, 1].set(3e7)),
    "positions in three dimensions": ("gps", lambda places: jnp.zeros((9, 3))),
}


@pytest.mark.parametrize("fault", BAD_DRIVES)
def test_sensors_that_do_not_fit_the_format_are_not_written(whole, tmp_path, fault):
    name, change = BAD_DRIVES[fault]
    bad = whole.replace(sensors={**whole.sensors, name: change(whole.sensors[name])})
    with pytest.raises(InputError, match=f"drives: {name} of frame .: expected .* found"):
        write_deepsense(bad, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def road(drives):
    """The drives with a track past the base station."""
    track = np.stack([np.linspace(9, 10, 9), np.linspace(-6, 6, 9)], -1).astype(np.float32)
    return drives.replace(position=jnp.asarray(track))


def test_simulated_sensors_need_positions_alone_and_are_those_of_sense_track(drives, tmp_path):
    write_deepsense(road(drives), tmp_path / "road", 9)
    shutil.rmtree(tmp_path / "road" / "unit1" / "lidar_SCR_data")
    names = ("lidar", "radar")
    both = read_deepsense(tmp_path / "road", sensors=names, simulated=names)
    for number, rows in ((3, slice(0, 5)), (1, slice(5, 9))):
        count = rows.stop - rows.start
        place = np.concatenate([both.position[rows], np.repeat(both.position[rows][-1:], 8 - count, 0)])
        key = functools.reduce(jax.random.fold_in, (9, number, 0), jax.random.key(0))
        expected = sense_track(key, place, np.arange(8, dtype=np.int32) // count, names)
        for name in names:
            np.testing.assert_array_equal(both.sensors[name][rows], expected[name][:count])
    assert (np.asarray(both.sensors["lidar"]) > 0).any()
    alone = read_deepsense(tmp_path / "road", sensors=("radar",), simulated=("radar", "lidar"))
    np.testing.assert_array_equal(alone.sensors["radar"], both.sensors["radar"])


def test_a_drive_is_simulated_alike_whatever_else_is_in_the_folder(drives, tmp_path):
    write_deepsense(road(drives), tmp_path / "road")
    write_deepsense(
        drives.replace(
            **{name: getattr(road(drives), name)[5:] for name in ("power", "position", "drive", "slot")},
            sensors={"lidar": drives.sensors["lidar"][5:]},
        ),
        tmp_path / "part",
    )
    read = [read_deepsense(tmp_path / name, simulated=("lidar",)).sensors["lidar"] for name in ("road", "part")]
    np.testing.assert_array_equal(read[0][5:], read[1])
    assert (np.asarray(read[0]) > 0).any()


def test_scans_without_noise_stand_beside_simulated_radar(drives, tmp_path):
    write_deepsense(road(drives), tmp_path / "road")
    read = read_deepsense(tmp_path / "road", lidar="raycast", sensors=("lidar", "radar"), simulated=("radar",))
    np.testing.assert_array_equal(read.sensors["lidar"], cast_track(read.position))
    assert read.sensors["radar"].shape == (9, 256, 64)


def test_what_is_derived_of_a_simulated_sensor_is_simulated(drives, tmp_path, monkeypatch):
    frames = moving_frames(5)

    def sense(names, numbers, position):
        assert names == ("camera",)
        return {"camera": frames[: len(position)]}

    write_deepsense(drives, tmp_path / "road")
    monkeypatch.setattr(reader, "sense_drive", sense)
    monkeypatch.setattr(reader, "TRACKED", {**reader.TRACKED, "camera": None})
    masks = read_deepsense(tmp_path / "road", sensors=("masks",), simulated=("camera",)).sensors["masks"]
    expected = derived.packed_masks(frames, np.array([False, True, True, True, True]))
    np.testing.assert_array_equal(masks, np.concatenate([expected, expected[:4]]))


def test_folders_are_put_one_after_another_with_drives_of_their_own(whole, folder, tmp_path):
    write_deepsense(whole.replace(power=whole.power[::-1]), tmp_path / "Scenario31", 31)
    names = ("lidar", "radar", "gps")
    read = read_deepsense([folder, str(tmp_path / "Scenario31")], sensors=names)
    one, other = (read_deepsense(place, sensors=names) for place in (folder, tmp_path / "Scenario31"))
    np.testing.assert_array_equal(read.drive, [2] * 5 + [1] * 4 + [4] * 5 + [3] * 4)
    np.testing.assert_array_equal(read.slot, np.tile(one.slot, 2))
    np.testing.assert_array_equal(read.power, np.concatenate([one.power, other.power]))
    for name in names:
        both = np.concatenate([one.sensors[name], other.sensors[name]])
        np.testing.assert_array_equal(read.sensors[name], both)


def test_folders_of_unlike_radars_are_refused_in_one_line(whole, folder, tmp_path):
    unlike = {"beat": whole.sensors["beat"][..., :4], "lidar": whole.sensors["lidar"]}
    write_deepsense(whole.replace(sensors=unlike), tmp_path / "Scenario31", 31)
    both = [folder, tmp_path / "Scenario31"]
    message = refused(both, sensors=("radar",))
    assert "scenario31.csv, line 2" in message and "expected [4, 256, 8], as the first frame has, found" in message
    assert "expected a good frame, found 9 bad ones" in refused(both, sensors=("radar",), skip_bad=True)
    assert len(read_deepsense(both).slot) == 18


def test_folders_are_refused_where_one_lacks_a_sensor(whole, folder, tmp_path):
    write_deepsense(whole.replace(sensors={}), tmp_path / "Scenario31", 31)
    assert "Scenario31" in refused([folder, tmp_path / "Scenario31"])
    assert "expected a folder or more" in refused([])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"sensors": ("sonar",)}, "'beat', 'camera', 'doppler', 'gps', 'lidar', 'masks', 'radar'"),
        ({"simulated": ("sonar",)}, "simulated: expected names out of"),
        ({"simulated": "radar"}, "simulated: expected names out of"),
        ({"simulated": ("lidar",), "lidar": "raycast"}, "simulated: expected no 'lidar'"),
    ],
)
def test_a_bad_argument_is_named(folder, arguments, named):
    assert named in refused(folder, **arguments)


def test_more_than_fits_the_device_stays_on_disk(folder, monkeypatch):
    expected = read_deepsense(folder, sensors=("radar",))
    assert isinstance(expected.power, jnp.ndarray)
    monkeypatch.setattr(reader, "RESIDENT_BYTES", 10_000)
    read = read_deepsense(folder, sensors=("radar",))
    assert isinstance(read.sensors["radar"], np.memmap)
    np.testing.assert_array_equal(read.sensors["radar"], expected.sensors["radar"])
    assert on_host(make_windows(read, observed=2)) and not on_host(make_windows(expected, observed=2))
