"""The methods that ask the network again, of a changed picture or a changed layer."""

from camjax.core.layers import INPUT
from camjax.methods.ablation import Ablation, Lift, Recipro
from camjax.methods.group import Group
from camjax.methods.method import ACTIVATION, ANY, BOTH, CHANNEL, DIFFERENTIABLE, KNOWN, LAYER, Method
from camjax.methods.optimised import Optimised
from camjax.methods.poly import Poly
from camjax.methods.score import Score
from camjax.methods.windows import Occlusion, Rise

METHODS = (
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
        passes="1 forward, 2 more and 1 backward from the layer",
        needs=f"{LAYER}; {KNOWN}",
        unit=BOTH,
    ),
    Method(
        "recipro-cam",
        "the score of each place of the layer by itself",
        "Byun & Lee 2022, arXiv:2209.14074; of tokens: 2023, arXiv:2310.02588",
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
)
