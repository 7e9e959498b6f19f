"""``mess quickstart``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mess_tf.commands.arguments import next_command
from mess_tf.commands.check import check
from mess_tf.commands.check import render as render_check
from mess_tf.commands.compile import compile as compile_run
from mess_tf.commands.evaluate import evaluate
from mess_tf.commands.export import export
from mess_tf.commands.profile import profile
from mess_tf.commands.report import report
from mess_tf.commands.search import render as render_search
from mess_tf.commands.search import search
from mess_tf.commands.train import train
from mess_tf.core.errors import UsageError
from mess_tf.recipe.settings import as_toml


def quickstart(
    run: str | Path = Path("runs/quickstart"),
    *,
    network: str | Path | None = None,
    data: str | Path | None = None,
    mean: str | None = None,
    std: str | None = None,
    weights: str | Path | None = None,
    recipe: str | Path | None = None,
) -> dict[str, Any]:
    """Runs every step, from training to a report: on drawn images in a few minutes, or
    on a network and images of your own.

    Trains a network's exits, measures them on this computer, searches, exports an int8
    file that stops early, checks it and writes report.html. With a network, exits are
    added to it and it stays as it is (recipe published); with images alone, MobileNetV2
    is trained on them (recipe own); with neither, a small network is trained on images
    that are drawn (recipe quickstart).

    Args:
        run: the run folder; a finished part of it is not done again.
        network: a trained segmentation network, as a .keras file.
        data: folder of images, masks and classes.txt.
        mean: the network's input is (RGB value in 0..255 - mean) / std; one number, or
            three with commas, e.g. 123.7,116.3,103.5.
        std: see mean.
        weights: of MobileNetV2, where ImageNet's cannot be downloaded: a file.
        recipe: another recipe to follow, by path or built-in name.

    Returns:
        ``report`` and ``models`` (paths), ``search`` and ``check`` (as text).

    Raises:
        UsageError: options that do not go together.
        MessError: network, data set, recipe or run folder cannot be used.
    """
    changes: list[str] = []
    if network is not None:
        if data is None:
            raise UsageError("--network needs --data, the folder of images and masks.")
        if weights is not None:
            raise UsageError(
                "--weights is without effect beside --network, whose file has its own;"
                " leave it out."
            )
        changes = list(_of_network(Path(network), mean, std))
    elif mean is not None or std is not None:
        raise UsageError("--mean and --std belong to --network; leave them out.")
    elif weights is not None and data is None and recipe is None:
        raise UsageError(
            "--weights is without effect without --data: drawn images are learnt from"
            " random weights; leave it out."
        )
    usual = "published" if network else "own" if data else "quickstart"
    train(run, recipe=recipe or usual, data=data, weights=weights, changes=changes)
    compile_run(run)
    evaluate(run)
    profile(run)
    found = search(run)
    exported = export(run)
    checked = check(run)
    page = report(Path(run))
    models = [row["model"] for row in exported["exports"]]
    drawn = network is None and data is None
    return {
        "report": page["report"],
        "models": models,
        "search": render_search(found),
        "check": render_check(checked),
        "next": next_command("quickstart", "runs/mine", data="FOLDER")
        if drawn
        else next_command("profile", run, device="phone"),
    }


def _of_network(path: Path, mean: str | None, std: str | None) -> Iterator[str]:
    """The changes of a recipe that put a network of the user's own in."""
    if mean is None or std is None:
        raise UsageError(
            "--network needs --mean and --std, which say how it takes images: its input"
            " is (RGB value in 0..255 - mean) / std. For 0..1 give --mean 0 --std 255;"
            " for -1..1 --mean 127.5 --std 127.5."
        )
    yield f"network.backbone={as_toml(str(path.resolve()))}"
    yield f"network.mean={as_toml(_per_channel('--mean', mean))}"
    yield f"network.std={as_toml(_per_channel('--std', std))}"
    from mess_tf.models.imported_network import open_model

    shape = open_model(path).input_shape
    if isinstance(shape, tuple) and len(shape) == 4:
        height, width = shape[1:3]
        if height and width:  # else the recipe's
            yield f"network.height={height}"
            yield f"network.width={width}"


def _per_channel(option: str, given: str) -> list[float]:
    try:
        values = [float(part) for part in given.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3):
        raise UsageError(
            f"{option} {given!r} is not accepted; give one number, or three with"
            " commas: red,green,blue."
        )
    return values * 3 if len(values) == 1 else values


def render(result: dict[str, Any]) -> str:
    """The search's answer, the check, and where everything is."""
    return "\n".join(
        [
            result["search"],
            "",
            result["check"],
            "",
            *(f"Model: {model}" for model in result["models"]),
            f"Report: {result['report']}",
        ]
    )
