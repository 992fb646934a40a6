"""The methods that explain pixels by the gradients of the whole network, or tokens by attention."""

from camjax.core.layers import INPUT
from camjax.methods.attention import LeGrad, Relevance, Rollout
from camjax.methods.full import FullGrad
from camjax.methods.gradient import Gradient, GuidedCam
from camjax.methods.method import ATTENTION, DIFFERENTIABLE, FORWARD, LAYER, RELUS, SLOPE, WHOLE, Method
from camjax.methods.path import Integrated, SmoothGradient
from camjax.methods.rules import grad_cam, hires_cam, steepest

METHODS = (
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
