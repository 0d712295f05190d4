"""Makes nn.json with real PyTorch: `.venv-reference/bin/python tests/golden/make_nn.py`.

For each layer: its state after `torch.manual_seed(SEED)`, the next random number (so that no draw is missing or too
many), and its output and parameter gradients for a fixed input. For each function of `nn.init`: the values it fills in.
"""

import json
import math
import pathlib

import torch
from torch import nn

SEED = 3
KEEP = 12  # values stored of a tensor, evenly spaced; its sum stands for the rest

# name, arguments, keyword arguments, input shape (None: construct only), integer input up to this number or None
LAYERS = [
    ("Linear", [5, 7], {}, [2, 3, 5], None),
    ("Linear", [5, 7, False], {}, [2, 5], None),
    ("Bilinear", [3, 4, 5], {}, None, None),
    ("Conv1d", [4, 6, 3], {"padding": 1}, [2, 4, 9], None),
    ("Conv2d", [4, 6, 3, 2, 1], {}, [2, 4, 9, 9], None),
    ("Conv2d", [4, 6, [3, 5]], {"padding": "same"}, [2, 4, 9, 9], None),
    ("Conv2d", [4, 6, 4], {"padding": "same", "dilation": 2}, [2, 4, 9, 9], None),
    ("Conv2d", [4, 6, 3], {"padding": 1, "padding_mode": "reflect", "groups": 2}, [2, 4, 9, 9], None),
    ("Conv2d", [4, 6, 3], {"padding": [1, 2], "padding_mode": "replicate", "bias": False}, [2, 4, 9, 9], None),
    ("Conv3d", [2, 3, 3], {"dilation": 2}, [1, 2, 6, 6, 6], None),
    ("ConvTranspose1d", [4, 6, 3], {"stride": 2}, [2, 4, 5], None),
    ("ConvTranspose2d", [4, 6, 3], {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}, [2, 4, 5, 5], None),
    ("ConvTranspose3d", [2, 3, 2], {}, None, None),
    ("Embedding", [10, 4], {}, [3, 4], 10),
    ("Embedding", [10, 4, 3], {}, [3, 4], 10),
    ("Embedding", [10, 4], {"padding_idx": -1}, [3, 4], 10),
    ("LayerNorm", [6], {}, [2, 4, 6], None),
    ("LayerNorm", [[4, 6]], {"bias": False}, [2, 4, 6], None),
    ("LayerNorm", [6], {"elementwise_affine": False}, [2, 4, 6], None),
    ("GroupNorm", [2, 4], {}, [2, 4, 3, 3], None),
    ("BatchNorm1d", [4], {}, [5, 4], None),
    ("BatchNorm2d", [4], {}, [3, 4, 5, 5], None),
    ("BatchNorm2d", [4], {"momentum": None, "affine": False}, [3, 4, 5, 5], None),
    ("PReLU", [4, 0.1], {}, [2, 4, 3], None),
    ("ReLU", [], {}, [3, 7], None),
    ("ReLU6", [], {}, [3, 7], None),
    ("LeakyReLU", [0.2], {}, [3, 7], None),
    ("ELU", [0.5], {}, [3, 7], None),
    ("GELU", [], {}, [3, 7], None),
    ("GELU", ["tanh"], {}, [3, 7], None),
    ("SiLU", [], {}, [3, 7], None),
    ("Mish", [], {}, [3, 7], None),
    ("Hardswish", [], {}, [3, 7], None),
    ("Tanh", [], {}, [3, 7], None),
    ("Sigmoid", [], {}, [3, 7], None),
    ("Softplus", [], {}, [3, 7], None),
    ("Softmax", [-1], {}, [3, 7], None),
    ("LogSoftmax", [1], {}, [3, 7], None),
    ("GLU", [], {}, [3, 8], None),
    ("MaxPool2d", [2], {}, [2, 3, 6, 6], None),
    ("AvgPool2d", [3, 2, 1], {}, [2, 3, 6, 6], None),
    ("AvgPool1d", [2], {}, [2, 3, 6], None),
    ("AdaptiveAvgPool1d", [3], {}, [2, 3, 7], None),
    ("AdaptiveAvgPool2d", [2], {}, [2, 3, 5, 7], None),
    ("ZeroPad2d", [1], {}, [2, 3, 4, 4], None),
    ("ReflectionPad2d", [[1, 2, 0, 1]], {}, [2, 3, 4, 4], None),
    ("ReplicationPad2d", [1], {}, [2, 3, 4, 4], None),
    ("ConstantPad1d", [2, 3.0], {}, [2, 3, 4], None),
    ("Upsample", [], {"scale_factor": 2}, [2, 3, 4, 4], None),
    ("Upsample", [], {"size": [7, 9], "mode": "bilinear"}, [2, 3, 4, 4], None),
    ("PixelShuffle", [2], {}, [2, 8, 3, 3], None),
    ("PixelUnshuffle", [2], {}, [2, 2, 6, 6], None),
    ("Flatten", [], {}, [2, 3, 4], None),
    ("Unflatten", [1, [2, 3]], {}, [2, 6], None),
    ("Unfold", [2], {}, [2, 3, 5, 5], None),
    ("MultiheadAttention", [8, 2], {}, None, None),
    ("MultiheadAttention", [8, 2], {"kdim": 5, "vdim": 6, "bias": False}, None, None),
    ("MultiheadAttention", [8, 2], {"add_bias_kv": True}, None, None),
]
INITS = [
    ("uniform_", [3, 4], {"a": -1.0, "b": 2.0}),
    ("normal_", [30, 4], {"mean": 1.0, "std": 2.0}),
    ("normal_", [3, 4], {}),
    ("xavier_uniform_", [3, 4, 2], {"gain": 2.0}),
    ("xavier_normal_", [3, 4], {}),
    ("trunc_normal_", [6, 5], {"std": 0.02}),
    ("trunc_normal_", [6, 5], {"mean": 0.2, "std": 0.9, "a": -0.7, "b": 1.1}),
    ("trunc_normal_", [6, 5], {"a": 1.0, "b": 3.0}),
    ("kaiming_uniform_", [3, 4, 3, 3], {"a": 0.3, "mode": "fan_out"}),
    ("kaiming_normal_", [3, 4], {"nonlinearity": "relu"}),
    ("sparse_", [10, 5], {"sparsity": 0.3}),
    ("eye_", [3, 5], {}),
    ("dirac_", [6, 3, 3, 3], {"groups": 2}),
    ("dirac_", [2, 3, 4], {}),
    ("constant_", [3], {"val": 2.0}),
    ("ones_", [3], {}),
    ("zeros_", [3], {}),
]


