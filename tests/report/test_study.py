import base64
import json
import re
import sys

import numpy as np
import pytest
from rich.console import Console

from beamkd.base import InputError
from beamkd.claims import METRICS, Claim, difference, judge
from beamkd.report.__main__ import main
from beamkd.report.study import console_tables, keep, write

FIGURES = ("accuracy.png", "differences.png", "sweeps.png")
SIZES = (2000, 4000)


def method(first, *, step=0.0):
    """Two seeds and two slots that differ by 1/8 from slot to slot; `step` from seed to seed."""
    top1 = np.array([[first, first - 0.125], [first + step, first + step - 0.125]])
    found = {"top1": top1, "top2": top1 + 0.1, "top3": top1 + 0.15, "top5": top1 + 0.25, "dba": top1 + 0.3125}
    return {name: values.tolist() for name, values in {**found, "power_ratio": top1 + 0.375}.items()}


DRIVES, WINDOWS = 3, 8.0


def by_drive(methods):
    """What `beamkd.claims` compares: every drive like all."""
    for values in methods.values():
        rates = {name: np.array(values[name])[:, None].repeat(DRIVES, 1) for name in METRICS}
        values["by_drive"] = {name: WINDOWS * rate for name, rate in rates.items()}
    return dict.fromkeys(METRICS, np.full(rates["top1"].shape, WINDOWS))


def ahead(methods, counts, names, teacher="teacher"):
    """The differences of a table, as the study writes them."""

    def of(name, metric):
        found = difference(name, teacher, methods, counts, metric)
        return [found.mean, found.low, found.high]

    return {name: {metric: of(name, metric) for metric in METRICS} for name in names if name != teacher}


def plain(value):
    """A claim as JSON has it."""
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim):
        return [plain(entry) for entry in value]
    if isinstance(value, (float, np.ndarray)):
        return float(value) if np.isfinite(value) else None
    return value


def study(seeds=2):
    """Results of a small study."""
    methods = {"teacher": method(0.5), "kd": method(0.5, step=0.0625), "ours": method(0.53125), "noise": method(0.125)}
    methods |= {"half": method(0.4375), "whole": method(0.5)}
    for values in methods.values():
        values |= {name: rows[:seeds] for name, rows in values.items()} | {"epochs": [10, 20][:seeds]}
    counts = by_drive(methods)
    claims = [
        Claim("a", "Ours & theirs are at 100 %.", "ours", "teacher"),
        Claim("b", "KD_1 is farther.", ("ours", "teacher"), ("kd", "teacher"), 0.02),
    ]
    judged = [judge(claim, methods, counts, metric) for claim in claims for metric in ("top1", "power_ratio")]
    models = {"teacher": {"parameters": 189952, "flops_per_window": 5e6}}
    models |= {
        name: {"parameters": size, "flops_per_window": 20.0 * size}
        for name, size in zip(("half", "whole"), SIZES, strict=True)
    }
    main, sizes = ["teacher", "kd", "ours", "noise"], ["half", "whole"]
    results = {
        "experiment": "study",
        "config": {"grid": "main", "seeds": seeds, "seed": 3, "source": "sim", "lidar": "measured", "split": "inorder"},
        "data": {
            "source": "sim",
            "scenario": None,
            "windows": {"train": 1000, "val": 100, "test": 120},
            "drives": {"train": 40, "val": 4, "test": 5},
        },
        "models": models,
        "methods": methods,
        "test_drives": {"number": [4, 5, 6], "counts": counts},
        "labels": {"teacher": "teacher, CNN-GRU", "kd": "KD_1 & real data", "ours": "ours [new]", "noise": "50% noise"},
        "data_free": ["ours", "noise", "half", "whole"],
        "tables": [
            {"title": "Main methods", "methods": main, "ahead": ahead(methods, counts, main)},
            {"title": "Sizes", "methods": sizes, "ahead": ahead(methods, counts, sizes)},
        ],
        "sweeps": [
            {
                "title": "Size",
                "axis": "student weights",
                "values": list(SIZES),
                "methods": sizes,
                "ahead": ahead(methods, counts, sizes),
                "log": True,
            }
        ],
        "claims": judged,
        "seconds": {"total": 12.5, "compile": 4.0, "phases": {"teacher": 3.0}},
    }
    return plain(results)


