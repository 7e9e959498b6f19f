"""The page in a real browser: no error, no request, and its controls work.

Skipped where there is no Chromium. What needs none (nothing from
elsewhere, the page's data) is tested in ``test_report_page.py``.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.report_run import FakeRun

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Before anything else in the page: every error and refused request is noted down.
WATCH = """<script>
const troubles = [];
addEventListener("error", (e) => troubles.push(String(e.message || e.target)), true);
addEventListener("unhandledrejection", (e) => troubles.push(String(e.reason)));
addEventListener("securitypolicyviolation", (e) => troubles.push(e.blockedURI));
</script>"""

# After the page's own script: does what a reader does, and leaves what it saw.
DO = """<script>
addEventListener("load", async () => {
  const seen = {};
  const slider = document.getElementById("drop");
  const text = (id) => document.getElementById(id).textContent;
  const state = () => ({
    limit: text("drop-limit"),
    brief: text("brief"),
    configurations: [...new Set([...document.querySelectorAll(".configuration")]
      .filter((block) => !block.hidden).map((block) => block.dataset.configuration))],
    dots: [...new Set([...document.querySelectorAll(".dot.on")]
      .map((dot) => dot.dataset.configuration))],
  });
  seen.start = state();
  seen.stops = Number(slider.max) + 1;
  slider.value = 0;
  slider.dispatchEvent(new Event("input"));
  seen.left = state();
  slider.value = slider.max;
  slider.dispatchEvent(new Event("input"));
  seen.right = state();
  const dot = document.querySelector('.dot[data-configuration="0"]');
  const details = () => [...document.querySelectorAll(".detail")]
    .filter((block) => !block.hidden).map((block) => block.dataset.configuration);
  dot.dispatchEvent(new Event("pointerenter"));
  seen.pointed = { details: details(), dots: state().dots };
  dot.dispatchEvent(new Event("pointerleave"));
  seen.left_alone = details();
  dot.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
  seen.chosen = state();
  const button = document.querySelector(".configuration:not([hidden]) button.copy");
  button.click();
  await new Promise((resume) => setTimeout(resume, 200));
  seen.copied = button.textContent;
  const pictures = ".configuration:not([hidden]) svg.picture";
  seen.drawn = [...document.querySelectorAll(pictures)]
    .every((svg) => svg.getBBox().width > 0);
  seen.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  seen.wide = document.documentElement.scrollWidth - innerWidth;
  seen.troubles = troubles;
  const note = document.createElement("script");
  note.type = "application/json";
  note.id = "seen";
  note.textContent = JSON.stringify(seen);
  document.body.append(note);
});
</script></body>"""


def dump(browser: str, page: Path, profile: Path, *options: str) -> tuple[str, str]:
    """The page's elements after its scripts have run, and the browser's messages."""
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu"]
        + [f"--user-data-dir={profile}", "--enable-logging=stderr"]
        + ["--virtual-time-budget=5000", *options, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)} is installed")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text("<p>works</p>", encoding="utf-8")
    if "works" not in dump(found, folder / "page.html", folder / "profile")[0]:
        pytest.skip(f"{found} shows no page here")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    run = FakeRun(folder / "run").everything()
    text = run.write().page.read_text(encoding="utf-8")
    watched = text.replace("<head>", "<head>" + WATCH, 1).replace("</body>", DO, 1)
    assert watched.count("<script>") == text.count("<script>") + 2
    (folder / "watched.html").write_text(watched, encoding="utf-8")
    return folder / "watched.html"


def output(browser: str, page: Path, profile: Path, *options: str) -> dict[str, Any]:
    elements, messages = dump(browser, page, profile, *options)
    assert "CONSOLE" not in messages
    found = re.search(r'id="seen">(.*?)</script>', elements, re.S)
    assert found is not None, messages[-2000:]
    seen: dict[str, Any] = json.loads(found[1])
    return seen


def test_controls_work_without_errors_or_requests(
    browser: str, page: Path, tmp_path: Path
) -> None:
    seen = output(browser, page, tmp_path)
    assert seen["troubles"] == [] and seen["requests"] == []
    # Configurations by drop: 0 the final exit, 1 and 2 the answers drop3 and drop1.
    assert seen["stops"] == 2
    assert seen["start"]["configurations"] == seen["start"]["dots"] == ["1"]
    assert seen["start"]["brief"].startswith("drop3: 1.95× · ")
    assert seen["left"]["configurations"] == seen["left"]["dots"] == ["0"]
    assert seen["left"]["limit"] == "at most 0.00 pp"
    assert (
        seen["left"]["brief"]
        == "front 2: 1.00× · 10.50 ms · ±0.00 pp on the report part"
    )
    assert seen["right"]["configurations"] == seen["right"]["dots"] == ["1"]
    # Pointing shows the details only, and for as long as it lasts.
    assert seen["pointed"] == {"details": ["0"], "dots": ["1"]}
    assert seen["left_alone"] == ["1"]
    assert seen["chosen"]["configurations"] == seen["chosen"]["dots"] == ["0"]
    assert seen["copied"] in ("copied", "selected: press Ctrl-C")
    assert seen["drawn"]


def test_a_narrow_screen_needs_no_scrolling_sideways(
    browser: str, page: Path, tmp_path: Path
) -> None:
    seen = output(browser, page, tmp_path, "--window-size=500,900")
    assert seen["wide"] <= 0
