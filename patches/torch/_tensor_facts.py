"""What a tensor says about itself without a look at its values: sizes, strides, place, kind of number."""

from ._dtype import contiguous_format


class Facts:
    """Of ``_shape``, ``_strides`` (None: contiguous), ``dtype`` and ``_device``."""

    __slots__ = ()

    @property
    def shape(self):
        return self._shape

    @property
    def ndim(self):
        return len(self._shape)

    @property
    def device(self):
        return self._device

    @property
    def is_cuda(self):
        return self._device.type == "cuda"

    @property
    def is_cpu(self):
        return self._device.type == "cpu"

    @property
    def is_meta(self):
        return self._device.type == "meta"

    @property
    def nbytes(self):
        return self.numel() * self.dtype.itemsize

    def dim(self):
        return len(self._shape)

    def numel(self):
        n = 1
        for s in self._shape:
            n *= s
        return n

    nelement = numel
    ndimension = dim

    def size(self, dim=None):
        return self._shape if dim is None else self._shape[dim]

    def element_size(self):
        return self.dtype.itemsize

    def stride(self, dim=None):
        st = self._strides
        if st is None:
            st = contiguous_strides(self._shape)
        return st if dim is None else st[dim]

    def is_contiguous(self, memory_format=contiguous_format):
        if memory_format is not contiguous_format:
            return False
        if self._strides is None:
            return True
        n = 1
        for s, st in zip(reversed(self._shape), reversed(self._strides)):
            if s != 1 and st != n:
                return False
            n *= s
        return True

    def is_floating_point(self):
        return self.dtype.is_floating_point

    def is_complex(self):
        return self.dtype.is_complex

    def is_signed(self):
        return self.dtype.is_signed

    def get_device(self):
        return -1 if self._device.type == "cpu" else (self._device.index or 0)

    def is_inference(self):
        return False

    def is_pinned(self, device=None):
        return False

    def is_shared(self):
        return False

    def share_memory_(self):
        return self

    def __len__(self):
        if not self._shape:
            raise TypeError("len() of a 0-d tensor")
        return self._shape[0]


def contiguous_strides(shape):
    """Strides of numbers that lie in the order of the axes."""
    strides, n = [], 1
    for s in reversed(shape):
        strides.append(n)
        n *= max(s, 1)
    return tuple(reversed(strides))
