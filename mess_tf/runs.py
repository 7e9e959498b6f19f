"""The run folder: one place for everything that a recipe leads to.

Every command reads the folder and adds its part; this module knows where each part
lies, and nothing of what is inside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mess_tf.core.errors import MessError
from mess_tf.recipe.files import read_stored_recipe, write_recipe
from mess_tf.recipe.recipe import Recipe

RECIPE = "recipe.toml"

# A trained network answers to these sections; changing one afterwards would make the
# folder tell a story that never happened.
TRAINED_SECTIONS = ("data", "network", "heads", "training")


@dataclass(frozen=True)
class Run:
    """A run folder and its recipe.

    Attributes:
        folder: the folder.
        recipe: as stored in the folder, with all its defaults.
    """

    folder: Path
    recipe: Recipe

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Opens a folder that a command made.

        Raises:
            MessError: there is no such folder, or it is no run folder, or its recipe is
                broken.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise MessError(
                f"No run folder at {folder}. Run `mess train {folder} --recipe RECIPE`"
                " first."
            )
        if not (folder / RECIPE).is_file():
            raise MessError(
                f"{folder} is no run folder: it has no {RECIPE}. Give the folder that"
                " `mess train` made."
            )
        return cls(folder, read_stored_recipe(folder / RECIPE))

    @classmethod
    def create(cls, folder: str | Path, recipe: Recipe) -> Run:
        """Makes a run folder, or opens it again for the same recipe.

        The sections that training depends on stay as they are once training has begun;
        the others may change between commands.

        Raises:
            MessError: the folder holds something else, or training was begun with
                other settings.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise MessError(f"{folder} is a file; give a folder for the run.")
        if not (folder / RECIPE).is_file():
            if folder.is_dir() and any(folder.iterdir()):
                raise MessError(
                    f"{folder} is not empty and is no run folder; give a new folder."
                )
            write_recipe(folder / RECIPE, recipe)
            return cls(folder, recipe)
        run = cls.open(folder)
        changed = run.recipe.differences(recipe, TRAINED_SECTIONS)
        if changed and run.training_begun:
            more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
            raise MessError(
                f"{folder} was trained with another recipe: {changed[0]}{more}. Give a"
                " new folder, or leave --recipe and --set out to go on with this one."
            )
        if run.recipe != recipe:
            write_recipe(folder / RECIPE, recipe)
        return cls(folder, recipe)

    @property
    def training_begun(self) -> bool:
        """Whether weights or checkpoints exist."""
        # TensorBoard's folder is made before the first epoch, and says nothing.
        return self.supernet_weights.exists() or (
            self.checkpoints.is_dir()
            and any(path.is_file() for path in self.checkpoints.iterdir())
        )

    @property
    def supernet_weights(self) -> Path:
        return self.folder / "supernet.keras"

    @property
    def supernet_structure(self) -> Path:
        return self.folder / "supernet.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints and of the log of every epoch."""
        return self.folder / "training"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.checkpoints / "tensorboard"

    @property
    def quantise(self) -> Path:
        """Folder of fine-tuning under fake quantisation: checkpoints, logs, result."""
        return self.folder / "quantise"

    @property
    def profiles(self) -> Path:
        """Store of all measurements."""
        return self.folder / "profiles.sqlite"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def log(self) -> Path:
        """What TensorFlow and others had to say."""
        return self.folder / "log.txt"

    def pieces(self, precision: str) -> Path:
        """Folder of the pieces of one precision."""
        return self.folder / "pieces" / precision

    def statistics(self, precision: str) -> Path:
        """Statistics of the pieces of one precision, or of ``keras``."""
        return self.folder / "statistics" / f"{precision}.npz"

    def search(self, device: str, precision: str) -> Path:
        """Folder of the search's results for one device and precision."""
        return self.folder / "search" / file_name(device) / precision

    def export(self, name: str) -> Path:
        """Folder of one exported model."""
        return self.folder / "export" / file_name(name)

    def exports(self) -> list[Path]:
        """Folders of the exported models, by name."""
        return sorted(card.parent for card in self.folder.glob("export/*/card.json"))


def file_name(text: str) -> str:
    """``text`` as one harmless file name: ``192.168.0.2:5555`` -> ``192.168.0.2_5555``.

    Raises:
        MessError: nothing is left of it.
    """
    name = re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip(".")
    if not name:
        raise MessError(
            f"The name {text!r} cannot be a file name; give letters or digits."
        )
    return name
