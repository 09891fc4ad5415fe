import numpy as np
import pytest


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture
def pytorch_gru():
    """A GRU as PyTorch documents it, one step and one gate at a time: weights [3H, in] and [3H, H], float64."""

    def run(inputs, w_ih, w_hh, b_ih, b_hh):
        w_ir, w_iz, w_in = np.split(np.asarray(w_ih, np.float64), 3)
        w_hr, w_hz, w_hn = np.split(np.asarray(w_hh, np.float64), 3)
        b_ir, b_iz, b_in = np.split(np.asarray(b_ih, np.float64), 3)
        b_hr, b_hz, b_hn = np.split(np.asarray(b_hh, np.float64), 3)
        all_states = []
        for sequence in np.asarray(inputs, np.float64):
            h = np.zeros(w_hr.shape[1])
            states = []
            for x in sequence:
                r = sigmoid(w_ir @ x + b_ir + w_hr @ h + b_hr)
                z = sigmoid(w_iz @ x + b_iz + w_hz @ h + b_hz)
                n = np.tanh(w_in @ x + b_in + r * (w_hn @ h + b_hn))
                h = (1 - z) * n + z * h
                states.append(h)
            all_states.append(states)
        return np.array(all_states)

    return run
