import numpy as np

from beamkd.data.geodesy import to_degrees, to_metres


def test_metres_and_degrees_are_inverse():
    origin = np.array([33.419, -111.929])
    position = np.array([[0.0, 0.0], [12.5, -9.25], [-300.0, 40.0]])
    np.testing.assert_allclose(to_metres(to_degrees(position, origin), origin), position, atol=1e-7)


def test_a_thousandth_of_a_degree_is_111_m_north_and_less_east():
    np.testing.assert_allclose(
        to_metres(np.array([60.001, 10.001]), np.array([60.0, 10.0])), [55.66, 111.32], atol=0.01
    )
