"""Every method against torchcam and pytorch-grad-cam on the same random weights, and where they differ, by how much.

Tolerance: relative error 1e-5 in float32, as for the networks. Our maps are per sum of places, theirs per mean, so some
are divided by the number of places. `docs/differences.md` tells the differences in words.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pytorch_grad_cam as gradcam
import torch
import torchcam.methods
from parity.test_resnet import convert_torchvision, narrow_pair
from pytorch_grad_cam.utils.model_targets import ClassifierOutputReST, ClassifierOutputTarget, FinerWeightedTarget
from references import images, relative_error, to_torch

from camjax.methods.class_free import ClassFree
from camjax.methods.gradient import pulled_back
from camjax.methods.registry import METHODS
from camjax.methods.smooth import Smooth
from camjax.methods.tail import Look, network_tail
from camjax.methods.target import Wanted

TOLERANCE = 1e-5
CLASSES = ((3, 7), (1, 4))  # of two pictures
GRADCAM = {
    "grad-cam": gradcam.GradCAM,
    "hires-cam": gradcam.HiResCAM,
    "element-wise": gradcam.GradCAMElementWise,
    "layer-cam": gradcam.LayerCAM,
    "xgrad-cam": gradcam.XGradCAM,
    "grad-cam++": gradcam.GradCAMPlusPlus,
    "eigen-grad-cam": gradcam.EigenGradCAM,
    "seg-eigen-cam": gradcam.SegEigenCAM,
    "eigen-cam": gradcam.EigenCAM,
    "kpca-cam": gradcam.KPCA_CAM,
    "fem": gradcam.FEM,
    "shapley-cam": gradcam.ShapleyCAM,
}
TORCHCAM = {
    "grad-cam": torchcam.methods.GradCAM,
    "layer-cam": torchcam.methods.LayerCAM,
    "xgrad-cam": torchcam.methods.XGradCAM,
    "finer-cam": torchcam.methods.FinerCAM,
}
UNSIGNED = {"eigen-cam", "eigen-grad-cam"}  # their sign is LAPACK's
NOT_OVER_PLACES = {"grad-cam++", "eigen-cam", "kpca-cam", "fem"}
BOTH = [("resnet18", "layer3"), ("resnet18", "layer4"), ("resnet50", "layer3"), ("resnet50", "layer4")]


def rest(logits):
    """ShapleyCAM's own target, "ReST": a logit and the logarithm of its probability."""
    return logits + jax.nn.log_softmax(logits)


@functools.cache
def pair(name):
    """Our network, theirs, and two pictures that are not square."""
    config, module = narrow_pair(name)
    return convert_torchvision(name, config, module), module, images(2, 64, 96)


@functools.cache
def ours(name, layer):
    """Every method's maps for two classes of each picture, with activations and gradients.

    The network is compiled once: rules are applied to what one pass gave, as the methods do.
    """
    model, _, pixels = pair(name)
    wanted = Wanted("logit", jnp.asarray(CLASSES), 2)

    @jax.jit
    def collected(params, pixels):
        tail = network_tail(model_of(model, params), layer, pixels)
        gradients, _ = pulled_back(tail, wanted)(tail.activations)
        finer, _ = pulled_back(tail, wanted, METHODS["finer-cam"].explain.cotangents)(tail.activations)
        shapley = (
            METHODS["shapley-cam"].explain(Look(pixels, lambda _: tail, tail.run), wanted._replace(target=rest)).maps
        )
        return tail.activations, gradients, finer, shapley

    @jax.jit
    def mapped(activations, gradients, finer):
        maps = {}
        for method in {*GRADCAM, *TORCHCAM} - {"shapley-cam"}:
            rule = METHODS[method].explain.rule
            if isinstance(METHODS[method].explain, ClassFree):
                maps[method] = jnp.stack([jax.vmap(rule)(activations)] * 2, 1)
            else:
                slopes = finer if method == "finer-cam" else gradients
                maps[method] = jax.vmap(jax.vmap(rule, (None, 0)))(activations, slopes)
        return maps

    activations, gradients, finer, shapley = collected(model.params, pixels)
    return {**mapped(activations, gradients, finer), "shapley-cam": shapley}, activations, gradients


def model_of(model, params):
    return dataclasses.replace(model, params=params)


