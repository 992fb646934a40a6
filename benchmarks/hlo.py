"""What XLA made of a program, counted in its compiled HLO text.

XLA's GPU compiler has two ways to hand a convolution with its bias, residual and ReLU to cuDNN: the custom call
`__cudnn$convBiasActivationForward`, and a fusion of the kind `__cudnn$fusion` around the convolution and what follows.
"""

import collections
import re
from typing import Any

FUSED_CALL, PLAIN_CALL, FUSION = "__cudnn$convBiasActivationForward", "__cudnn$convForward", "__cudnn$fusion"
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = .*?[\])}\s]([a-z][a-z-]*)\(")
_TARGET = re.compile(r'custom_call_target="([^"]+)"')
_CALLS = re.compile(r"calls=%?([\w.-]+)")


def computations(text: str) -> dict[str, list[str]]:
    """The instructions of every computation, by its name; the entry's too."""
    found: dict[str, list[str]] = {}
    body: list[str] = []
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            body = found[head[1]] = []
        elif line.startswith("}"):
            body = []
        else:
            body.append(line)
    return found


def opcode(line: str) -> str:
    """The operation of an instruction, or ""."""
    found = _INSTRUCTION.match(line)
    return found[2] if found else ""


def summary(text: str) -> dict[str, Any]:
    """Counts of a compiled program.

    Returns:
        `custom_calls`, by target; `fused_convolutions`, those cuDNN computes with their bias (either way);
        `other_convolutions`, the rest; `transposes` and `copies`, each also where they stand inside a fusion: changes
        of layout that cost a pass over memory; `pads`, of channels for one; `fusions`.
    """
    parts = computations(text)
    lines = [line for body in parts.values() for line in body]
    calls = collections.Counter(found[1] for line in lines if (found := _TARGET.search(line)))
    kinds = collections.Counter(map(opcode, lines))
    fused, bare = _cudnn_fusions(parts, lines)
    inside = fused + bare  # convolutions that stand in a cuDNN fusion, counted among `kinds` as well
    return {
        "custom_calls": dict(calls.most_common()),
        "fused_convolutions": calls[FUSED_CALL] + fused,
        "other_convolutions": calls[PLAIN_CALL] + bare + kinds["convolution"] - inside,
        "transposes": kinds["transpose"],
        "copies": kinds["copy"],
        "pads": kinds["pad"],
        "fusions": kinds["fusion"],
    }


def _cudnn_fusions(parts: dict[str, list[str]], lines: list[str]) -> tuple[int, int]:
    """Convolutions in cuDNN's fusions: with something added, and alone."""
    fused = bare = 0
    for line in lines:
        called = _CALLS.search(line)
        if opcode(line) != "fusion" or FUSION not in line or not called:
            continue
        operations = [opcode(inner) for inner in parts.get(called[1], [])]
        if "convolution" in operations:
            fused, bare = (fused + 1, bare) if "add" in operations else (fused, bare + 1)
    return fused, bare
