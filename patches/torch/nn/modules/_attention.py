"""Multi-head attention as a layer with projections of its own."""

import math

import torch
from torch._missing import module_getattr

from .. import functional as F
from .. import init
from ..parameter import Parameter
from .linear import NonDynamicallyQuantizableLinear
from .module import Module


def _additive(mask, dtype, name):
    """A mask as a term of the scores: True becomes -inf."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
    if not mask.is_floating_point():
        raise AssertionError(f"only bool and floating types of {name} are supported")
    return mask


class MultiheadAttention(Module):
    """Attention with `num_heads` heads (Vaswani et al. 2017), in PyTorch's layout and parameter names.

    Shapes: query (L, N, E), key (S, N, kdim), value (S, N, vdim), or with `batch_first` (N, L, E) and so on, or without
    the batch dimension. Parameters: ``in_proj_weight`` (3E, E), or ``q_proj_weight``, ``k_proj_weight``,
    ``v_proj_weight`` where `kdim` or `vdim` differ from E; ``in_proj_bias`` (3E); ``out_proj``; ``bias_k`` and
    ``bias_v`` with `add_bias_kv`.
    """

    def __init__(
        self,
        embed_dim,
        num_heads,
        dropout=0.0,
        bias=True,
        add_bias_kv=False,
        add_zero_attn=False,
        kdim=None,
        vdim=None,
        batch_first=False,
        device=None,
        dtype=None,
    ):
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and "
                f"num_heads={num_heads} instead"
            )
        super().__init__()
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        if self.head_dim * num_heads != embed_dim:
            raise AssertionError("embed_dim must be divisible by num_heads")

        def empty(*shape):
            return Parameter(torch.empty(shape, device=device, dtype=dtype))

        if self._qkv_same_embed_dim:
            self.in_proj_weight = empty(3 * embed_dim, embed_dim)
            for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
                self.register_parameter(name, None)
        else:
            self.q_proj_weight = empty(embed_dim, embed_dim)
            self.k_proj_weight = empty(embed_dim, self.kdim)
            self.v_proj_weight = empty(embed_dim, self.vdim)
            self.register_parameter("in_proj_weight", None)
        if bias:
            self.in_proj_bias = empty(3 * embed_dim)
        else:
            self.register_parameter("in_proj_bias", None)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        if add_bias_kv:
            self.bias_k = empty(1, 1, embed_dim)
            self.bias_v = empty(1, 1, embed_dim)
        else:
            self.bias_k = self.bias_v = None
        self.add_zero_attn = add_zero_attn
        self._reset_parameters()

    def _reset_parameters(self):
        if self._qkv_same_embed_dim:
            init.xavier_uniform_(self.in_proj_weight)
        else:
            init.xavier_uniform_(self.q_proj_weight)
            init.xavier_uniform_(self.k_proj_weight)
            init.xavier_uniform_(self.v_proj_weight)
        if self.in_proj_bias is not None:
            init.constant_(self.in_proj_bias, 0.0)
            init.constant_(self.out_proj.bias, 0.0)
        if self.bias_k is not None:
            init.xavier_normal_(self.bias_k)
        if self.bias_v is not None:
            init.xavier_normal_(self.bias_v)

    def _project(self, query, key, value):
        if self._qkv_same_embed_dim:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def _heads(self, tensor):
        """(length, batch, embed) → (batch, heads, length, head)."""
        length, batch, _ = tensor.shape
        return tensor.reshape(length, batch, self.num_heads, self.head_dim).permute(1, 2, 0, 3)

    def forward(
        self,
        query,
        key,
        value,
        key_padding_mask=None,
        need_weights=True,
        attn_mask=None,
        average_attn_weights=True,
        is_causal=False,
    ):
        """Return (output, weights).

        Args:
            key_padding_mask: (N, S); True (or -inf) for keys to leave out.
            need_weights: also return the attention weights, (N, L, S), or (N, heads, L, S) if not
                `average_attn_weights`; otherwise None and a faster way.
            attn_mask: (L, S) or (N * heads, L, S); True (or -inf) for pairs to leave out.
            is_causal: says that `attn_mask` is the causal one, which must be given.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
        batched = query.dim() == 3
        if self.batch_first and batched:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        elif not batched:
            query, key, value = (x.unsqueeze(1) for x in (query, key, value))
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        q, k, v = self._project(query, key, value)
        length, batch, _ = q.shape
        if self.bias_k is not None:
            k = torch.cat([k, self.bias_k.expand(1, batch, -1)])
            v = torch.cat([v, self.bias_v.expand(1, batch, -1)])
        q, k, v = self._heads(q), self._heads(k), self._heads(v)
        if self.add_zero_attn:
            nothing = torch.zeros((batch, self.num_heads, 1, self.head_dim), dtype=k.dtype, device=k.device)
            k, v = torch.cat([k, nothing], dim=2), torch.cat([v, nothing], dim=2)
        mask = self._merged_mask(attn_mask, key_padding_mask, q, k.shape[2])
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            scores = (q * math.sqrt(1.0 / self.head_dim)) @ k.transpose(-2, -1)
            weights = F.softmax(scores if mask is None else scores + mask, dim=-1)
            if dropout:
                weights = F.dropout(weights, p=dropout)
            output = weights @ v
        else:
            weights = None
            output = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        output = output.permute(2, 0, 1, 3).reshape(length, batch, self.embed_dim)
        output = self.out_proj(output)
        if weights is not None and average_attn_weights:
            weights = weights.mean(dim=1)
        if not batched:
            return output.squeeze(1), None if weights is None else weights.squeeze(0)
        return (output.transpose(0, 1) if self.batch_first else output), weights

    def _merged_mask(self, attn_mask, key_padding_mask, q, keys):
        """One additive mask that broadcasts to (batch, heads, length, keys), or None."""
        batch, heads, length, _ = q.shape
        attn_mask = _additive(attn_mask, q.dtype, "attn_mask")
        padding = _additive(key_padding_mask, q.dtype, "key_padding_mask")
        given = key_padding_mask.shape[-1] if key_padding_mask is not None else None
        if attn_mask is not None:
            given = attn_mask.shape[-1]
            if attn_mask.dim() == 2:
                expected, attn_mask = (length, given), attn_mask[None, None]
            elif attn_mask.dim() == 3:
                expected = (batch * heads, length, given)
                if tuple(attn_mask.shape) != expected:
                    raise RuntimeError(
                        f"The shape of the 3D attn_mask is {tuple(attn_mask.shape)}, but should be {expected}."
                    )
                attn_mask = attn_mask.reshape(batch, heads, length, given)
            else:
                raise RuntimeError(f"attn_mask's dimension {attn_mask.dim()} is not supported")
            if attn_mask.shape[-2] != length:
                raise RuntimeError(
                    f"The shape of the 2D attn_mask is {tuple(attn_mask.shape[-2:])}, but should be {expected}."
                )
        if padding is not None:
            padding = padding[:, None, None, :]
        mask = attn_mask if padding is None else padding if attn_mask is None else attn_mask + padding
        if mask is not None and given < keys:
            # bias_k and add_zero_attn append keys that are always visible.
            mask = F.pad(mask, (0, keys - given))
        return mask


__getattr__ = module_getattr(__name__)
