"""How fast camjax is, beside PyTorch and its CAM libraries: `python -m benchmarks --help`, and `README.md` here."""
