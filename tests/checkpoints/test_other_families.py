"""A checkpoint of one family is known for what it is, and offered as another's it is refused with what differs."""

import functools
import re

import numpy as np
import pytest
import timm
import torchvision
from references import outlined

from camjax.checkpoints.identify import identify
from camjax.errors import CheckpointError
from camjax.models.registry import ARCHITECTURES, FAMILIES

FIRST = {family: next(one for one in ARCHITECTURES.values() if one.family.name == family) for family in FAMILIES}
# What torchvision says while it makes one of these, whose initial weights will change.
pytestmark = pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")


@functools.cache
def checkpoint(family):
    """The keys and shapes of the family's first network in timm or torchvision; the arrays take no memory."""
    name = FIRST[family].name
    with outlined():
        module = timm.create_model(name) if timm.is_model(name) else torchvision.models.get_model(name)
    return {key: np.broadcast_to(np.float32(1), tuple(value.shape)) for key, value in module.state_dict().items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_checkpoints_are_refused_with_what_differs(family):
    architecture = FIRST[family]
    match, _ = identify(checkpoint(family), [architecture])
    assert match.architecture.name == architecture.name
    for other in FAMILIES.keys() - {family}:
        with pytest.raises(CheckpointError, match=rf"(of|for) {architecture.name}[:,] .*fit the network") as caught:
            identify(checkpoint(other), [architecture])
        missing, extra = re.search(r"(\d+) missing: .*; (\d+) extra: ", str(caught.value)).groups()
        assert int(missing) > 3
        assert int(extra) > 3
