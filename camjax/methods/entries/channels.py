"""The methods that weigh a layer's channels or places by gradients, or by what stands in the layer."""

from camjax.methods.class_free import ClassFree, eigen_cam, fem, kpca_cam
from camjax.methods.gradient import Contrast, Gradient
from camjax.methods.method import ACTIVATION, FORWARD, LAYER, POOLED, Method
from camjax.methods.rules import (
    eigen_grad_cam,
    element_wise,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    seg_eigen_cam,
    xgrad_cam,
)
from camjax.methods.smooth import Smooth

METHODS = (
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
)
