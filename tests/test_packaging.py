"""The wheel holds what the library reads at run time, and nothing of the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_built_wheel_works_alone(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {
            "camjax",
            wheel.name.split("-py3")[0] + ".dist-info",
        }
        assert "camjax/py.typed" in archive.namelist()
        archive.extractall(tmp_path / "site")
    program = (
        "import camjax, sys; from camjax.cli.app import main; "
        "print(camjax.__file__); sys.argv = ['camjax', 'models']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert "resnet50.tv_in1k" in done.stdout
