"""What comes at once: help and lists, without JAX."""

import subprocess
import sys
from pathlib import Path

import pytest

from camjax.cli import listing

LISTING = Path(listing.__file__).parents[1] / "data" / "listing.json"
PROGRAM = """
import sys
from camjax.cli.start import main
try:
    main()
finally:
    heavy = {"jax", "flax", "numpy", "matplotlib", "httpx", "httpx2", "requests"}
    print(sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["explain", "--help"], ["batch", "--help"], ["compare", "--help"], ["methods"], ["models"]],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(arguments):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) > 10
    assert done.stderr.splitlines()[-1] == "[]"


START = """
import gc, sys
from camjax.cli.start import COLLECTED, main
try:
    main()
finally:
    assert gc.get_threshold()[0] == COLLECTED and gc.get_freeze_count()
"""


def test_cycles_are_looked_for_seldom_and_not_at_the_end():
    subprocess.run([sys.executable, "-c", START, "methods"], capture_output=True, check=True)


def test_a_figure_without_boxes_waits_for_no_scipy():
    program = "import sys, camjax.explain.outputs; sys.exit('scipy.ndimage' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_listing_is_the_registries():
    assert LISTING.read_text("utf-8") == listing.page(), "python -m camjax.cli.listing > camjax/data/listing.json"
