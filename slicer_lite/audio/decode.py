"""From an audio file, of any kind, rate and number of channels, to 16 kHz mono."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from slicer_lite.base.files import near_miss
from slicer_lite.config import SAMPLE_RATE

# What one file may hold, whatever its header claims: samples of each channel, as it is and at 16 kHz.
MAX_SAMPLES = 2**28  # 1 GiB as float32; 4.6 hours at 16 kHz, 93 minutes at 48 kHz
_READ_AT_ONCE = 2**18  # samples of all channels together: 1 MiB, which bounds the memory
_OF_UNKNOWN_LENGTH = 2**62  # libsndfile gives the largest number there is for streams that were never closed
MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz
_STEP = 2**-15  # of 16 bits

MEDIA = 'pip install "slicer-lite[media]"'
CANCELLED = "their channels cancel in the mean, so that the loudest channel is taken instead"
SPIKES = (
    "a few samples far beyond full scale would make the rest silent, so that they are clipped and the rest "
    "keeps its level"
)
QUIET = "too quiet for 16 bits, so that their peak is raised to -42 dB: their level means nothing"
DAMAGED = "damaged or cut short, so that only what could be decoded is there"
LONGER = "go on after the end that their header declares, and what follows is not read"
PARTLY = f"read in part only; {MEDIA} may read the rest"

_SIZE_UNKNOWN = 0x7FFF_0000  # bytes: programs that write into a pipe declare this much or more
_LINGERS = 1024  # bytes behind the sound that are tags, not sound
# File types by their first bytes, but for MPEG's, which has none (see `_Source.mpeg`).
_MAGIC = (b"RIF", b"RF64", b"BW64", b"FORM", b"fLaC", b"OggS", b".snd", b"dns.", b"caff", b"riff", b"NIST")
_ARCHIVES = {
    b"PK\3\4": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"(\xb5/\xfd": "zstandard",
}

_Blocks = Generator[tuple[int, np.ndarray], None, None]  # samples a second, and `(S, C)` float32


@dataclass(frozen=True)
class _Source:
    path: Path
    head: bytes  # its first bytes
    cut: tuple[float, float] | None

    @property
    def mpeg(self) -> bool:
        """Whether it is, or is called, an MPEG stream, of which each frame begins with 11 set bits and its layer."""
        if self.head.startswith(b"ID3") or (
            self.head[0] == 0xFF and self.head[1:2] >= b"\xe0" and self.head[1] & 6
        ):
            return True
        called = self.path.suffix.lower() in {".mp3", ".mp2", ".mp1", ".mpga"}
        return called and not self.head.startswith(_MAGIC)


@dataclass
class _Seen:
    """What a reader notices."""

    begin: int = 0  # samples of the file that it has skipped by itself
    whole: bool = True  # it came to the end of what the file holds, as far as anybody can tell
    quietest: float = np.inf  # the lowest peak that is sound, not rounding; infinite for 16 bits or fewer


@dataclass
class _Levels:
    """Of what was read: everything that decides how it is mixed and scaled."""

    length: int = 0  # samples at 16 kHz
    peak: float = 0.0  # at 16 kHz
    count: int = 0  # samples at the file's own rate
    beyond: int = 0  # of them beyond full scale
    within: float = 0.0  # energy of the others
    mix: float = 0.0  # energy of the mean of the channels
    channels: np.ndarray = field(default_factory=lambda: np.zeros(1))  # (C,) energy of each


class _UnreadableError(ValueError):
    """The file cannot be read by this reader: another may be tried."""


class _EndsEarlyError(_UnreadableError):
    """It was read, and the cut lies behind its end."""


def decode(path: Path, cut: tuple[float, float] | None = None) -> np.ndarray:
    """A file's samples as 16 kHz mono float32, writable; see `decode_into`.

    Args:
        path: an audio file.
        cut: start and length in seconds, if only that stretch is wanted.
    """
    file = io.BytesIO()
    scale, _ = decode_into(file, path, cut)
    samples = np.frombuffer(file.getbuffer(), "<f4")
    samples /= scale
    return samples


def decode_into(
    file: BinaryIO, path: Path, cut: tuple[float, float] | None = None
) -> tuple[float, list[str]]:
    """Write a file's samples as 16 kHz mono float32, block by block, and say what they have to be divided by.

    Channels are averaged, and resampled by libsoxr's high quality. A peak above 1 is scaled down to 1. Three kinds
    of sound would be lost that way, and are kept another way: channels that cancel, few samples far beyond full
    scale, and what is too quiet for the store's 16 bits.

    Args:
        file: open for writing and reading; what was in it is overwritten.
        path: an audio file.
        cut: start and length in seconds, if only that stretch is wanted.

    Returns:
        The scale, and what a listener should know of this file: some of this module's remarks.

    Raises:
        ValueError: the file cannot be read, is empty, longer than allowed, shorter than the cut, not finite or too
            large for the memory; says why.
        ModuleNotFoundError: there is no soundfile, or no soxr, or it does not work.
    """
    try:
        return _decode_into(file, path, cut)
    except MemoryError:
        raise ValueError("there is not enough memory to decode it") from None


def pyav() -> Any:
    """The module of PyAV, which comes with the extra `media`; None without it."""
    try:
        import av
    except (ImportError, OSError):
        return None
    return av


def _decode_into(file: BinaryIO, path: Path, cut: tuple[float, float] | None) -> tuple[float, list[str]]:
    try:
        source = _Source(path, _head(path), cut)
        patch, remarks = _mended_sizes(source)
    except OSError as error:
        raise ValueError(f"not readable ({error})") from None
    tried: list[tuple[_Levels, _Seen, Callable[[], _Blocks]]] = []
    failures: list[ValueError] = []
    for reader in _readers(source, patch):
        blocks: Callable[[], _Blocks] = partial(_stretch, reader, source, seen := _Seen())
        try:
            tried.append((_mix(file, blocks()), seen, blocks))
        except ValueError as error:
            if not tried and not isinstance(error, _UnreadableError):
                raise
            failures.append(error)
            continue
        if seen.whole and tried[-1][0].count:
            break
    if not tried:
        raise ValueError(str(min(failures, key=lambda error: not isinstance(error, _EndsEarlyError))))
    levels, seen, blocks = max(tried, key=lambda attempt: (attempt[0].length, attempt[1].whole))
    if not levels.count:
        raise ValueError("it holds no samples")
    if not seen.whole:
        remarks.add(DAMAGED if pyav() else PARTLY)
    if failures or seen is not tried[-1][1]:  # another attempt is in the file
        levels = _mix(file, blocks())
    channel = _loudest_if_cancelled(levels)
    if channel is not None:
        remarks.add(CANCELLED)
        levels = _mix(file, blocks(), channel)
    if _hidden_by_spikes(levels):
        remarks.add(SPIKES)
        levels = _mix(file, blocks(), channel, clip=True)
    if seen.quietest <= levels.peak < 8 * _STEP:
        remarks.add(QUIET)
        # 256 steps of 16 bits, -42 dB: still quiet, and not lost.
        return levels.peak / (256 * _STEP), sorted(remarks)
    return max(1.0, levels.peak), sorted(remarks)


def _readers(source: _Source, patch: dict[int, bytes]) -> Iterator[Callable[[_Source, _Seen], _Blocks]]:
    """Which to try, one after the other until all is read; PyAV is imported only where it is needed."""
    # libmpg123, which libsndfile takes for MPEG, stops where a stream is joined to another or longer than its first
    # frame suggests, and writes its complaints to stderr. PyAV does neither.
    if source.mpeg and pyav():
        yield _by_pyav
        return
    yield partial(_by_soundfile, patch=patch)
    if pyav():
        yield _by_pyav


def _head(path: Path) -> bytes:
    """The first bytes of a file; refuses what is no file, and what is known to be something else than sound."""
    if not path.is_file():
        raise ValueError("a folder, not a file" if path.is_dir() else f"no such file{near_miss(path)}")
    if not path.stat().st_size:
        raise ValueError("the file is empty (0 bytes)")
    if not os.access(path, os.R_OK):
        raise ValueError("no permission to read it")
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"version https://git-lfs"):
        raise ValueError("a Git LFS pointer, not the sound itself: run `git lfs pull` where it was cloned")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise ValueError("a web page or other markup (HTML, XML), not a sound: download it anew")
    kind = next((kind for magic, kind in _ARCHIVES.items() if head.startswith(magic)), None)
    if kind or head[257:262] == b"ustar":
        raise ValueError(f"an archive ({kind or 'tar'}), not a sound: unpack it")
    return head


def _mended_sizes(source: _Source) -> tuple[dict[int, bytes], set[str]]:
    """Bytes to read instead of size fields of 0, by their place in the file, and a remark on others that are wrong.

    A program that was killed while it recorded leaves 0 in the header. That a pipe's declares the most there is
    means nothing.
    """
    head, size = source.head, source.path.stat().st_size
    if head.startswith((b".snd", b"dns.")) and len(head) >= 12:
        order = ">" if head.startswith(b".") else "<"
        begin, declared = struct.unpack(f"{order}II", head[4:12])
        if not declared:
            return {8: b"\xff" * 4}, set()
        longer = declared < _SIZE_UNKNOWN and size > begin + declared + _LINGERS
        return {}, {LONGER} if longer else set()
    if head.startswith((b"RF64", b"BW64")) and head[12:16] == b"ds64":
        data = head.find(b"data", 16) + 8
        empty = head[28:36] == bytes(8) and data > 8
        return {28: struct.pack("<Q", size - data)} if empty else {}, set()
    if head.startswith((b"RIFF", b"RIFX", b"FORM")) and len(head) >= 12:
        with source.path.open("rb") as file:
            return _mended_chunks(file, size, ">" if head[3:4] in b"XM" else "<")
    return {}, set()


def _mended_chunks(file: BinaryIO, size: int, order: str) -> tuple[dict[int, bytes], set[str]]:
    """As `_mended_sizes`, of WAV and AIFF: 12 bytes, then chunks of a name, a size and so many bytes, made even."""

    def chunk(place: int) -> tuple[bytes, int] | None:
        file.seek(place)
        head = file.read(8)
        name = head[:4]
        if (
            len(head) < 8
            or not name.isascii()
            or not name.decode().isprintable()
            or name in (b"RIFF", b"FORM")
        ):
            return None
        return name, struct.unpack(f"{order}I", head[4:])[0]

    file.seek(4)
    (declared,) = struct.unpack(f"{order}I", file.read(4))
    place, sound = 12, False
    for _ in range(1000):  # chunks: more are no header
        if (head := chunk(place)) is None:
            break
        name, length = head
        end = place + 8 + length
        if name in (b"data", b"SSND"):
            sound = True
            if length >= _SIZE_UNKNOWN:
                return {}, set()
            if not length and place + 8 < size and chunk(end) is None:
                return {place + 4: struct.pack(f"{order}I", min(size - end, 2**32 - 1))}, set()
            if end > size:
                return {}, {DAMAGED} if size < declared + 8 < _SIZE_UNKNOWN else set()
        place = end + length % 2
    file.seek(place)
    return {}, {LONGER} if sound and size > place + _LINGERS and any(file.read(2**16)) else set()  # not zeros


def _stretch(reader: Callable[[_Source, _Seen], _Blocks], source: _Source, seen: _Seen) -> _Blocks:
    """A source's blocks, or what of them is in its cut; refuses rates that nobody means."""
    cut, place = source.cut, None
    with closing(reader(source, seen)) as blocks:
        for rate, block in blocks:
            if not MIN_RATE <= rate <= MAX_RATE:
                raise ValueError(
                    f"its header declares {rate:,} samples a second; from {MIN_RATE:,} to {MAX_RATE:,} are allowed"
                )
            if cut is None:
                yield rate, block
                continue
            place = seen.begin if place is None else place
            first = round(cut[0] * rate)
            end = first + round(cut[1] * rate)
            if len(part := block[max(first - place, 0) : max(end - place, 0)]):
                yield rate, part
            place += len(block)
            if place >= end:
                seen.whole = True
                return
    if cut is not None and place is not None:
        raise _EndsEarlyError(f"it ends after {place / rate:.2f} s, before its cut {cut} does")


