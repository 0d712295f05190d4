"""ONNX export is not available; the name exists because libraries ask whether an export is running."""

from .._missing import module_getattr


def is_in_onnx_export():
    return False


__getattr__ = module_getattr("torch.onnx")
