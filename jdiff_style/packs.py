"""Style packs: folders of a few pictures per style, with tags and prompt words.

Three layouts are read:
- the challenge's: `NN/images/*`, `NN/prompt.json` (id -> word), `NN/tag.json` (`item`: picture name without ending ->
  tags, `style`: tags of the style), optional `llm_prompt.json` beside the styles or inside one, optional true pictures
  of the words in `NN/targets/WORD.png`;
- Hugging Face's imagefolder: pictures with a `metadata.jsonl` (`file_name`, `text`, optional `style`);
- kohya's: pictures with a `.txt` caption of the same name, in one folder or in one folder per style (`10_name` repeats
  the style's pictures ten times in an epoch).
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import unicodedata
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from jdiff_style.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_SIDECARS = {".txt", ".json", ".jsonl", ".caption", ".npz", ".md"}


@dataclass
class ImageRecord:
    """One training picture: its file, its name without ending (NFC), its tags and, if the pack has one, a caption text.
    """

    path: Path
    name: str
    tags: list[str] = field(default_factory=list)
    caption: Optional[str] = None


@dataclass
class Style:
    """One style: `id` is the folder's name, `trigger` the word that calls it, `prompts` maps prompt id to object word.

    `targets` maps object words to the file of their true picture in this style, where the pack has such (`targets/`).
    """

    id: str
    trigger: str
    images: list[ImageRecord]
    style_tags: list[str] = field(default_factory=list)
    prompts: dict[str, str] = field(default_factory=dict)
    repeats: int = 1
    targets: dict[str, Path] = field(default_factory=dict)

    def target(self, word: str) -> Optional[Path]:
        """The file of the true picture of `word`, None if there is none."""
        return self.targets.get(_nfc(word))


@dataclass
class Pack:
    """A whole pack. `skipped` holds (file, reason) of unreadable pictures; `expansions` is `llm_prompt.json` as it is.
    """

    path: Path
    styles: list[Style]
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    expansions: dict[str, dict] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """SHA-256 over all pictures, tags, captions and words, so that a resumed run notices a changed pack."""
        digest = hashlib.sha256()
        for style in self.styles:
            digest.update(repr((style.id, style.style_tags, style.repeats)).encode())
            for image in style.images:
                digest.update(repr((image.name, image.tags, image.caption)).encode())
                digest.update(hashlib.sha256(image.path.read_bytes()).digest())
        return digest.hexdigest()


def load_pack(path: str | Path, strict: bool = False) -> Pack:
    """Read and check the style pack in the folder `path`.

    Every picture is decoded once, so that a truncated file shows up here and not an hour later. With `strict` such a
    file is an error; otherwise it is left out and listed in `Pack.skipped`. Styles come sorted by folder name.

    Raises UserError for a missing folder, no style at all, a style without a readable picture, two pictures of the same
    name, broken JSON (with line), and tags for a picture that is not there.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise UserError(f"pack: {root} is not a folder; give one that holds styles as NN/images/*")
    pack = Pack(root, [])
    metadata = next((p for p in (root / "metadata.jsonl", root / "images" / "metadata.jsonl") if p.is_file()), None)
    children = sorted(d for d in root.iterdir() if d.is_dir() and not d.name.startswith("."))
    challenge = [
        d for d in children if (d / "images").is_dir() or (d / "tag.json").is_file() or (d / "prompt.json").is_file()
    ]
    if metadata:
        _read_imagefolder(pack, metadata, strict)
    elif (root / "images").is_dir() and not (root / "images" / "images").exists():
        pack.styles = [_read_challenge_style(pack, root, strict)]
    elif challenge:
        pack.styles = [_read_challenge_style(pack, folder, strict) for folder in challenge]
    else:
        folders = [d for d in (root, *children) if any(_is_image(f) for f in d.iterdir())]
        pack.styles = [_read_kohya_style(pack, folder, strict) for folder in folders]
    if not pack.styles:
        raise UserError(
            f"pack: {root} holds no style; expected NN/images/* (the challenge's layout), images/ with "
            "metadata.jsonl, or pictures with .txt captions"
        )
    expansions = root / "llm_prompt.json"
    if expansions.is_file():
        pack.expansions.update(_read_json(expansions)[0])
    _refuse_same_triggers(pack)
    return pack


