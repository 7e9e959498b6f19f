"""Recipes: strict, with the paper's defaults, and the same after a round trip."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.supernet_spec import HeadSpec
from mess_tf.recipe.files import (
    find_recipe,
    load_recipe,
    read_stored_recipe,
    to_toml,
    write_recipe,
)
from mess_tf.recipe.recipe import Recipe
from mess_tf.recipe.sections import Data, Heads, Network, Training, head_space
from mess_tf.recipe.settings import as_toml

OWN = {"backbone": "u.keras", "mean": [0, 0, 0], "std": [255, 255, 255]}
DRAWN = {"data": {"kind": "drawn"}}


def recipe_of(**sections: object) -> Recipe:
    return Recipe.from_table(DRAWN | sections)


def test_defaults_are_the_protocol_of_the_supplement() -> None:
    training = recipe_of().training
    assert (training.optimizer, training.learning_rate) == ("sgd", 0.02)
    assert (training.momentum, training.weight_decay) == (0.9, 1e-4)
    assert (training.power, training.alpha) == (0.9, 0.5)
    assert (training.scale_min, training.scale_max) == (0.5, 2.0)
    assert (training.crop, training.flip) == (0.9, 0.5)
    assert recipe_of().network.exits == 6


def test_head_space_has_56_distinct_heads() -> None:
    space = head_space()
    assert len(space) == len({head.id for head in space}) == 56
    assert not any(head.skips for head in space)


@pytest.mark.parametrize("name", ["quickstart", "camvid", "voc", "coco", "published"])
def test_built_in_recipes_load_and_survive_writing(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    write_recipe(tmp_path / "recipe.toml", recipe)
    assert load_recipe(tmp_path / "recipe.toml") == recipe


def test_camvid_recipe_offers_eight_heads_at_each_of_five_early_exits() -> None:
    recipe = load_recipe("camvid")
    early = recipe.heads.early_heads()
    assert recipe.network.max_exits >= 6
    for index in range(1, recipe.network.max_exits):
        heads = early[index] if isinstance(early, dict) else early
        assert len([h for h in heads if all(skip < index for skip in h.skips)]) >= 8
    assert recipe.heads.final_heads()[0].kind == "dlb"
    assert recipe.heads.final_heads()[0].skips


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"training": {"bach": 8}}, ["training.bach", "Did you mean 'batch'?"]),
        ({"trainig": {}}, ["[trainig]", "Did you mean 'training'?"]),
        ({"training": {"batch": 0}}, ["training.batch = 0", "whole number from 1"]),
        ({"training": {"batch": True}}, ["training.batch = true", "whole number"]),
        ({"training": {"batch": 8.0}}, ["training.batch = 8.0", "whole number"]),
        ({"training": {"flip": "0.5"}}, ['training.flip = "0.5"', "from 0 up to 1"]),
        ({"training": {"flip": float("nan")}}, ["training.flip = nan"]),
        ({"training": {"learning_rate": 0}}, ["learning_rate = 0", "above 0"]),
        ({"training": {"optimizer": "adam"}}, ["'sgd', 'adamw'"]),
        ({"training": {"scale_min": 3.0}}, ["scale_min = 3", "scale_max = 2"]),
        ({"training": 3}, ["training = 3", "table [training]"]),
        ({"training": {"taught": ["early"]}}, ['["early"]', "training.teacher"]),
        ({"training": {"taught": ["late"]}}, ["training.taught", "'final', 'early'"]),
        (
            {"training": {"teacher": "r", "taught": ["early"], "loss": "ce"}},
            ["training.loss = 'ce'", "'kd', 'pfd', 'pfd-full'"],
        ),
        ({"network": {"output_stride": 4}}, ["output_stride = 4", "8, 16 or 32"]),
        ({"network": {"backbone": "resnet50", "alpha": 0.5}}, ["alpha = 0.5"]),
        ({"network": {"exit_layers": ["a", "a"]}}, ["exit_layers", "none twice"]),
        ({"heads": {"final": "fcn_r3_b0"}}, ["heads.final", "reduction 3"]),
        ({"heads": {"final": "fcn"}}, ["heads.final", "'fcn'"]),
        ({"heads": {"final": "dlb_r1_b0_s6"}}, ["heads.final", "before exit 6"]),
        ({"heads": {"early": "most"}}, ["heads.early", "'all'"]),
        ({"heads": {"early": ["fcn_r1_b0_s5"]}}, ["heads.early", "before exit 5"]),
        ({"heads": {"early": {"1": ["fcn_r1_b0_s1"]}}}, ["heads.early.1", "first"]),
        ({"heads": {"early": {"6": ["fcn_r1_b0"]}}}, ["exit point 6", "1 to 5"]),
        ({"heads": {"early": {"one": []}}}, ["heads.early"]),
        ({"heads": {"more_final": ["fcn_r1_b0"]}}, ["repeats the final head"]),
        ({"data": {"kind": "folder"}}, ["data.path is missing", "--data"]),
        ({"data": {"kind": "kitti"}}, ["data.kind", "'folder', 'drawn', 'voc'"]),
        ({"data": {"kind": "voc"}}, ["data.path is missing", "--data"]),
        ({"data": {"kind": "drawn", "group": "(a"}}, ["data.group", "regular"]),
        ({"data": {"kind": "drawn", "group": "abc"}}, ["data.group", "brackets"]),
        ({"statistics": {"policies": []}}, ["statistics.policies"]),
        ({"statistics": {"policies": ["eq8"]}}, ["statistics.policies", "'eq7+9'"]),
        ({"statistics": {"policies": ["region"]}}, ["first exit", "'mean'"]),
        ({"statistics": {"pixel_thresholds": []}}, ["pixel_thresholds", "'eq7'"]),
        ({"statistics": {"pixel_thresholds": [1.5]}}, ["pixel_thresholds"]),
        ({"network": {"backbone": "vgg"}}, ["network.backbone", "ends in .keras"]),
        ({"network": {"weights": "own"}}, ["a network of your own", "mobilenet_v2"]),
        ({"network": {"backbone": "u.keras"}}, ["network.mean", "std", "0..1"]),
        ({"network": OWN}, ["weights = 'imagenet'", "'own'"]),
        (
            {"network": OWN | {"weights": "own", "output_stride": 8}},
            ["output_stride = 8", "leave it out"],
        ),
        ({"network": {"std": [1, 0, 1]}}, ["network.std", "above 0"]),
        ({"heads": {"final": "own"}}, ["'own' needs a network of your own"]),
        ({"compile": {"precisions": ["int4"]}}, ["compile.precisions", "'int8'"]),
    ],
)
def test_a_mistake_gets_one_line_that_names_it(
    table: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(MessError) as caught:
        Recipe.from_table(DRAWN | table)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_python_values_obey_the_same_rules() -> None:
    with pytest.raises(MessError, match=r"training.batch = -1"):
        Training(batch=-1)
    network = Network(alpha=1, aspp_rates=[2, 4])  # type: ignore[arg-type]
    assert (type(network.alpha), network.aspp_rates) == (float, (2, 4))


def test_head_lists_per_exit_and_for_all() -> None:
    per_exit = Heads(early={"1": ["fcn_r1_b0"], "3": ["dlb_r2_b1_s2_s1"]})
    assert per_exit.early_heads() == {
        1: (HeadSpec(),),
        3: (HeadSpec("dlb", 2, 1, False, (2, 1)),),
    }
    assert Heads(early="all").early_heads() == head_space()
    assert Heads(early=["fcn_r1_b0"]).early_heads() == (HeadSpec(),)


def test_only_given_widths_are_passed_on() -> None:
    assert Network().head_options() == {}
    assert Network(head_width=32).head_options() == {"head_width": 32}
    assert Network(alpha=0.35).backbone_options() == {"alpha": 0.35}
    assert Network(backbone="resnet50").backbone_options() == {}


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def test_paths_belong_to_the_recipe_and_changes_to_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(
        tmp_path / "a" / "r.toml",
        '[data]\nkind = "voc"\npath = "../set"\nsbd = "s"\n'
        '[network]\nweights = "w.h5"\n'
        'backbone = "u.keras"\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n'
        '[training]\nteacher = "../run"\n',
    )
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    recipe = load_recipe(path)
    assert recipe.data.path == str(tmp_path / "set")
    assert recipe.data.sbd == str(tmp_path / "a" / "s")
    assert recipe.network.weights == str(tmp_path / "a" / "w.h5")
    assert recipe.training.teacher == str(tmp_path / "run")
    assert recipe.network.backbone == str(tmp_path / "a" / "u.keras")
    changed = load_recipe(path, data=Path("mine"), weights="random")
    assert changed.data.path == str(here / "mine")
    assert changed.network.weights == "random"
    assert load_recipe(path, changes=["data.path=x"]).data.path == str(here / "x")


def test_data_on_the_command_line_keeps_the_layout_and_replaces_what_is_drawn(
    tmp_path: Path,
) -> None:
    recipe = load_recipe("quickstart", data=tmp_path)
    assert (recipe.data.kind, recipe.data.path) == ("folder", str(tmp_path.resolve()))
    recipe = load_recipe("voc", data=tmp_path)
    assert (recipe.data.kind, recipe.data.path) == ("voc", str(tmp_path.resolve()))


def test_voc_and_coco_recipes_are_the_protocol_of_the_supplement() -> None:
    for name, images in (("voc", 10_582), ("coco", 92_500)):
        recipe = load_recipe(name)
        training = recipe.training
        assert training == Training(
            batch=32,
            stage1_epochs=training.stage1_epochs,
            stage2_epochs=training.stage2_epochs,
        )
        steps = images // training.batch
        for epochs in (training.stage1_epochs, training.stage2_epochs):
            assert abs(epochs * steps - 60_000) < steps
        assert (recipe.network.height, recipe.network.width) == (520, 520)
        assert (recipe.network.backbone, recipe.network.output_stride) == (
            "resnet50",
            8,
        )
        assert len(recipe.heads.early_heads()) == 56
    assert load_recipe("voc").data.trainaug_images == 10_582


def test_changes_are_toml_values_or_bare_words() -> None:
    recipe = load_recipe(
        "quickstart",
        changes=[
            "training.batch=4",
            "training.optimizer=sgd",
            "training.batch = 5",
            'heads.early=["fcn_r4_b0"]',
            "data.multiprocessing=true",
        ],
    )
    assert recipe.training.batch == 5
    assert recipe.training.optimizer == "sgd"
    assert recipe.heads.early == ("fcn_r4_b0",)
    assert recipe.data.multiprocessing is True


@pytest.mark.parametrize("change", ["x", "batch=1", "a.b.c=1", "training.=1", ".a=1"])
def test_a_change_that_cannot_be_read_is_a_usage_error(change: str) -> None:
    with pytest.raises(UsageError, match=r"section\.key=value"):
        load_recipe("quickstart", changes=[change])


VOID = [
    ("training", "momentum = 0.5", "optimizer = 'adamw'", ""),
    ("training", "stage2_epochs = 3", "scheme = 'e2e'", ""),
    ("training", "stage2_learning_rate = 0.1", "scheme = 'e2e'", ""),
    ("training", "early_exits_per_step = 2", "scheme = 'e2e'", ""),
    ("training", "early_exits_per_step = 2", "scheme = 'frozen'", ""),
    ("network", "exits = 4", "exit_layers = ['block_2_add']", ""),
    ("data", "workers = 0", "", ""),
    ("data", "size = 64", "kind = 'coco'", "kind = 'drawn'"),
    ("data", "count_val = 9", "kind = 'folder'", "kind = 'drawn'"),
    ("data", "sbd = 'x'", "kind = 'coco'", "kind = 'voc'"),
    ("data", "trainaug_images = 0", "kind = 'drawn'", "kind = 'voc'"),
    ("data", "ignore_label = 3", "kind = 'voc'", "kind = 'folder'"),
]


@pytest.mark.parametrize(("section", "void", "beside"), [row[:3] for row in VOID])
def test_a_setting_that_another_makes_void_is_refused(
    tmp_path: Path, section: str, void: str, beside: str
) -> None:
    name = f"{section}.{void.split()[0]}"
    path = write(tmp_path / "r.toml", f"[{section}]\n{void}\n{beside}\n")
    with pytest.raises(MessError, match=rf"{name} = .* is without effect"):
        load_recipe(path, data=tmp_path)

    path = write(tmp_path / "r.toml", f"[{section}]\n{beside}\n")
    with pytest.raises(UsageError, match=f"--set {name} is without effect"):
        load_recipe(path, data=tmp_path, changes=[f"{section}.{void}"])


@pytest.mark.parametrize(("section", "void", "beside", "before"), VOID)
def test_what_nobody_wrote_down_as_such_is_not_refused(
    tmp_path: Path, section: str, void: str, beside: str, before: str
) -> None:
    """Defaults, what a change makes void, and what a run folder holds."""
    path = write(tmp_path / "r.toml", f"[{section}]\n{beside}\n")
    recipe = load_recipe(path, data=tmp_path)
    write_recipe(tmp_path / "whole.toml", recipe)
    assert load_recipe(tmp_path / "whole.toml") == recipe
    if beside:
        path = write(tmp_path / "r.toml", f"[{section}]\n{void}\n{before}\n")
        changed = load_recipe(path, data=tmp_path, changes=[f"{section}.{beside}"])
        write_recipe(tmp_path / "whole.toml", changed)
        assert read_stored_recipe(tmp_path / "whole.toml") == changed


def test_unknown_or_broken_recipe_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MessError, match="'nope'.*camvid, coco, own, published, qui"):
        find_recipe("nope")
    broken = write(tmp_path / "broken.toml", "[data\n")
    with pytest.raises(MessError, match=r"broken\.toml cannot be read"):
        load_recipe(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(MessError, match=r"broken\.toml cannot be read"):
        load_recipe(broken)
    wrong = write(tmp_path / "wrong.toml", "[training]\nbatch = 0\n")
    with pytest.raises(MessError, match=r"wrong\.toml: .*training\.batch"):
        load_recipe(wrong, data=tmp_path)


def test_differences_name_settings_and_can_be_narrowed() -> None:
    one = recipe_of()
    two = recipe_of(training={"seed": 1}, search={"max_early_exits": 1})
    assert one.differences(one) == []
    assert one.differences(two) == [
        "training.seed: 0 against 1",
        "search.max_early_exits: 3 against 1",
    ]
    assert one.differences(two, ["training"]) == ["training.seed: 0 against 1"]


plain_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1
)


@given(path=plain_text, seed=st.integers(0, 2**62), rate=st.floats(1e-12, 1e6))
def test_any_accepted_value_survives_toml(path: str, seed: int, rate: float) -> None:
    recipe = Recipe(
        Data(path=path),
        training=Training(seed=seed, learning_rate=rate),
        heads=Heads(early={"2": ["fcn_r1_b0_s1"]}),
    )
    assert Recipe.from_table(tomllib.loads(to_toml(recipe))) == recipe


values = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab.\" '\\"), inner),
    max_leaves=8,
)


@given(values)
def test_shown_values_are_toml(value: object) -> None:
    assert tomllib.loads(f"x = {as_toml(value)}")["x"] == value
