"""Make hist.json: what OpenCV 4.11 answers, for tests/eval/test_hist.py.

    python -m venv cv && cv/bin/pip install opencv-python-headless==4.11.0.86 'numpy<2'
    cv/bin/python tests/golden/make_hist.py > tests/golden/hist.json

Written from the description of the challenge's checker alone, in OpenCV's own functions and uint8 arithmetic; shares
no code with eval/hist.py.
"""

import hashlib
import itertools
import json

import cv2
import numpy as np


def picture(seed):
    """Smooth random colours; the test draws the same."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, 7, axis=0), 9, axis=1) ^ rng.integers(0, 32, (42, 45, 3), dtype=np.uint8)


def all_colours():
    digest = hashlib.sha256()
    for red in range(256):
        index = np.arange(1 << 16)
        image = np.stack([index & 255, index >> 8, np.full(1 << 16, red)], axis=-1).astype(np.uint8)
        digest.update(cv2.cvtColor(image.reshape(256, 256, 3), cv2.COLOR_BGR2HSV).tobytes())
    return digest.hexdigest()


def histograms(image, corrected):
    kind = np.int32 if corrected else np.uint8
    level = (image // 16).astype(kind)
    blue = level[..., 0] * kind(256) if corrected else (level[..., 0].astype(np.int32) * 256).astype(np.uint8)
    cells = blue + level[..., 1] * kind(16) + level[..., 2]
    rgb = cv2.calcHist([cells.astype(np.float32)], [0], None, [4096], [0, 4096])
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hue = hsv[..., 0].astype(np.int32) * 2 if corrected else hsv[..., 0] * np.uint8(2)
    cell = np.zeros(hue.shape, np.uint8)
    edges = [20, 40, 75, 155, 190, 270, 295, 315]
    for number, (low, high) in enumerate(itertools.pairwise(edges), 1):
        cell[(hue > low) & (hue <= high)] = number
    cell = cell * np.uint8(9)
    for factor, channel in ((3, 1), (1, 2)):
        cell[hsv[..., channel] > 51] += np.uint8(factor)
        cell[hsv[..., channel] > 178] += np.uint8(factor)
    return rgb, cv2.calcHist([cell], [0], None, [72], [0, 72 if corrected else 71])


def score(references, image, corrected):
    parts = []
    for which in (0, 1):
        mean = sum(histograms(reference, corrected)[which] for reference in references) / len(references)
        parts.append(cv2.compareHist(histograms(image, corrected)[which], mean, cv2.HISTCMP_CORREL))
    return sum(parts) / 2


cases = [{"references": list(range(10 * n, 10 * n + n % 4 + 1)), "image": 10 * n + 9 - n % 7} for n in range(12)]
for case in cases:
    references, image = [picture(seed) for seed in case["references"]], picture(case["image"])
    for name in ("challenge", "corrected"):
        case[name] = score(references, image, name == "corrected")
print(json.dumps({"opencv": cv2.__version__, "hsv_of_all_colours_sha256": all_colours(), "cases": cases}, indent=1))
