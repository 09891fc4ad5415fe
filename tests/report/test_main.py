import sys

import pytest

from beamkd.report.__main__ import main


@pytest.mark.parametrize("results", ['{"experiment": "street"}', '{"experiment": "study"}', "{}", "[]"])
def test_drawing_again_what_has_no_report_is_one_line_with_status_2(tmp_path, monkeypatch, capsys, results):
    (tmp_path / "results.json").write_text(results)
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main()
    errors = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and len(errors.splitlines()) == 1
    assert errors.startswith(f"report: {tmp_path}") and "expected" in errors
