"""Every method by name. A new gradient method is a rule and an entry here."""

import difflib

from camjax.core.layers import INPUT
from camjax.methods.ablation import Ablation, Lift, Recipro
from camjax.methods.attention import LeGrad, Relevance, Rollout
from camjax.methods.class_free import ClassFree, eigen_cam, fem, kpca_cam
from camjax.methods.full import FullGrad
from camjax.methods.gradient import Contrast, Gradient, GuidedCam
from camjax.methods.group import Group
from camjax.methods.method import ATTENTION, LAYER, Method
from camjax.methods.optimised import Optimised
from camjax.methods.path import Integrated, SmoothGradient
from camjax.methods.poly import Poly
from camjax.methods.rules import (
    eigen_grad_cam,
    element_wise,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    seg_eigen_cam,
    steepest,
    xgrad_cam,
)
from camjax.methods.score import Score
from camjax.methods.smooth import Smooth
from camjax.methods.target import MethodError as MethodError
from camjax.methods.windows import Occlusion, Rise

FORWARD = "1 forward"
CHANNEL = "for each channel"
ANY = "any network"
DIFFERENTIABLE = "a differentiable network"
RELUS = "ReLUs"
POOLED = "global average pooling and one linear layer (verified)"
WHOLE = "1 forward, 1 backward"

