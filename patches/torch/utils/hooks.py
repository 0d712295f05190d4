"""Handles that take a registered hook away again."""

import weakref
from collections import OrderedDict

from .._missing import module_getattr

__all__ = ["RemovableHandle", "unserializable_hook", "warn_if_has_hooks"]


def _ref(hooks):
    """A weak reference where the dict allows one (an OrderedDict); a plain dict is kept alive."""
    try:
        return weakref.ref(hooks)
    except TypeError:
        return lambda: hooks


class RemovableHandle:
    """The return value of every ``register_*hook``: ``remove()`` takes the hook away, as does leaving a ``with`` block.

    Args:
        hooks_dict: the ordered dict that holds the hooks under their handle's ``id``.
        extra_dict: one or more further dicts keyed by the same ids, cleaned up together.
    """

    next_id = 0

    def __init__(self, hooks_dict, *, extra_dict=None):
        self.hooks_dict_ref = _ref(hooks_dict)
        self.id = RemovableHandle.next_id
        RemovableHandle.next_id += 1
        extras = [] if extra_dict is None else extra_dict if isinstance(extra_dict, list) else [extra_dict]
        self.extra_dict_ref = tuple(_ref(d) for d in extras)

    def remove(self):
        """Take the hook away. Calling it again does nothing."""
        for ref in (self.hooks_dict_ref, *self.extra_dict_ref):
            hooks = ref()
            if hooks is not None:
                hooks.pop(self.id, None)

    def __getstate__(self):
        if not self.extra_dict_ref:
            return (self.hooks_dict_ref(), self.id)
        return (self.hooks_dict_ref(), self.id, tuple(ref() for ref in self.extra_dict_ref))

    def __setstate__(self, state):
        # A dict that did not travel is replaced by an empty one, so that remove() stays harmless.
        self.hooks_dict_ref = _ref(OrderedDict() if state[0] is None else state[0])
        self.id = state[1]
        RemovableHandle.next_id = max(RemovableHandle.next_id, self.id + 1)
        extras = state[2] if len(state) > 2 else ()
        self.extra_dict_ref = tuple(_ref(OrderedDict() if d is None else d) for d in extras)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.remove()


def unserializable_hook(f):
    """Mark a hook that must not be pickled with the tensor it sits on."""
    f.__torch_unserializable__ = True
    return f


def warn_if_has_hooks(tensor):
    """Warn that the backward hooks of ``tensor`` are lost when it is saved."""
    import warnings

    for hook in (getattr(tensor, "_backward_hooks", None) or {}).values():
        if not hasattr(hook, "__torch_unserializable__"):
            warnings.warn(f"backward hook {hook!r} on tensor will not be serialized; decorate it with "
                          "@torch.utils.hooks.unserializable_hook if that is intended", stacklevel=2)


__getattr__ = module_getattr(__name__)
