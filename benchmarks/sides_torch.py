"""PyTorch as one would write it for speed, torchcam and pytorch-grad-cam."""

import gc

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import networks
from benchmarks.setting import Case, Precision, Setting
from benchmarks.side import Outputs, Program


class Torch:
    """timm's network, the head's columns at every pixel, bicubic interpolation."""

    def __init__(
        self,
        setting: Setting,
        *,
        channels_last: bool = True,
        compiled: str | None = None,
        precision: Precision | None = None,
    ) -> None:
        torch.set_num_threads(setting.threads)
        allow = setting.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow
        torch.backends.cudnn.benchmark = True
        self.setting = setting
        self.device = torch.device("cuda" if setting.device == "gpu" else "cpu")
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.dtype = torch.bfloat16 if (precision or setting.precision) == "bfloat16" else torch.float32
        network = networks.load(setting.model, setting.weights)
        self.mean, self.std = (
            torch.tensor(network.pretrained_cfg[name], device=self.device).reshape(1, 3, 1, 1)
            for name in ("mean", "std")
        )
        self.kernel, self.bias = (leaf.detach().to(self.device) for leaf in network.get_classifier().parameters())
        self.network = network.to(self.device, self.dtype, memory_format=self.format).requires_grad_(False)
        self.compiled = compiled

    def peak_device_bytes(self) -> int | None:
        """PyTorch's own count; None on CPU."""
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None

    def forget_peak_device_bytes(self) -> int:
        """Gives back what the case before has left: other sides share the card. The count then starts anew."""
        if self.compiled:
            torch._dynamo.reset()  # programs of other batch sizes, and the memory that their CUDA graphs hold
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        return 0

    def program(self, case: Case) -> Program:
        """The case with its pictures on the device."""
        images = torch.from_numpy(case.images(self.setting)).to(self.device)
        function = self.explain if case.workload == "explanation" else self.features
        function = self._compile(function)

        def run() -> tuple[Tensor, ...]:
            with torch.inference_mode():
                result = function(images)
            self.synchronise()
            return result

        return Program(run, self.fetch)

    def _compile(self, function):  # noqa: ANN001, ANN202
        if self.compiled is None:
            return function
        if self.compiled == "frozen":
            torch._inductor.config.freezing = True
        mode = "max-autotune" if self.compiled == "max-autotune" else "default"
        return torch.compile(function, dynamic=False, fullgraph=True, mode=mode)

    def synchronise(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def inputs(self, images: Tensor) -> Tensor:
        """Normalised NCHW from uint8 NHWC."""
        x = (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        return x.to(self.dtype).contiguous(memory_format=self.format)

    def features(self, images: Tensor) -> tuple[Tensor]:
        """What global average pooling reads."""
        return (self.network.forward_features(self.inputs(images)),)

    def explain(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classes, probabilities and maps."""
        features = self.features(images)[0].float()
        logits = functional.linear(features.mean((2, 3)), self.kernel, self.bias)
        probabilities, classes = logits.softmax(1).topk(self.setting.top_k)
        maps = torch.einsum("bchw,bkc->bkhw", features, self.kernel[classes])
        return classes, probabilities, self.resize(maps)

    def resize(self, maps: Tensor) -> Tensor:
        """Maps of the pictures' size."""
        size = (self.setting.image_size, self.setting.image_size)
        return functional.interpolate(maps, size, mode="bicubic", align_corners=False)

    def fetch(self, result: tuple[Tensor, ...]) -> Outputs:
        """As NumPy arrays in camjax's layout."""
        arrays = [np.asarray(leaf.float().cpu() if leaf.is_floating_point() else leaf.cpu()) for leaf in result]
        if len(arrays) == 1:
            return {"features": np.moveaxis(arrays[0], 1, -1)}
        return dict(zip(("classes", "probabilities", "maps"), arrays, strict=True))


class TorchCam(Torch):
    """torchcam's `CAM`: its hook keeps the features, and each call maps one class of every picture."""

    def __init__(self, setting: Setting) -> None:
        from torchcam.methods import CAM

        super().__init__(setting)
        layer, head = networks.hooked_layers(self.network, setting.model)
        self.extractor = CAM(self.network, layer, head)

    def explain(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classes, probabilities and maps."""
        logits = self.network(self.inputs(images)).float()
        probabilities, classes = logits.softmax(1).topk(self.setting.top_k)
        maps = [self.extractor(column.tolist(), logits, normalized=False)[0] for column in classes.T]
        return classes, probabilities, self.resize(torch.stack(maps, 1).float())


class GradCam(Torch):
    """pytorch-grad-cam's `GradCAM` for the top class: for such a head its maps are CAM's, through a gradient."""

    def __init__(self, setting: Setting) -> None:
        from pytorch_grad_cam import GradCAM

        super().__init__(setting)
        layer, _ = networks.hooked_layers(self.network, setting.model)
        self.network.requires_grad_(True)  # as its users run it
        self.gradcam = GradCAM(self.network, [layer])

    def program(self, case: Case) -> Program:
        """The case with its pictures on the device."""
        images = torch.from_numpy(case.images(self.setting)).to(self.device)

        def run() -> tuple[Tensor, ...]:
            maps = self.gradcam(self.inputs(images), targets=None)
            probabilities, classes = self.gradcam.outputs.detach().float().softmax(1).topk(1)
            self.synchronise()
            return classes, probabilities, torch.from_numpy(maps)[:, None]

        return Program(run, self.fetch)
