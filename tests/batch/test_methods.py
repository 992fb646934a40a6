"""Stores of other methods than CAM, at other layers than the network's own."""

import numpy as np
import pytest
import zarr
from batch_material import write_pictures
from toys import toy_model

from camjax import MethodError, make_explainer
from camjax.batch import explain_to_store, read_entry
from camjax.batch.check import check_store
from camjax.batch.store import StoreError
from camjax.images.geometry import to_input

MODEL = toy_model()


def run(folder, out, **options):
    options = {"top_k": 2, "batch_size": 8, "workers": 0, **options}
    return explain_to_store(MODEL, [folder], out, **options)


@pytest.mark.parametrize(
    ("options", "layer", "unit", "size"),
    [
        ({"method": "grad-cam", "layer": "cells"}, "cells", "logit", (8, 8)),
        ({"method": "eigen-cam"}, "last", "activation", (8, 8)),
        ({"method": "ablation-cam"}, "last", "logit x activation", (8, 8)),
        # Its maps are as large as the picture, whatever the layer is.
        ({"method": "gradient"}, "input", "logit / normalised pixel", (32, 32)),
        ({"method": "occlusion", "layer": "cells"}, "cells", "logit", (32, 32)),
    ],
)
def test_a_store_says_how_and_where(tmp_path, options, layer, unit, size):
    run(write_pictures(tmp_path / "in", 4), tmp_path / "out.zarr", **options)
    group = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    said = {name: group.attrs["run"][name] for name in ("method", "layer", "target")}
    assert said == {"method": options["method"], "layer": layer, "target": "logit"}
    assert group["maps"].attrs["units"] == unit
    assert group["maps"].shape == (4, 2, *size)
    entry = read_entry(str(tmp_path / "out.zarr"), "1")
    assert (entry.method, entry.layer) == (options["method"], layer)
    expected = make_explainer(MODEL, top_k=2, **options)(to_input(entry.geometry, entry.picture)[None]).maps[0]
    np.testing.assert_allclose(entry.maps, expected, atol=2e-3 * np.abs(expected).max())
    assert entry.remarks == ("", "")
    condition = check_store(str(tmp_path / "out.zarr"))
    assert (condition.whole, condition.method, condition.layer) == (True, options["method"], layer)


def test_a_store_goes_on_with_the_same_method_and_layer_only(tmp_path):
    folder, out = write_pictures(tmp_path / "in", 4), tmp_path / "out.zarr"
    run(folder, out)
    assert run(folder, out, layer="last", resume=True).done == 0  # the layer that it has by itself
    with pytest.raises(StoreError, match="method was 'cam', now is 'grad-cam'") as caught:
        run(folder, out, method="grad-cam", resume=True)
    assert "layer" not in str(caught.value)
    with pytest.raises(StoreError, match="method was 'cam', now is 'grad-cam'; layer was 'last', now is 'cells'"):
        run(folder, out, method="grad-cam", layer="cells", resume=True)


@pytest.mark.parametrize(
    "options", [{"layer": "cells"}, {"method": "gradcam"}, {"method": "refine-cam", "layer": "cells"}]
)
def test_a_method_that_does_not_fit_leaves_nothing(tmp_path, options):
    folder = write_pictures(tmp_path / "in", 4)
    with pytest.raises(MethodError):
        run(folder, tmp_path / "out.zarr", **options)
    assert not (tmp_path / "out.zarr").exists()
