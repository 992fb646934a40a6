"""Changed copies of seeds, the same ones for the same number at every run."""

import json
import random
from collections.abc import Iterator, Sequence

from json_mutations import changed

LONGEST = 128 * 1024
_NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**62, 2**63 - 1, 2**64 - 1]
_WORDS = [
    *(b"", b"0", b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b'""', b"true", b"99999999999999999999", b"\\ud800"),
    *(
        b"\0",
        b"\n",
        b"\r",
        b'"',
        b",",
        b"::",
        b"..",
        b"/",
        b".tar",
        b"\xff",
        b"\xef\xbb\xbf",
        "ä".encode(),
        b"\x1b[31m",
    ),
]


def mutations(seeds: Sequence[bytes], number: int) -> Iterator[bytes]:
    """Endless: each is a seed after one to eight changes; most of those of JSON are JSON still."""
    rng = random.Random(number)
    documents = [json.loads(seed) for seed in seeds if seed[:1] in b"{["]
    while True:
        if documents and rng.random() < 0.7:
            yield json.dumps(changed(rng.choice(documents), rng)).encode()
            continue
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5, 8))):
            data = rng.choice(_CHANGES)(rng, data, seeds)
        yield bytes(data[:LONGEST])


def _flip(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _byte(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)
    return data


def _number(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """A size, a length or an offset, of any width and either order."""
    width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
    start = rng.randrange(len(data) + 1)
    value = rng.choice(_NUMBERS) % 256**width
    data[start : start + width] = value.to_bytes(width, order)
    return data


def _word(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    start = rng.randrange(len(data) + 1)
    data[start : start + rng.choice((0, 0, 1, 4))] = rng.choice(_WORDS)
    return data


def _cut(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    start = rng.randrange(len(data) + 1)
    del data[start : start + (rng.randint(1, 32) if rng.random() < 0.8 else len(data))]
    return data


def _repeat(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    start = rng.randrange(len(data) + 1)
    piece = data[start : start + rng.choice((1, 4, 16, 200))]
    times = min(rng.choice((1, 2, 10, 1000)), LONGEST // (len(piece) + 1))
    data[start:start] = piece * times
    return data


def _move(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> bytearray:
    """A piece of another seed, or of this one."""
    other = rng.choice(seeds)
    source, start, length = rng.randrange(len(other) + 1), rng.randrange(len(data) + 1), rng.randint(1, 64)
    data[start : start + (length if rng.random() < 0.5 else 0)] = other[source : source + length]
    return data


_CHANGES = (_flip, _byte, _number, _word, _cut, _repeat, _move)