def theirs_gradcam(extractor, module, layer, pixels, classes, target=ClassifierOutputTarget):
    """Its raw maps: `get_cam_image` on what it collects itself."""
    target_layer = module.get_submodule(layer)
    targets = [target(number) for number in classes]
    with extractor(model=module, target_layers=[target_layer]) as cam:
        inputs = to_torch(pixels).requires_grad_()
        collected = cam.activations_and_grads
        loss = sum(target(output) for target, output in zip(targets, collected(inputs), strict=True))
        if cam.detach:
            loss.backward()
            arrays = collected.activations[0].numpy(), collected.gradients[0].numpy()
        else:
            torch.autograd.grad(loss, inputs, retain_graph=True, create_graph=True)
            arrays = collected.activations[0], collected.gradients[0]
        return cam.get_cam_image(inputs, target_layer, targets, *arrays, False)


def theirs_torchcam(extractor, module, layer, pixels, classes, **options):
    """Its maps before normalisation, which have been through a ReLU."""
    with extractor(module, layer) as cam:
        scores = module(to_torch(pixels))
        return cam([int(number) for number in classes], scores, normalized=False, **options)[0].detach().numpy()


def in_their_unit(method, maps):
    maps = np.asarray(maps)
    return maps if method in NOT_OVER_PLACES else maps / (maps.shape[-1] * maps.shape[-2])


@pytest.mark.parametrize(("name", "layer"), BOTH)
def test_raw_maps_equal_gradcams(name, layer):
    _, module, pixels = pair(name)
    maps = ours(name, layer)[0]
    for method, extractor in GRADCAM.items():
        target = ClassifierOutputReST if method == "shapley-cam" else ClassifierOutputTarget
        for rank, classes in enumerate(zip(*CLASSES, strict=True)):
            expected = theirs_gradcam(extractor, module, layer, pixels, classes, target)
            found = in_their_unit(method, maps[method][:, rank])
            for map_, reference in zip(found, expected, strict=True):
                sign = np.sign((map_ * reference).sum()) if method in UNSIGNED else 1
                assert np.abs(reference).max() > 0
                assert relative_error(sign * map_, reference) < TOLERANCE, method


@pytest.mark.parametrize(("name", "layer"), BOTH)
def test_maps_equal_torchcams(name, layer):
    _, module, pixels = pair(name)
    maps = ours(name, layer)[0]
    for method, extractor in TORCHCAM.items():
        for rank, classes in enumerate(zip(*CLASSES, strict=True)):
            expected = theirs_torchcam(extractor, module, layer, pixels, classes)
            found = in_their_unit(method, maps[method][:, rank])
            # Its ReLU may leave next to nothing, while rounding is relative to what was summed.
            error = np.linalg.norm(np.maximum(found, 0) - expected)
            assert error < TOLERANCE * np.linalg.norm(found), method


@pytest.mark.parametrize("layer", ["layer3", "layer4"])
def test_shapley_cams_second_order_is_not_nothing(layer):
    maps = ours("resnet18", layer)[0]
    assert relative_error(maps["shapley-cam"], maps["grad-cam"]) > 1e-3


@pytest.mark.parametrize("layer", ["layer3", "layer4"])
def test_torchcams_grad_cam_plus_plus_is_another_method(layer):
    # It divides a copy (`alpha[idx][mask].div_(...)`), so that its weights are the sums of the gradients' cubes.
    _, module, pixels = pair("resnet18")
    maps, activations, gradients = ours("resnet18", layer)
    expected = theirs_torchcam(torchcam.methods.GradCAMpp, module, layer, pixels, [row[0] for row in CLASSES])
    positive = np.maximum(gradients[:, 0], 0)
    undivided = np.einsum("bhwc,bc->bhw", activations, (positive**3).sum((1, 2)))
    assert relative_error(np.maximum(undivided, 0), expected) < TOLERANCE
    published = np.maximum(maps["grad-cam++"][:, 0], 0)
    scaled = expected * (published * expected).sum() / (expected**2).sum()  # even at the best scale
    assert relative_error(scaled, published) > 0.01


class Replay:
    """A distribution whose samples are given."""

    def __init__(self, samples):
        self._samples = iter(samples)

    def sample(self, size):
        sample = next(self._samples)
        assert sample.shape == size
        return sample