@pytest.fixture
def folder(tmp_path):
    """folder(results) -> a folder that holds them and nothing else."""

    def folder(results):
        (tmp_path / "results.json").write_text(json.dumps(results))
        return tmp_path

    return folder


@pytest.fixture
def written(folder):
    """written(results) -> (folder, its report.md)."""

    def written(results):
        write(folder(results))
        return folder(results), (folder(results) / "report.md").read_text()

    return written


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """The folder of the small study, and its report.md."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "results.json").write_text(json.dumps(study()))
    write(folder)
    return folder, (folder / "report.md").read_text()


def rows(text, heading):
    """Cells of the first table below a heading."""
    lines = text.split(f"# {heading}\n")[1].splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("|"))
    table = lines[start : next((i for i in range(start, len(lines)) if not lines[i]), len(lines))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_method_table_holds_means_errors_and_differences_to_the_teacher(usual):
    _, text = usual
    header, rule, *found = rows(text, "Main methods")
    assert header == ["Method", "Data-free", "Top-1", "Top-5", "DBA", "Power", "Δ Top-1", "Δ Top-5"]
    assert rule[:2] == ["---"] * 2 and set(rule[2:]) == {"---:"}
    # Means over slots: 0.4375 for the teacher; KD's seeds are 0 and 6.25 points ahead: 3.125 ± 3.125.
    assert found[0] == ["teacher, CNN-GRU", "no", "43.8 ± 0.0", "68.8 ± 0.0", "75.0 ± 0.0", "81.2 ± 0.0", "–", "–"]
    assert found[1][:6] == ["KD_1 & real data", "no", "46.9 ± 3.1", "71.9 ± 3.1", "78.1 ± 3.1", "84.4 ± 3.1"]
    # Student's t of two values that stand for a normal distribution: 12.7 standard errors either way.
    low, high = (float(end.replace("−", "-")) for end in re.fullmatch(r"\+3.12 \[(.+), (.+)\]", found[1][6]).groups())
    assert (low, high) == pytest.approx((3.125 - 12.7 * 3.125, 3.125 + 12.7 * 3.125), rel=0.5)
    assert found[1][7] == found[1][6]
    assert found[2] == ["ours [new]", "yes", "46.9 ± 0.0", *found[2][3:6], *["+3.12 [+3.12, +3.12]"] * 2]
    assert found[3][6] == "−37.50 [−37.50, −37.50]"
    assert [row[0] for row in rows(text, "Sizes")[2:]] == ["half", "whole"]  # no label: the name


def test_claims_come_first_with_labels_points_and_verdicts(usual):
    _, text = usual
    assert text.index("## Claims") < text.index("## Methods")
    _, _, *found = rows(text, "Claims")
    statement, against = "Ours & theirs are at 100 %.", "ours [new] against teacher, CNN-GRU"
    assert found[0] == ["a", statement, against, "Top-1", "0.0", "+3.12 [+3.12, +3.12]", "open"]
    assert found[1] == ["", "", "", "Power", "0.0", "+3.12 [+3.12, +3.12]", "open"]
    pairs = "(ours [new] to teacher, CNN-GRU) against (KD_1 & real data to teacher, CNN-GRU)"
    assert found[2][:5] == ["b", "KD_1 is farther.", pairs, "Top-1", "2.0"]
    assert found[2][5].startswith("+0.00 [−") and found[2][6] == "open"
    assert rows(text, "Claims by slot")[2] == ["a", against, "Top-1", *["+3.12 [+3.12, +3.12]"] * 2]


def test_slots_sizes_and_time_have_their_tables(usual):
    _, text = usual
    header, _, *found = rows(text, "Top-1 by slot, percent")
    assert header == ["Method", "now", "+1"]
    assert found[:2] == [
        ["teacher, CNN-GRU", "50.0 ± 0.0", "37.5 ± 0.0"],
        ["KD_1 & real data", "53.1 ± 3.1", "40.6 ± 3.1"],
    ]
    assert rows(text, "Power by slot, percent")[2] == ["teacher, CNN-GRU", "87.5 ± 0.0", "75.0 ± 0.0"]
    assert rows(text, "DBA by slot, percent")[2] == ["teacher, CNN-GRU", "81.2 ± 0.0", "68.8 ± 0.0"]
    assert rows(text, "Top-5 by slot, percent")[2] == ["teacher, CNN-GRU", "75.0 ± 0.0", "62.5 ± 0.0"]
    _, _, half, whole = rows(text, "Size: weights and FLOPs")
    assert half == ["half", "2,000", "40,000", "37.5 ± 0.0", "62.5 ± 0.0", "75.0 ± 0.0", *["−6.25 [−6.25, −6.25]"] * 3]
    assert whole[1:3] + whole[6:] == ["4,000", "80,000", *["+0.00 [+0.00, +0.00]"] * 3]
    assert rows(text, "Networks: weights and FLOPs")[2:] == [["teacher", "189,952", "5,000,000"]]
    assert "12.5 s in all" in text and rows(text, "Time")[2] == ["teacher", "3.0"]


@pytest.mark.parametrize(
    ("source", "lidar", "origin", "said"),
    [
        ("sim", "measured", None, "Simulated: everything"),
        ("deepsense", "measured", None, "Scenario 8. Receive powers, positions and LiDAR: as in the folder."),
        ("deepsense", "raycast", None, "Receive powers and positions: as in the folder. LiDAR: simulated"),
        (
            "deepsense",
            "measured",
            "written by us",
            "Scenario 8 (written by us). Receive powers, positions and LiDAR: as",
        ),
    ],
)
def test_head_says_what_is_simulated_and_of_a_folder_no_more_than_is_known(written, source, lidar, origin, said):
    results = study()
    results["config"] |= {"source": source, "lidar": lidar}
    results["data"] |= {"source": source, "scenario": 8, "origin": origin}
    results |= {"sweeps": [], "tables": []}
    head = written(results)[1].split("## ")[0]
    assert said in head
    assert "1,000 train (40 drives), 100 val (4 drives), 120 test (5 drives)" in head and "Seeds: 2, from 3." in head


def test_a_table_with_a_teacher_of_its_own_is_compared_with_that(written):
    results = study()
    table = results["tables"][0]
    table |= {"teacher": "kd"}
    table["ahead"] = plain(ahead(results["methods"], results["test_drives"]["counts"], table["methods"], "kd"))
    _, text = written(results)
    found = {row[0]: row[6:] for row in rows(text, "Main methods")[2:]}
    assert found["KD_1 & real data"] == ["–", "–"]
    # KD's seeds are 0 and 6.25 points ahead of the teacher.
    assert [cell.split(" [")[0] for cell in found["teacher, CNN-GRU"]] == ["−3.12", "−3.12"]


def test_latex_tables_escape_what_latex_reads(usual):
    text = (usual[0] / "report.tex").read_text()
    assert r"Ours \& theirs are at 100 \%." in text and r"KD\_1 \& real data & no &" in text and r"50\% noise" in text
    assert r"+3.12 [+3.12, +3.12] & open \\" in text and r"$-$37.50 [$-$37.50, $-$37.50]" in text
    assert not set("−±∞Δ–") & set(text)
    assert len(re.findall(r"\\begin\{tabular\}", text)) == 3
    for name in ("table*", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}")
    columns = {"claims": 7, "methods-1": 8, "methods-2": 8}
    for table in text.split(r"\label{tab:study-")[1:]:
        body = table.split(r"\toprule")[1].split(r"\bottomrule")[0].replace(r"\midrule", "")
        for line in body.strip().splitlines():
            assert not line or (
                line.endswith(r"\\") and len(re.findall(r"(?<!\\)&", line)) == columns[table.split("}")[0]] - 1
            )


def test_figures_are_pictures(usual):
    for name in FIGURES:
        assert (usual[0] / name).read_bytes()[:4] == b"\x89PNG"
        assert f"]({name})" in usual[1]


def test_page_holds_the_tables_and_every_picture_and_loads_nothing(usual):
    folder, text = usual
    page = (folder / "report.html").read_text()
    assert "<title>Study of data-free distillation, grid &#x27;main&#x27;</title>" in page
    assert (
        '<td style="text-align:right">−37.50 [−37.50, −37.50]</td>' in page and "<td>KD_1 &amp; real data</td>" in page
    )
    shown = re.findall(r"!\[.*\]\((.*)\)", text)
    assert shown == list(FIGURES) and page.count("<img ") == len(shown)
    for name in shown:
        assert base64.b64encode((folder / name).read_bytes()).decode() in page
    assert not re.search("https?:", page)


def test_html_in_a_label_is_text_on_the_page(written):
    results = study()
    results["labels"]["kd"] = "<script>alert(1)</script>"
    folder, _ = written(results)
    page = (folder / "report.html").read_text()
    assert "<script" not in page and "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td>" in page


def test_figures_and_tables_without_content_are_not_made(written):
    results = study()
    results |= {"sweeps": [], "claims": [], "tables": [{"title": "Alone", "methods": ["teacher"], "ahead": {}}]}
    folder, text = written(results)
    assert [name for name in FIGURES if (folder / name).exists()] == ["accuracy.png"]
    assert "sweeps.png" not in text and "Claims" not in text
    assert "Claims" not in (folder / "report.tex").read_text()
    assert len(console_tables(folder)) == 1


def test_a_single_seed_has_unbounded_intervals(written):
    folder, text = written(study(seeds=1))
    assert study(seeds=1)["claims"][0]["low"] is None
    assert rows(text, "Claims")[2][5:] == ["+3.12 [−∞, +∞]", "open"]
    assert rows(text, "Main methods")[3][2:] == ["43.8", "68.8", "75.0", "81.2", *["+0.00 [−∞, +∞]"] * 2]
    assert r"[$-$$\infty$, +$\infty$]" in (folder / "report.tex").read_text()


def test_report_is_drawn_again_from_the_results_alone(usual, folder, monkeypatch):
    again = folder(study())
    monkeypatch.setattr(sys, "argv", ["report", str(again)])
    main()
    made = {"results.json", "report.md", "report.html", "report.tex", *FIGURES}
    assert {path.name for path in again.iterdir()} == {path.name for path in usual[0].iterdir()} == made
    for name in ("report.md", "report.html", "report.tex"):
        assert (again / name).read_bytes() == (usual[0] / name).read_bytes()


def test_terminal_shows_claims_and_the_main_table(folder):
    console = Console(width=120, record=True)
    for table in console_tables(folder(study())):
        console.print(table)
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= 120
    for text in ("open", "ours [new]", "+3.12 [+3.12, +3.12]", "46.9 ± 3.1", "Main methods"):
        assert text in shown
    assert "whole" not in shown


@pytest.mark.parametrize(("contents", "named"), [(None, "found no file"), ("{", "expected JSON")])
def test_a_folder_without_results_is_refused(tmp_path, contents, named):
    if contents is not None:
        (tmp_path / "results.json").write_text(contents)
    for call in (write, console_tables):
        with pytest.raises(InputError, match=named) as refusal:
            call(tmp_path)
        assert "results.json" in str(refusal.value)


def test_a_study_of_an_earlier_version_is_refused(folder):
    results = study()
    del results["test_drives"]
    with pytest.raises(InputError, match="expected results by test drive, found none"):
        write(folder(results))


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("inorder", "all seeds share its 3 drives, on which every claim rests."),
        ("random", "5 drives a seed; every claim rests on the 3 of all seeds."),
    ],
)
def test_head_says_how_many_drives_carry_a_claim(written, split, said):
    results = study()
    results["config"]["split"] = split
    assert said in written(results)[1].split("## ")[0]


def test_kept_tables_are_those_of_the_report_and_come_from_what_is_kept_beside_them(usual, folder, tmp_path):
    keep(usual[0], tmp_path / "kept" / "study.md")
    text = (tmp_path / "kept" / "study.md").read_text()
    assert rows(text, "Claims") == rows(usual[1], "Claims") and rows(text, "Sizes") == rows(usual[1], "Sizes")
    assert ".png" not in text
    kept = json.loads((tmp_path / "kept" / "study.json").read_text())
    assert "by_drive" not in json.dumps(kept)
    again = folder(kept)
    keep(again, tmp_path / "again.md")
    assert (tmp_path / "again.md").read_text() == text


def test_what_is_kept_does_not_tell_where_the_folders_of_data_were(folder, tmp_path):
    results = study()
    results["config"]["data_dir"] = ["/somewhere/Scenario8", "Scenario9"]
    keep(folder(results), tmp_path / "kept.md")
    text = (tmp_path / "kept.json").read_text()
    assert json.loads(text)["config"]["data_dir"] == ["Scenario8", "Scenario9"] and "somewhere" not in text
