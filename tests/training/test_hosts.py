"""Several processes on the loopback, each with devices of its own."""

import pytest

from beamkd.base import InputError
from beamkd.training import fetch, from_first, is_first, joined

pytestmark = pytest.mark.xdist_group("trainings")  # one worker: they share the trainings on one device


@pytest.mark.parametrize(("devices", "batch_devices"), [(2, 1), (2, 2), (4, 2)])
def test_two_processes_give_the_losses_and_weights_of_one(trained, on_one_device, assert_same, devices, batch_devices):
    assert_same(trained(devices, batch_devices, processes=2), on_one_device)


def test_alone_a_process_is_the_first_and_results_are_its_own():
    with joined("test", None, None, None):
        assert is_first()
        assert from_first(lambda: {"a": 1}) == {"a": 1}
        assert fetch({"a": "text", "b": None}) == {"a": "text", "b": None}


def test_refusal_of_the_first_process_is_passed_on():
    def refuse():
        raise InputError("--out: expected nothing")

    with pytest.raises(InputError, match="--out: expected nothing"):
        from_first(refuse)


def test_cluster_that_is_not_there_is_refused(monkeypatch):
    def nowhere(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", nowhere)
    monkeypatch.setattr("beamkd.training.hosts._say_when_aborted", lambda line: None)
    with (
        pytest.raises(InputError, match="--coordinator: expected the environment of a cluster"),
        joined("test", "auto", None, None),
    ):
        pass
