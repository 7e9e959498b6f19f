"""What is imported is required, what is required is pinned, what is named exists."""

from __future__ import annotations

import ast
import configparser
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("mess_tf", "android_bench", "search")

# Distributions whose name is not that of the module.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "ai_edge_litert": "ai-edge-litert",
    "cv2": "opencv-python-headless",
    "sklearn": "scikit-learn",
    "usb1": "libusb1",
}


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def normalised(requirement: str) -> str:
    name = re.split(r"[<>=!\[; ]", requirement.strip(), maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(text: str) -> set[str]:
    lines = (line.strip() for line in text.splitlines())
    return {normalised(line) for line in lines if line and not line.startswith("#")}


def third_party_imports() -> set[str]:
    tops: set[str] = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    tops |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    tops.add((node.module or "").partition(".")[0])
    return tops - set(sys.stdlib_module_names) - set(PACKAGES)


def test_every_import_is_a_requirement() -> None:
    required = requirements(setup()["options"]["install_requires"])
    # Of the extras jax, usb (by adb-shell's own usb) and dask.
    optional = {"jax", "libusb1", "distributed", "joblib"}
    imported = {
        DISTRIBUTIONS.get(top, normalised(top)) for top in third_party_imports()
    }
    assert imported - required - optional == set()


def test_every_requirement_is_pinned_once() -> None:
    config = setup()
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", pin) for pin in pins)
    names = [normalised(pin) for pin in pins]
    assert len(names) == len(set(names))
    wanted = requirements(config["options"]["install_requires"])
    for extra in config["options.extras_require"].values():
        wanted |= requirements(extra)
    assert wanted - {"mess-tf"} - set(names) == set()


def test_every_recipe_is_shipped() -> None:
    shipped = setup()["options.data_files"]["share/mess-tf/recipes"].split()
    here = [file.relative_to(ROOT).as_posix() for file in ROOT.glob("recipes/*.toml")]
    assert sorted(shipped) == sorted(here)


def test_pyproject_holds_tool_settings_only() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(table) == {"build-system", "tool"}


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "docs/architecture.md"])
def test_links_within_the_project_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / link).exists(), link