def _mix(
    file: BinaryIO,
    blocks: _Blocks,
    channel: int | None = None,
    clip: bool = False,
) -> _Levels:
    """Write blocks as 16 kHz mono float32 into a file, from its beginning."""
    file.seek(0)
    file.truncate()
    levels, resampler = _Levels(), _Resampler()

    def write(samples: np.ndarray) -> None:
        levels.length += len(samples)
        levels.peak = max(levels.peak, float(np.abs(samples).max(initial=0.0)))
        if levels.length > MAX_SAMPLES:
            raise ValueError(
                f"it goes on after the {MAX_SAMPLES:,} samples allowed; cut it into shorter files"
            )
        file.write(samples.astype("<f4").tobytes())

    with closing(blocks):
        for rate, block in blocks:
            with np.errstate(all="ignore"):  # what is not finite is refused below
                mono = block.mean(1) if channel is None else block[:, min(channel, block.shape[1] - 1)]
            if not np.isfinite(mono).all():
                raise ValueError("it holds samples that are not finite (NaN or infinity)")
            levels.count += len(mono)
            if levels.count > MAX_SAMPLES:
                raise ValueError(
                    f"it goes on after the {MAX_SAMPLES:,} samples allowed; cut it into shorter files"
                )
            beyond = np.abs(mono) > 1
            levels.beyond += int(beyond.sum())
            levels.within += _energy(np.where(beyond, 0, mono)[:, None])[0]
            if channel is None and block.shape[1] > 1:
                levels.mix += _energy(mono[:, None])[0]
                more = max(block.shape[1] - len(levels.channels), 0)
                levels.channels = np.pad(levels.channels, (0, more))
                levels.channels[: block.shape[1]] += _energy(block)
            write(resampler(rate, mono.clip(-1, 1) if clip else mono))
    write(resampler.end())
    return levels


