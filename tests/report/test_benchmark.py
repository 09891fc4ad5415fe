"""Tables of the benchmark, by numbers worked out by hand."""

from beamkd.report.benchmark import CITY, COLLABORATION, _tables


def point(nodes, milliseconds):
    sizes = {"nodes": nodes, "members": nodes, "devices": 2, "bytes_up": 2000 * nodes, "bytes_down": 1000 * nodes}
    return sizes | {"milliseconds": milliseconds, "compile_seconds": 3.0, "bytes_centre": 4_000_000 + 2000 * nodes}


def test_what_a_city_would_need_follows_the_line_through_what_was_measured():
    # 1 s and 20 ms a node.
    cases = {"rounds_fedavg": [point(10, 1200.0), point(30, 1600.0), point(100, 3000.0)]}
    tables = _tables({"throughput": cases})
    assert tables[COLLABORATION][1] == ["fedavg", "10", "2", "1.20", "120", "2.00", "1.00", "3.00"]
    # 96 rounds a day of 2 kB up and 1 kB down for each node; 4 MB and one round's messages at the centre.
    assert tables[CITY][1:] == [
        ["fedavg", "1,000", "21.0", "0.192", "0.0960", "6.00"],
        ["fedavg", "10,000", "201", "1.92", "0.960", "24.0"],
    ]


def test_no_city_is_computed_from_a_single_number_of_nodes():
    assert CITY not in _tables({"throughput": {"rounds_fedavg": [point(10, 1200.0)]}})
