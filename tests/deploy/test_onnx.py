"""Networks in ONNX files against JAX, by ONNX's own runtime."""

import json
import sys

import jax
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra deploy is not installed")
runtime = pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
pytest.importorskip("jax2onnx", reason="the extra deploy is not installed")

from beamkd.base import InputError, Model  # noqa: E402
from beamkd.deploy import logits_of, stream_to_onnx, to_int8, to_onnx, try_out  # noqa: E402
from beamkd.models import Generator, GruStudent, OccupancyCnn, PositionNetwork  # noqa: E402
from tests.deploy.networks import NETWORKS, drive, initial, named  # noqa: E402

FULL = {"lidar": (8, 216)}


@pytest.fixture(params=NETWORKS, ids=named)
def model(request):
    return initial(*request.param)


def windows_of(model, batch, seed=0):
    """Windows in the units of `Drives`: masks 0 or 1, ranges and places up to 20 m."""
    (length,) = {shape[0] for shape in model.inputs.values()}
    seen = drive(model, length, batch)
    metres = {name: np.float32(20) * values for name, values in seen.items() if name in ("lidar", "gps")}
    masks = {name: (values > 0.8).astype(np.float32) for name, values in seen.items() if name == "masks"}
    return seen | metres | masks


def session(contents):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(contents, options, providers=["CPUExecutionProvider"])


def test_a_file_gives_the_logits_of_jax_for_any_number_of_windows(model):
    run = session(to_onnx(model)).run
    for batch in (1, 3):
        windows = windows_of(model, batch)
        (found,) = run(["logits"], windows)
        expected = logits_of(model, 3, windows)
        assert found.shape == (batch, 4, 64)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.ptp(expected) > 0.01


def test_a_recurrence_is_one_operator():
    graph = onnx.load_from_string(to_onnx(initial(GruStudent(), FULL))).graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("GRU") == 1 and not {"Scan", "Loop", "Tanh", "Sigmoid", "Einsum"} & set(operators)


def test_a_file_says_what_it_takes():
    made = onnx.load_from_string(to_onnx(initial(GruStudent(), FULL), future=5))
    about = {entry.key: entry.value for entry in made.metadata_props}
    assert about["network"] == "GruStudent" and "metres" in about["units"]
    assert json.loads(about["inputs"]) == {"lidar": ["B", 8, 216]} and json.loads(about["slots"]) == [0, 1, 2, 3, 4, 5]
    assert [given.name for given in made.graph.input] == ["lidar"]
    assert [given.name for given in made.graph.output] == ["logits"]


def test_a_stream_gives_the_logits_of_windows(model):
    (length,) = {shape[0] for shape in model.inputs.values()}
    contents = stream_to_onnx(model)
    about = {entry.key: entry.value for entry in onnx.load_from_string(contents).metadata_props}
    codes = {name: np.tile(np.float32(code), (1, length, 1)) for name, code in json.loads(about["blank_codes"]).items()}
    run = session(contents).run
    windows = windows_of(model, 1)
    for step in range(length):
        logits, *after = run(None, {name: seen[:, step] for name, seen in windows.items()} | codes)
        codes = dict(zip(codes, after, strict=True))
        lacking = length - step - 1
        window = {
            name: np.concatenate([np.zeros_like(seen[:, :lacking]), seen[:, : step + 1]], 1)
            for name, seen in windows.items()
        }
        if step in (1, length - 1):
            np.testing.assert_allclose(logits, logits_of(model, 3, window), atol=1e-5)


def test_bytes_for_weights_change_a_students_logits_little():
    model = initial(GruStudent(), FULL)
    windows = windows_of(model, 100)
    made = to_int8(to_onnx(model), windows)
    graph = onnx.load_from_string(made).graph
    assert len(made) <= 16_000 and len(to_onnx(model)) <= 48_000
    large = [onnx.TensorProto.DataType.Name(each.data_type) for each in graph.initializer if np.prod(each.dims) > 200]
    assert large and set(large) == {"INT8"}
    expected = logits_of(model, 3, windows)
    (found,) = session(made).run(["logits"], windows)
    error = np.abs(found - expected)
    assert 0 < error.mean() < 0.02 * np.ptp(expected)


def test_a_trial_is_without_jax_and_gives_the_same():
    model = initial(GruStudent(), FULL)
    windows = windows_of(model, 70)  # more than go into one call
    trial = try_out(to_onnx(model), windows, calls=20)
    np.testing.assert_allclose(trial.logits, logits_of(model, 3, windows), atol=1e-5)
    assert len(trial.seconds) == 20 and 0 < trial.microseconds(50) <= trial.microseconds(99)
    assert 2**24 < trial.peak < 2**28  # JAX alone would take more
    one = try_out(to_onnx(model, batch=1), windows, calls=1)
    np.testing.assert_allclose(one.logits, trial.logits, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: to_onnx(initial(Generator(), {"noise": (500,)})),
            "expected a network that predicts beams, found a Gen",
        ),
        (
            lambda: to_onnx(initial(OccupancyCnn(), FULL)),
            "expected a network of operators that it has, found OccupancyC",
        ),
        (lambda: stream_to_onnx(initial(PositionNetwork(), {"gps": (3, 2)})), "expected a network that encodes frames"),
        (lambda: try_out(b"nothing", {"lidar": np.zeros((1, 8, 216))}, 1), "ONNX Runtime: expected to run the file"),
    ],
    ids=["generator", "no counterpart", "one frame", "no file"],
)
def test_what_cannot_be_converted_is_refused_in_one_line(make, told):
    with pytest.raises(InputError, match=told) as refused:
        make()
    assert len(str(refused.value).splitlines()) == 1


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(InputError, match=r'expected pip install "beamkd\[deploy\]"'):
        to_onnx(initial(GruStudent(), FULL))


def test_a_network_gives_the_same_file_twice():
    model = initial(GruStudent(), FULL)
    assert to_onnx(model) == to_onnx(Model(model.module, jax.tree.map(np.asarray, model.params), model.inputs))