def open_image(path: Path) -> Image.Image:
    """The picture as RGB, turned as its EXIF says, transparency laid over white. Raises UserError if it is unreadable.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                turned = ImageOps.exif_transpose(image) or image
                if turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info:
                    turned = turned.convert("RGBA")
                    white = Image.new("RGBA", turned.size, "white")
                    return Image.alpha_composite(white, turned).convert("RGB")
                return turned.convert("RGB")
    # Pillow's decoders raise many kinds of error on damaged files; whichever it is, the file is at fault.
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        IndexError,
        struct.error,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise UserError(f"{path}: {_image_fault(path, error)}") from None


def _image_fault(path: Path, error: BaseException) -> str:
    from PIL import Image, UnidentifiedImageError

    if not path.exists():
        return "no such file"
    if path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return "the picture is unreasonably large"
    return f"damaged picture ({str(error).rstrip('.')})"


def split_tags(value: Any, where: str) -> list[str]:
    """Tags from `a, b,c` or a list of texts; blanks and empty entries (a trailing comma) are dropped."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise UserError(f'{where}: tags must be a text such as "apple, fruit" or a list of texts')
    return [v.strip() for v in value if v.strip()]


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")


def _nfc(text: str) -> str:
    # macOS stores file names decomposed, JSON files usually hold them composed: the same name must compare equal.
    return unicodedata.normalize("NFC", text)


def _trigger(style_id: str) -> str:
    return "style_" + re.sub(r"\s+", "_", _nfc(style_id).strip())


def _scan_images(pack: Pack, folder: Path, strict: bool) -> tuple[list[ImageRecord], set[str]]:
    """Readable pictures of `folder` and the names of all picture files, unreadable ones included."""
    records: list[ImageRecord] = []
    names: dict[str, Path] = {}
    for file in sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")):
        if not _is_image(file):
            if file.suffix.lower() not in _SIDECARS and file.name.lower() not in ("thumbs.db", "desktop.ini"):
                _skip(pack, file, "not a picture", strict)
            continue
        name = _nfc(file.stem)
        if name.casefold() in names:
            raise UserError(
                f"{folder}: {names[name.casefold()].name} and {file.name} have the same name without ending; rename one"
            )
        names[name.casefold()] = file
        try:
            open_image(file)
        except UserError as error:
            _skip(pack, file, str(error).removeprefix(f"{file}: "), strict)
            continue
        records.append(ImageRecord(file, name))
    return records, {_nfc(f.stem) for f in names.values()}


def _skip(pack: Pack, file: Path, reason: str, strict: bool) -> None:
    if strict:
        raise UserError(f"{file}: {reason}; replace or remove it, or leave out --strict to skip it")
    pack.skipped.append((file, reason))


def _refuse_empty(images: list[ImageRecord], name: str, folder: Path) -> None:
    if not images:
        raise UserError(f"style {name}: no readable picture in {folder}; add one or remove the style's folder")


def _read_challenge_style(pack: Pack, folder: Path, strict: bool) -> Style:
    image_folder = folder / "images"
    if not image_folder.is_dir():
        raise UserError(f"style {folder.name}: {image_folder} is missing; put the style's pictures there")
    images, all_names = _scan_images(pack, image_folder, strict)
    _refuse_empty(images, folder.name, image_folder)
    style_id = folder.resolve().name
    style = Style(style_id, _trigger(style_id), images)
    tag_file = folder / "tag.json"
    if tag_file.is_file():
        _apply_tags(style, tag_file, all_names)
    elif any(image.path.with_suffix(".txt").is_file() for image in images):
        _apply_sidecars(images)
    prompt_file = folder / "prompt.json"
    if prompt_file.is_file():
        data, lines = _read_json(prompt_file)
        for key, word in data.items():
            if not isinstance(word, str) or not word.strip():
                raise UserError(f"{prompt_file}, line {lines(key)}: prompt {key!r} must be a word, not {word!r}")
            style.prompts[key] = word.strip()
    expansions = folder / "llm_prompt.json"
    if expansions.is_file():
        pack.expansions.update(_read_json(expansions)[0])
    if (folder / "targets").is_dir():
        style.targets = {_nfc(file.stem): file for file in sorted((folder / "targets").iterdir()) if _is_image(file)}
    return style


