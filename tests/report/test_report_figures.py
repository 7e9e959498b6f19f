"""The files of figures: all there, readable, and with the right numbers in them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mess_tf.core.configuration import Configuration
from tests.support.report_run import CHOSEN, FakeRun

CHARTS = ("pareto", "exit_rates", "latency", "class_iou", "speedups")


def test_figures_are_written_as_files(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path / "run").everything()
    files = {file.name: file for file in fake.write(figures=True).figures}
    charts = ("exits_host", *(f"{kind}_host_int8" for kind in CHARTS))
    sheets = tuple(f"{kind}_host_int8" for kind in ("outputs", "confidence"))
    assert set(files) == (
        {f"{k}.{e}" for k in charts for e in ("csv", "png", "svg")}
        | {f"{k}.{e}" for k in sheets for e in ("csv", "png")}
        | {"heads_host_int8.csv"}
    )
    assert all(f.parent == fake.folder / "report" for f in files.values())
    for name, file in files.items():
        if name.endswith(".png"):
            assert file.read_bytes().startswith(b"\x89PNG")
        if name.endswith(".svg"):
            assert ElementTree.parse(file).getroot().tag.endswith("svg")

    def rows(name: str) -> list[dict[str, str]]:
        with files[name].open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    mean = rows("latency_host_int8.csv")[2]
    assert (mean["path"], float(mean["heads_ms"])) == ("mean over images", 1.75)
    front = rows("pareto_host_int8.csv")
    assert Configuration.from_json(json.loads(front[0]["exits"])) == CHOSEN
    assert [float(r["report_ms"]) for r in front] == pytest.approx([5.375, 10.5])
    rates = rows("exit_rates_host_int8.csv")
    assert [float(r["report"]) for r in rates[:2]] == [0.75, 0.25]
    iou = rows("class_iou_host_int8.csv")
    network = next(
        r for r in iou if (r["configuration"], r["curve"]) == ("drop3", "network")
    )
    # 3 images with 44 of 50 pixels right, one with 40.
    assert float(network["road & kerb"]) == pytest.approx(172 / (400 - 172))
    table = rows("outputs_host_int8.csv")
    easy = next(r for r in table if r["image"] == "r0" and r["exit"] == "1")
    assert float(easy["pixel_accuracy"]) == pytest.approx(0.88)
    assert float(easy["miou"]) == pytest.approx(44 / 56)
