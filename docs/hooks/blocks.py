"""The code blocks of a page, and what the page asks of them."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]

#: Languages whose blocks are commands.
SHELL = ("sh", "bash")

_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: first word after the fence, "" if there is none.
        code: its text.
        line: number of its opening fence, from 0.
        end: number of the line after its closing fence.
        not_run: why it cannot be run, from a comment `<!-- not run: ... -->` before it; "" if it can.
    """

    language: str
    code: str
    line: int
    end: int
    not_run: str


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    reason = ""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "html_block":
            match = _NOT_RUN.match(token.content.strip())
            reason = match[1] if match else ""
        elif token.type == "fence":
            assert token.map is not None
            language = token.info.split()[0] if token.info.strip() else ""
            found.append(Block(language, token.content, token.map[0], token.map[1], reason))
            reason = ""
        elif token.nesting == 1:
            reason = ""
    return found


def commands(block: Block) -> list[list[str]]:
    """The commands of a shell block, one a line, as words; comments are dropped, `\\` at the end joins lines."""
    lines = block.code.replace("\\\n", " ").splitlines()
    words = (shlex.split(line, comments=True) for line in lines)
    return [command for command in words if command]


def pictures(text: str) -> list[str]:
    """Names of the pictures of a page that lie in no folder: those that its own blocks must make."""
    return re.findall(r"!\[[^\]]*\]\(([\w.-]+\.png)\)", text)
