"""A tensor's data, and how a write through a view reaches the base and the base's other views."""

from . import _engine, _raw


class Data:
    """What a tensor holds: its values, the tensor it is a view of, and a count of writes."""

    __slots__ = ()  # the dictionary of a tensor's own attributes is Tensor's: nn/parameter.py reads it there
    _v = None  # numpy.ndarray or jittor.Var
    _base = None
    _view = None  # (make(base) -> tensor, put(base, new) -> tensor or None where writing is impossible, is_detach)
    _vc = None  # [version], shared by a base and its views
    _seen = 0
    _strides = None  # None: contiguous
    _version = 0

    def _data(self):
        if self._base is not None:
            self._sync_view()
        return self._v

    def _sync_view(self):
        if self._base is not None and self._seen != self._vc[0]:
            seen = self._vc[0]
            base = self._base
            base._sync_view()
            if self._view[2]:
                self._v = base._v
            else:
                new = self._view[0](base)
                self._v = new._v
                if self._rg or new._rg:
                    self._rg, self._node, self._out_nr = new._rg, new._node, new._out_nr
            self._seen = seen

    def _var(self):
        """The data as a Jittor variable; a host array moves there for good."""
        v = self._data()
        if type(v) is not _raw.Var:
            v = _raw.to_var(v)
            if self.numel() > 1:
                self._v = v
        return v

    def _rebind(self, v):
        self._v = v
        self._version += 1
        if self._base is None and self._vc is not None:
            self._vc[0] += 1

    def _mark_view(self, base, make, put, detach=False, strides=None):
        if base._vc is None:
            base._vc = [0]
        self._base, self._view, self._vc, self._strides = base, (make, put, detach), base._vc, strides
        self._seen = base._vc[0]
        return self

    def _check_inplace(self):
        if self._rg and _engine.state.grad:
            self._sync_view()
            if self._node is None:
                raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        if self._base is not None and _engine.state.grad and not self._view[2]:
            root = self._base
            if root._rg and root._node is None and root._base is None:
                raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place "
                                   "operation.")
        if self._view is not None and self._view[1] is None and not self._view[2]:
            raise RuntimeError("unsupported operation: this view cannot be written through; clone() it first")

    def _inplace(self, new):
        """Make ``new`` (same shape) the value of this tensor, its base and their views. Returns self."""
        self._check_inplace()
        if new._shape != self._shape:
            raise RuntimeError(f"output with shape {list(self._shape)} doesn't match the broadcast shape "
                               f"{list(new._shape)}")
        if new.dtype is not self.dtype:
            if new.dtype._kind > self.dtype._kind:
                raise RuntimeError(f"result type {new.dtype.name} can't be cast to the desired output type "
                                   f"{self.dtype.name}")
            new = new.to(self.dtype)
        self._assign(new)
        return self

    def _assign(self, new):
        v = new._data()
        base = self._base
        if base is not None:
            if self._view[2]:
                with _engine.set_grad_mode(False):
                    base._assign(new)
            else:
                base._sync_view()
                base._assign(self._view[1](base, new))
            self._seen = self._vc[0]
        elif self._vc is not None:
            self._vc[0] += 1
        self._v = v
        self._version += 1
        if _engine.state.grad and not (base is not None and self._view[2]):
            if new._rg or self._node is not None:
                self._rg, self._node, self._out_nr = new._rg, new._node, new._out_nr

    def _root(self):
        t = self
        while t._base is not None:
            t = t._base
        return t
