"""Whether two sides computed the same thing. Nothing is timed before they did."""

from types import EllipsisType

import numpy as np

from benchmarks.setting import BenchmarkError, Precision
from benchmarks.side import Outputs

TOLERANCE: dict[Precision, float] = {"float32": 1e-4, "tf32": 2e-2, "bfloat16": 1e-1}
"""Of ||ours - theirs|| / ||theirs||: float32 shows 1e-6 to 1e-5; 10 and 8 bits of mantissa add up over 50 layers."""

SHARED: dict[Precision, float] = {"float32": 1.0, "tf32": 0.8, "bfloat16": 0.5}
"""How many of the classes have to be the same. Random weights leave the top ones close together."""


def check(name: str, ours: Outputs, theirs: Outputs, precision: Precision) -> dict[str, float]:
    """Compares a side's outputs with camjax's, as far as it gives them.

    Classes are compared first; probabilities and maps, where both sides explain the same class.

    Returns:
        Relative errors by output, and the share of classes that are the same.

    Raises:
        BenchmarkError: they differ by more than the precision explains.
    """
    if not theirs:
        return {}
    found: dict[str, float] = {}
    same = np.ones(1, bool)
    if "classes" in theirs:
        kept = theirs["classes"].shape[1]
        ours = {output: array[:, :kept] for output, array in ours.items()}
        same = ours["classes"] == theirs["classes"]
        found["classes"] = float(same.mean())
        if found["classes"] < SHARED[precision]:
            raise BenchmarkError(f"{name} finds other classes: only {found['classes']:.0%} are camjax's")
    for output in theirs.keys() - {"classes"}:
        where = same if "classes" in theirs else ...
        found[output] = compare(name, output, ours[output], theirs[output], TOLERANCE[precision], where)
    return found


def compare_all(name: str, ours: Outputs, theirs: Outputs, tolerance: float) -> dict[str, float]:
    """The relative errors of a side's outputs; see `compare`."""
    return {output: compare(name, output, ours[output], theirs[output], tolerance) for output in theirs}


def compare(
    name: str, output: str, one: np.ndarray, other: np.ndarray, tolerance: float, where: np.ndarray | EllipsisType = ...
) -> float:
    """The relative error of a side's output.

    Raises:
        BenchmarkError: it differs by more than the tolerance.
    """
    if one.shape != other.shape:
        raise BenchmarkError(f"{name} gives {output} of shape {other.shape}, camjax {one.shape}")
    error = relative_error(one[where], other[where])
    if not error <= tolerance:
        raise BenchmarkError(f"{name} gives other {output}: relative error {error:.1e}, more than {tolerance:g}")
    return error


def relative_error(one: np.ndarray, other: np.ndarray) -> float:
    """||one - other|| / ||other||, in float64."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))
