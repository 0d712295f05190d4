"""Batches between processes: a pickle whose tensors travel as raw host memory behind it.

A tensor is sent as its NumPy array (bfloat16 as 16-bit patterns), so nothing of Jittor crosses the process boundary.
Each message is one pickle with the sizes of its buffers, then the buffers, over a `multiprocessing` connection.
"""

import io
import pickle
import struct

import numpy as np

import torch


def _rebuild(array, is_bfloat16, requires_grad):
    tensor = torch._tensor.from_bits_bf16(array) if is_bfloat16 else torch.from_numpy(array)
    return tensor.requires_grad_() if requires_grad else tensor


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj):
        if isinstance(obj, torch.Tensor):
            tensor = obj.detach().cpu()
            if tensor.dtype == torch.bfloat16:
                return _rebuild, (torch._tensor.to_bits_bf16(tensor), True, obj.requires_grad)
            return _rebuild, (np.ascontiguousarray(tensor.numpy()).reshape(tensor.shape), False, obj.requires_grad)
        return NotImplemented


def pack(obj):
    """Return the message for ``obj``: a list of byte buffers. Raises what pickling raises."""
    buffers = []
    stream = io.BytesIO()
    _Pickler(stream, 5, buffer_callback=buffers.append).dump(obj)
    views = [buffer.raw() for buffer in buffers]
    sizes = [view.nbytes for view in views]
    head = struct.pack(f"!I{len(sizes)}Q", len(sizes), *sizes)
    return [head + stream.getvalue(), *(view for view in views if view.nbytes)]


def send(connection, message):
    """Write a message made by `pack`."""
    for part in message:
        connection.send_bytes(part)


def receive(connection):
    """Read one message and rebuild its object. Raises EOFError when the other end is gone."""
    head = connection.recv_bytes()
    (count,) = struct.unpack_from("!I", head)
    sizes = struct.unpack_from(f"!{count}Q", head, 4)
    buffers = [np.empty(size, np.uint8) for size in sizes]
    for buffer in buffers:
        if buffer.size:
            connection.recv_bytes_into(buffer)
    return pickle.loads(memoryview(head)[4 + 8 * count:], buffers=buffers)
