"""Run folders: made once, opened again, never mixed up."""

from __future__ import annotations

from pathlib import Path

import pytest

from mess_tf.core.errors import MessError
from mess_tf.recipe.recipe import Recipe
from mess_tf.runs import Run, file_name


def recipe_of(**sections: object) -> Recipe:
    return Recipe.from_table({"data": {"kind": "drawn"}} | sections)


def test_a_created_run_opens_with_the_same_recipe(tmp_path: Path) -> None:
    recipe = recipe_of(training={"seed": 5})
    made = Run.create(tmp_path / "deep" / "run", recipe)
    assert Run.open(str(tmp_path / "deep" / "run")) == made
    assert Run.create(made.folder, recipe) == made


def test_parts_lie_where_the_design_says(tmp_path: Path) -> None:
    run = Run.create(tmp_path, recipe_of())
    assert run.pieces("int8") == tmp_path / "pieces" / "int8"
    assert run.statistics("int8") == tmp_path / "statistics" / "int8.npz"
    assert run.profiles == tmp_path / "profiles.sqlite"
    assert run.export("drop 1 pp") == tmp_path / "export" / "drop_1_pp"
    assert run.search("10.0.0.2:5555", "int8").is_relative_to(tmp_path / "search")


def test_what_is_no_run_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MessError, match="No run folder at .*mess train"):
        Run.open(tmp_path / "missing")
    with pytest.raises(MessError, match="no run folder: it has no recipe.toml"):
        Run.open(tmp_path)
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(MessError, match="not empty and is no run folder"):
        Run.create(tmp_path, recipe_of())
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    with pytest.raises(MessError, match="is a file"):
        Run.create(tmp_path / "holiday.jpg", recipe_of())


def test_before_training_a_recipe_may_be_changed(tmp_path: Path) -> None:
    run = Run.create(tmp_path, recipe_of())
    # Made before weights are looked for, which may fail.
    run.tensorboard.mkdir(parents=True)
    changed = recipe_of(training={"seed": 1})
    Run.create(tmp_path, changed)
    assert Run.open(tmp_path).recipe == changed


@pytest.mark.parametrize("trace", ["supernet.keras", "training/stage1.npz"])
def test_after_training_began_only_later_steps_may_change(
    tmp_path: Path, trace: str
) -> None:
    run = Run.create(tmp_path, recipe_of())
    (run.folder / trace).parent.mkdir(exist_ok=True)
    (run.folder / trace).touch()
    with pytest.raises(MessError, match="training.seed: 0 against 1 .*1 more"):
        Run.create(tmp_path, recipe_of(training={"seed": 1, "batch": 2}))
    assert Run.open(tmp_path).recipe == run.recipe
    later = recipe_of(search={"max_early_exits": 1})
    Run.create(tmp_path, later)
    assert Run.open(tmp_path).recipe == later


def test_a_broken_recipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("[data]\nkind = 1\n")
    with pytest.raises(MessError, match=r"recipe\.toml: data\.kind = 1"):
        Run.open(tmp_path)


@pytest.mark.parametrize("name", ["../../etc", "..", "a/b", "R58M:5", "x y"])
def test_names_of_devices_and_exports_never_leave_their_folder(name: str) -> None:
    if name == "..":
        with pytest.raises(MessError, match="cannot be a file name"):
            file_name(name)
    else:
        assert Path("top", file_name(name)).parent == Path("top")


def test_exports_are_the_folders_with_a_card(tmp_path: Path) -> None:
    run = Run.create(tmp_path, recipe_of())
    for name in ("b", "a", "unfinished"):
        run.export(name).mkdir(parents=True)
    for name in ("b", "a"):
        (run.export(name) / "card.json").touch()
    assert [folder.name for folder in run.exports()] == ["a", "b"]
