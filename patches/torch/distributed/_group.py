"""One process group: who is in it, and collective operations on tensors.

Rank 0 is the hub: it listens at MASTER_ADDR:MASTER_PORT, the others connect to it. On the CPU it adds up what they send in
the order of their ranks and sends the sum back, so all ranks hold the same bits. On cards only NCCL's identifier takes that
way. A process that ends closes its connection, and whoever waits for it gets a RuntimeError.
"""

import datetime
import enum
import os
import socket
import struct
import time

import numpy as np

import torch

_BACKENDS = {
    None: {"cpu": "gloo", "cuda": "nccl"},
    "gloo": {"cpu": "gloo"},
    "nccl": {"cuda": "nccl"},
    "cpu:gloo,cuda:nccl": {"cpu": "gloo", "cuda": "nccl"},
}
_DEFAULT_TIMEOUT = datetime.timedelta(minutes=30)
_UNIQUE_ID_BYTES = 128  # of ncclUniqueId in nccl.h; cupy has no name for it


class ReduceOp(enum.Enum):
    """How `all_reduce` combines: the sum, the largest, the smallest. PyTorch's other operations are not there."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


_COMBINE = {ReduceOp.SUM: np.add, ReduceOp.MAX: np.maximum, ReduceOp.MIN: np.minimum}


class ProcessGroup:
    """The processes of `init_process_group`: ``rank`` of ``size``, and the connections between them."""

    def __init__(self, backends, rank, size, address, timeout):
        self.backends, self.rank, self.size, self.timeout = backends, rank, size, timeout
        self.peers = self._listen(address) if rank == 0 else [self._connect(address)]
        self.card = None  # NCCL's communicator, made when the first tensor on a card comes

    def _listen(self, address):
        peers = [None] * (self.size - 1)
        with socket.create_server(address) as server:
            deadline = time.monotonic() + self.timeout
            while None in peers:
                server.settimeout(max(deadline - time.monotonic(), 0.001))
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    missing = [rank for rank, peer in enumerate(peers, 1) if peer is None]
                    raise self._ended(f"waiting for rank {', '.join(map(str, missing))} timed out") from None
                connection.settimeout(self.timeout)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                rank, size = struct.unpack("<qq", _receive(connection, 16))
                if size != self.size or not 0 < rank < self.size or peers[rank - 1] is not None:
                    raise RuntimeError(f"rank {rank} of {size} has no place in a process group of {self.size}")
                peers[rank - 1] = connection
        return peers

    def _connect(self, address):
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                connection = socket.create_connection(address, timeout=self.timeout)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise self._ended(f"rank 0 at {address[0]}:{address[1]} cannot be reached ({error})") from None
                time.sleep(0.05)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(struct.pack("<qq", self.rank, self.size))
        return connection

    def _ended(self, why):
        return RuntimeError(f"process group, rank {self.rank} of {self.size}: {why}")

    def _send(self, peer, data):
        try:
            self.peers[peer].sendall(struct.pack("<q", len(data)))
            self.peers[peer].sendall(data)
        except OSError as error:
            raise self._ended(f"rank {self._name(peer)} is gone ({error})") from None

    def _take(self, peer, expected):
        try:
            (length,) = struct.unpack("<q", _receive(self.peers[peer], 8))
            if length != expected:  # the ranks are not at the same call
                raise self._ended(f"rank {self._name(peer)} sent {length} bytes where {expected} were due")
            return _receive(self.peers[peer], length)
        except OSError as error:
            raise self._ended(f"rank {self._name(peer)} is gone ({error})") from None

    def _name(self, peer):
        return peer + 1 if self.rank == 0 else 0

    def combine(self, values, op):
        """The combined arrays of all ranks, on every rank; ``values`` is a NumPy array."""
        values = np.asarray(values, order="C")
        if self.size == 1:
            return values
        if self.rank:
            self._send(0, _bytes(values))
            return np.frombuffer(self._take(0, values.nbytes), values.dtype).reshape(values.shape)
        found = values
        for peer in range(self.size - 1):
            found = _COMBINE[op](found, np.frombuffer(self._take(peer, values.nbytes), values.dtype).reshape(values.shape))
        self._give(found)
        return found

    def _give(self, values):
        for peer in range(self.size - 1):
            self._send(peer, _bytes(values))

    def hand_out(self, values, source):
        """The array of rank ``source`` on every rank."""
        values = np.asarray(values, order="C")
        if self.size == 1:
            return values
        if self.rank == 0:
            if source:
                values = np.frombuffer(self._take(source - 1, values.nbytes), values.dtype).reshape(values.shape)
            self._give(values)
            return values
        if self.rank == source:
            self._send(0, _bytes(values))
        return np.frombuffer(self._take(0, values.nbytes), values.dtype).reshape(values.shape)

    def on_card(self):
        """NCCL's communicator; rank 0's identifier goes to the others first."""
        if self.card is None:
            from .. import _card_arrays

            nccl = _card_arrays.nccl()
            if nccl is None:
                raise RuntimeError("tensors on a card need cupy and NCCL: pip install -r requirements-cuda.txt")
            own = nccl.get_unique_id() if self.rank == 0 else (0,) * _UNIQUE_ID_BYTES
            chosen = self.hand_out(np.array(own, np.int64), 0)
            self.card = nccl.NcclCommunicator(self.size, tuple(int(n) for n in chosen), self.rank)
        return self.card

    def close(self):
        """End the connections; the other ranks' next operation raises."""
        for peer in self.peers:
            peer.close()
        if self.card is not None:
            self.card.destroy()


def _bytes(values):
    return np.asarray(values, order="C").reshape(-1).view(np.uint8).data


