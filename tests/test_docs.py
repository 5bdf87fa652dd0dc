"""The README and docs/ tell the truth: every Python block in them runs.

A ```python block is a program of its own; a ```text block right behind it is what it
prints, standard output before standard error, and a line `...` there stands for any lines.
Without one it prints nothing.  ```python status=2 names its exit status.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

import goroutines
from goroutines import memory, runtime

from .conftest import ONE_THREAD, run_program

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = ROOT / "docs" / "reference.md"

BLOCK = re.compile(
    r"^```python(?: status=(?P<status>\d+))?\n(?P<program>.*?)^```\n"
    r"(?:\n*^```text\n(?P<output>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A program in a page, and what it is said to do."""

    program: str
    output: str
    status: int


def blocks(page: Path) -> list[object]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        block = Block(match["program"], match["output"] or "", int(match["status"] or 0))
        found.append(pytest.param(block, id=f"{page.name}:{line}"))
    return found


def pattern(output: str) -> str:
    """Turn an expected output, with its `...` lines, into a regular expression."""
    lines = output.splitlines(keepends=True)
    return "".join("(?:.*\n)*?" if line == "...\n" else re.escape(line) for line in lines)


@pytest.mark.parametrize("block", [block for page in PAGES for block in blocks(page)])
def test_block(block: Block):
    end = run_program(block.program, env=ONE_THREAD)
    output = end.stdout + end.stderr
    assert re.fullmatch(pattern(block.output), output), output
    assert end.returncode == block.status


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_is_found(page: Path):
    assert len(blocks(page)) == page.read_text(encoding="utf-8").count("```python")


def test_the_readme_has_an_example():
    program = blocks(ROOT / "README.md")[0].values[0].program
    assert len([line for line in program.splitlines() if line.strip()]) <= 15


def test_the_reference_has_every_public_name():
    text = REFERENCE.read_text(encoding="utf-8")
    headings = set(re.findall(r"`(?:runtime\.)?(\w+)", "\n".join(re.findall(r"^#.*", text, re.M))))
    assert headings >= {*goroutines.__all__, *runtime.__all__}


def test_the_reference_has_every_name_of_memory():
    text = REFERENCE.read_text(encoding="utf-8")
    section = text.partition("## The module `memory`")[2].partition("\n## ")[0]
    headings = "\n".join(re.findall(r"^###.*", section, re.M))
    assert set(re.findall(r"`(\w+)", headings)) == set(memory.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target
