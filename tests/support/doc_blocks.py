"""The code blocks of the project's pages, and the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    file
    for pattern in ("*.md", "docs/**/*.md", "*/README.md")
    for file in ROOT.glob(pattern)
)


class Block(NamedTuple):
    """A fenced block: its page, line, language and text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(language: str) -> list[Block]:
    """All blocks of a language, page by page; no language gives what is printed."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
            if match[1] == language:
                line = text[: match.start()].count("\n") + 1
                found.append(Block(name_of(page), line, language, match[2]))
    return found


def commands_of(text: str) -> list[list[str]]:
    """The commands of a shell block, each as its words.

    Comments, prompts, settings of variables and redirections are left out.
    """
    joined = text.replace("\\\n", " ")
    found = []
    for line in joined.splitlines():
        said = re.sub(r"(^|\s)#.*", "", line)
        for part in re.split(r"&&|;(?=\s)", said):
            words = shlex.split(part)
            while words and (words[0] == "$" or re.match(r"\w+=", words[0])):
                words = words[1:]
            cut = [i for i, word in enumerate(words) if word in (">", "|", "2>")]
            words = words[: cut[0]] if cut else words
            if words:
                found.append([words[0].removeprefix(".venv/bin/"), *words[1:]])
    return found
