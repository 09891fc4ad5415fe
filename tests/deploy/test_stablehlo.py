import jax
import numpy as np
from jax import export

from beamkd.deploy import logits_of, to_stablehlo
from beamkd.models import CnnGruTeacher
from tests.deploy.networks import LIDAR, drive, initial


def test_a_file_gives_the_logits_of_windows_in_metres_for_any_number_of_them():
    model = initial(CnnGruTeacher(), LIDAR)
    found = export.deserialize(bytearray(to_stablehlo(model, future=2, platforms=("cpu",)).serialize()))
    for batch in (1, 3):
        windows = jax.tree.map(lambda leaf: 20 * leaf, drive(model, 8, batch))
        expected = model.module.apply(model.params, windows["lidar"] / 10, future=2, slots=3).logits
        np.testing.assert_allclose(found.call(windows), expected, atol=1e-5)
        np.testing.assert_allclose(logits_of(model, 2, windows), expected, atol=1e-5)
