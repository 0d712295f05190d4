"""The relaxed Bernoulli (binary concrete) distribution of Maddison et al. and Jang et al. (2016/17)."""

import torch


class RelaxedBernoulli:
    """Continuous relaxation of a coin toss.

    Args:
        temperature: how soft the samples are; towards 0 they become 0 or 1.
        probs: probability of 1, or
        logits: its log odds; exactly one of the two.

    Raises:
        ValueError: both or neither of ``probs`` and ``logits`` are given.
    """

    has_rsample = True

    def __init__(self, temperature, probs=None, logits=None, validate_args=None):
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        self.temperature = temperature
        if logits is None:
            p = probs.clamp(torch.finfo(probs.dtype).eps, 1 - torch.finfo(probs.dtype).eps)
            logits = p.log() - (1 - p).log()
        self.logits = logits

    @property
    def probs(self):
        return self.logits.sigmoid()

    def rsample(self, sample_shape=()):
        """Differentiable samples of shape ``sample_shape + logits.shape``."""
        shape = (*sample_shape, *self.logits.shape)
        eps = torch.finfo(self.logits.dtype).eps
        u = torch.rand(shape, dtype=self.logits.dtype).clamp(eps, 1 - eps)
        return ((u.log() - (1 - u).log() + self.logits) / self.temperature).sigmoid()

    def sample(self, sample_shape=()):
        with torch.no_grad():
            return self.rsample(sample_shape)