def _energy(block: np.ndarray) -> np.ndarray:
    """`(S, C)` -> `(C,)` sum of squares."""
    return np.einsum("sc,sc->c", block, block, dtype=np.float64, casting="unsafe")


class _Resampler:
    """To 16 kHz, block by block, as if all were one."""

    def __init__(self) -> None:
        self._rate, self._stream = SAMPLE_RATE, None

    def __call__(self, rate: int, mono: np.ndarray) -> np.ndarray:
        if rate == self._rate:
            return mono if self._stream is None else self._stream.resample_chunk(mono)
        before = self.end()
        self._rate = rate
        if rate != SAMPLE_RATE:
            self._stream = _soxr().ResampleStream(rate, SAMPLE_RATE, 1, "float32", "HQ")
        return np.concatenate([before, self(rate, mono)])

    def end(self) -> np.ndarray:
        """What is still inside, of the last rate."""
        stream, self._stream, self._rate = self._stream, None, SAMPLE_RATE
        none = np.zeros(0, np.float32)
        return none if stream is None else stream.resample_chunk(none, last=True)


def resample(waveform: np.ndarray, rate: int) -> np.ndarray:
    """`(S,)` float32 at any rate -> `(round(S * 16000 / rate),)` at 16 kHz, as files are resampled."""
    resampler = _Resampler()
    return np.concatenate([resampler(rate, waveform), resampler.end()])


