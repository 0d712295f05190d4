"""Sequences of different lengths."""

import torch
from torch._missing import module_getattr

__all__ = ["pad_sequence", "unpad_sequence"]


def pad_sequence(sequences, batch_first=False, padding_value=0.0):
    """Stack sequences of shape (L_i, *) into (longest, N, *), or (N, longest, *) with `batch_first`."""
    sequences = list(sequences)
    if not sequences:
        raise RuntimeError("received an empty list of sequences")
    longest = max(sequence.size(0) for sequence in sequences)
    first = sequences[0]
    rows = []
    for sequence in sequences:
        missing = longest - sequence.size(0)
        if missing:
            tail = torch.full(
                (missing, *sequence.shape[1:]), padding_value, dtype=sequence.dtype, device=sequence.device
            )
            sequence = torch.cat([sequence, tail])
        rows.append(sequence.to(first.dtype))
    return torch.stack(rows, dim=0 if batch_first else 1)


def unpad_sequence(padded_sequences, lengths, batch_first=False):
    """Undo `pad_sequence`: a list of tensors of the given lengths."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [sequence[: int(length)] for sequence, length in zip(padded_sequences, lengths, strict=True)]


__getattr__ = module_getattr(__name__)
