"""Time and memory of one scoring pass, at several numbers of pictures: ``python benchmarks/scale.py PACK``.

    python benchmarks/scale.py PACK                                     175, 350 and 700 pictures, lite networks
    python benchmarks/scale.py PACK --pictures 100 -- --metrics hist    words after -- go to eval/score.py

The pictures are made from the pack's references: cropped, turned over, recoloured, with some noise, 512 px PNG. Each row is
one run of eval/score.py that finds no cached features, with the same styles and references and fewer or more prompt words;
beyond the pack's words they come again as "another WORD".
Memory is the peak of the scoring process and, apart, of its decoding processes together, as Linux counts resident pages.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from jdiff_style.packs import Pack, load_pack  # noqa: E402 - the root has to be on the path

POLL = 0.05


def altered(reference: Image.Image, side: int, random: np.random.Generator) -> Image.Image:
    """A picture of ``side`` pixels in the manner of a reference."""
    width, height = reference.size
    edge = int(min(width, height) * random.uniform(0.7, 1))
    left, top = (int(random.integers(0, span - edge + 1)) for span in (width, height))
    image = reference.crop((left, top, left + edge, top + edge)).resize((side, side), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, np.float32)[:, :: random.choice((-1, 1))]
    pixels = pixels * random.uniform(0.8, 1.2, 3) + random.uniform(-20, 20, 3)
    pixels += random.normal(0, 4, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw(pack: Pack, side: int, count: int, folder: Path) -> list[tuple[str, str]]:
    """Write ``folder/<style>/<word>.png`` for ``count`` pairs: the first word of every style, then the second, …

    After the pack's words come the same again as "another …", "another another …".
    """
    words = {style.id: list(dict.fromkeys(style.prompts.values())) for style in pack.styles}
    longest = max(map(len, words.values()))
    pairs = [(style, own[place]) for place in range(longest) for style, own in words.items() if place < len(own)]
    rounds = -(-count // len(pairs))
    pairs = [(style, "another " * again + word) for again in range(rounds) for style, word in pairs][:count]
    styles = {style.id: style for style in pack.styles}
    for number, (style, word) in enumerate(pairs):
        random = np.random.default_rng(number)
        images = styles[style].images
        with Image.open(images[number % len(images)].path) as opened:
            image = altered(opened.convert("RGB"), side, random)
        (folder / style).mkdir(parents=True, exist_ok=True)
        image.save(folder / style / f"{word}.png", compress_level=1)
    return pairs


def smaller_pack(pack: Pack, pairs: list[tuple[str, str]], folder: Path) -> None:
    """The same styles and references with the words of ``pairs`` only."""
    for style in pack.styles:
        own = [word for name, word in pairs if name == style.id]
        (folder / style.id).mkdir(parents=True)
        (folder / style.id / "images").symlink_to(style.images[0].path.resolve().parent)
        (folder / style.id / "prompt.json").write_text(json.dumps(dict(enumerate(own))))
    words = pack.path / "clip_r_prompts.txt"
    if words.is_file():
        (folder / words.name).symlink_to(words.resolve())


def resident(process: int) -> dict[int, float]:
    """Peak resident megabytes so far of a process and of all below it, by process number."""
    found = {}
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                found[process] = int(line.split()[1]) / 1024
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found |= resident(int(child))
    except OSError:  # it ended meanwhile
        pass
    return found


def score(pack: Path, made: Path, folder: Path, words: list[str]) -> tuple[float, float, float, dict]:
    """Seconds, peak megabytes of the process and of its workers, and the report of one run.

    Raises:
        SystemExit: the run failed.
    """
    command = [sys.executable, str(ROOT / "eval" / "score.py"), "--generated", str(made), "--pack", str(pack)]
    command += ["--json", str(folder / "report.json"), "--no-cache", *words]
    peaks: dict[int, float] = {}
    began = time.perf_counter()
    with open(folder / "said.txt", "wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        while process.poll() is None:
            peaks |= resident(process.pid)
            time.sleep(POLL)
    seconds = time.perf_counter() - began
    if process.returncode:
        sys.exit(f"score.py failed ({process.returncode}):\n{(folder / 'said.txt').read_text(errors='replace')[-2000:]}")
    main = peaks.pop(process.pid)
    return seconds, main, sum(peaks.values()), json.loads((folder / "report.json").read_text())


def main() -> None:
    """Parse the command line, draw, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", metavar="PACK", type=Path, help="style pack with prompt words")
    parser.add_argument("--pictures", type=int, nargs="+", default=[175, 350, 700], metavar="INT", help="how many")
    parser.add_argument("--side", type=int, default=512, metavar="PIXELS", help="of the pictures (%(default)s)")
    ours, theirs = sys.argv[1:], []
    if "--" in ours:
        at = ours.index("--")
        ours, theirs = ours[:at], ours[at + 1 :]
    options = parser.parse_args(ours)
    words = theirs or ["--backbones", "lite", "--metrics", "all"]
    with tempfile.TemporaryDirectory(prefix="jdiff-scale-") as name:
        folder = Path(name)
        pack = load_pack(options.pack)
        pairs = draw(pack, options.side, max(options.pictures), folder / "all")
        print("| pictures | references | seconds | a picture | peak MB | of decoding processes | computed |\n"
              "|---:|---:|---:|---:|---:|---:|---|", flush=True)
        for count in sorted(options.pictures):
            smaller_pack(pack, pairs[:count], folder / f"pack-{count}")
            for style, word in pairs[:count]:
                target = folder / f"made-{count}" / style / f"{word}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(folder / "all" / style / f"{word}.png")
            seconds, own, workers, report = score(folder / f"pack-{count}", folder / f"made-{count}", folder, words)
            counts = report["counts"]
            done = [name for name, entry in report["metrics"].items() if entry["value"] is not None]
            images = counts["scored"] + counts["references"]
            print(f"| {counts['scored']} | {counts['references']} | {seconds:.1f} | {1000 * seconds / images:.0f} ms "
                  f"| {own:.0f} | {workers:.0f} | {', '.join(done)} |", flush=True)


if __name__ == "__main__":
    main()
