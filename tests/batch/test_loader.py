"""What reading in worker processes does to the program that asked for it."""

import subprocess
import sys
from pathlib import Path

import pytest
from batch_material import write_pictures

TESTS = Path(__file__).parents[1]

PROGRAM = """
import sys
from absl import flags
from camjax.batch import explain_to_store
from toys import toy_model

if __name__ == "__main__":
    flags.DEFINE_integer("pictures", 1, "what the program itself is told")
    explain_to_store(toy_model(), [sys.argv[1]], sys.argv[2], top_k=2, workers=int(sys.argv[3]))
    assert not flags.FLAGS.is_parsed(), "marked as parsed"
    assert flags.FLAGS(["program", "--pictures=3"]) == ["program"]
    print(flags.FLAGS.pictures)
"""


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_flags_of_the_program_stay_unparsed(tmp_path, workers):
    pictures = write_pictures(tmp_path / "in", 4)
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, script, pictures, tmp_path / "out.zarr", str(workers)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": ""},
        timeout=120,
    )
    assert done.stdout == "3\n", done.stderr
