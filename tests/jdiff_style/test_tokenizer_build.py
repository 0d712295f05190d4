"""Byte-pair tokenizers in CLIP's format."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from jdiff_style.tokenizer_build import byte_symbols, learn_merges, words_of, write_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer") / "t"
    texts = ["a noto emoji of red apple", "piñata, party", "green apple", "apple pie", "number 10"]
    size = write_tokenizer(folder, learn_merges(words_of(texts), 100), 16)
    loaded = CLIPTokenizer.from_pretrained(str(folder))
    assert len(loaded) == size
    return loaded


def test_merges_by_hand():
    # "ab" occurs three times inside words, so it is learnt first; then "ab"+"c" at a word's end.
    assert learn_merges(["abc", "abc", "abx"], 2) == [("a", "b"), ("ab", "c</w>")]
    assert learn_merges(["ab"], 10) == [("a", "b</w>")]
    # Seen twice goes before seen once, whatever the alphabet says; "aaaa" holds "aa" twice.
    assert learn_merges(["ab", "xy", "xy"], 1) == [("x", "y</w>")]
    assert learn_merges(["aaaa"], 3) == [("a", "a"), ("a", "a</w>"), ("aa", "aa</w>")]


@given(st.lists(st.text("abc", min_size=1, max_size=6), max_size=12), st.integers(0, 20))
def test_merges_are_those_of_counting_anew_each_time(words, count):
    """The incremental counts against the definition: count all pairs, join the most frequent, repeat."""
    pieces = [[*word[:-1], word[-1] + "</w>"] for word in words]
    expected = []
    while len(expected) < count:
        counts = {}
        for piece in pieces:
            for pair in zip(piece, piece[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        best = sorted(counts, key=lambda pair: (-counts[pair], pair))[0]
        expected.append(best)
        for piece in pieces:
            place = 0
            while place + 1 < len(piece):
                if (piece[place], piece[place + 1]) == best:
                    piece[place : place + 2] = ["".join(best)]
                place += 1
    assert learn_merges(words, count) == expected


def test_byte_symbols_are_those_of_the_reference():
    from transformers.models.clip.tokenization_clip import bytes_to_unicode

    assert byte_symbols() == list(bytes_to_unicode().values())


def test_words_are_split_as_the_tokenizer_splits_them(tokenizer):
    for text in ("A noto-v1 Emoji", "number 10", "piñata, party!", "two  a\ttab", "a man's apple"):
        joined = "".join(tokenizer.tokenize(text)).removesuffix("</w>")
        assert words_of([text]) == joined.split("</w>")


def test_a_word_seen_in_training_is_one_token(tokenizer):
    assert tokenizer.tokenize("a noto emoji of red apple") == [
        word + "</w>" for word in ("a", "noto", "emoji", "of", "red", "apple")
    ]
    ids = tokenizer("apple", padding="max_length", max_length=16).input_ids
    assert ids[0] == tokenizer.bos_token_id and ids[2:] == [tokenizer.eos_token_id] * 14


@given(st.text(max_size=40))
def test_any_text_is_encoded_without_unknown_tokens(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    assert "<|" in text or tokenizer.eos_token_id not in ids[1:-1]


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_plain_text_survives_the_round_trip(tokenizer, text):
    decoded = tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True)
    assert decoded.replace(" ", "") == text.lower().replace(" ", "")
