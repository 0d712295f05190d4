"""Prompts for generation: trigger word, style tags and object word, with a language model's expansions where wanted.

The default prompt has the order of the training captions: ``style_00, purple, lineart, Cat, animal, mammal``. The last
two are hypernyms of the object out of the pack's ``llm_prompt.json``; appending them raised CLIP-R clearly in the
published runs. Its ``different`` words may serve as negative prompt (that lowered the total there).
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jdiff_style.captions import object_words
from jdiff_style.errors import UserError

if TYPE_CHECKING:
    from jdiff_style.packs import Pack, Style

TEMPLATE_FIELDS = ("trigger", "style", "object", "hypernyms", "tags")


@dataclass(frozen=True)
class PromptOptions:
    """How prompts are put together.

    Attributes:
        template: e.g. ``an image of {object} in {trigger}``; None for ``{trigger}, {style}, {object}``. The fields are
            {trigger}, {style} (the style's tags), {object}, {hypernyms}, and {tags} (object and hypernyms: what the
            picture's own tags are in a caption). Hypernyms are appended where the template places them nowhere.
        repeat: how many times the object word is written, 1 or more.
        hypernyms: at most this many hypernyms of the object; 0 for none.
        different: put the ``different`` words of the object into the negative prompt.
        negative: negative prompt of every picture, e.g. ``blurry, text``.
        draft: prompt of a draft with {object} in it, e.g. ``a photo of {object}``; empty for no drafts.
        drafts: tag -> such a prompt for the styles that have it, instead of ``draft``; see :func:`draft_template`.
    """

    template: str | None = None
    repeat: int = 1
    hypernyms: int = 3
    different: bool = False
    negative: str = ""
    draft: str = ""
    drafts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise UserError(f"--repeat: {self.repeat} is below 1; 1 writes the object word once")
        if self.hypernyms < 0:
            raise UserError(f"--hypernyms: {self.hypernyms} is negative; 0 appends none")
        if self.template is not None:
            check_template(self.template)
        for draft in (self.draft, *self.drafts.values()):
            if draft:
                check_template(draft, "--draft", ("object",))


@dataclass(frozen=True)
class Prompt:
    """One picture to be made: whose it is and what the text encoder reads. With `draft`, the base alone draws that first,
    and the picture is made from what it drew.
    """

    style: str
    key: str
    word: str
    positive: str
    negative: str = ""
    draft: str = ""


def check_template(template: str, option: str = "--template", known: Sequence[str] = TEMPLATE_FIELDS) -> None:
    """Refuse a template that cannot be filled in.

    Raises:
        UserError: broken braces, an unknown field, or neither {object} nor {tags} in it.
    """
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UserError(f"{option}: {template!r} cannot be read ({error}); write a brace as {{{{ or }}}}") from None
    for name in fields:
        if name not in known:
            shown = ", ".join("{" + field + "}" for field in known)
            raise UserError(f"{option}: {{{name}}} in {template!r} is unknown; the fields are {shown}")
    if not {"object", "tags"} & set(fields):
        raise UserError(
            f"{option}: {template!r} has no {{object}}, so all pictures of a style would show the same; add it"
        )
    try:
        template.format(**dict.fromkeys(TEMPLATE_FIELDS, "x"))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise UserError(f"{option}: {template!r} cannot be filled in ({error})") from None


def build_prompts(pack: Pack, options: PromptOptions, expansions: Mapping[str, Any] | None = None) -> list[Prompt]:
    """The prompt of every distinct object word of every style, in the pack's order.

    Args:
        pack: the styles with their prompt words.
        options: how to write them.
        expansions: word -> ``{"hypernyms": [...], "different": [...]}``; the pack's own if None.

    Raises:
        UserError: an expansion that is used is not of that form.
    """
    index = ExpansionIndex(pack.expansions if expansions is None else expansions)
    prompts = []
    for style in pack.styles:
        seen = set()
        for key, word in style.prompts.items():
            if word not in seen:
                seen.add(word)
                prompts.append(make_prompt(style, key, word, options, index))
    return prompts


def make_prompt(style: Style, key: str, word: str, options: PromptOptions, expansions: ExpansionIndex) -> Prompt:
    """The prompt of one object word in one style.

    Raises:
        UserError: the word's expansion is not of the form described at :class:`ExpansionIndex`.
    """
    hypernyms = expansions.words(word, "hypernyms")[: options.hypernyms] if options.hypernyms else []
    # Spelt as in the training captions; the file keeps the word as it is.
    repeated = [object_words(word) or word] * options.repeat
    if options.template is None:
        positive = _join([style.trigger, *style.style_tags, *repeated, *hypernyms])
    else:
        fields = {
            "trigger": style.trigger,
            "style": _join(style.style_tags),
            "object": _join(repeated),
            "hypernyms": _join(hypernyms),
            "tags": _join([*repeated, *hypernyms]),
        }
        positive = options.template.format(**fields)
        if not all(fields.values()):
            # An empty field leaves its comma behind.
            positive = _join([part.strip() for part in positive.split(",")])
        used = {name for _, name, _, _ in string.Formatter().parse(options.template)}
        if not used & {"hypernyms", "tags"}:
            positive = _join([positive, *hypernyms])
    different = expansions.words(word, "different") if options.different else []
    draft = draft_text(style, word, options.draft, options.drafts)
    return Prompt(style.id, key, word, positive, _join([options.negative, *different]), draft)


def draft_template(style: Style, usual: str, by_tag: Mapping[str, str]) -> str:
    """The template of a style's drafts: that of the first tag in `by_tag` which the style has, whatever its capitals, or
    else the usual one.
    """
    tags = {tag.casefold() for tag in style.style_tags}
    return next((template for tag, template in by_tag.items() if tag.casefold() in tags), usual)


def draft_text(style: Style, word: str, usual: str, by_tag: Mapping[str, str]) -> str:
    """What is asked of the base for a draft, the word spelt as in captions; for the rest see :func:`draft_template`."""
    return draft_template(style, usual, by_tag).format(object=object_words(word) or word)


class ExpansionIndex:
    """A language model's expansions, looked up by word.

    Words are found whatever their capitals and with spaces written as underscores: ``Ice cream`` finds ``Ice_cream``.

    Args:
        expansions: word -> object with lists of texts, among them ``hypernyms`` and ``different``.
    """

    def __init__(self, expansions: Mapping[str, Any]):
        self._entries = {_plain(word): (word, entry) for word, entry in expansions.items()}

    def __contains__(self, word: str) -> bool:
        return _plain(word) in self._entries

    def words(self, word: str, kind: str) -> list[str]:
        """The ``kind`` words (``hypernyms`` or ``different``) of ``word``, underscores written as spaces, each once.

        A word that has no expansion, or none of that kind, has none. The word itself is never among them.

        Raises:
            UserError: the entry is not an object of lists of texts.
        """
        key, entry = self._entries.get(_plain(word), (word, {}))
        found = entry.get(kind, []) if isinstance(entry, Mapping) else None
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            raise UserError(
                f'llm_prompt.json: {kind} of {key!r} is not a list of words; write for example ["animal", "pet"]'
            )
        spoken = (" ".join(item.replace("_", " ").split()) for item in found)
        unique = {item.casefold(): item for item in spoken if item}
        unique.pop(_plain(word), None)
        return list(unique.values())


def _plain(word: str) -> str:
    return " ".join(word.replace("_", " ").casefold().split())


def _join(parts: Sequence[str]) -> str:
    return ", ".join(part for part in parts if part)
