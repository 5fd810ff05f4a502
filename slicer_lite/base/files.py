"""Writing files such that a crash, a full disk or a pulled plug never leaves half of one."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

UNFINISHED = ".unfinished"  # ends the name of a file while it is written; one stays after a kill


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


def write_json(path: Path, value: Any) -> None:
    """`write_durably` for plain values."""
    write_durably(path, (json.dumps(value, indent=2) + "\n").encode())