def _apply_tags(style: Style, tag_file: Path, all_names: set[str]) -> None:
    data, lines = _read_json(tag_file)
    unknown = set(data) - {"item", "style"}
    if unknown:
        key = sorted(unknown)[0]
        raise UserError(f'{tag_file}, line {lines(key)}: unknown key {key!r}; expected "item" and "style"')
    items = data.get("item", {})
    if not isinstance(items, dict):
        raise UserError(f'{tag_file}, line {lines("item")}: "item" must map picture names to tags')
    by_name = {image.name: image for image in style.images}
    for key, value in items.items():
        name = _nfc(key)
        if name not in all_names:
            # Some packs write the whole file name; accept it where it is not ambiguous.
            stem = _nfc(Path(key).stem)
            name = stem if Path(key).suffix.lower() in IMAGE_ENDINGS and stem in all_names else name
        if name not in all_names:
            import difflib

            near = difflib.get_close_matches(name, all_names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(sorted(all_names))}"
            raise UserError(
                f"{tag_file}, line {lines(key)}: no picture named {key!r} in {tag_file.parent / 'images'}{hint}"
            )
        if name in by_name:
            by_name[name].tags = split_tags(value, f"{tag_file}, line {lines(key)}")
    style.style_tags = split_tags(data.get("style", []), f"{tag_file}, line {lines('style')}")


def _apply_sidecars(images: list[ImageRecord]) -> None:
    for image in images:
        sidecar = image.path.with_suffix(".txt")
        if sidecar.is_file():
            image.caption = _read_text(sidecar).strip() or None


def _read_kohya_style(pack: Pack, folder: Path, strict: bool) -> Style:
    images, _ = _scan_images(pack, folder, strict)
    _refuse_empty(images, folder.name, folder)
    _apply_sidecars(images)
    style_id = folder.resolve().name
    counted = re.fullmatch(r"(\d+)_(.+)", style_id)
    repeats, style_id = (int(counted[1]), counted[2]) if counted else (1, style_id)
    if not 1 <= repeats <= 10000:
        raise UserError(f"{folder}: {repeats} repeats are out of range (1 to 10000); rename the folder")
    return Style(style_id, _trigger(style_id), images, repeats=repeats)


def _read_imagefolder(pack: Pack, metadata: Path, strict: bool) -> None:
    styles: dict[str, Style] = {}
    seen: set[Path] = set()
    for number, line in enumerate(_read_text(metadata).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{metadata}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not valid JSON: {error.msg}") from None
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            raise UserError(f'{where}: expected an object with "file_name" and "text"')
        text = row.get("text")
        if text is not None and not isinstance(text, str):
            raise UserError(f'{where}: "text" must be a text, not {text!r}')
        file = next(
            (
                f
                for f in (metadata.parent / row["file_name"], metadata.parent / "images" / row["file_name"])
                if f.is_file()
            ),
            None,
        )
        if file is None:
            raise UserError(f"{where}: picture {row['file_name']!r} is missing")
        if file.resolve() in seen:
            raise UserError(f"{where}: picture {row['file_name']!r} is listed twice")
        seen.add(file.resolve())
        style_id = str(row.get("style", pack.path.resolve().name))
        style = styles.setdefault(style_id, Style(style_id, _trigger(style_id), []))
        if any(image.name.casefold() == _nfc(file.stem).casefold() for image in style.images):
            raise UserError(f"{where}: style {style_id} has two pictures named {file.stem!r}; rename one")
        try:
            open_image(file)
        except UserError as error:
            _skip(pack, file, str(error).removeprefix(f"{file}: "), strict)
            continue
        tags = split_tags(row.get("tags", []), where)
        style.images.append(ImageRecord(file, _nfc(file.stem), tags, text.strip() or None if text else None))
    for style in styles.values():
        if not style.images:
            raise UserError(f"style {style.id}: none of its pictures in {metadata} is readable")
    pack.styles = [styles[key] for key in sorted(styles)]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _read_json(path: Path) -> tuple[dict[str, Any], Any]:
    """The object in a JSON file and a function that finds the line of a key. Raises UserError with file and line."""
    text = _read_text(path)

    def line_of(key: str) -> int:
        for spelling in (json.dumps(key, ensure_ascii=False), json.dumps(key)):
            at = re.search(re.escape(spelling) + r"\s*:", text)
            if at:
                return text.count("\n", 0, at.start()) + 1
        return 1

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise UserError(f"{path}, line {line_of(key)}: key {key!r} is given twice")
            result[key] = value
        return result

    try:
        data = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply to be a pack file") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}, line 1: expected an object {{...}}")
    return data, line_of


def _refuse_same_triggers(pack: Pack) -> None:
    seen: dict[str, str] = {}
    for style in pack.styles:
        if style.trigger in seen:
            raise UserError(
                f"pack: styles {seen[style.trigger]!r} and {style.id!r} get the same trigger {style.trigger!r}; "
                "rename one folder"
            )
        seen[style.trigger] = style.id
