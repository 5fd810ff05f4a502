"""Fetching a data set's archives and unpacking them where its reader looks for them."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path
from zipfile import BadZipFile


@dataclass(frozen=True)
class Archive:
    """One file of a data set's download.

    Attributes:
        url: where it is. The last part is its name, unless `name` says otherwise.
        checksum: such as `sha256:…`; none where its authors publish none.
        folder: below the root folder, where it is unpacked or, if it is no archive, put.
        name: of the file on disk.
    """

    url: str
    checksum: str | None = None
    folder: str = "."
    name: str = ""


def fetch(archives: Sequence[Archive], root: Path) -> None:
    """Download archives into `root/downloads`, check them, and unpack them below `root`.

    Files that are there already are only checked. The archives are kept: they may be deleted once the data set
    is complete.

    Raises:
        ValueError: a file is not what its checksum says, or is damaged.
        OSError: the network or the disk failed; names the address.
    """
    import pooch  # here, since only downloading needs it and it loads slowly

    kept = root / "downloads"
    for archive in archives:
        name = archive.name or archive.url.rpartition("/")[2]
        file = Path(pooch.retrieve(archive.url, archive.checksum, name, kept, progressbar=True))
        target = root / archive.folder
        target.mkdir(parents=True, exist_ok=True)
        try:
            _unpack(file, target)
        except (tarfile.ReadError, shutil.ReadError, BadZipFile, BadGzipFile, zlib.error, EOFError):
            raise ValueError(f"{file} is damaged: delete it, and repeat the command.") from None


def _unpack(file: Path, folder: Path) -> None:
    """An archive into a folder; anything else is copied there."""
    if file.suffix == ".zip":
        shutil.unpack_archive(file, folder)
    elif file.name.endswith(".tar.gz"):
        with tarfile.open(file) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # refuses paths out of the folder
            tar.extractall(folder)
    else:
        shutil.copy2(file, folder)
