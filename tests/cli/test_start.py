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


def test_the_listing_is_the_registries():
    assert LISTING.read_text("utf-8") == listing.page(), "python -m camjax.cli.listing > camjax/data/listing.json"
