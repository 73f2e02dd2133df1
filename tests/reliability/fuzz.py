"""Damaged films of every format, seeded so that a failure comes again. Knows neither pytest nor how they are sent."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.films import SAMPLES, saved

DICOM_SHARE = 50  # every 50th input is DICOM: each starts a process, which takes 0.3 s
GROWTH = 48  # MB by which memory may rise between a third and the end of the inputs; a leaked film would add more
INTERESTING = (0x00, 0x01, 0x7F, 0x80, 0xFF)
LONG = (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Send = Callable[[bytes, int], int]  # a damaged film and its number -> the status that came back


class UnexpectedStatusError(Exception):
    """What came back was neither an answer nor a refusal."""


def pictures() -> list[tuple[str, bytes]]:
    """Small films of each format in the ways it has of storing them: (name, bytes)."""
    with Image.open(SAMPLES[0]) as film:
        grey = film.convert("L").resize((96, 80))
    colour, wide = Image.merge("RGB", [grey] * 3), Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    turned = Image.Exif()
    turned[0x0112] = 6
    ways = [
        ("JPEG", grey, {}),
        ("JPEG", colour, {"progressive": True, "exif": turned}),
        ("JPEG", colour.convert("CMYK"), {"restart_marker_rows": 1}),
        ("PNG", grey, {}),
        ("PNG", wide, {}),
        ("PNG", colour.quantize(16), {"transparency": 3}),
        ("PNG", colour.convert("RGBA"), {"exif": turned, "icc_profile": bytes(200)}),
        ("TIFF", grey, {}),
        ("TIFF", wide, {"compression": "tiff_lzw"}),
        ("TIFF", grey.convert("1"), {"compression": "group4"}),
        ("TIFF", colour, {"compression": "jpeg"}),
        ("TIFF", colour, {"compression": "tiff_adobe_deflate"}),
        ("WEBP", colour, {}),
        ("WEBP", colour.convert("RGBA"), {"lossless": True, "exif": turned}),
        ("BMP", grey, {}),
        ("BMP", colour, {}),
    ]
    return [(file_format, saved(image, file_format, **options)) for file_format, image, options in ways]


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """One to eight changes of the kinds that readers trip over."""
    data = bytearray(data)
    for _ in range(random.integers(1, 9)):
        size = len(data)
        # headers are short and decide most: half of the changes fall there
        at = int(random.integers(0, min(size, 200) if random.random() < 0.5 else size)) if size else 0
        length = int(random.integers(1, 65))
        match random.integers(0, 9):
            case 0:
                data[at : at + 1] = bytes([data[at] ^ 1 << int(random.integers(0, 8))]) if size else b"x"
            case 1:
                data[at : at + 1] = bytes([random.choice(INTERESTING)])
            case 2:  # sizes, counts and offsets that lie
                value = int(random.choice(LONG))
                wide, order = (4, 2)[value <= 0xFFFF and random.random() < 0.5], random.choice(["big", "little"])
                data[at : at + wide] = value.to_bytes(wide, str(order))
            case 3:
                del data[at:]
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = random.bytes(length)
            case 6:
                data[at : at + length] = random.bytes(length)
            case 7:  # a part of it comes twice
                data[at:at] = data[at : at + 16 * length]
            case 8:
                other = int(random.integers(0, max(1, size)))
                data[at : at + length] = data[other : other + length]
    return bytes(data)


def check(
    send: Send, seeds: list[tuple[str, bytes]], inputs: int, folder: Path, seed: int, memory: Callable[[], float]
) -> tuple[Counter[int], float]:
    """Send mutated seeds; returns how often each status came and how many MB `memory` grew after a third.

    Raises:
        UnexpectedStatusError: a status other than 2xx and 4xx; what was sent is kept in `folder`.
    """
    random, statuses, before = np.random.default_rng(seed), Counter(), memory()
    for number in range(inputs):
        if number == inputs // 3:
            before = memory()
        name, data = seeds[number % len(seeds)]
        data = mutate(data, random)
        status = send(data, number)
        statuses[status] += 1
        if not 200 <= status < 500:
            kept = folder / f"{name}-{seed}-{number}"
            kept.write_bytes(data)
            raise UnexpectedStatusError(f"Expected 2xx or 4xx, received {status} for a {name}: {kept}")
    return statuses, memory() - before
