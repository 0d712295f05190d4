"""Which objects there are, what they are called, which picture of each set shows them, and who is held out."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .packages import Tarball

SPLIT_SEED = 20261121
HELD_OUT_SHARE = 0.1
#: Sets that draw an object for it to be in the catalogue, so that every held-out style can show it.
REQUIRED_SETS = ("noto", "twemoji", "fluent-flat", "fluent-contrast", "fluent-3d")
#: emojibase's group -> ours; plants are parted from animals by their subgroup. Faces, people, symbols and flags are left
#: out: they are not objects that a style pack would be asked for.
_GROUPS = {"animals-nature": "animals", "food-drink": "food", "travel-places": "travel", "activities": "activities",
           "objects": "objects"}  # fmt: skip
GROUPS = ("animals", "plants", "food", "travel", "activities", "objects")
_CLOCK_FACE = re.compile(r"(o.clock|-thirty)$")

#: fxemoji has names of its own, without code points. Where they are not Unicode's, or mean another picture than the same
#: word does elsewhere (its "dog" is a dog's face), the object is given here by emojibase's label.
FXEMOJI = {
    "dog face": "dog", "dog": "dogside", "cat face": "cat", "cat": "catside", "tiger face": "tiger",
    "tiger": "tigerside", "pig face": "pig", "pig": "pigside", "pig nose": "pigsnout", "mouse face": "mouse",
    "mouse": "mouseside", "rabbit face": "bunny", "rabbit": "bunnyside", "dragon face": "dragonhead",
    "dragon": "dragonside", "leopard": "leopardside", "hamster": "hampster", "spouting whale": "spurtingwhale",
    "front-facing baby chick": "frontfacingchick", "chestnut": "acorn", "bouquet": "bouquetofflowers",
    "evergreen tree": "evergreen", "fallen leaf": "fallingleaf", "leaf fluttering in wind": "leaffluttering",
    "hot pepper": "chilipepper", "fish cake with swirl": "fishcakeswirl", "beach with umbrella": "beachumbrella",
    "racing car": "racecar", "snow-capped mountain": "snowmountains", "Tokyo tower": "toykotower",
    "map of Japan": "silhouetteohjapan", "bullet train": "highspeedtrainbulletnose",
    "mantelpiece clock": "manltepiececlock", "hourglass not done": "hourglassflowingsand",
    "cloud with rain": "raincloud", "cloud with snow": "snowcloud", "cloud with lightning and rain": "stormcloud",
    "sun behind rain cloud": "sunraincloud", "sun behind small cloud": "whitesunsmallcloud",
    "globe showing Europe-Africa": "europeafricaglobe", "globe showing Americas": "americasglobe",
    "globe showing Asia-Australia": "asiaaustraliaglobe", "globe with meridians": "meridianglobe",
    "waning gibbous moon": "waningbibbousmoon", "droplet": "blackdroplet", "construction": "constructionsign",
    "confetti ball": "confetti", "wrapped gift": "present", "tennis": "tennisball",
    "framed picture": "framewithtiles", "running shoe": "mensrunner", "necktie": "tie", "man’s shoe": "mensshoe",
    "woman’s boot": "boot", "high-heeled shoe": "heels", "woman’s sandal": "sandals", "t-shirt": "mansshirt",
    "woman’s clothes": "womansshirt", "clutch bag": "makeupbag", "gem stone": "gem", "glasses": "eyeglasses",
    "sunglasses": "darksunglasses", "studio microphone": "studiomic", "control knobs": "controlknob",
    "mobile phone": "cellphone", "telephone receiver": "telephonereceiver2", "printer": "printericon",
    "floppy disk": "floppydisk2", "optical disk": "opticaldiscicon", "videocassette": "videocasette",
    "keyboard": "wiredkeyboard", "computer mouse": "twobuttonmouse", "desktop computer": "oldpersonalcomputer",
    "magnifying glass tilted left": "leftmagnifyingglass", "magnifying glass tilted right": "rightmagnifyingglass",
    "notebook with decorative cover": "notebookdecorativecover", "bookmark tabs": "bookmarktab",
    "dollar banknote": "banknotedollar", "euro banknote": "banknoteeuro", "pound banknote": "banknotepound",
    "yen banknote": "banknoteyen", "chart increasing": "chartupwardstrend", "chart decreasing": "chartdownwardstrend",
    "open file folder": "openfolder", "file folder": "folder", "outbox tray": "outbox", "inbox tray": "inboxtray",
    "locked with key": "lockandkey", "pushpin": "blackpushpin", "ribbon": "bow", "bell": "ringingbell",
    "bell with slash": "bellcancellation", "loudspeaker": "bullhornwithsoundwaves", "megaphone": "bullhorn",
    "fork and knife": "forkandknife", "fork and knife with plate": "forkknife",
}  # fmt: skip
#: (set, emojibase's label) -> why that picture is not used. Found by looking at all of them side by side.
UNFIT = {
    ("noto-v1", "cricket"): "shows the game's bat, not the insect",
    ("emojione", "cricket"): "shows the game's bat, not the insect",
    ("noto-v1", "water pistol"): "shows a revolver",
    ("emojione", "water pistol"): "shows a revolver",
    ("fxemoji", "water pistol"): "shows a revolver",
    ("fxemoji", "window"): "shows a window of a computer's desktop",
    ("fxemoji", "game die"): "shows a die cut off at its box",
    ("fxemoji", "tram car"): "the colours are missing from the set's file",
}  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """One object: `hexcode` as emojibase writes it, `icons` maps a set to the name of its picture there."""

    hexcode: str
    name: str
    keywords: tuple[str, ...]
    group: str
    split: str = "train"
    icons: Mapping[str, str] = field(default_factory=dict, hash=False)


def read_catalogue(tarballs: Mapping[str, Tarball]) -> tuple[list[Thing], list[dict[str, str]]]:
    """All objects with a picture in every set of `REQUIRED_SETS`, in emojibase's order, and what was left out and why."""
    base = tarballs["emojibase"]
    groups, subgroups = _orders(base, "groups"), _orders(base, "subgroups")
    finders = {key: _Finder(key, tarball) for key, tarball in tarballs.items() if key != "emojibase"}
    things: list[Thing] = []
    left_out: list[dict[str, str]] = []
    for row in base.json("en/data.json"):
        group = _GROUPS.get(groups.get(row.get("group"), ""))
        if group is None:
            continue
        if subgroups[row["subgroup"]].startswith("plant"):
            group = "plants"
        name = row["label"].replace("’", "'")
        spellings = _spellings(row["label"], row["hexcode"], finders.values())
        icons = {key: finder.find(row["hexcode"], row["label"], spellings) for key, finder in finders.items()}
        missing = [key for key in REQUIRED_SETS if not icons[key]]
        reason = ""
        if _CLOCK_FACE.search(row["label"]):
            reason = "the 24 clock faces differ only in their hands"
        elif missing:
            reason = f"not in {', '.join(missing)}"
        if reason:
            left_out.append({"hexcode": row["hexcode"], "object": name, "reason": reason})
            continue
        for key in [key for key in icons if (key, row["label"]) in UNFIT]:
            icons[key] = None
            left_out.append({"hexcode": row["hexcode"], "object": name, "set": key, "reason": UNFIT[key, row["label"]]})
        keywords = tuple(tag for tag in row.get("tags", []) if tag.lower() != name.lower())
        things.append(Thing(row["hexcode"], name, keywords, group, icons={k: v for k, v in icons.items() if v}))
    held = held_out((thing.hexcode, thing.group) for thing in things)
    return [
        Thing(t.hexcode, t.name, t.keywords, t.group, "held_out" if t.hexcode in held else "train", t.icons) for t in things
    ], left_out


