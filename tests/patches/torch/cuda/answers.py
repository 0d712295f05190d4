"""What torch answers to questions about CUDA where there is none. Run by itself it prints the answers as JSON, on Jittor and
on PyTorch's CPU build alike; `EXPECTED` is what both say (exceptions by class and the beginning of their message)."""

import json
import warnings

import torch

_NO = "AssertionError: Torch not compiled with CUDA enabled"
EXPECTED = {
    "torch.cuda.is_available()": "False",
    "torch.cuda.device_count()": "0",
    "torch.cuda.is_initialized()": "False",
    "torch.cuda.init()": _NO,
    "torch.cuda.current_device()": _NO,
    "torch.cuda.set_device(-1)": "None",
    "torch.cuda.set_device('cpu')": "ValueError: Expected a cuda device, but got: cpu",
    "torch.cuda.get_device_name()": _NO,
    "torch.cuda.get_device_name(0)": _NO,
    "torch.cuda.get_device_capability()": _NO,
    "torch.cuda.get_device_properties(0)": _NO,
    "torch.cuda.get_arch_list()": "[]",
    "torch.cuda.get_gencode_flags()": "''",
    "torch.cuda.is_bf16_supported()": "False",
    "torch.cuda.can_device_access_peer(0, 1)": _NO,
    "torch.cuda.synchronize()": _NO,
    "torch.cuda.ipc_collect()": _NO,
    "torch.cuda.empty_cache()": "None",
    "torch.cuda.memory_allocated()": "0",
    "torch.cuda.memory_reserved()": "0",
    "torch.cuda.max_memory_allocated()": "0",
    "torch.cuda.max_memory_reserved()": "0",
    "dict(torch.cuda.memory_stats())": "{}",
    "torch.cuda.mem_get_info()": _NO,
    "torch.cuda.manual_seed(1)": "None",
    "torch.cuda.manual_seed_all(1)": "None",
    "torch.cuda.seed()": "None",
    "torch.cuda.seed_all()": "None",
    "torch.cuda.initial_seed()": _NO,
    "torch.cuda.get_rng_state()": _NO,
    "torch.cuda.get_rng_state_all()": "[]",
    "torch.cuda.set_rng_state_all([])": "None",
    "torch.cuda.Stream()": "RuntimeError: ",
    "torch.cuda.Event(enable_timing=True)": "RuntimeError: Tried to instantiate dummy base class Event",
    "torch.cuda.current_stream()": _NO,
    "torch.cuda.default_stream()": _NO,
    "torch.cuda.stream(None).__enter__()": "None",
    "torch.cuda.device(-1).__enter__()": "None",
    "torch.cuda.device(0).__enter__()": "RuntimeError: PyTorch was compiled without CUDA support",
    "torch.cuda.device_of(torch.ones(1)).__enter__()": "None",
    "issubclass(torch.cuda.OutOfMemoryError, RuntimeError)": "True",
    "torch.cuda.default_generators": "()",
    "torch.ones(1).cuda()": _NO,
    "torch.ones(1).to('cuda')": _NO,
    "torch.ones(1).to('cuda:1')": _NO,
    "torch.ones(1, device='cuda')": _NO,
    "torch.tensor([1], device='cuda:0')": _NO,
    "torch.arange(3, device='cuda')": _NO,
    "torch.randn(2, device='cuda')": _NO,
    "torch.zeros_like(torch.ones(2), device='cuda')": _NO,
    "torch.nn.Linear(2, 2).cuda()": _NO,
    "torch.nn.Linear(2, 2, device='cuda')": _NO,
    "torch.ones(1).is_cuda": "False",
    "torch.ones(1).get_device()": "-1",
    "torch.device('cuda', 1)": "device(type='cuda', index=1)",
    "torch.version.cuda": "None",
    "torch.backends.cuda.is_built()": "False",
    "torch.backends.cudnn.is_available()": "False",
    "torch.get_autocast_gpu_dtype()": "torch.float16",
    "torch.cuda.amp.GradScaler().is_enabled()": "False",
}


def answer(question: str) -> str:
    """The value's representation, or "Class: message" of the exception by its nearest class of Python's own."""
    try:
        return repr(eval(question, {"torch": torch}))
    except Exception as error:
        kinds = (AssertionError, AttributeError, NotImplementedError, RuntimeError, ValueError, TypeError, Exception)
        return f"{next(kind.__name__ for kind in kinds if isinstance(error, kind))}: {error}"


def answers() -> dict[str, str]:
    """The answers of the installed torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {question: answer(question) for question in EXPECTED}


if __name__ == "__main__":
    print(json.dumps(answers()))
