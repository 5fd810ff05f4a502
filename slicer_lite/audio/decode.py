"""From an audio file, of any rate and any number of channels, to 16 kHz mono."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from slicer_lite.base.files import near_miss
from slicer_lite.config import SAMPLE_RATE

# What one file may hold, whatever its header claims: samples of each channel, as it is and at 16 kHz.
MAX_SAMPLES = 2**28  # 1 GiB as float32; 4.6 hours at 16 kHz, 93 minutes at 48 kHz
_READ_AT_ONCE = 2**20  # samples of each channel
_OF_UNKNOWN_LENGTH = 2**62  # libsndfile gives the largest number there is for streams that were never closed
MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz


def decode(path: Path, cut: tuple[float, float] | None = None) -> np.ndarray:
    """A file's samples as 16 kHz mono float32: channels averaged, resampled, a peak above 1 scaled down to 1.

    Args:
        path: an audio file.
        cut: start and length in seconds, if only that stretch is wanted.

    Raises:
        ValueError: the file cannot be read, is empty, longer than allowed, shorter than the cut or not finite;
            says why.
        ModuleNotFoundError: there is no soundfile, or it does not work.
    """
    try:
        import soundfile  # here, so that training on clips that are decoded already needs no audio library
    except (ImportError, OSError) as error:  # OSError: without libsndfile
        raise ModuleNotFoundError(
            f"Reading sound files needs soundfile: pip install --force-reinstall soundfile ({error})."
        ) from None

    if not path.is_file():
        raise ValueError("a folder, not a file" if path.is_dir() else f"no such file{near_miss(path)}")
    if not path.stat().st_size:
        raise ValueError("the file is empty (0 bytes)")
    if not os.access(path, os.R_OK):
        raise ValueError("no permission to read it")
    try:
        # soundfile takes names that are not UTF-8 as bytes only.
        name = path if os.name == "nt" or str(path).isprintable() else os.fsencode(path)
        with soundfile.SoundFile(name) as file:
            rate = file.samplerate
            first, count = (0, file.frames) if cut is None else (round(cut[0] * rate), round(cut[1] * rate))
            if not MIN_RATE <= rate <= MAX_RATE:
                raise ValueError(
                    f"its header declares {rate:,} samples a second; from {MIN_RATE:,} to {MAX_RATE:,} are allowed"
                )
            if file.frames > _OF_UNKNOWN_LENGTH:
                raise ValueError(
                    "its header does not say how long it is, as of a stream: write it anew with another program"
                )
            if count * max(1, SAMPLE_RATE / rate) > MAX_SAMPLES:
                raise ValueError(
                    f"its header declares {file.frames:,} samples ({file.frames / rate / 3600:.1f} h), more than "
                    f"the {MAX_SAMPLES:,} allowed; cut it into shorter files"
                )
            if first + count > file.frames:
                raise ValueError(f"it ends after {file.frames / rate:.2f} s, before its cut {cut} does")
            if first:
                file.seek(first)
            # Some at a time, so that only one channel's worth of all is in memory.
            parts = []
            while count > 0 and len(some := file.read(min(count, _READ_AT_ONCE), "float32", always_2d=True)):
                parts.append(some.mean(1))
                count -= len(some)
    except (soundfile.SoundFileError, OSError, MemoryError) as error:
        raise ValueError(
            f"not readable as audio ({str(error).rstrip('.') or type(error).__name__})"
        ) from None
    if not parts:
        raise ValueError("it holds no samples")
    mono = np.concatenate(parts)
    if not np.isfinite(mono).all():
        raise ValueError("it holds samples that are not finite (NaN or infinity)")
    if rate != SAMPLE_RATE:
        import torchaudio.functional  # here, so that `slicer-lite doctor` can say what is wrong with it

        # Exact for every usual rate. The filters of an odd one, such as 44,101 Hz, would take gigabytes.
        ratio = Fraction(rate, SAMPLE_RATE).limit_denominator(640)
        mono = torchaudio.functional.resample(
            torch.from_numpy(mono), ratio.numerator, ratio.denominator
        ).numpy()
    return mono / max(1.0, float(np.abs(mono).max(initial=0.0)))