def _soxr() -> Any:
    try:
        import soxr  # here, so that training on clips that are decoded already needs no audio library
    except (ImportError, OSError) as error:
        raise ModuleNotFoundError(
            f"Resampling sounds needs soxr: pip install --force-reinstall soxr ({error})."
        ) from None
    return soxr


def _loudest_if_cancelled(levels: _Levels) -> int | None:
    """The loudest of channels whose mean is 10 dB below what it would be if all but the loudest were silent."""
    loudest = int(levels.channels.argmax())
    alone = levels.channels[loudest] / len(levels.channels) ** 2
    return loudest if levels.mix < 0.1 * alone else None


def _hidden_by_spikes(levels: _Levels) -> bool:
    """Whether fewer than 1 % of the samples would press the others below 8 steps of 16 bits (-72 dB)."""
    others = levels.count - levels.beyond
    if not 0 < levels.beyond < 0.01 * levels.count:
        return False
    rms = (levels.within / others) ** 0.5
    return rms >= _STEP and rms < 8 * _STEP * levels.peak


class _Mended(io.FileIO):
    """A file of which some bytes read otherwise, and whose place can be told."""

    def __init__(self, path: Path, patch: dict[int, bytes]):
        super().__init__(path)
        self._patch = patch

    def readinto(self, buffer: Any) -> int:
        begin = self.tell()
        count = super().readinto(buffer) or 0
        view = memoryview(buffer).cast("B")
        for place, content in self._patch.items():
            for at, byte in enumerate(content, place - begin):
                if 0 <= at < count:
                    view[at] = byte
        return count


