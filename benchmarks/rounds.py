"""Quartiles over rounds, and the ratio of two sides within each round."""

import statistics
from typing import Any

REFERENCE = "camjax"


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """First quartile, median, third."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, median, third


def ratio(case: dict[str, Any], side: str) -> tuple[float, float, float]:
    """How many times faster camjax is than a side: quartiles of the rounds' own ratios."""
    ours, theirs = case["sides"][REFERENCE]["seconds"], case["sides"][side]["seconds"]
    return quartiles([other / one for one, other in zip(ours, theirs, strict=True)])
