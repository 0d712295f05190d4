"""Every torch name that the libraries use on our paths exists; those that do not are on a list with the reason."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest
import torch

FOLDERS = {
    "diffusers": ("models", "schedulers", "loaders", "pipelines/stable_diffusion", "pipelines/stable_diffusion_xl",
                  "pipelines/dit", "training_utils.py", "image_processor.py", "pipelines/pipeline_utils.py"),
    "transformers": ("models/clip", "models/dinov2", "models/vit", "models/blip", "modeling_utils.py", "activations.py",
                     "modeling_attn_mask_utils.py", "feature_extraction_utils.py", "image_processing_utils.py"),
    "peft": ("",),
    "accelerate": ("",),
}
#: Prefixes of names that are absent, and why that is right.
ABSENT = {
    "torch.distributed": "only what data-parallel training needs: torch.distributed.is_available() is False",
    "torch.npu": "other vendors' devices", "torch.xpu": "other vendors' devices", "torch.mps": "other vendors' devices",
    "torch._dynamo": "there is no graph compiler, and a fake one breaks diffusers",
    "torch.fx": "there is no tracer", "torch.hub.load": "downloads code",
    "torch.utils.tensorboard": "logging is optional in accelerate",
    "torch.cuda.FloatTensor": "legacy device types", "torch.cuda.LongTensor": "legacy device types",
    "torch.multiprocessing": "accelerate's launchers", "torch.autograd.detect_anomaly": "raises when used",
}


def _files():
    for library, places in FOLDERS.items():
        root = Path(importlib.util.find_spec(library).origin).parent
        for place in places:
            where = root / place
            for file in [where] if where.suffix == ".py" else sorted(where.rglob("*.py")):
                foreign = any(part in file.name for part in ("flax", "_tf", "onnx", "convert_"))
                if not foreign and "test_utils" not in file.parts:
                    yield file


def _chain(node):
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None


def _names(tree):
    alias = {"torch": "torch"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            alias.update({a.asname: a.name for a in node.names if a.asname and a.name.split(".")[0] == "torch"})
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "torch" and not node.level:
            for a in node.names:
                alias[a.asname or a.name] = f"{node.module}.{a.name}"
                yield f"{node.module}.{a.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            chain = _chain(node)
            if chain and chain[0] in alias:
                yield ".".join([alias[chain[0]], *chain[1:]])


def _exists(name):
    at, parts = torch, name.split(".")
    for i, part in enumerate(parts[1:], 2):
        if hasattr(at, part):
            at = getattr(at, part)
            continue
        try:
            at = importlib.import_module(".".join(parts[:i]))
        except ImportError:
            return False
    return True


def test_names_the_libraries_use_are_there():
    used = {n for file in _files() for n in _names(ast.parse(file.read_text(encoding="utf-8")))}
    assert len(used) > 300
    missing = sorted(n for n in used if not _exists(n) and not n.startswith(tuple(ABSENT)))
    assert missing == []


@pytest.mark.parametrize("name", ["torch.nope", "torch.nn.Nope", "torch.nn.functional.nope", "torch.linalg.nope",
                                  "torch.cuda.nope", "torch.optim.Nope", "torch.utils.data.Nope", "torch.fft.nope",
                                  "torch.autograd.nope", "torch.distributed.nope"])
def test_unknown_names_raise_and_name_themselves(name):
    module, _, last = name.rpartition(".")
    with pytest.raises(NotImplementedError, match=name.replace(".", r"\.")):
        getattr(importlib.import_module(module), last)


@pytest.mark.parametrize("name", ["torch._dynamo", "torch.fx", "torch.onnx.symbolic"])
def test_absent_modules_do_not_import(name):
    with pytest.raises(ImportError):
        importlib.import_module(name)


def test_it_tells_the_truth_about_what_is_there():
    assert torch.__version__.endswith("+jittor")
    assert not torch.distributed.is_available()
    assert not torch.backends.mps.is_available()
    if not torch.cuda.is_available():
        assert torch.cuda.device_count() == 0
        assert torch.version.cuda is None
        with pytest.raises(AssertionError, match="CUDA"):
            torch.ones(1).cuda()
        with pytest.raises(AssertionError, match="CUDA"):
            torch.ones(1, device="cuda")
