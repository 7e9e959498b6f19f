"""The documentation: its commands parse, its Python fits, its links and quotes hold.

What of it is executed, ``tests/commands/test_whole_way.py`` does.
"""

from __future__ import annotations

import ast
import inspect
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest

import mess_tf
from mess_tf.cli import _make_parser
from mess_tf.data.dataset import open_split
from mess_tf.recipe.files import load_recipe
from mess_tf.recipe.recipe import Recipe
from tests.support.doc_blocks import PAGES, ROOT, Block, blocks, commands_of, name_of


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(
        r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), link
        if anchor:
            assert anchor in anchors(file), link


@pytest.mark.parametrize(
    ("start", "pages"), [("README.md", "docs/*.md"), ("docs/results.md", "docs/*/*.md")]
)
def test_every_page_is_linked(start: str, pages: str) -> None:
    """From the README, parts of the results from their own page."""
    page = ROOT / start
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    linked = {(page.parent / link).resolve() for link in links}
    assert set(ROOT.glob(pages)) - linked - {ROOT / "docs/index.md"} == set()


@pytest.mark.parametrize("block", blocks("sh"), ids=lambda block: block.place)
def test_commands_parse(block: Block) -> None:
    for program, *words in commands_of(block.text):
        if program != "mess":
            continue
        try:
            _make_parser().parse_args(words)
        except SystemExit as left:
            # --help and --version leave with 0.
            assert left.code == 0, f"mess {shlex.join(words)}"


def test_the_rule_for_commands_sees_what_it_must() -> None:
    text = "mess train r --set a.b=1 \\\n  --recipe x && A=1 mess check r  # why\n"
    assert commands_of(text) == [
        ["mess", "train", "r", "--set", "a.b=1", "--recipe", "x"],
        ["mess", "check", "r"],
    ]
    assert commands_of("$ .venv/bin/mess run x > y\n. .venv/bin/activate\n") == [
        ["mess", "run", "x"],
        [".", ".venv/bin/activate"],
    ]


def calls_of_the_library(source: str) -> list[tuple[str, ast.Call]]:
    """Every ``mess_tf.NAME(...)`` of a program."""
    return [
        (node.func.attr, node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "mess_tf"
    ]


def check_program(source: str) -> None:
    """A program's imports exist, and its calls of the library fit the functions."""
    tree = ast.parse(source)
    imports: list[ast.stmt] = [
        n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    exec(compile(ast.Module(imports, []), "imports", "exec"), {})  # noqa: S102
    for name, call in calls_of_the_library(source):
        signature = inspect.signature(getattr(mess_tf, name))
        words = {word.arg: None for word in call.keywords if word.arg}
        signature.bind(*(None for _ in call.args), **words)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.place)
def test_python_in_the_pages_fits_the_library(block: Block) -> None:
    check_program(block.text)


@pytest.mark.parametrize("file", sorted(ROOT.glob("examples/*.py")), ids=name_of)
def test_examples_fit_the_library_and_stand_in_a_page(file: Path) -> None:
    check_program(file.read_text(encoding="utf-8"))
    name = name_of(file)
    assert any(name in page.read_text(encoding="utf-8") for page in PAGES), name


def test_the_rule_for_programs_sees_what_it_must() -> None:
    check_program("import mess_tf\nmess_tf.train('r', recipe='own')")
    with pytest.raises(TypeError, match="recipes"):
        check_program("import mess_tf\nmess_tf.train('r', recipes='own')")
    with pytest.raises(AttributeError, match="trian"):
        check_program("import mess_tf\nmess_tf.trian('r')")
    with pytest.raises(ImportError):
        check_program("from mess_tf.runs import Walk")


def test_an_example_folder_can_be_trained_on(tmp_path: Path) -> None:
    example = runpy.run_path(str(ROOT / "examples/draw_folder.py"))
    example["draw_folder"](tmp_path, {"train": 3, "val": 2}, 64)
    recipe = load_recipe("own", data=tmp_path)
    for split, count in (("train", 3), ("val", 2)):
        source: Any = open_split(recipe.data, split)
        source.validate()
        assert len(source) == count


def message(node: ast.expr) -> str:
    """A message of the source, with … for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
        return "".join(map(str, parts))
    return str(node.value) if isinstance(node, ast.Constant) else ""


def messages() -> list[str]:
    """How every error that the program can print begins."""
    found = []
    for package in ("mess_tf", "android_bench", "search"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not node.args:
                    continue
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name.endswith("Error"):
                    found.append(message(node.args[0]))
                # These two make their messages of what is read.
                elif name in ("read_json", "read_record"):
                    what = node.args[1 if name == "read_json" else 2]
                    found.append(f"No {message(what)} at ….")
    return found


def test_quoted_errors_begin_as_the_program_has_them() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quotes = re.findall(r"^\| `([^`]+)` \|", page, re.M)
    assert len(quotes) > 40
    known = messages()
    strange = [q for q in quotes if not any(m.startswith(q) for m in known)]
    assert strange == []


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.place)
def test_recipes_in_the_pages_are_accepted(block: Block) -> None:
    import tomllib

    table = tomllib.loads(block.text)
    table.setdefault("data", {"kind": "drawn"})
    Recipe.from_table(table)
