"""What every convolutional family has to hold, against a network in PyTorch with the same random weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from references import images, outlined, relative_error, state_dict, to_nhwc, to_torch

from camjax import load_model, save_model
from camjax.checkpoints.conversion import convert
from camjax.checkpoints.identify import identify
from camjax.checkpoints.store import described
from camjax.core.inference import for_inference
from camjax.core.layers import layers
from camjax.core.names import tap
from camjax.errors import CheckpointError
from camjax.models.family import Architecture
from camjax.models.registry import ARCHITECTURES

TOLERANCE = 1e-5  # float32, sums in another order


def converted(family, config, tensors, layout):
    """The model of a state dict, which also tells its config, as loading does."""
    config = family.layouts[layout].config(tensors, config)
    model = family.outline(config)
    params = convert(tensors, family.layouts[layout], config, model.params)
    return dataclasses.replace(model, params=params, name="tiny", architecture=described_as(family, config))


def described_as(family, config):
    return described(Architecture("tiny", family, config))


def torch_layers(module, pixels, classes):
    """The logits, and by name every layer's output and the gradient of the pictures' classes there.

    What goes on from a layer is a copy: in-place ReLUs and sums write over what a hook was given.
    """
    found = {}

    def keep(name):
        def hook(_module, _inputs, output):
            if not isinstance(output, torch.Tensor) or output.ndim != 4:
                return None
            output.retain_grad()
            found[name] = output
            return output.clone()

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in module.named_modules() if name]
    logits = module(to_torch(pixels).requires_grad_())
    logits[range(len(classes)), classes].sum().backward()
    for hook in hooks:
        hook.remove()
    return logits.detach().numpy(), {name: (to_nhwc(x), to_nhwc(x.grad)) for name, x in found.items()}


def assert_equals(model, module, size, *, others=(), at=None):
    """Logits and all layers that both have, and the gradient at one of them.

    Args:
        model: ours.
        module: PyTorch's.
        size: of the pictures.
        others: names of PyTorch's convolutions, normalisations and blocks that ours does not have.
        at: a layer whose gradient is compared.
    """
    pixels, classes = images(2, *size), np.asarray([1, 3])
    logits, expected = torch_layers(module, pixels, classes)
    # A head's layers are (b, c) here and may be (b, c, 1, 1) there.
    names = [name for name, value in layers(model, (2, *size, 3)).items() if name in expected and value.ndim == 4]
    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d)
    wanted = {name for name, layer in module.named_modules() if isinstance(layer, kinds) and name in expected}
    assert wanted - {*others} <= {*names}
    if at is None:
        ours, features = jax.jit(tap(model.forward, read=names))(model.params, pixels)
    else:

        def score(change):
            ours, features = tap(model.forward, add={at: change}, read=names)(model.params, pixels)
            return ours[np.arange(2), classes].sum(), (ours, features)

        zeros = jnp.zeros(expected[at][0].shape)
        gradient, (ours, features) = jax.jit(jax.grad(score, has_aux=True))(zeros)
        assert relative_error(gradient, expected[at][1]) < 1e-4
    assert relative_error(ours, logits) < TOLERANCE
    for name in names:
        assert relative_error(features[name], expected[name][0]) < TOLERANCE, name


def assert_folding_changes_nothing(model, size):
    """And leaves no normalisation behind a convolution."""
    pixels = images(1, *size)
    ready = for_inference(model)
    names = [name for name in layers(ready, (1, *size, 3)) if name in layers(model, (1, *size, 3))]
    assert {stage.name for stage in model.stages} <= {*names}
    expected, features = jax.jit(tap(model.forward, read=names))(model.params, pixels)
    ours, folded = jax.jit(tap(ready.forward, read=names))(ready.params, pixels)
    assert relative_error(ours, expected) < TOLERANCE
    for name in names:
        assert relative_error(folded[name], features[name]) < TOLERANCE, name


def assert_stages_are_the_forward_pass(model, size):
    x = jnp.asarray(images(1, *size))
    expected = jax.jit(tap(model.forward, read=[stage.name for stage in model.stages]))(model.params, x)[1]
    for stage in model.stages:
        x = jax.jit(stage.apply)(model.params, x)
        np.testing.assert_allclose(x, expected[stage.name], rtol=1e-4, atol=1e-5)


def assert_saved_is_loaded(model, folder):
    save_model(model, folder / "tiny.safetensors")
    loaded = load_model(folder / "tiny.safetensors")
    jax.tree.map(np.testing.assert_array_equal, loaded.params, model.params)
    assert (loaded.forward, loaded.layer, loaded.architecture) == (model.forward, model.layer, model.architecture)


def assert_known_by_its_keys(family, config, module, layout):
    """Registered under a name, its state dict alone gives the network; one key less or another is refused by name."""
    architecture = Architecture("tiny", family, config)
    tensors = state_dict(module)
    match, params = identify(tensors, [*ARCHITECTURES.values(), architecture])
    assert (match.architecture.family, match.layout, match.overlap) == (family, layout, 1)
    assert jax.tree.structure(params) == jax.tree.structure(family.outline(match.architecture.config).params)
    first, *_ = [key for key in tensors if key.endswith("weight")]
    with pytest.raises(CheckpointError, match=f"1 missing: {first}; 1 extra: fc.odd"):
        identify({"fc.odd" if key == first else key: value for key, value in tensors.items()}, [architecture])


def assert_counts(names, build):
    """As many parameters and statistics as PyTorch's networks of these names."""
    for name in names:
        with outlined():
            module = build(name)
        numbers = [value.numel() for key, value in module.state_dict().items() if "num_batches" not in key]
        family, config = ARCHITECTURES[name].family, ARCHITECTURES[name].config
        leaves = jax.tree.leaves(family.outline(config).params)
        assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == sum(numbers), name


def assert_inference_and_files(model, module, family, config, folder, size, auxiliary):
    """Made ready for inference it still equals torchvision's; its convolutions are one with their normalisations.

    `auxiliary` is how the names of the heads begin that only training has.
    """
    gone = {name for name, _ in module.named_modules() if name.endswith(".conv") or name.startswith(auxiliary)}
    ready = for_inference(model)
    assert_equals(ready, module, size, others=gone)
    assert not gone & {*layers(ready, (2, *size, 3))}
    assert_saved_is_loaded(model, folder)
    assert_known_by_its_keys(family, config, module, "torchvision")
