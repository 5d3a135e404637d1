"""What the documents tell a reader to type, typed."""

import re
import shlex
import textwrap
from pathlib import Path

import pytest
from command import help_of
from service import ROOT
from tiny import tiny_checkpoint

from offramp.cli.main import VERBS
from offramp.cli.shipped import local_server

DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^    .*\n|^\n)+", re.MULTILINE)


def code_of(document: Path) -> list[str]:
    """Its Python examples in order: fenced, or indented and beginning with an import."""
    text = document.read_text(encoding="utf-8")
    indented = [textwrap.dedent(block).strip("\n") for block in INDENTED.findall(text)]
    examples = [block for block in indented if block.startswith(("from ", "import "))]
    return examples + FENCED.findall(text)


def commands_of(document: Path) -> list[list[str]]:
    """The `offramp` commands that it shows on lines of their own."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line.strip().removeprefix("$ ") for line in text.splitlines())
    return [shlex.split(line, comments=True) for line in lines if line.startswith("offramp ")]


@pytest.mark.parametrize("name", ["README.md", "docs/client.md"])
def test_examples_run_as_they_stand(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = code_of(ROOT / name)
    assert examples
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("a fine film\na dull film\n", encoding="utf-8")
    with local_server(tiny_checkpoint(tmp_path / "tiny")) as address:
        for example in examples:
            assert "127.0.0.1:50051" in example or "import" in example
            exec(example.replace("127.0.0.1:50051", address), {})  # noqa: S102


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_have_the_options_that_are_shown(document: Path) -> None:
    for _, verb, *arguments in commands_of(document):
        assert verb in VERBS, verb
        options = {one.partition("=")[0] for one in arguments if one.startswith("--")}
        missing = options - set(re.findall(r"--[a-z0-9-]+", help_of(verb)))
        assert not missing, f"offramp {verb} has no {sorted(missing)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (document.parent / target).exists(), target
