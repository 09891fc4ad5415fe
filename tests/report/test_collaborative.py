"""Tables of collaborative learning, by numbers worked out by hand."""

from beamkd.report.collaborative import deployment_rows, wrong_rows

RATES = {"up": 1e6, "down": 1e7, "node": 1e9, "centre": 1e12}


def test_where_to_predict():
    methods = {
        "teacher": {"top5": [[1.0, 0.9]], "power_ratio": [[0.9, 0.9]]},
        "local": {"top5": [[0.5, 0.4]], "power_ratio": [[0.4, 0.4]]},
    }
    results = {
        "config": {"rates": RATES},
        "methods": methods,
        "labels": {"local": "each node alone"},
        "models": {
            "teacher": {"flops_per_window": 2e9},
            "lidar_small": {"flops_per_window": 1e6},
            "gps_large": {"flops_per_window": 3e6},
        },
        "nodes": [{"sensor": "lidar", "size": "small"}, {"sensor": "gps", "size": "large"}],
        "frame_bytes": {"lidar": 1990, "gps": 10},
    }
    # 2,000 bytes in 2 ms, 2 GFLOP in 2 ms, two beams back in 0.2 µs; or 2 MFLOP at a node in 2 ms.
    head, centre, node, often, seldom = deployment_rows(results)
    assert head == ["Where", "Link", "Top-5", "Power", "ms", "bytes up a frame"]
    assert centre == ["at the centre, all sensors", "100 %", "95.0", "90.0", "4.00", "2,000"]
    assert node == ["at the node (each node alone)", "0 %", "45.0", "40.0", "2.00", "0"]
    assert often[1:] == ["99 %", "94.5", "89.5", "3.98", "1,980"]
    assert seldom[1:] == ["90 %", "90.0", "85.0", "3.80", "1,800"]


def test_who_said_what_was_wrong_in_half_of_the_rounds_is_named():
    of_seeds = {"refused": [[4, 0, 0], [4, 0, 0]], "suspected": [[0, 1, 3], [0, 2, 1]], "stale": [[0, 0, 0]] * 2}
    fine = {"refused": [[0, 0, 0]], "suspected": [[1, 1, 1]], "stale": [[1, 3, 1]]}
    results = {
        "methods": {"a": {"rounds": 4, **of_seeds}, "b": {"rounds": 4, **fine}, "teacher": {}},
        "labels": {"a": "A", "b": "B"},
    }
    head, *rows = wrong_rows(results)
    assert len(head) == 6
    assert rows == [
        ["A", "0", "4.00", "0", "0", "4"],
        ["A", "2", "0", "2.00", "0", "4"],
        ["B", "1", "0", "1.00", "3.00", "4"],
    ]