def _by_soundfile(source: _Source, seen: _Seen, patch: dict[int, bytes]) -> _Blocks:
    """Blocks as libsndfile reads them, forwards: some formats cannot seek exactly, or not at all."""
    try:
        import soundfile  # here, so that training on clips that are decoded already needs no audio library
    except (ImportError, OSError) as error:  # OSError: without libsndfile
        raise ModuleNotFoundError(
            f"Reading sound files needs soundfile: pip install --force-reinstall soundfile ({error})."
        ) from None

    # Of streams that follow each other in one file libsndfile reads the first: how far it came tells.
    streams = source.mpeg or source.head.startswith((b"OggS", b"fLaC"))
    trouble = (soundfile.SoundFileError, OSError)
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(_Mended(source.path, patch))
            # soundfile takes names that are not UTF-8 as bytes only.
            plain = os.name == "nt" or str(source.path).isprintable()
            name = source.path if plain else os.fsencode(source.path)
            file = stack.enter_context(soundfile.SoundFile(opened if streams or patch else name))
        except trouble as error:
            raise _not_readable(source, getattr(error, "error_string", error)) from None
        rate, frames = file.samplerate, file.frames
        length_known = frames <= _OF_UNKNOWN_LENGTH
        first, count = (0, frames) if source.cut is None else (round(part * rate) for part in source.cut)
        if length_known and rate >= MIN_RATE and count * max(1, SAMPLE_RATE / rate) > MAX_SAMPLES:
            raise ValueError(
                f"its header declares {frames:,} samples ({frames / rate / 3600:.1f} h), more than "
                f"the {MAX_SAMPLES:,} allowed; cut it into shorter files"
            )
        if file.subtype in {"FLOAT", "DOUBLE", "PCM_24", "PCM_32", "ALAC_24", "ALAC_32"}:
            seen.quietest = 2**-24
        elif source.mpeg or file.subtype in {"VORBIS", "OPUS"}:
            seen.quietest = _STEP / 2
        if length_known and not source.mpeg and 0 < first <= frames:
            file.seek(first)
            seen.begin = first
        file.seekable = lambda: False  # else soundfile seeks after each block
        place = seen.begin
        block = np.empty((max(1, _READ_AT_ONCE // file.channels), file.channels), np.float32)
        # No more than is declared: libsndfile reads what it is asked for, and returns only what is declared.
        while place < frames:
            block[:] = np.nan
            try:
                samples = file.read(out=block[: frames - place])
            except trouble:
                seen.whole = False
                missing = np.isnan(block[:, 0])
                samples = block[
                    : missing.argmax() if missing.any() else len(block)
                ]  # what came before the trouble
            if not len(samples):
                break
            place += len(samples)
            yield rate, samples
            if not seen.whole:
                return
        seen.whole &= place >= frames or not length_known
        if streams:
            seen.whole &= os.fstat(opened.fileno()).st_size <= opened.tell() + _LINGERS


def _by_pyav(source: _Source, seen: _Seen) -> _Blocks:
    """Blocks as FFmpeg's libraries read them."""
    av = pyav()
    with ExitStack() as stack:
        try:
            # A file that is open already, and no protocols: a playlist may not make it read other files.
            file = stack.enter_context(source.path.open("rb"))
            container = av.open(file, metadata_errors="ignore", options={"protocol_whitelist": "none"})
            stack.enter_context(container)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _not_readable(source, getattr(error, "strerror", error)) from None
        stream = container.streams.best("audio")
        if stream is None:
            raise ValueError("it has no sound track")
        # Without such a tag, MPEG's duration is a guess.
        sure = not source.mpeg or any(tag in _after_tags(source, file) for tag in (b"Xing", b"Info"))
        rate = samples = 0
        parts: list[np.ndarray] = []
        seconds = 0.0
        for frame in _frames(av, container.demux(stream), seen):
            block = _floats(frame)
            if frame.format.bytes > 2:
                seen.quietest = 2**-24 if stream.codec_context.codec.lossless else _STEP / 2
            changes = parts and (frame.sample_rate != rate or block.shape[1] != parts[0].shape[1])
            if changes or samples >= _READ_AT_ONCE:
                yield rate, np.concatenate(parts)
                parts, samples = [], 0
            rate = frame.sample_rate
            parts.append(block)
            samples += block.size
            seconds += len(block) / rate
        if parts:
            yield rate, np.concatenate(parts)
        # The padding of lossy encoders is in some durations.
        tolerance = 0.01 if stream.codec_context.codec.lossless else 0.2
        if sure and stream.duration:
            seen.whole &= seconds >= float(stream.duration * stream.time_base) - tolerance


def _not_readable(source: _Source, reason: object) -> _UnreadableError:
    sentence = "no MPEG sound was found in it"
    if not source.mpeg:
        sentence = f"not readable as audio ({str(reason).rstrip('.') or 'no reason is known'})"
    return _UnreadableError(sentence if pyav() else f"{sentence}; PyAV reads more kinds: {MEDIA}")


def _frames(av: Any, packets: Iterator[Any], seen: _Seen) -> Iterator[Any]:
    """The frames of a stream's packets but those that are damaged."""
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError):  # what follows cannot be found
            seen.whole = False
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except av.FFmpegError:
            seen.whole = False


def _floats(frame: Any) -> np.ndarray:
    """A frame of PyAV's as `(S, C)` float32."""
    samples = frame.to_ndarray()  # (C, S), or (1, S * C) where channels take turns
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    return samples.astype(np.float32)


def _after_tags(source: _Source, file: BinaryIO) -> bytes:
    """The first bytes of an MPEG file behind its ID3 tag, whose length takes seven bits of each of four bytes."""
    if not source.head.startswith(b"ID3"):
        return source.head
    place = file.tell()
    file.seek(10 + sum(byte << shift for byte, shift in zip(source.head[6:10], (21, 14, 7, 0), strict=False)))
    head = file.read(4096)
    file.seek(place)
    return head
