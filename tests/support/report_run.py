"""A run folder made by hand, with figures that can be counted by hand.

Two exit points, classes of 50 pixels each per image, eight images: c0..c3 calibrate,
r0..r3 are reported. On easy images (c0, c1, r0, r1, r2) the early head gets 44 of 50
pixels of either class, on hard ones 30; the final head 45 and 40. Latencies, ms:
segments 2 and 5, early head 1, final head 3, decision 0.25, output of the final head's
grid 0.5.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from android_bench.records import (
    Conditions,
    DeviceInfo,
    Measurement,
    MeasureSettings,
    Round,
)
from android_bench.store import Store
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.json_files import write_json
from mess_tf.core.pieces import Piece, PieceKind, Pieces
from mess_tf.core.precisions import Precision
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import ExitPoint, HeadSpec, Preprocessing, SupernetSpec
from mess_tf.recipe.recipe import Recipe
from mess_tf.reporting.write_report import (
    ReportOptions,
    WrittenReport,
    write_report,
)
from mess_tf.runs import Run
from search.pareto import ParetoPoint, save_pareto
from search.requirement import Requirement
from search.result import SearchResult, save_results
from search.run import Reporter

CLASSES = ("<b>sky</b>", "road & kerb")
EARLY, WEAK, FINAL = "fcn_r1_b0", "fcn_r2_b0", "fcn_r1_b0"
EASY = ("c0", "c1", "r0", "r1", "r2")
NAMES = tuple(f"{part}{i}" for part in "cr" for i in range(4))
MS = {
    "segment_1": 2.0,
    "segment_2": 5.0,
    f"head_1_{EARLY}": 1.0,
    f"head_1_{WEAK}": 0.5,
    f"head_2_{FINAL}": 3.0,
    "decision_mean_8x12": 0.25,
    "output_4x6": 0.5,
}
MACS = {
    "segment_1": 10,
    "segment_2": 100,
    f"head_1_{EARLY}": 7,
    f"head_1_{WEAK}": 3,
    f"head_2_{FINAL}": 40,
}
CHOSEN = Configuration(
    (ExitChoice(1, EARLY, "mean", 0.8), ExitChoice(2, FINAL, None, None))
)


def make_spec() -> SupernetSpec:
    """Exit point 1 at stride 4 (the output's), the final one at stride 8."""
    return SupernetSpec(
        backbone="tiny",
        backbone_options={},
        output_stride=8,
        image_height=32,
        image_width=48,
        classes=CLASSES,
        ignore_label=255,
        exit_points=(
            ExitPoint(1, "block_<1>", 4, 8, 10),
            ExitPoint(2, "block_2", 8, 8, 110),
        ),
        heads=(
            (HeadSpec("fcn", 1, 0), HeadSpec("fcn", 2, 0)),
            (HeadSpec("fcn", 1, 0),),
        ),
        output_stride_of_logits=4,
        head_options={},
        preprocessing=Preprocessing(),
    )


def make_statistics(
    precision: str, worse: int = 0, held_out: bool = True
) -> Statistics:
    """``worse`` pixels fewer per class on every image, for another precision.

    Without ``held_out`` all images calibrate.
    """
    early = np.array([44 if name in EASY else 30 for name in NAMES]) - worse
    final = np.array([45 if name in EASY else 40 for name in NAMES]) - worse
    weak = np.full(len(NAMES), 20)
    right = np.stack([early, weak, final], axis=1)
    area = np.full((len(NAMES), 3, 2), 50)
    # From the surest: 0, 3, 2, 1, which is not the order of the names.
    sure = [(0.9 if n in EASY else 0.5) - 0.01 * (3 * int(n[1]) % 4) for n in NAMES]
    confidence = np.repeat(np.array(sure, np.float32)[:, None], 3, axis=1)
    return Statistics(
        images=NAMES,
        groups=tuple(f"scene_{n[0]}{int(n[1]) % 2}" for n in NAMES),
        parts=tuple(
            "report" if held_out and n[0] == "r" else "calibration" for n in NAMES
        ),
        heads=((1, EARLY), (1, WEAK), (2, FINAL)),
        classes=CLASSES,
        true_area=np.full((len(NAMES), 2), 50),
        predicted_area=area,
        intersection=np.repeat(right[:, :, None], 2, axis=2),
        confidence={"mean": confidence},
        source=f"pieces:{precision}",
    )


class FakeRunner:
    """Stands for the pieces: exit 1 calls everything class 0, exit 2 is right."""

    def __init__(self, pieces: object) -> None:
        self.upto = 0

    def features(
        self, image: np.ndarray, upto: int | None = None
    ) -> dict[str, np.ndarray]:
        assert image.shape == (32, 48, 3) and upto is not None
        self.upto = upto
        return {}

    def logits(self, tensors: object, exit_index: int, head_id: str) -> np.ndarray:
        return self.output_logits(tensors, exit_index, head_id, (8, 12))

    def output_logits(
        self, tensors: object, exit_index: int, head_id: str, size: tuple[int, int]
    ) -> np.ndarray:
        assert exit_index <= self.upto
        logits = np.zeros((1, *size, 2), np.float32)
        logits[..., 0] = 1
        if exit_index == 2:
            logits[:, :, size[1] // 2 :, 1] = 2
        return logits


class FakeRun:
    """Fills a run folder part by part, as the commands would.

    Attributes:
        folder: the run folder.
        run: it, opened.
    """

    def __init__(
        self, folder: Path, drawn: bool = False, held_out: bool = True
    ) -> None:
        self.folder = folder
        self.held_out = held_out
        data = folder.parent / "data"
        self._write_images(data)
        table = {
            "data": {"kind": "drawn", "size": 32, "count_train": 2, "count_val": 8}
            if drawn
            else {"kind": "folder", "path": str(data)},
            "network": {"height": 32, "width": 48, "exits": 2, "weights": "random"},
            "compile": {"precisions": ["int8"]},
        }
        self.run = Run.create(folder, Recipe.from_table(table))
        self.spec = make_spec()

    def train(self) -> FakeRun:
        self.spec.save(self.run.supernet_structure)
        return self

    def compile(self, precision: Precision = "int8") -> FakeRun:
        kinds: dict[str, PieceKind] = {
            "seg": "segment",
            "hea": "head",
            "dec": "decision",
            "out": "output",
        }
        pieces = tuple(
            Piece(
                name=name,
                kind=kinds[name[:3]],
                file=f"{name}.tflite",
                sha256=f"{precision}-{name}",
                inputs=(),
                outputs=(),
                macs=MACS.get(name, 0),
                size_bytes=1,
            )
            for name in MS
        )
        Pieces(precision, pieces, folder=self.run.pieces(precision)).save()
        return self

    def evaluate(self, precision: Precision = "int8", worse: int = 0) -> FakeRun:
        make_statistics(precision, worse, self.held_out).save(
            self.run.statistics(precision)
        )
        return self

    def profile(
        self, precision: Precision = "int8", factor: float = 1.0, threads: int = 1
    ) -> FakeRun:
        """Every piece measured with ``factor`` times its milliseconds."""
        info = DeviceInfo(
            "host", "host", "host-1", "this computer", "Chip <1>", "x86_64", "Linux", 2
        )
        settings = MeasureSettings.preset("quick", threads)
        with Store(self.run.profiles) as store:
            store.put_device(info)
            for name, ms in MS.items():
                time = "2026-01-02T03:04:05.000+00:00"
                us = 1000 * ms * factor
                store.put(
                    Measurement(
                        name=name,
                        sha256=f"{precision}-{name}",
                        fingerprint=info.fingerprint,
                        settings_key=settings.key,
                        tool_key="tool 1",
                        rounds=(Round((us, us), Conditions(time), runs=2),),
                        time=time,
                        flags=("unstable",) if name == "segment_1" else (),
                    )
                )
        return self

    def search(
        self, precision: Precision = "int8", factor: float = 1.0, worse: int = 0
    ) -> FakeRun:
        """``drop3`` (met), ``drop1`` (missed on the report part) and a front."""
        statistics = make_statistics(precision, worse, self.held_out)
        by_piece = {name: ms * factor for name, ms in MS.items()}
        results = []
        for drop in (3.0, 1.0):
            requirement = Requirement(max_drop_pp=drop)
            reporter = Reporter(statistics, self.spec, by_piece, requirement, 0)
            final = reporter.outcome(Configuration((ExitChoice(2, FINAL),)))
            chosen = reporter.outcome(CHOSEN)
            results.append(
                SearchResult(
                    name=f"drop{drop:g}",
                    setting="input-dependent",
                    requirement=requirement,
                    max_early_exits=1,
                    chosen=chosen,
                    value=chosen.calibration.mean_ms,
                    bound=chosen.calibration.mean_ms,
                    proven=True,
                    space_size=60,
                    thresholds_per_policy=24,
                    best_static=final,
                    reference=final,
                    source=statistics.source,
                    nodes=1,
                    listed=1,
                    wall_s=0.1,
                )
            )
        folder = self.run.search("host", precision)
        save_results(folder / "chosen.json", results)
        front = [
            ParetoPoint(outcome, 99.0, outcome.calibration.miou, True)
            for outcome in (results[0].chosen, results[0].reference)
        ]
        save_pareto(folder / "pareto.csv", front)
        return self

    def export(self, name: str = "drop3", precision: Precision = "int8") -> FakeRun:
        """A card as ``mess export`` writes it, as far as the report reads it."""
        card = {
            "precision": precision,
            "form": {"form": "linked", "threshold_input": True},
            "input": {"dtype": "int8", "shape": [1, 32, 48, 3]},
            "outputs": {"logits": {"dtype": "int8", "shape": [1, 8, 12, 2]}},
            "size_bytes": 1234567,
            "inventory": {
                "float_operators": {"SOFTMAX": 2},
                "weights": {"float32": 12, "int8": 1_200_000},
            },
            "in_float": [{"operator": "SOFTMAX", "count": 2, "reason": "decides"}],
            "promise": {
                "configuration": CHOSEN.to_json(),
                "report": {"mean_ms": 5.375, "miou": 0.7544},
            },
            "latency": {"device": {"name": "host"}},
        }
        write_json(self.run.export(f"{name}_{precision}") / "card.json", card)
        return self

    def check(
        self,
        name: str = "drop3",
        precision: Precision = "int8",
        rerouted_images: int = 0,
    ) -> FakeRun:
        row = {
            "promised_ms": 5.375,
            "promised_at_present_speed_ms": 6.0,
            "measured_ms": 6.3,
            "promised_exit_rates": [0.75, 0.25],
            "measured_exit_rates": [0.75, 0.25],
            "promised_miou": 0.7544,
            "measured_miou": 0.7544,
        }
        write_json(
            self.run.export(f"{name}_{precision}") / "check.json",
            {
                "images": 8,
                "images_with_other_exit": rerouted_images,
                "parts": {"report": row},
            },
        )
        return self

    def write(self, *others: FakeRun, figures: bool = False) -> WrittenReport:
        """The report of this run (and others), without running pieces."""
        runs = [self.run, *(other.run for other in others)]
        options = ReportOptions(figures=figures, open_pieces=FakeRunner)
        return write_report(runs, self.run.report, options)

    def everything(self) -> FakeRun:
        for step in ("train", "compile", "evaluate", "profile", "search"):
            getattr(self, step)()
        return self.export().check()

    @staticmethod
    def _write_images(data: Path) -> None:
        """Left half class 0, right half class 1, on 100 pixels."""
        rng = np.random.default_rng(0)
        for split, names in (("train", ("t0", "t1")), ("val", NAMES)):
            for name in names:
                for kind in ("images", "masks"):
                    (data / kind / split).mkdir(parents=True, exist_ok=True)
                picture = rng.integers(0, 255, (10, 10, 3), np.uint8)
                Image.fromarray(picture).save(data / "images" / split / f"{name}.png")
                labels = np.repeat([[0] * 5 + [1] * 5], 10, axis=0).astype(np.uint8)
                Image.fromarray(labels).save(data / "masks" / split / f"{name}.png")
        (data / "classes.txt").write_text("\n".join(CLASSES) + "\n")
