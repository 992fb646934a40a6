"""Which way imports run, and what importing camjax costs."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import camjax

ROOT = Path(camjax.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
LAYERS = [
    "choices",
    "errors",
    "atomic",
    "files",
    "json_text",
    "images",
    "core",
    "methods",
    "metrics",
    "models",
    "checkpoints",
    "explain",
    "batch",
    "evaluate",
    "cli",
]
LEVEL = {name: level for level, name in enumerate(LAYERS)}


def imported(path):
    """Every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    part = path.relative_to(ROOT).with_suffix("").parts[0]
    for name in imported(path):
        package, *inner = name.split(".")
        assert package not in {"torch", "torchvision", "timm", "transformers", "cv2"}
        assert package != "flax" or part == "models" or path.stem in {"nnx", "linen"}
        assert package != "equinox" or path.stem == "equinox"
        assert package != "matplotlib" or path.stem in {"figures", "colours"}
        if package == "camjax" and inner and part != "__init__":
            assert LEVEL[inner[0]] <= LEVEL[part], f"{part} imports {name}, which stands above it"


def declared(requirements):
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}


DECODERS = {"imagecodecs": "tiff", "tifffile": "tiff", "pydicom": "dicom", "pillow_heif": "heif"}
"""Packages that decode further kinds of image files, and the extra that installs each."""


def test_what_is_imported_is_what_pyproject_asks_for():
    """Neither less nor more; whoever hands over a module of Equinox has installed it."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text("utf-8"))["project"]
    needs, decoders = {"core": set(), "batch": set()}, {"pillow_heif"}  # which is a plugin, and imported as they are
    for path in MODULES:
        packages = {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names - {"camjax"}
        if path == ROOT / "core" / "adapters" / "equinox.py":
            packages -= {"equinox"}
        if path.parent == ROOT / "images" / "decode":
            decoders |= packages & DECODERS.keys()
            packages -= DECODERS.keys()
        extra = "batch" if path.relative_to(ROOT).parts[0] in {"batch", "evaluate"} else "core"
        needs[extra] |= {{"PIL": "pillow", "absl": "absl-py"}.get(package, package) for package in packages}
    assert needs["core"] == declared(project["dependencies"])
    assert decoders == DECODERS.keys()
    for package, extra in DECODERS.items():
        assert package.replace("_", "-") in declared(project["optional-dependencies"][extra])
    batch = declared(project["optional-dependencies"]["batch"])
    assert needs["batch"] - needs["core"] == batch


def module_name(path):
    return ".".join((ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def needed(path, known):
    """The modules of camjax that a file imports; `from package import name` may be a module, or what stands in one."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from inner & known or {node.module}


def test_imports_have_no_cycle():
    """Within a folder too; the package's own file only says where its public names are."""
    paths = {module_name(path): path for path in MODULES if path != ROOT / "__init__.py"}
    graph = {name: set(needed(path, paths.keys())) for name, path in paths.items()}
    assert "camjax.core.names" in graph["camjax.core.model"]
    graphlib.TopologicalSorter(graph).prepare()  # raises a CycleError that names the modules of a cycle


def test_every_module_has_a_level():
    parts = {path.relative_to(ROOT).with_suffix("").parts[0] for path in MODULES}
    assert parts - {"__init__"} == LEVEL.keys()


def test_contributing_draws_the_folders_that_there_are():
    text = (ROOT.parent / "CONTRIBUTING.md").read_text("utf-8")
    drawn = dict(re.findall(r"^    (\S+) {2,}(\S.*)$", text, re.MULTILINE))
    inside = [name.removeprefix("camjax/") for name in drawn if name.startswith("camjax/")]
    folders = {path.name + "/" for path in ROOT.iterdir() if path.is_dir()} - {"__pycache__/"}
    assert sorted(inside) == sorted(folders | {path.name for path in ROOT.glob("*.py")} - {"__init__.py"})
    assert [name.removesuffix(".py").removesuffix("/") for name in inside] == [*reversed(LAYERS), "data"]
    for name, says in drawn.items():
        for folder in (name, *(f"{name}{inner}" for inner in re.findall(r"\w+/", says))):
            assert (ROOT.parent / folder).exists(), folder
    tests = {path.name + "/" for path in Path(__file__).parent.iterdir() if path.is_dir()} - {"__pycache__/"}
    assert tests == folders | set(re.findall(r"\w+/", drawn["tests/"]))


def test_importing_camjax_loads_neither_torch_nor_matplotlib():
    program = (
        "import sys, camjax; print({'torch', 'matplotlib', 'huggingface_hub', 'typer'} & sys.modules.keys() or '')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_importing_cam_fn_loads_no_network():
    program = (
        "import sys; from camjax import cam_fn; unwanted = ('flax', 'equinox', 'camjax.models', 'camjax.checkpoints');"
        "print([name for name in sys.modules if name in unwanted], 'camjax.methods.cam' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"


def test_public_names_are_documented_and_few():
    assert len(camjax.__all__) <= 30
    for name in camjax.__all__:
        assert getattr(camjax, name).__doc__, name
