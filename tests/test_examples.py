"""The scripts in `examples/` run as a reader would run them."""

import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
from npz import read_npz
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
COMMAND = Path(__file__).parent / "cli" / "command.py"
FIXTURE = Path(__file__).parent / "data" / "mxnet"


def test_original_demo_with_the_embedded_network(tmp_path):
    command = [sys.executable, str(EXAMPLES / "original_demo.py")]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "Egyptian cat" in out
    assert "espresso" in out
    with Image.open(tmp_path / "demo.png") as drawing:
        assert drawing.height > drawing.width


@pytest.mark.parametrize("how", [pytest.param("the script", marks=pytest.mark.slow), "the command line"])
def test_original_demo_with_mxnets_checkpoint(tmp_path, how):
    expected = read_npz(FIXTURE / "expected.npz")
    Image.fromarray(expected["data_nchw_0_255"][0].transpose(1, 2, 0)).save(tmp_path / "noise.png")
    model = f"mxnet:{FIXTURE / 'resnet-50-narrow'}@0"
    if how == "the script":
        done = forked.run([EXAMPLES / "original_demo.py", "noise.png", model, "x.png"], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        out = done.stdout.splitlines()[:8]
        classes = [int(line.split(",")[0].removeprefix("class ")) for line in out]
        probabilities = [float(line.split(", ")[1]) for line in out]
    else:
        arguments = ["explain", "noise.png", "--model", model, "--top-k", "8", "--colormap", "hsv", "-o", "x.png"]
        environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
        done = forked.run([COMMAND, *arguments, "--npz", "x.npz"], cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        arrays = read_npz(tmp_path / "x.npz")
        classes, probabilities = arrays["classes"][0], arrays["probabilities"][0]
        # The upsampled maps' means over each of the network's 7 x 7 cells are its own maps, a little smoothed.
        cells = arrays["maps"][0].reshape(8, 7, 32, 7, 32).mean((2, 4))
        correlation = np.corrcoef(cells.ravel(), expected["cam_bkhw"][0].ravel())[0, 1]
        assert correlation > 0.98
    np.testing.assert_array_equal(classes, expected["top8"][0])
    np.testing.assert_allclose(probabilities, np.take(expected["softmax"][0], expected["top8"][0]), atol=5e-4)
    assert (tmp_path / "x.png").stat().st_size > 10_000