def wave(shape):
    """An input without random numbers."""
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float32) * 0.7).reshape(shape)


def tupled(value):
    return tuple(value) if isinstance(value, list) else value


def digest(tensor):
    flat = tensor.detach().double().flatten()
    step = max(1, flat.numel() // KEEP)
    values = [float(f"{value:.8g}") for value in flat[::step][:KEEP].tolist()]
    return {"shape": list(tensor.shape), "values": values, "sum": float(f"{flat.sum().item():.8g}")}


def layer(name, args, kwargs, shape, integers):
    torch.manual_seed(SEED)
    made = getattr(nn, name)(*map(tupled, args), **{k: tupled(v) for k, v in kwargs.items()})
    entry = {"layer": name, "args": args, "kwargs": kwargs, "input": shape, "integers": integers}
    entry["state"] = {key: digest(value) for key, value in made.state_dict().items()}
    entry["next"] = torch.rand(1).item()
    if shape is not None:
        x = torch.arange(math.prod(shape)).reshape(shape) % integers if integers else wave(shape)
        x.requires_grad_(not integers)
        output = made(x)
        (output * wave(output.shape)).sum().backward()
        entry["output"] = digest(output)
        entry["grads"] = {key: digest(value.grad) for key, value in made.named_parameters()}
        if not integers:
            entry["grad_input"] = digest(x.grad)
    return entry


def init(name, shape, kwargs):
    torch.manual_seed(SEED)
    filled = getattr(nn.init, name)(torch.empty(shape), **kwargs)
    return {"init": name, "shape": shape, "kwargs": kwargs, "result": digest(filled)}


if __name__ == "__main__":
    golden = {"layers": [layer(*entry) for entry in LAYERS], "inits": [init(*entry) for entry in INITS]}
    # one entry a line, so that a change shows as the lines it touches
    lines = [f'"seed": {SEED}, "torch": "{torch.__version__}"']
    for key in ("layers", "inits"):
        lines.append(f'"{key}": [\n' + ",\n".join(json.dumps(entry) for entry in golden[key]) + "\n]")
    pathlib.Path(__file__).with_name("nn.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
