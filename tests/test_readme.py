"""What the README and `docs/` say: their Python blocks run, their commands parse, their paths are there.

The blocks of one document run in order and share their names. Where a line ends in `print(...)  # text`, that text is
what it prints. `load_model` gives small random networks in place of pretrained ones.
"""

import dataclasses
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image

import camjax
from camjax.checkpoints import loading
from camjax.checkpoints.store import described
from camjax.cli.app import app
from camjax.images.labels import imagenet_labels
from camjax.models.registry import find_architecture

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"\bprint\(.*\)  # (.+)$")


def blocks(document, language):
    """Each block of a language, below as many empty lines as stand above it, so that errors have the right numbers."""
    text = document.read_text("utf-8")
    for found in BLOCK.finditer(text):
        if found[1] == language:
            yield "\n" * text.count("\n", 0, found.start(2)) + found[2]


def in_documents(language):
    return [pytest.param(path, id=path.name) for path in DOCUMENTS if any(blocks(path, language))]


def small(source):
    """A little network whose layers have ResNet-50's names, or what is in a file."""
    if Path(source).is_file():
        return loading.load_model(source)
    usual = find_architecture("resnet18")
    config = dataclasses.replace(usual.config, depths=(1, 1, 3, 1), widths=(8, 8, 8, 8), stem_width=8)
    architecture = dataclasses.replace(usual, config=config)
    return dataclasses.replace(
        architecture.family.initialise(config),
        preprocess=architecture.preprocess,
        labels=imagenet_labels(),
        name=source,
        architecture=described(architecture),
    )


@pytest.mark.parametrize("document", in_documents("python"))
def test_python_blocks_run_in_order(document, tmp_path, monkeypatch):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(camjax, "load_model", small)
    printed = {}

    def record(*values):
        printed[sys._getframe(1).f_lineno] = " ".join(map(str, values))

    names = {"__name__": "document", "print": record}
    for block in blocks(document, "python"):
        exec(compile(block, str(document), "exec"), names)
    lines = document.read_text("utf-8").splitlines()
    expected = {number: PRINTED.search(line)[1] for number, line in enumerate(lines, 1) if PRINTED.search(line)}
    assert {number: printed[number] for number in expected} == expected


@pytest.mark.parametrize("document", in_documents("sh"))
def test_commands_parse(document):
    group = typer.main.get_command(app)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for block in blocks(document, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["make"]:
                assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), line
            if "camjax" in words:
                name, *arguments = words[words.index("camjax") + 1 :]
                command = group.commands[name]
                command.make_parser(command.make_context(name, [], resilient_parsing=True)).parse_args(arguments)


def test_the_readme_is_short():
    """Half of the 1,873 words that it once had; what is reference stands in docstrings and `docs/`."""
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 936


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_are_there(document):
    text = document.read_text("utf-8")
    linked = {document.parent / link for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text)}
    folders = "benchmarks|camjax|docs|examples|tests|weights"
    named = {ROOT / path for path in re.findall(rf"`((?:{folders})/[^` ]*)`", text)}
    assert [path for path in sorted(linked | named) if not path.exists()] == []
