"""Byte-pair tokenizers in CLIP's format (`vocab.json`, `merges.txt`), learnt from a few thousand words."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Iterable

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
# What CLIP's tokenizer takes for one word: an English contraction, a run of letters, one digit, or a run of other signs.
WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+")


def byte_symbols() -> list[str]:
    """The 256 printable symbols that stand for the byte values in GPT-2's and CLIP's vocabularies, in vocabulary order.

    Visible Latin-1 bytes stand for themselves and come first; the others take the code points from 256 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in set(visible)]
    return [chr(b) for b in visible] + [chr(256 + i) for i in range(len(hidden))]


def words_of(texts: Iterable[str]) -> list[str]:
    """All words of `texts` in lower case, as CLIP's tokenizer splits them, written in byte symbols."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    order = visible + [b for b in range(256) if b not in set(visible)]
    symbol = dict(zip(order, byte_symbols()))
    return [
        "".join(symbol[b] for b in word.encode()) for text in texts for word in WORD.findall(" ".join(text.lower().split()))
    ]


def learn_merges(words: Iterable[str], count: int) -> list[tuple[str, str]]:
    """The first `count` byte-pair merges learnt from `words`, most frequent pair first, ties in alphabetical order."""
    numbers = Counter(words)
    pieces = [(*word[:-1], word[-1] + "</w>") for word in numbers]
    weight = list(numbers.values())
    pairs: Counter = Counter()
    places: dict[tuple[str, str], set[int]] = defaultdict(set)
    for index, word in enumerate(pieces):
        for pair in itertools.pairwise(word):
            pairs[pair] += weight[index]
            places[pair].add(index)
    merges: list[tuple[str, str]] = []
    while len(merges) < count and pairs:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        # Only words that hold the pair change; `places` may name some that no longer do.
        for index in places.pop(best):
            before, after = pieces[index], _merge(pieces[index], best)
            if before == after:
                continue
            pieces[index] = after
            for pair in itertools.pairwise(before):
                pairs[pair] -= weight[index]
                if pairs[pair] <= 0:
                    del pairs[pair]
            for pair in itertools.pairwise(after):
                pairs[pair] += weight[index]
                places[pair].add(index)
    return merges


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    result: list[str] = []
    for piece in word:
        if result and (result[-1], piece) == pair:
            result[-1] += piece
        else:
            result.append(piece)
    return tuple(result)


def write_tokenizer(folder: Path, merges: list[tuple[str, str]], max_tokens: int = 77) -> int:
    """Write `vocab.json`, `merges.txt` and the configuration of a CLIP tokenizer; returns the size of its vocabulary.

    `folder` must not exist yet. A text of any signs can be written with it: bytes without a merge stay single tokens.
    """
    symbols = byte_symbols()
    tokens = [*symbols, *(s + "</w>" for s in symbols), *(a + b for a, b in merges), BOS, EOS]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": max_tokens,
        "do_lower_case": True,
        "errors": "replace",
        "add_prefix_space": False,
        **special,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return len(vocabulary)
