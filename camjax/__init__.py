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
    from camjax.core.inference import for_inference
    from camjax.core.maps import normalize_maps, upsample
    from camjax.core.model import Classifier, LinearHead, Model
    from camjax.errors import CamjaxError, CheckpointError, HubError, PictureError, UnknownModelError
    from camjax.explain.explainer import make_explainer
    from camjax.images.labels import LabelError, imagenet_labels
    from camjax.images.preprocess import Preprocess, normalize_images
    from camjax.methods.cam import CamResult, cam_fn
    from camjax.models.binding import bind

_PLACES = {
    "camjax.checkpoints.loading": ("load_model",),
    "camjax.checkpoints.store": ("save_model",),
    "camjax.core.inference": ("for_inference",),
    "camjax.core.maps": ("normalize_maps", "upsample"),
    "camjax.core.model": ("Classifier", "LinearHead", "Model"),
    "camjax.errors": ("CamjaxError", "CheckpointError", "HubError", "PictureError", "UnknownModelError"),
    "camjax.explain.explainer": ("make_explainer",),
    "camjax.images.labels": ("LabelError", "imagenet_labels"),
    "camjax.images.preprocess": ("Preprocess", "normalize_images"),
    "camjax.methods.cam": ("CamResult", "cam_fn"),
    "camjax.models.binding": ("bind",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "CamResult",
    "CamjaxError",
    "CheckpointError",
    "Classifier",
    "HubError",
    "LabelError",
    "LinearHead",
    "Model",
    "PictureError",
    "Preprocess",
    "UnknownModelError",
    "bind",
    "cam_fn",
    "for_inference",
    "imagenet_labels",
    "load_model",
    "make_explainer",
    "normalize_images",
    "normalize_maps",
    "save_model",
    "upsample",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'camjax' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
