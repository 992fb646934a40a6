"""Which metrics there are, in which groups they are asked for, and which way is better."""

import difflib
from typing import NamedTuple

from camjax.errors import CamjaxError


class Metric(NamedTuple):
    """A number of a map.

    Attributes:
        name: its column.
        better: 1 where higher is better, -1 where lower is, 0 where it says nothing of right or wrong.
    """

    name: str
    better: int


class MetricError(CamjaxError, LookupError):
    """There is no such metric."""


GROUPS: dict[str, tuple[Metric, ...]] = {
    "confidence": (Metric("drop", -1), Metric("increase", 1), Metric("gain", 1)),
    "insertion": (Metric("insertion", 1),),
    "deletion": (Metric("deletion", -1),),
    "road": (Metric("road", 1),),
    "pixel-flipping": (Metric("pixel-flipping", -1),),
    "sensitivity-n": (Metric("sensitivity-n", 1),),
    "infidelity": (Metric("infidelity", -1),),
    "adcc": (Metric("coherency", 1), Metric("adcc", 1)),
    "arcc": (Metric("arcc", 1),),
    "robustness": (Metric("max-sensitivity", -1),),
    "randomisation": (Metric("randomisation", -1),),
    "concentration": (Metric("sparseness", 0), Metric("entropy", 0), Metric("size", 0)),
    "localisation": (
        Metric("pointing", 1),
        Metric("energy", 1),
        Metric("iou", 1),
        Metric("box-iou", 1),
        Metric("pxap", 1),
    ),
    "max-box-acc": (),
    "grid": (Metric("grid", 1),),
}
"""What is computed together. MaxBoxAcc is no number of a map."""

NAMED = {
    "quick": ("confidence", "insertion", "deletion", "concentration", "localisation", "grid"),
    "all": tuple(GROUPS),
}

METRICS = {metric.name: metric for metrics in GROUPS.values() for metric in metrics}

LOCATED = "localisation"
"""A group that needs ground truth."""
LARGEST = "max-box-acc"
"""Another."""
RANDOMISED = "randomisation"
"""The group that needs the network's parameters."""
GRID = "grid"
"""The group that needs collages."""


def chosen_groups(text: str, located: bool) -> tuple[str, ...]:
    """The groups that names with commas between them ask for; a metric's own name asks for its group.

    Args:
        text: names of groups, of metrics, `quick` or `all`.
        located: whether there is ground truth; without it, `quick` and `all` are without localisation.

    Raises:
        MetricError: a name is unknown, none is given, or localisation is named where there is no ground truth.
    """
    wanted: list[str] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        owners = [group for group, metrics in GROUPS.items() if name in (group, *(metric.name for metric in metrics))]
        if name in NAMED:
            wanted += [group for group in NAMED[name] if located or group not in (LOCATED, LARGEST)]
        elif owners:
            wanted += owners
        else:
            known = [*NAMED, *GROUPS, *METRICS]
            close = difflib.get_close_matches(name, known, 1) or list(dict.fromkeys(known))
            raise MetricError(f"no metric is called {name!r}; did you mean {', '.join(close)}?")
    if not wanted:
        raise MetricError(f"no metric is named; write {', '.join((*NAMED, *GROUPS))}")
    missing = [group for group in (LOCATED, LARGEST) if group in wanted and not located]
    if missing:
        raise MetricError(f"{missing[0]} needs to know where things are: give --boxes or --masks")
    return tuple(group for group in GROUPS if group in wanted)
