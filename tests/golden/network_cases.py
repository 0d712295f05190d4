"""What the networks of eval/networks are compared on: pictures and weights from NumPy, alike in every environment."""

import zlib

import numpy as np

#: Sizes that resize up, down, and unevenly.
INCEPTION_SIZES = [(40, 61), (350, 320)]
#: Larger than 299, so that antialiasing shows; pictures and seed of either set.
FID_SIZE, FID = (420, 330), ((4, 5), (3, 6))
LPIPS_SIZE = (72, 80)
LITE_SIZE = (224, 224)
LPIPS_NETS = ("squeeze", "alex", "vgg")
#: ClipResNet in small; and "Good photo." and "Bad photo." as CLIP's tokenizer has them.
CLIP = {"layers": (1, 2, 1, 1), "width": 8, "embedding": 24, "text_width": 128, "text_layers": 2}
CLIP_TOKENS = [[49406, 886, 1125, 269, 49407], [49406, 2103, 1125, 269, 49407]]
KID = {"subsets": 7, "subset_size": 9}
KID_SEED = 3
#: feature -> every so many values are kept
KEEP = {"64": 1, "192": 1, "768": 3, "2048": 8, "logits_unbiased": 8, "logits": 8}


def pictures(count, size, seed):
    """(count, 3, height, width) uint8: soft shapes, hard edges and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float64) / max(size)
    made = []
    for _ in range(count):
        waves = rng.uniform(2, 25, (3, 2))
        phase = rng.uniform(0, 6, 3)
        channels = [np.sin(wave[0] * x + wave[1] * y + p) for wave, p in zip(waves, phase)]
        edge = (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1) > rng.uniform(-0.2, 0.4)) * rng.uniform(-1, 1, (3, 1, 1))
        made.append(np.stack(channels) + edge + 0.1 * rng.standard_normal((3, *size)))
    return np.clip(np.array(made) * 60 + 128, 0, 255).astype(np.uint8)


def state(shapes, seed):
    """Weights by name for shapes by name, scaled so that activations neither die nor explode."""
    made = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if name.endswith("num_batches_tracked"):
            made[name] = np.zeros(shape, np.int64)
        elif name.startswith("lin"):  # the heads of LPIPS are never negative
            made[name] = rng.random(shape, np.float32)
        elif len(shape) > 1:
            spread = np.float32(np.sqrt(2 / np.prod(shape[1:])))
            made[name] = rng.standard_normal(shape, np.float32) * spread
        elif name.endswith(("running_var", "weight")):
            made[name] = rng.random(shape, np.float32) + np.float32(0.5)
        else:
            made[name] = np.asarray(rng.standard_normal(shape, np.float32) * np.float32(0.1))
    return made


def clip_pictures(torch):
    """(2, 3, height, width) float32, neither square nor of CLIP's own size."""
    return torch.from_numpy(pictures(2, (96, 160), seed=10)).float() / 64 - 2


def vectors(count, width, seed):
    """(count, width) float32 features with correlations, as a network gives them."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((width, width)) / np.sqrt(width)
    return np.maximum(rng.standard_normal((count, width)) @ mixing + 0.3 * rng.random(width), 0).astype(np.float32)


#: name -> counts of the two sets, width. One has fewer vectors than dimensions: its covariances are singular.
SETS = {"regular": (60, 45, 24), "singular": (20, 13, 40)}
