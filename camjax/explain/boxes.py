"""Where each class of an explanation is, as a box in the picture's own pixels."""

import numpy as np
from jaxtyping import Float

from camjax.choices import SHARE
from camjax.explain.explanation import Explanation
from camjax.images.geometry import boxes_to_picture, shown_part
from camjax.metrics.boxes import boxes_of


def picture_boxes(explanation: Explanation, *, share: float = SHARE) -> Float[np.ndarray, "k 4"]:
    """The box around the largest component of what each map takes for the thing (Zhou et al. 2016).

    It is found at the resolution of the network's input, where padding does not count.

    Args:
        explanation: of one picture.
        share: what is above zero and reaches this part of the map's maximum is taken for the thing, 0 to 1.

    Returns:
        Top, left, bottom, right: whole numbers, the edges of pixels counted from the picture's upper left corner, so
        that height is bottom less top, as in the boxes that `camjax evaluate` takes. NaN for a map that shows nothing.
    """
    rows, columns = shown_part(explanation.geometry)
    found = boxes_of(explanation.maps[:, rows, columns], share=share)
    found += np.asarray([rows.start, columns.start] * 2)
    found[[bool(remark) for remark in explanation.remarks]] = np.nan
    return boxes_to_picture(explanation.geometry, found)
