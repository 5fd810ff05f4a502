"""Files that a crash never leaves half-written, and names as disks, systems and people spell them."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

UNFINISHED = ".unfinished"  # ends the name of a file while it is written; one stays after a kill
# What systems put beside people's files, in small letters; names that begin with a dot are hidden everywhere.
_OF_SYSTEMS = frozenset(
    {
        "thumbs.db",
        "desktop.ini",
        "__macosx",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "@eadir",
    }
)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let an error in writing, such as a full disk, name the file: Python's own does so only on opening it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{os.strerror(error.errno or 0)} while writing", str(path)) from None


def write_durably(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Replace a file's content so that, whatever happens meanwhile, the old or the new content is there.

    The content is bytes, or a function that writes it to an open file. Of several processes that write one file, the
    last one's content stays.

    Raises:
        OSError: names the file and the reason, such as a full disk; the old content is untouched.
    """
    # A name of its own, since another process may be writing the same file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with naming(path):
            with temporary.open("xb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:  # an interrupt, too
        temporary.unlink(missing_ok=True)
        raise
    # The new name, too, is then on the disk. Some systems (Windows, some shares) cannot do this for a folder.
    with suppress(OSError):
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def need_writable(folder: Path) -> None:
    """See, before the work, that its results can be written into a folder.

    Raises:
        OSError: names the folder and the reason.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder} cannot be written to ({error}): choose another folder.") from None


def parse_json(text: str) -> Any:
    """`json.loads` for what others have written.

    Raises:
        ValueError: it is no JSON, or nests too deeply for Python, which else ends in a RecursionError.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its JSON nests too deeply") from None


def write_json(path: Path, value: Any) -> None:
    """`write_durably` for plain values."""
    write_durably(path, (json.dumps(value, indent=2) + "\n").encode())


def hidden(name: str) -> bool:
    """Whether the name of a file or folder says that it is a system's or a tool's own: `.git`, `.DS_Store`, …"""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def absolute(path: Path) -> Path:
    """The absolute path without `..`. A path with one is where it really lies: a link before it leads elsewhere."""
    return path.resolve() if ".." in path.parts else path.absolute()


def in_other_form(path: Path) -> Path | None:
    """What is there under a missing path's name in another Unicode form: é is one letter (NFC) or two (NFD, Macs)."""
    return _by_folded_name(path, _composed)


def near_miss(path: Path) -> str:
    """Half a sentence about what lies where a missing file was looked for and is almost called so; or nothing."""
    other = _by_folded_name(path, _alike)
    if other in (None, path):
        return ""
    return f"; there is {str(other)!r}, which differs in capitals, spaces or the coding of letters"


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _alike(name: str) -> str:
    """What is left of a name without what is easily overlooked."""
    if not name.isascii() and any("\udc80" <= letter <= "\udcff" for letter in name):
        name = os.fsencode(name).decode("latin-1")  # not UTF-8: most often this
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def _by_folded_name(path: Path, fold: Callable[[str], str]) -> Path | None:
    """What is there whose names, once folded, are a missing path's; None if nothing is, or several are."""
    if os.path.lexists(path):
        return path
    folder = _by_folded_name(path.parent, fold) if path.parent != path else None
    if folder is None:
        return None
    try:
        names = _folded(folder, folder.stat().st_mtime_ns, fold).get(fold(path.name), [])
    except (OSError, ValueError):
        return None
    return folder / names[0] if len(names) == 1 else None


@lru_cache(maxsize=16)
def _folded(folder: Path, changed: int, fold: Callable[[str], str]) -> dict[str, list[str]]:
    """The names in a folder by what folding makes of them; `changed` tells when they have to be listed anew."""
    names: dict[str, list[str]] = {}
    for name in os.listdir(folder):  # noqa: PTH208 (names are all that is wanted)
        names.setdefault(fold(name), []).append(name)
    return names