def held_out(members: Iterable[tuple[str, str]], share: float = HELD_OUT_SHARE, seed: int = SPLIT_SEED) -> set[str]:
    """Hexcodes that nothing is ever trained on: of each group the `share` with the smallest hash of seed and hexcode.

    `members` are (hexcode, group). The choice does not depend on their order, and one object more or less in the
    catalogue moves at most one other across the line.
    """
    by_group: dict[str, list[str]] = {}
    for hexcode, group in members:
        by_group.setdefault(group, []).append(hexcode)
    chosen: set[str] = set()
    for codes in by_group.values():
        codes.sort(key=lambda code: hashlib.sha256(f"{seed}:{code}".encode()).digest())
        chosen.update(codes[: round(share * len(codes))])
    return chosen


def plain_code(hexcode: str) -> str:
    """Hexcode in lower case without the variation selector FE0F, which the sets write or leave out as they like."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def _orders(base: Tarball, kind: str) -> dict[int, str]:
    return {entry["order"]: entry["key"] for entry in base.json("en/messages.json")[kind]}


def _letters(text: str) -> str:
    return re.sub("[^a-z0-9]", "", text.lower())


class _Finder:
    """Finds the picture of an object in one set: by code point where the set knows them, otherwise by name."""

    def __init__(self, key: str, tarball: Tarball):
        self.key = key
        self.by_name: dict[str, str] = {}
        if key == "fluent-3d":
            names = [name for name in tarball.names() if name.endswith(".webp")]
            self.by_code = {plain_code(name.rsplit("/", 1)[1].removesuffix(".webp")): name for name in names}
            return
        icons = tarball.json("icons.json")
        self.by_code = {plain_code(code): name for code, name in tarball.json("chars.json").items()}
        self.by_name = {_letters(name): name for name in [*icons["icons"], *icons.get("aliases", {})]}

    def find(self, hexcode: str, label: str, spellings: list[str]) -> str | None:
        if self.by_code:
            return self.by_code.get(plain_code(hexcode))
        if self.key == "fxemoji":
            if label in FXEMOJI:
                return self.by_name.get(FXEMOJI[label])
            taken = set(FXEMOJI.values())
            spellings = [spelling for spelling in spellings if spelling not in taken]
        return next((self.by_name[s] for s in spellings if s in self.by_name), None)


def _spellings(label: str, hexcode: str, finders: Iterable[_Finder]) -> list[str]:
    """Names of the object, letters only: emojibase's, those of the sets that know code points, and Unicode's own."""
    code = plain_code(hexcode)
    names = [label]
    names += [finder.by_code[code] for finder in finders if finder.by_name and code in finder.by_code]
    if "-" not in code:
        names.append(unicodedata.name(chr(int(code, 16)), label))
    return list(dict.fromkeys(_letters(name) for name in names))