def test_torchcams_smooth_grad_cam_plus_plus_ends_with_its_last_noisy_picture():
    layer, classes = "layer3", [row[0] for row in CLASSES]
    model, module, pixels = pair("resnet18")
    smooth = Smooth()
    wanted = Wanted("logit", jnp.asarray(classes)[:, None], 1)

    @jax.jit
    def program(params, pixels):
        model_ = model_of(model, params)
        look = Look(pixels, functools.partial(network_tail, model_, layer), functools.partial(model_.forward, params))

        def sample(key):
            tail = look.tail(smooth.noisy(pixels, key))
            gradients, _ = pulled_back(tail, wanted)(tail.activations)
            return gradients[:, 0], tail.activations

        keys = smooth.noise_keys()
        noise = jax.vmap(lambda key: smooth.noisy(jnp.zeros_like(pixels), key))(keys)
        clean = look.tail(pixels).activations
        return smooth(look, wanted).maps[:, 0], clean, *jax.lax.map(sample, keys), noise

    found, clean, gradients, noisy, noise = (np.asarray(array, np.float64) for array in program(model.params, pixels))
    squares, cubes = (gradients**2).mean(0), (gradients**3).mean(0)

    def alphas(denominator):
        return squares / (2 * squares + denominator)

    totals = clean.sum((1, 2), keepdims=True)
    weights = (alphas(totals * cubes + 1e-6) * np.maximum(gradients, 0).mean(0)).sum((1, 2))
    assert relative_error(found, np.einsum("bhwc,bc->bhw", clean, weights)) < TOLERANCE

    with torchcam.methods.SmoothGradCAMpp(module, layer) as cam:
        cam._distrib = Replay([to_torch(sample.astype(np.float32)) for sample in noise])
        module(to_torch(pixels))
        expected = cam(classes, normalized=False)[0].detach().numpy()
    summed = (cubes * clean).sum((1, 2), keepdims=True)  # the sum of the products, not the product of the sum
    weights = (alphas(summed + 1e-8) * np.maximum(gradients[-1], 0)).sum((1, 2))
    last = np.maximum(np.einsum("bhwc,bc->bhw", noisy[-1], weights), 0)
    assert relative_error(last, expected) < 1e-4  # 1e-8 below squares of small gradients, in float32
    assert relative_error(np.maximum(found, 0), expected) > 0.1


def test_in_place_relus_change_what_gradcams_hooks_kept():
    # The normalisation's output, which the ReLU after it writes over: gradients of one array, values of another.
    layer, classes = "layer3.0.bn1", [row[0] for row in CLASSES]
    model, module, pixels = pair("resnet18")
    tail = functools.partial(network_tail, layer=layer)
    wanted = Wanted("logit", jnp.asarray(classes)[:, None], 1)

    @jax.jit
    def program(params, pixels):
        at = tail(model_of(model, params), images=pixels)
        gradients, _ = pulled_back(at, wanted)(at.activations)
        return (
            METHODS["grad-cam"].explain(Look(pixels, lambda _: at, at.run), wanted).maps[:, 0],
            at.activations,
            gradients[:, 0],
        )

    found, activations, gradients = program(model.params, pixels)
    places = found.shape[1] * found.shape[2]
    relus = [relu for relu in module.modules() if isinstance(relu, torch.nn.ReLU)]
    try:
        assert all(relu.inplace for relu in relus)
        in_place = theirs_gradcam(gradcam.GradCAM, module, layer, pixels, classes)
        for relu in relus:
            relu.inplace = False
        expected = theirs_gradcam(gradcam.GradCAM, module, layer, pixels, classes)
    finally:
        for relu in relus:
            relu.inplace = True
    mixed = np.einsum("bhwc,bc->bhw", np.maximum(activations, 0), np.asarray(gradients).mean((1, 2)))
    assert relative_error(found / places, expected) < TOLERANCE
    assert relative_error(mixed, in_place) < TOLERANCE
    assert relative_error(in_place, expected) > 0.1


def test_gradcams_finer_cam_is_another_method():
    # It weighs the differences by the other classes' probabilities, and differentiates those too.
    layer, (_, module, pixels) = "layer3", pair("resnet18")
    with torch.no_grad():
        classes = module(to_torch(pixels)).argmax(-1).tolist()

    def targets(number, outputs):
        others = torch.argsort((outputs - outputs[number]).abs())[1:4]
        return FinerWeightedTarget(number, others.tolist(), 1)(outputs)

    target = lambda number: functools.partial(targets, number)  # noqa: E731
    expected = theirs_gradcam(gradcam.GradCAM, module, layer, pixels, classes, target)
    published = theirs_torchcam(torchcam.methods.FinerCAM, module, layer, pixels, classes)
    scaled = expected * (published * expected).sum() / (expected**2).sum()
    assert relative_error(np.maximum(scaled, 0), published) > 0.01
