"""Class activation maps in JAX: the top classes of a picture, and where the network saw each, in one compiled program.

    from camjax import load_model, make_explainer

    model = load_model("resnet50")
    explain = make_explainer(model, top_k=5)
    result = explain(images)  # uint8 (b, 224, 224, 3) -> logits, classes, probabilities, maps (b, 5, 224, 224)

`cam_fn` is the same from features and a head of your own.

Names are imported when they are first used, so that `from camjax import cam_fn` loads neither flax nor the models.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from camjax.checkpoints.loading import load_model
    from camjax.checkpoints.store import save_model
    from camjax.core.adapters.equinox import from_equinox
    from camjax.core.adapters.function import from_function
    from camjax.core.adapters.linen import from_linen
    from camjax.core.adapters.nnx import from_nnx
    from camjax.core.layers import layers
    from camjax.core.maps import normalize_maps, upsample
    from camjax.core.model import LinearHead, Model, TokenGrid
    from camjax.core.names import tap
    from camjax.core.result import CamResult
    from camjax.errors import CamjaxError, CheckpointError, HubError, LayerError, PictureError, UnknownModelError
    from camjax.explain.explainer import Explainer, make_explainer
    from camjax.explain.factoriser import make_factoriser
    from camjax.images.labels import LabelError, imagenet_labels
    from camjax.images.preprocess import Preprocess, normalize_images
    from camjax.methods.cam import cam_fn
    from camjax.methods.registry import MethodError

_PLACES = {
    "camjax.checkpoints.loading": ("load_model",),
    "camjax.checkpoints.store": ("save_model",),
    "camjax.core.adapters.equinox": ("from_equinox",),
    "camjax.core.adapters.function": ("from_function",),
    "camjax.core.adapters.linen": ("from_linen",),
    "camjax.core.adapters.nnx": ("from_nnx",),
    "camjax.core.layers": ("layers",),
    "camjax.core.maps": ("normalize_maps", "upsample"),
    "camjax.core.model": ("LinearHead", "Model", "TokenGrid"),
    "camjax.core.names": ("tap",),
    "camjax.core.result": ("CamResult",),
    "camjax.errors": ("CamjaxError", "CheckpointError", "HubError", "LayerError", "PictureError", "UnknownModelError"),
    "camjax.explain.explainer": ("Explainer", "make_explainer"),
    "camjax.explain.factoriser": ("make_factoriser",),
    "camjax.images.labels": ("LabelError", "imagenet_labels"),
    "camjax.images.preprocess": ("Preprocess", "normalize_images"),
    "camjax.methods.cam": ("cam_fn",),
    "camjax.methods.registry": ("MethodError",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "CamResult",
    "CamjaxError",
    "CheckpointError",
    "Explainer",
    "HubError",
    "LabelError",
    "LayerError",
    "LinearHead",
    "MethodError",
    "Model",
    "PictureError",
    "Preprocess",
    "TokenGrid",
    "UnknownModelError",
    "cam_fn",
    "from_equinox",
    "from_function",
    "from_linen",
    "from_nnx",
    "imagenet_labels",
    "layers",
    "load_model",
    "make_explainer",
    "make_factoriser",
    "normalize_images",
    "normalize_maps",
    "save_model",
    "tap",
    "upsample",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'camjax' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
