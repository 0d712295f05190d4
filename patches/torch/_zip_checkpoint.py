"""The container of PyTorch checkpoints: an uncompressed zip whose records start at multiples of 64 bytes.

Layout (what ``torch.save`` has written since PyTorch 1.6), ``<top>`` being the file's stem or ``archive``::

    <top>/data.pkl      the object, pickled; tensors refer to storages by persistent id
    <top>/byteorder     "little" or "big"
    <top>/data/<key>    the raw bytes of storage <key>
    <top>/version       "3\\n"

`ZipWriter` and `ZipReader` know about records and bytes only; what is in them is `torch.serialization`'s business.
"""

import mmap
import os
import struct
import zipfile
import zlib

import numpy as np

ALIGNMENT = 64
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # the fixed 30 bytes that precede a record's name in a zip
_PADDING_ID = b"FB"  # the id of the extra field that PyTorch pads with; readers skip it by its length
_NO_CRC = 0  # PyTorch writes this when checksums are switched off (torch.serialization.set_crc32_options)


def looks_like_zip(head):
    """Tell whether `head` (the first bytes of a file) begins a zip archive."""
    return head[:4] == b"PK\x03\x04"


def describe_head(head):
    """One clause that says what a file that is no checkpoint seems to be, from its first bytes."""
    if not head:
        return "it is empty (0 bytes)"
    if head.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer, so fetch the real file with `git lfs pull`"
    if head.lstrip()[:1] == b"<":
        return "it looks like a web page, so the download went wrong"
    return f"it begins with {head[:8]!r}"


class ZipWriter:
    """Write records one after the other into the binary `file`; only ``write`` has to be there.

    The same records give the same bytes: no clock and no random id enters the file.
    """

    def __init__(self, file, top):
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._top = top

    def add(self, name, data):
        """Append the record `name` with the bytes of `data` (bytes or a one-dimensional uint8 array)."""
        info = zipfile.ZipInfo(f"{self._top}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
        view = memoryview(data)
        # zipfile itself adds a 20-byte field to the local header of records that may pass 2 GiB
        large = view.nbytes * 1.05 > zipfile.ZIP64_LIMIT
        start = self._zip.start_dir + _LOCAL_HEADER.size + len(info.filename.encode()) + (20 if large else 0)
        pad = -(start + 4) % ALIGNMENT
        info.extra = _PADDING_ID + struct.pack("<H", pad) + b"Z" * pad
        self._zip.writestr(info, view)

    def close(self):
        self._zip.close()


class ZipReader:
    """Read the records of a checkpoint.

    `file` is a binary file with ``read``, ``seek`` and ``tell``; `name` stands for it in errors. A real file is memory
    mapped, so that a record costs no copy. All errors are RuntimeError with one sentence that names the file.
    """

    def __init__(self, file, name):
        self.name = name
        self._file = file
        self._map = None
        try:
            self._zip = zipfile.ZipFile(file)
            infos = self._zip.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise RuntimeError(
                f"{name} is damaged: it begins like a zip checkpoint but has no readable directory at its end, so it "
                "was probably cut off while it was written or copied; save or fetch it again"
            ) from error
        pickles = [i.filename for i in infos if i.filename.count("/") == 1 and i.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise RuntimeError(f"{name} is a zip archive but no PyTorch checkpoint: it holds no <top>/data.pkl")
        top = pickles[0][: -len("data.pkl")]
        self._infos = {i.filename[len(top) :]: i for i in infos if i.filename.startswith(top)}
        if "constants.pkl" in self._infos:
            raise RuntimeError(f"{name} is a TorchScript program and no checkpoint; save its state_dict() instead")
        try:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (AttributeError, OSError, ValueError):
            pass  # not a real file (a BytesIO, a zip member): records are read through the file object

    def __contains__(self, record):
        return record in self._infos

    def read(self, record):
        """Return the bytes of `record` as a read-only uint8 array of one dimension."""
        info = self._infos.get(record)
        if info is None:
            raise RuntimeError(f"{self.name} is damaged: its record {record} is missing")
        try:
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                return np.frombuffer(self._zip.read(info), np.uint8)  # packed again by some other tool
            header = _LOCAL_HEADER.unpack(self._bytes(info.header_offset, _LOCAL_HEADER.size))
            if header[0] != b"PK\x03\x04":
                raise zipfile.BadZipFile("no record at its place")
            data = self._bytes(info.header_offset + _LOCAL_HEADER.size + header[-2] + header[-1], info.file_size)
            if info.CRC != _NO_CRC and zlib.crc32(data) != info.CRC:
                raise zipfile.BadZipFile("checksum differs")
        except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, OSError, RuntimeError, ValueError) as error:
            raise RuntimeError(
                f"{self.name} is damaged: the bytes of its record {record} are not those that were saved ({error}); "
                "save or fetch it again"
            ) from error
        return data

    def _bytes(self, start, count):
        """`count` bytes from `start` on, as a uint8 array."""
        if self._map is not None:
            data = np.frombuffer(memoryview(self._map)[start : start + count], np.uint8)
        else:
            self._file.seek(start)
            data = np.frombuffer(self._file.read(count), np.uint8)
        if data.size != count:
            raise EOFError("the file ends first")
        return data


def display_name(file):
    """How errors call `file`: its path, or what can be said about a file object."""
    if isinstance(file, (str, os.PathLike)):
        return os.fspath(file)
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else f"the {type(file).__name__} object"
