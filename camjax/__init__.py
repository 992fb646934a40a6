"""Class activation maps in JAX: the top classes of a picture, and where the network saw each, in one compiled program.

    from camjax import load_model, make_explainer

    model = load_model("resnet50")
    explain = make_explainer(model, top_k=5)
    result = explain(images)  # uint8 (b, 224, 224, 3) -> logits, classes, probabilities, maps (b, 5, 224, 224)

`cam_fn` is the same from features and a head of your own.
"""

from camjax.cam import CamResult, cam_fn, normalize_maps, upsample
from camjax.checkpoints.store import save_model
from camjax.classifier import Classifier, LinearHead, Model
from camjax.errors import CamjaxError, CheckpointError, HubError, PictureError, UnknownModelError
from camjax.explainer import make_explainer
from camjax.inference import for_inference
from camjax.labels import LabelError, imagenet_labels
from camjax.loading import load_model
from camjax.models.binding import bind
from camjax.preprocess import Preprocess, normalize_images

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
