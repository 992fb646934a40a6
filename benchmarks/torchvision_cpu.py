"""Lets the Python part of torchvision import beside a CPU-only torch.

torchvision's wheels hold C++ operators built for CUDA, which a CPU-only torch cannot load; its Python code
then fails while it registers meta kernels for them. This declares those operators, never to be called.

    import torchvision_cpu   # first
    import torchvision, timm, torchcam, pytorch_grad_cam

Where a matching torchvision works as installed, importing this is harmless: it then declares nothing.
"""

import ctypes
import importlib.util
import re
from pathlib import Path

import torch

_library = None


def _declare() -> None:
    global _library
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return
    root = Path(next(iter(spec.submodule_search_locations)))
    compiled = next(root.glob("_C*.so"), None)
    if compiled is not None:
        try:
            ctypes.CDLL(str(compiled))
            return  # the operators load as they are
        except OSError:
            pass
    source = (root / "_meta_registrations.py").read_text()
    names = set(re.findall(r'register_meta\("([a-z_0-9]+)"', source))
    names |= set(re.findall(r"torchvision::([a-z_0-9]+)", source))
    _library = torch.library.Library("torchvision", "DEF")
    for name in sorted(names):
        _library.define(f"{name}(Tensor a) -> Tensor")


_declare()