ACTIVATION, BOTH, SLOPE = "activation", "score x activation", "score / normalised pixel"
"""Units; those of most maps are the score's."""


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "cam",
            "the head's column for the class, applied at every place",
            "Zhou et al. 2016, arXiv:1512.04150",
            passes=FORWARD,
            needs=POOLED,
        ),
        Method(
            "grad-cam",
            "channels weighed by their mean gradient",
            "Selvaraju et al. 2017, arXiv:1610.02391",
            Gradient(grad_cam),
        ),
        Method(
            "hires-cam",
            "activations times gradients, place by place",
            "Draelos & Carin 2020, arXiv:2011.08891",
            Gradient(hires_cam),
        ),
        Method(
            "element-wise",
            "the positive products of activations and gradients",
            "pytorch-grad-cam's GradCAMElementWise",
            Gradient(element_wise),
        ),
        Method(
            "layer-cam",
            "activations times positive gradients, place by place",
            "Jiang et al. 2021, doi:10.1109/TIP.2021.3089943",
            Gradient(layer_cam),
        ),
        Method(
            "refine-cam",
            "the product of the scaled Layer-CAM maps of several layers",
            "arXiv:2605.14641, as torchcam's RefineCAM has it",
            Gradient(layer_cam),
            needs="layers of several sizes that lie on the image",
            fusion="product",
        ),
        Method(
            "xgrad-cam",
            "channels weighed by their gradients where they are active",
            "Fu et al. 2020, arXiv:2008.02312",
            Gradient(xgrad_cam),
            needs=f"{LAYER}; activations that are not negative",
        ),
        Method(
            "grad-cam++",
            "channels weighed by positive gradients, the sharp ones less",
            "Chattopadhay et al. 2018, arXiv:1710.11063",
            Gradient(grad_cam_plus_plus),
        ),
        Method(
            "smooth-grad-cam++",
            "Grad-CAM++ of gradients averaged over 4 noisy pictures",
            "Omeiza et al. 2019, arXiv:1908.01224",
            Smooth(),
            passes="5 forward, 4 backward to the layer",
        ),
        Method(
            "shapley-cam",
            "Grad-CAM of the gradient less half the curvature",
            "Cai 2025, arXiv:2501.06261",
            Gradient(grad_cam, second_order=True),
            passes="1 forward, 1 backward to the layer, and the derivative of both along the activations",
        ),
        Method(
            "finer-cam",
            "Grad-CAM of the class less the three closest ones",
            "Zhang et al. 2025, arXiv:2501.11309",
            Gradient(grad_cam, Contrast()),
            needs=f"{LAYER}; two classes",
        ),
        Method(
            "eigen-grad-cam",
            "first principal component of activations times gradients",
            "pytorch-grad-cam's EigenGradCAM",
            Gradient(eigen_grad_cam),
        ),
        Method(
            "seg-eigen-cam",
            "first principal component of activations times the gradients' size",
            "Chung & Ying 2025, doi:10.3390/app15137562",
            Gradient(seg_eigen_cam),
        ),
        Method(
            "eigen-cam",
            "first principal component of the activations; the same for every class",
            "Muhammad & Yeasin 2020, arXiv:2008.00299",
            ClassFree(eigen_cam),
            passes=FORWARD,
            unit=ACTIVATION,
        ),
        Method(
            "kpca-cam",
            "first kernel principal component of the activations; the same for every class",
            "Karmani et al. 2024, arXiv:2410.00267",
            ClassFree(kpca_cam),
            passes=FORWARD,
            unit="kernel component",
        ),
        Method(
            "fem",
            "channels weighed by how many of their places stand out; the same for every class",
            "Fuad et al. 2020, hal-02963298",
            ClassFree(fem),
            passes=FORWARD,
            unit=ACTIVATION,
        ),
        Method(
            "score-cam",
            "channels weighed by the score of the picture seen through them",
            "Wang et al. 2020, arXiv:1910.01279",
            Score(),
            passes=f"1 forward, 1 more {CHANNEL}",
            unit=ACTIVATION,
        ),
        Method(
            "ss-cam",
            "Score-CAM of 35 noisy masks a channel",
            "Wang et al. 2020, arXiv:2006.14255",
            Score(samples=35, std=2.0),
            passes=f"1 forward, 35 more {CHANNEL}",
            unit=ACTIVATION,
        ),
        Method(
            "is-cam",
            "Score-CAM of each mask times 10 coefficients",
            "Naidu et al. 2020, arXiv:2010.03023",
            Score(coefficients=tuple(sum(range(1, n + 1)) / 10 for n in range(1, 11))),
            passes=f"1 forward, 10 more {CHANNEL}",
            unit=ACTIVATION,
        ),
        Method(
            "group-cam",
            "groups of Grad-CAM's weighed channels as masks, weighed by how far they raise a blurred picture's score",
            "Zhang et al. 2021, arXiv:2103.13859",
            Group(),
            passes="2 forward, 1 backward to the layer, 32 more forward for each class",
            unit="probability",
        ),
        Method(
            "poly-cam",
            "channels of several layers, weighed by the score of the picture seen through them, the fine refining the "
            "coarse",
            "Englebert et al. 2022, arXiv:2204.13359",
            Poly(),
            passes=f"1 forward, 1 more {CHANNEL} of each layer",
            needs="layers of several sizes that lie on the image",
            unit=ACTIVATION,
            fusion="refine",
        ),
        Method(
            "opti-cam",
            "channels weighed so that the picture seen through their sum keeps most of the score",
            "Zhang et al. 2023, arXiv:2301.07002",
            Optimised(),
            passes="1 forward, 50 more forward and backward for each class",
            needs=f"{LAYER}; {DIFFERENTIABLE}",
            unit="1",
        ),
        Method(
            "ablation-cam",
            "channels weighed by how far the score falls without them",
            "Ramaswamy & Desai 2020, doi:10.1109/WACV45572.2020.9093360",
            Ablation(),
            passes=f"1 forward, 1 from the layer {CHANNEL}",
            unit=BOTH,
        ),
        Method(
            "lift-cam",
            "channels weighed by their share in the score",
            "Jung & Oh 2021, arXiv:2102.05228",
            Lift(),
            passes=FORWARD,
            needs=POOLED,
            unit=BOTH,
        ),
        Method(
            "recipro-cam",
            "the score of each place of the layer by itself",
            "Byun & Lee 2022, arXiv:2209.14074",
            Recipro(),
            passes="1 forward, 1 from the layer for each place",
        ),
        Method(
            "rise",
            "random masks weighed by the score of what they show",
            "Petsiuk et al. 2018, arXiv:1806.07421",
            Rise(),
            passes="1,001 forward",
            needs=ANY,
            layer=INPUT,
        ),
        Method(
            "occlusion",
            "how far the score falls behind a window",
            "Zeiler & Fergus 2014, arXiv:1311.2901",
            Occlusion(),
            passes="1 forward, 1 more for each place of the window",
            needs=ANY,
            layer=INPUT,
        ),
        Method(
            "gradient",
            "the size of the gradient at each pixel",
            "Simonyan et al. 2013, arXiv:1312.6034",
            Gradient(steepest),
            passes=WHOLE,
            needs=DIFFERENTIABLE,
            layer=INPUT,
            unit=SLOPE,
        ),
        Method(
            "gradient-x-input",
            "pixels times their gradients",
            "Shrikumar et al. 2016, arXiv:1605.01713",
            Gradient(hires_cam),
            passes=WHOLE,
            needs=DIFFERENTIABLE,
            layer=INPUT,
        ),
        Method(
            "guided-backprop",
            "the size of the gradient at each pixel, where only what is positive goes back through ReLUs",
            "Springenberg et al. 2015, arXiv:1412.6806",
            Gradient(steepest, guided=True),
            passes=WHOLE,
            needs=RELUS,
            layer=INPUT,
            unit=SLOPE,
        ),
        Method(
            "guided-grad-cam",
            "guided backpropagation times what is positive in Grad-CAM's map",
            "Selvaraju et al. 2017, arXiv:1610.02391",
            GuidedCam(grad_cam, steepest),
            passes="2 forward, 1 backward, 1 to the layer",
            needs=f"{LAYER}; {RELUS}",
            unit=f"score x {SLOPE}",
        ),
        Method(
            "full-grad",
            "the sizes of input and biases times their gradients, of all layers",
            "Srinivas & Fleuret 2019, arXiv:1905.00780",
            FullGrad(),
            passes="1 forward, 1 backward for each class",
            needs=DIFFERENTIABLE,
            layer=INPUT,
            unit="1",
        ),
        Method(
            "integrated-gradients",
            "pixels times their mean gradients on the way from the mean colour",
            "Sundararajan et al. 2017, arXiv:1703.01365",
            Integrated(),
            passes="33 forward, 32 backward",
            needs=DIFFERENTIABLE,
            layer=INPUT,
        ),
        Method(
            "smooth-grad",
            "the size of gradients averaged over 25 noisy pictures",
            "Smilkov et al. 2017, arXiv:1706.03825",
            SmoothGradient(steepest),
            passes="26 forward, 25 backward",
            needs=DIFFERENTIABLE,
            layer=INPUT,
            unit=SLOPE,
        ),
        Method(
            "rollout",
            "how much of each token attention carries to where the head reads; the same for every class",
            "Abnar & Zuidema 2020, arXiv:2005.00928",
            Rollout(),
            passes=FORWARD,
            needs=ATTENTION,
            layer=INPUT,
            unit="1",
        ),
        Method(
            "chefer",
            "rollout of what is positive in attention times its gradient",
            "Chefer et al. 2021, arXiv:2103.15679",
            Relevance(),
            passes="1 forward, 1 backward for each class",
            needs=ATTENTION,
            layer=INPUT,
        ),
        Method(
            "legrad",
            "the positive gradients of each block's own score with respect to its attention",
            "Bousselham et al. 2024, arXiv:2404.03214",
            LeGrad(),
            passes="1 forward, 1 backward through each block",
            needs=ATTENTION,
            layer=INPUT,
            unit="score / attention",
        ),
    )
}


def find_method(method: str | Method) -> Method:
    """The method of that name; one that is a `Method` already is itself.

    Raises:
        MethodError: there is none; close names are suggested.
    """
    if isinstance(method, Method):
        return method
    if method in METHODS:
        return METHODS[method]
    close = difflib.get_close_matches(method, METHODS) or list(METHODS)
    raise MethodError(f"no method is called {method!r}; did you mean {', '.join(close)}?")