def _receive(connection, length):
    found, place = bytearray(length), 0
    view = memoryview(found)
    while place < length:
        count = connection.recv_into(view[place:])
        if not count:
            raise ConnectionError("it has closed the connection")
        place += count
    return found


_group = None


def init_process_group(backend=None, init_method=None, timeout=None, world_size=-1, rank=-1, **others):
    """Join the process group: ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT`` of the environment say as whom.

    Args:
        backend: ``"gloo"`` for tensors on the CPU, ``"nccl"`` for those on cards, ``"cpu:gloo,cuda:nccl"`` or None for both.
        init_method: None or ``"env://"``; ``"tcp://host:port"`` gives the address of rank 0 instead of the environment.
        timeout: a `datetime.timedelta`: how long a rank waits for another. Thirty minutes without it.
        world_size, rank: instead of the environment's.

    Raises:
        RuntimeError: there is a group already, an environment variable is missing, a rank does not come in time.
        ValueError: unknown backend, method or rank.
        NotImplementedError: other arguments of PyTorch's.
    """
    global _group
    if others:
        raise NotImplementedError(f"init_process_group: {', '.join(sorted(others))} is not implemented in torch on Jittor")
    if _group is not None:
        raise RuntimeError("the process group is initialised already; destroy_process_group ends it")
    if backend not in _BACKENDS:
        raise ValueError(f"backend {backend!r} is none of gloo, nccl and cpu:gloo,cuda:nccl")
    host, port = None, None
    if init_method is not None and init_method.startswith("tcp://"):
        host, _, port = init_method.removeprefix("tcp://").rpartition(":")
    elif init_method not in (None, "env://"):
        raise ValueError(f"init_method {init_method!r} is neither env:// nor tcp://host:port")
    size = world_size if world_size >= 0 else int(_variable("WORLD_SIZE"))
    rank = rank if rank >= 0 else int(_variable("RANK"))
    if not 0 <= rank < size:
        raise ValueError(f"rank {rank} is not one of a group of {size}")
    address = (host or _variable("MASTER_ADDR"), int(port or _variable("MASTER_PORT")))
    seconds = (timeout or _DEFAULT_TIMEOUT).total_seconds()
    _group = ProcessGroup(_BACKENDS[backend], rank, size, address, seconds)


def _variable(name):
    if name not in os.environ:
        raise RuntimeError(f"init_process_group: the environment variable {name} is missing; a launcher sets it")
    return os.environ[name]


def _joined(group):
    if group is not None and group is not _group:
        raise NotImplementedError("process groups besides the default one are not implemented in torch on Jittor")
    if _group is None:
        raise RuntimeError("there is no process group; call init_process_group first")
    return _group


def is_initialized():
    """Whether this process is in a group."""
    return _group is not None


def is_nccl_available():
    """Whether tensors on cards can be combined."""
    from .. import _card_arrays

    return torch.cuda.is_available() and _card_arrays.nccl() is not None


def get_rank(group=None):
    """This process's number in the group, from 0; -1 outside of the given group, as in PyTorch."""
    return _joined(group).rank


def get_world_size(group=None):
    """How many processes the group has."""
    return _joined(group).size


def get_backend(group=None):
    """The backend as PyTorch names it: that of CPU tensors, or of cards where there is no other."""
    backends = _joined(group).backends
    return backends.get("cpu") or backends["cuda"]


def destroy_process_group(group=None):
    """Leave the group."""
    global _group
    _joined(group).close()
    _group = None


def all_reduce(tensor, op=ReduceOp.SUM, group=None, async_op=False):
    """Combine ``tensor`` over all ranks, in place; every rank gets the same bits. Returns None.

    Raises:
        RuntimeError: no group, no backend for the tensor's device, a rank that has ended.
        NotImplementedError: ``async_op``.
    """
    found = _joined(group)
    _synchronous(async_op)
    if not isinstance(op, ReduceOp):
        raise NotImplementedError(f"all_reduce: {op} is not implemented in torch on Jittor")
    if _on_card(found, tensor):
        from .. import _card_arrays, _elementwise

        data = _card_arrays.all_reduce(found.on_card(), tensor._var(), tensor._shape, op.value)
        with torch.no_grad():
            tensor.copy_(_elementwise.finish(data, tensor._shape, tensor.dtype, tensor._device))
        return
    with torch.no_grad():
        tensor.copy_(torch.from_numpy(np.array(found.combine(tensor.detach().numpy(), op))))


def broadcast(tensor, src=None, group=None, async_op=False):
    """Give ``tensor`` the values that it has on rank ``src``, in place. Returns None. Raises as `all_reduce` does."""
    found = _joined(group)
    _synchronous(async_op)
    if src is None or not 0 <= src < found.size:
        raise ValueError(f"broadcast: src {src} is not one of {found.size} ranks")
    _on_card(found, tensor)  # refuses what has no backend; the values go over the host, for this is no inner loop
    with torch.no_grad():
        values = found.hand_out(tensor.detach().cpu().numpy(), src)
        tensor.copy_(torch.from_numpy(np.array(values)))


def barrier(group=None, async_op=False, device_ids=None):
    """Wait until all ranks are here."""
    _synchronous(async_op)
    _joined(group).combine(np.zeros(1, np.float32), ReduceOp.SUM)


def _synchronous(async_op):
    if async_op:
        raise NotImplementedError("async_op is not implemented in torch on Jittor: every operation waits for the others")


def _on_card(group, tensor):
    kind = tensor.device.type
    if kind not in group.backends:
        raise RuntimeError(f"No backend type associated with device type {kind}")
    return kind == "cuda"
