"""The page that plays drives: what it holds against the arrays that it is made of."""

import base64
import hashlib
import json
import re
import sys

import numpy as np
import pytest

from beamkd.base import InputError
from beamkd.report.__main__ import main
from beamkd.report.watch import page, read_drives
from tests.report.made_up import BEAMS, FRAMES, LIKELY, NAMES, SLOTS, drives

SOURCE = "Data: a street & <more>."


def held(text):
    """What the page knows."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def shorts(text):
    return np.frombuffer(base64.b64decode(text), "<u2").astype(int)


@pytest.fixture(scope="module")
def arrays():
    return drives()


@pytest.fixture(scope="module")
def text(arrays):
    return page(arrays, NAMES, SOURCE)


def own(arrays, drive):
    return arrays["drive"] == drive["number"]


def test_powers_are_held_to_a_hundredth_of_a_decibel(arrays, text):
    for drive in held(text)["drives"]:
        power = arrays["power"][own(arrays, drive)].astype(float)
        loss = shorts(drive["loss"]).reshape(power.shape) / 100
        np.testing.assert_allclose(loss, 10 * np.log10(power.max(-1, keepdims=True) / power), atol=0.0051)
        assert drive["best"] == power.argmax(-1).tolist()


def test_a_beam_without_power_has_the_greatest_loss_that_can_be_said(arrays):
    power = arrays["power"].copy()
    power[0, 1:], power[1] = 0, 0
    first = held(page(arrays | {"power": power}, NAMES, ""))["drives"][0]
    assert shorts(first["loss"])[: 2 * BEAMS].tolist() == [0] + [65535] * (2 * BEAMS - 1)


def test_beams_are_held_exactly_and_probabilities_to_a_ten_thousandth(arrays, text):
    found = held(text)
    assert (found["slots"], found["likely"], found["beams"]) == (SLOTS, LIKELY, BEAMS)
    for drive in found["drives"]:
        beams, shares = (arrays[name][:, own(arrays, drive)] for name in ("beams", "probabilities"))
        np.testing.assert_array_equal(shorts(drive["beams"]).astype(np.uint16).view(np.int16), beams.ravel())
        np.testing.assert_allclose(shorts(drive["shares"]) / 10_000, shares.ravel(), atol=5.1e-5)


def test_sensors_and_positions_are_held(arrays, text):
    found = held(text)
    assert found["shapes"] == {"radar": [60, 64], "doppler": [60, 64], "masks": [32, 4]}
    for drive in found["drives"]:
        mine = {name: values[own(arrays, drive)] for name, values in arrays.items() if len(values.shape) == 3}
        for name in ("radar", "doppler", "masks"):
            assert base64.b64decode(drive[name]) == mine[name].tobytes()
        lidar = arrays["lidar"][own(arrays, drive)].ravel()
        np.testing.assert_allclose(shorts(drive["lidar"]) / 100, lidar, atol=0.0051)
        for name in ("position", "gps"):
            np.testing.assert_allclose(drive[name], arrays[name][own(arrays, drive)], atol=0.0051)


def test_what_was_not_sensed_is_not_there():
    text = page(drives(sensors=False), NAMES, SOURCE)
    found = held(text)
    assert found["shapes"] == {} and [len(drive["slot"]) for drive in found["drives"]] == list(FRAMES)
    assert not {"lidar", "gps", "masks", "radar"} & set(found["drives"][0])


def test_names_and_words_are_no_html(text):
    assert held(text)["networks"] == NAMES
    assert "alert(1)</script>" not in text and "a street &amp; &lt;more&gt;." in text
    assert text.count("<script") == text.count("</script>") == 2


def test_the_browser_is_told_to_load_nothing_and_to_run_nothing_else(text):
    policy = re.search(r'Content-Security-Policy"\s+content="(.*?)"', text)[1]
    assert policy.startswith("default-src 'none'; img-src data:; ") and "unsafe" not in policy and "http" not in policy
    for kind in ("style", "script"):
        own = re.search(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)[1]
        found = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{found}'" in policy
    assert "://" not in text and " src=" not in text


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """watch(arrays) makes the page of a run that kept these drives, or these bytes: its folder."""
    config = {"lidar": "measured", "seeds": 1, "seed": 0}
    results = {"experiment": "datafree", "config": config, "data": {"source": "sim"}, "methods": {}}

    def watch(kept):
        (tmp_path / "results.json").write_text(json.dumps(results))
        if isinstance(kept, bytes):
            (tmp_path / "watch.npz").write_bytes(kept)
        elif kept:
            np.savez_compressed(tmp_path / "watch.npz", **kept)
        monkeypatch.setattr(sys, "argv", ["report", str(tmp_path), "--watch"])
        main()
        return tmp_path

    return watch


def test_a_run_has_its_page(watch, arrays):
    folder = watch(arrays)
    found = held((folder / "watch.html").read_text("utf-8"))
    assert found["networks"] == ["Teacher", NAMES[1]] and len(found["drives"]) == 2
    assert not (folder / "report.md").exists()


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (None, "expected the drives of a run, found no file; python -m experiments.datafree writes them"),
        (b"no drives", "expected the drives of a run"),
        (b"PK\x03\x04 but no more", "expected the drives of a run"),
        ({"power": None}, "power: expected an array, found none"),
        ({"power": np.ones((54, 15))}, "azimuth: expected the axes [M], found [16]"),
        ({"power": np.full((54, 16), np.nan)}, "power: expected finite numbers"),
        ({"beams": np.full((2, 54, 3, 5), 16)}, "beams: expected less than 16, found 16"),
        ({"probabilities": np.full((2, 54, 3, 5), 1.5)}, "probabilities: expected 0 to 1, found others"),
        ({"lidar": np.ones((54, 100))}, "lidar: expected the axes [F R], found [54, 100]"),
        ({"radar": np.ones((54, 4, 4))}, "radar: expected numbers of a byte, found float64"),
        ({"networks": np.arange(2)}, "networks: expected words, found int64"),
        ({"metres": None}, "metres: expected them with radar"),
    ],
)
def test_drives_that_are_not_there_or_bad_are_one_line_with_status_2(watch, arrays, capsys, kept, said):
    changed = (
        {name: array for name, array in (arrays | kept).items() if array is not None} if type(kept) is dict else kept
    )
    with pytest.raises(SystemExit) as stop:
        watch(changed)
    errors = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and len(errors.splitlines()) == 1
    assert errors.startswith("report: ") and f"watch.npz: {said}" in errors


@pytest.mark.parametrize(("experiment", "said"), [("longterm", "longterm"), ("deploy", "datafree")])
def test_what_makes_drives_is_said(tmp_path, experiment, said):
    with pytest.raises(InputError, match=f"found no file; python -m experiments.{said} writes them"):
        read_drives(tmp_path / "watch.npz", experiment)


def test_a_page_and_tables_at_once_are_refused(watch, arrays, monkeypatch, capsys):
    folder = watch(arrays)
    monkeypatch.setattr(sys, "argv", ["report", str(folder), "--watch", "--keep", str(folder / "table.md")])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == "report: --keep: expected it without --watch, found both\n"


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "watch.npz", drive=np.array([{}], object))
    with pytest.raises(InputError, match="expected the drives of a run, found Object arrays cannot be loaded"):
        read_drives(tmp_path / "watch.npz")
