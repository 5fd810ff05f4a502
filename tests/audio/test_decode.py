"""Other people's files: all of the sound is read, resampled cleanly, and what is special about it is said."""

import io
import struct
import sys
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import slicer_lite as sl
from slicer_lite.audio import decode as module
from slicer_lite.audio.decode import (
    CANCELLED,
    DAMAGED,
    LONGER,
    PARTLY,
    QUIET,
    SPIKES,
    decode,
    decode_into,
    resample,
)
from slicer_lite.audio.table import MEDIA_SUFFIXES

CASES = Path(__file__).parents[3] / "shared" / "cases"


def tone(pitch=440.0, seconds=2.0, rate=16_000, level=0.3):
    return level * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)


def noise(seconds=2.0, rate=16_000, level=0.05):
    return level * np.random.default_rng(0).standard_normal(int(seconds * rate))


def read(path, cut=None):
    file = io.BytesIO()
    _, remarks = decode_into(file, path, cut)
    return decode(path, cut), remarks


@pytest.fixture
def without_pyav(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)


def encoded(path, samples, rate, container, codec, layout="mono"):
    """A file as FFmpeg writes it; samples `(S,)` or `(S, C)`."""
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 128_000
        planes = np.ascontiguousarray(np.atleast_2d(samples.T), np.float32)
        frame = av.AudioFrame.from_ndarray(planes, "fltp", layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, layout, rate, stream.codec_context.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))


# --- The resampler ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [22_050, 32_000, 44_100, 48_000, 96_000])
def test_it_is_flat_below_and_silent_above(rate):
    def gain(pitch):
        heard = resample(tone(pitch, 1.0, rate, 1.0).astype(np.float32), rate)[2000:-2000]
        return 10 * np.log10(2 * np.mean(heard.astype(float) ** 2) + 1e-30)

    assert [gain(pitch) for pitch in (50, 1000, 5000, 7000, 7400)] == pytest.approx([0] * 5, abs=0.05)
    assert gain(7500) == pytest.approx(0, abs=0.5)
    for pitch in (8000, 8500, 9000, 10_500):
        assert gain(pitch) < -110


@given(
    rate=st.sampled_from([1000, 8000, 11_025, 22_050, 44_100, 44_101, 48_000, 192_000]),
    count=st.integers(1, 30_000),
    at_once=st.integers(100, 9000),
)
def test_blocks_make_no_difference_and_lengths_are_exact(rate, count, at_once):
    samples = np.random.default_rng(count).uniform(-0.5, 0.5, count).astype(np.float32)
    whole = resample(samples, rate)
    assert abs(len(whole) - count * 16_000 / rate) <= 0.5 + 1e-6
    resampler = module._Resampler()
    parts = [resampler(rate, samples[at : at + at_once]) for at in range(0, count, at_once)]
    np.testing.assert_array_equal(np.concatenate([*parts, resampler.end()]), whole)


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
def test_it_delays_nothing(rate):
    click = np.zeros(rate, np.float32)
    click[rate // 2] = 1
    heard = resample(click, rate)
    assert np.abs(heard).argmax() == 8000
    np.testing.assert_allclose(heard[7900:8000], heard[8100:8000:-1], atol=1e-6)


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("WAV", "FLOAT")])
def test_sounds_of_the_right_rate_come_back_as_they_are(tmp_path, kind, subtype):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (40_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype, format=kind)
    stored = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)[0]
    np.testing.assert_array_equal(decode(tmp_path / "a.wav"), stored.mean(1))


# --- All of the sound ---------------------------------------------------------------------------------------


def doubled(path):
    path.write_bytes(2 * path.read_bytes())


def garbage(path):
    content = path.read_bytes()
    middle = len(content) // 2
    junk = np.random.default_rng(1).bytes(3000)
    path.write_bytes(content[:middle] + junk + content[middle:])


@pytest.mark.parametrize("kind", ["mp3", "ogg", "opus", "flac"])
def test_streams_joined_in_one_file_are_read_to_the_last(tmp_path, kind, capfd):
    path = tmp_path / f"a.{kind}"
    form, subtype = {"opus": ("OGG", "OPUS")}.get(kind, (kind.upper(), None))
    soundfile.write(path, noise(rate=48_000), 48_000, subtype, format=form)
    doubled(path)
    assert len(decode(path)) == pytest.approx(64_000, abs=2500)
    assert capfd.readouterr().err == ""


def test_a_cut_in_the_second_of_two_joined_streams_is_found(tmp_path):
    soundfile.write(tmp_path / "a.ogg", noise(rate=48_000), 48_000, format="OGG")
    doubled(tmp_path / "a.ogg")
    np.testing.assert_array_equal(decode(tmp_path / "a.ogg", (2.5, 1.0)).shape, (16_000,))


@pytest.mark.parametrize("kind", ["mp3", "ogg", "flac"])
@pytest.mark.usefixtures("without_pyav")
def test_without_pyav_that_there_is_more_is_said(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, noise(rate=48_000), 48_000, format=kind.upper())
    assert read(path)[1] == []
    doubled(path)
    samples, remarks = read(path)
    assert len(samples) == pytest.approx(32_000, abs=2500)
    assert remarks == [PARTLY]


@pytest.mark.parametrize("kind", ["mp3", "ogg", "flac"])
def test_what_follows_garbage_is_read_and_said_without_chatter(tmp_path, kind, capfd):
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, noise(4.0, 44_100), 44_100, format=kind.upper())
    garbage(path)
    samples, remarks = read(path)
    assert len(samples) > 0.8 * 64_000
    assert remarks in ([DAMAGED], []) if kind == "flac" else [DAMAGED]
    assert capfd.readouterr().err == ""


def test_blocks_of_an_mp3_fit_together_without_pyav_too(tmp_path, monkeypatch):
    path = tmp_path / "a.mp3"
    with av.open(str(path), "w", format="mp3") as file:
        stream = file.add_stream("libmp3lame", rate=16_000, layout="mono")
        stream.bit_rate = 16_000
        frame = av.AudioFrame.from_ndarray(noise(20.0, level=0.2)[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        for part in av.AudioResampler(stream.format, "mono", 16_000, 576).resample(frame):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    whole, _ = soundfile.read(path, dtype="float32")  # at once
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(module, "_READ_AT_ONCE", 2**15)
    np.testing.assert_allclose(decode(path), whole / max(1, np.abs(whole).max()), atol=1e-5)


@pytest.mark.parametrize("error", [module._UnreadableError, ValueError])
def test_what_one_reader_has_read_stays_when_another_fails(tmp_path, monkeypatch, error):
    soundfile.write(tmp_path / "a.flac", noise(4.0), 16_000)
    garbage(tmp_path / "a.flac")
    first = decode(tmp_path / "a.flac")

    def fails(*_):
        yield 16_000, np.zeros((100, 1), np.float32)
        raise error("no luck")

    monkeypatch.setattr(module, "_by_pyav", fails)
    samples, remarks = read(tmp_path / "a.flac")
    assert len(samples) > 20_000
    np.testing.assert_array_equal(samples, first[: len(samples)])
    assert remarks == [DAMAGED]


def test_mp3_whose_first_frame_misleads_is_read_whole(tmp_path, capfd):
    samples = np.concatenate([noise(3.0, 44_100, 0.3), np.zeros(10 * 44_100)])
    parts = []
    for number, (part, bits) in enumerate(
        ((samples[: 3 * 44_100], 256_000), (samples[3 * 44_100 :], 32_000))
    ):
        with av.open(str(tmp_path / f"{number}"), "w", format="mp3", options={"write_xing": "0"}) as file:
            stream = file.add_stream("libmp3lame", rate=44_100, layout="mono")
            stream.bit_rate = bits
            frame = av.AudioFrame.from_ndarray(part[None].astype(np.float32), "fltp", "mono")
            frame.sample_rate = 44_100
            for some in av.AudioResampler(stream.format, "mono", 44_100, 1152).resample(frame):
                file.mux(stream.encode(some))
            file.mux(stream.encode(None))
        parts.append((tmp_path / f"{number}").read_bytes())
    (tmp_path / "a.mp3").write_bytes(b"".join(parts))
    assert soundfile.info(tmp_path / "a.mp3").duration < 7  # it believes the first frame
    assert len(decode(tmp_path / "a.mp3")) == pytest.approx(13 * 16_000, abs=2500)


def header(path, at, content):
    whole = bytearray(path.read_bytes())
    whole[at : at + len(content)] = content
    path.write_bytes(whole)


UNCLOSED = {
    "wav": ("WAV", lambda p: header(p, 40, bytes(4))),
    "wav, both": ("WAV", lambda p: [header(p, 4, bytes(4)), header(p, 40, bytes(4))]),
    "wav, pipe": ("WAV", lambda p: [header(p, 4, b"\xff" * 4), header(p, 40, b"\xff" * 4)]),
    "aiff": (
        "AIFF",
        lambda p: [header(p, 4, bytes(4)), header(p, p.read_bytes().index(b"SSND") + 4, bytes(4))],
    ),
    "au": ("AU", lambda p: header(p, 8, bytes(4))),
    "rf64": ("RF64", lambda p: header(p, 28, bytes(8))),
    "flac": ("FLAC", lambda p: [header(p, 21, bytes([p.read_bytes()[21] & 0xF0])), header(p, 22, bytes(4))]),
}


@pytest.mark.parametrize("pyav", [True, False])
@pytest.mark.parametrize("case", UNCLOSED)
def test_a_header_that_says_no_length_loses_nothing(tmp_path, monkeypatch, case, pyav):
    kind, damage = UNCLOSED[case]
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(), 16_000, format=kind)
    whole = decode(path)
    damage(path)
    if not pyav:
        monkeypatch.setitem(sys.modules, "av", None)
    samples, remarks = read(path)
    np.testing.assert_array_equal(samples, whole)
    assert remarks == []
    np.testing.assert_array_equal(decode(path, (0.5, 1.0)), whole[8000:24_000])


def test_sound_behind_the_declared_end_is_said(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(), 16_000)
    header(tmp_path / "a.wav", 40, struct.pack("<I", 32_000))
    assert read(tmp_path / "a.wav")[1] == [LONGER]
    soundfile.write(tmp_path / "b.wav", noise(), 16_000)
    doubled(tmp_path / "b.wav")
    samples, remarks = read(tmp_path / "b.wav")
    assert (len(samples), remarks) == (32_000, [LONGER])


@pytest.mark.parametrize("pyav", [True, False])
@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC"])
def test_a_file_cut_short_is_read_to_its_end_and_said(tmp_path, monkeypatch, kind, pyav):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(), 16_000, format=kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    if not pyav:
        monkeypatch.setitem(sys.modules, "av", None)
    samples, remarks = read(path)
    assert len(samples) == pytest.approx(0.6 * 32_000, abs=4096)
    assert remarks == [PARTLY if kind == "FLAC" and not pyav else DAMAGED]


@pytest.mark.parametrize(
    ("name", "container", "codec"),
    [
        ("a.m4a", "ipod", "aac"),
        ("a.mp4", "mp4", "aac"),
        ("a.webm", "webm", "libopus"),
        ("a.opus", "webm", "libopus"),
        ("a.wma", "asf", "wmav2"),
        ("a.caf", "caf", "alac"),
        ("a.mka", "matroska", "pcm_s16le"),
        ("a.mp2", "mp2", "mp2"),
    ],
)
def test_what_libsndfile_does_not_read_pyav_does(tmp_path, name, container, codec):
    encoded(tmp_path / name, tone(rate=48_000), 48_000, container, codec)
    samples, remarks = read(tmp_path / name)
    assert remarks == []
    assert len(samples) == pytest.approx(32_000, abs=1600)
    middle = samples[8000:24_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() == 440
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.02)
    np.testing.assert_array_equal(decode(tmp_path / name, (0.5, 0.25)).shape, (4000,))
    with pytest.raises(ValueError, match=r"it ends after [12]\.\d+ s, before its cut"):
        decode(tmp_path / name, (1.5, 2.0))


@pytest.mark.parametrize(
    ("form", "subtype", "suffix"),
    [
        ("NIST", "ULAW", "sph"),
        ("W64", "PCM_24", "w64"),
        ("RF64", "PCM_16", "rf64"),
        ("AU", "PCM_16", "snd"),
        ("AIFF", "FLOAT", "aifc"),
        ("WAV", "MS_ADPCM", "wave"),
        ("VOC", "PCM_16", "voc"),
        ("IRCAM", "PCM_16", "sf"),
        ("AVR", "PCM_16", "avr"),
        ("HTK", "PCM_16", "htk"),
        ("SVX", "PCM_16", "8svx"),
        ("PAF", "PCM_16", "paf"),
        ("PVF", "PCM_16", "pvf"),
        ("SDS", "PCM_16", "sds"),
        ("XI", "DPCM_16", "xi"),
        ("WVE", "ALAW", "wve"),
    ],
)
def test_a_folder_lists_all_that_libsndfile_reads(tmp_path, form, subtype, suffix):
    rate = {"XI": 44_100, "WVE": 8000}.get(form, 16_000)
    soundfile.write(tmp_path / f"a.{suffix}", tone(rate=rate), rate, subtype, format=form)
    assert len(sl.load_clips(tmp_path, strict=True, progress=False)[0]) == pytest.approx(32_000, abs=500)


def test_a_playlist_makes_nothing_else_be_read(tmp_path):
    soundfile.write(tmp_path / "secret.wav", noise(), 16_000)
    for name in ("a.mp3", "a.wav"):
        (tmp_path / name).write_text("ffconcat version 1.0\nfile secret.wav\n")
        with pytest.raises(ValueError, match="no MPEG sound|not readable as audio"):
            decode(tmp_path / name)


# --- Not silenced -------------------------------------------------------------------------------------------


def write(path, samples, rate=44_100, subtype="FLOAT"):
    soundfile.write(path, samples, rate, subtype, format="WAV")
    return read(path)


@pytest.mark.parametrize("signs", [(1, -1), (1, 1, -1, -1), (0.9, -0.9, 0.5, -0.5), (0.8, -0.79)])
def test_of_channels_that_cancel_the_loudest_is_taken(tmp_path, signs):
    samples, remarks = write(tmp_path / "a.wav", np.outer(noise(), signs), 16_000)
    np.testing.assert_allclose(samples, max(signs) * noise(), atol=1e-6)
    assert remarks == [CANCELLED]


@pytest.mark.parametrize("signs", [(1, 1), (1, 0), (0, 0, 0, 0, 0, 0, 1), (1, -0.2), (0, 0)])
def test_other_channels_are_averaged(tmp_path, signs):
    samples, remarks = write(tmp_path / "a.wav", np.outer(noise(), signs), 16_000)
    np.testing.assert_allclose(samples, np.mean(signs) * noise(), atol=1e-6)
    assert remarks == []


def test_independent_channels_are_averaged(tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, (16_000, 4)).astype(np.float32)
    heard, remarks = write(tmp_path / "a.wav", samples, 16_000)
    np.testing.assert_array_equal(heard, samples.mean(1))
    assert remarks == []


@pytest.mark.parametrize(("height", "count"), [(1e6, 1), (-1e30, 1), (1000, 20)])
def test_spikes_do_not_silence_the_rest(tmp_path, height, count):
    samples = noise(rate=44_100)
    plain = resample(samples.astype(np.float32), 44_100)
    samples[1000 : 1000 + 50 * count : 50] = height
    heard, remarks = write(tmp_path / "a.wav", samples)
    assert remarks == [SPIKES]
    np.testing.assert_allclose(heard[8000:], plain[8000:], atol=1e-5)
    assert np.abs(heard).max() <= 1


def test_integers_in_floats_and_loud_sounds_are_scaled_as_a_whole(tmp_path):
    for level in (32_768, 20):
        heard, remarks = write(tmp_path / "a.wav", level * noise(level=0.2), 16_000)
        assert np.abs(heard).max() == 1
        assert remarks == []
        assert np.corrcoef(heard, noise())[0, 1] == pytest.approx(1)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE", "PCM_24"])
def test_what_is_too_quiet_for_16_bits_is_raised_no_further_than_needed(tmp_path, subtype):
    heard, remarks = write(tmp_path / "a.wav", tone(level=3e-5), 16_000, subtype)
    assert remarks == [QUIET]
    assert np.abs(heard).max() == pytest.approx(2**-7)
    assert np.corrcoef(heard, tone())[0, 1] > 0.999


def test_quiet_sounds_that_16_bits_hold_and_silence_keep_their_level(tmp_path):
    for samples, subtype in (
        (tone(level=1e-3), "FLOAT"),
        (tone(level=1e-4), "PCM_16"),
        (np.zeros(9), "FLOAT"),
    ):
        soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype)
        heard, remarks = read(tmp_path / "a.wav")
        np.testing.assert_array_equal(heard, soundfile.read(tmp_path / "a.wav", dtype="float32")[0])
        assert remarks == []


# --- What is said, and when ---------------------------------------------------------------------------------


def test_each_remark_is_one_note_with_a_count_and_names(tmp_path, monkeypatch):
    monkeypatch.setenv("SLICER_LITE_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "data"
    data.mkdir()
    soundfile.write(data / "fine.wav", noise(), 16_000)
    for number in range(7):
        soundfile.write(data / f"{number}.wav", np.outer(noise(), (1, -1)), 16_000, "FLOAT")
    soundfile.write(data / "quiet.wav", tone(level=1e-5), 16_000, "FLOAT")
    for _ in range(2):  # also of a store that was made before
        with pytest.warns(UserWarning) as said:
            clips = sl.load_clips(data, strict=True, progress=False)
        assert [str(warning.message) for warning in said] == [
            f"7 of 9 files: {CANCELLED}. 0.wav, 1.wav, 2.wav, 3.wav, 4.wav, …",
            f"1 of 9 files: {QUIET}. quiet.wav",
        ]
    assert len(clips.remarks) == 8
    np.testing.assert_allclose(clips[0], noise(), atol=2**-15)
    assert np.abs(clips[8]).max() == 2**-7
    assert sl.load_clips(clips.store).remarks == clips.remarks


def test_what_was_read_in_part_is_read_whole_once_pyav_is_there(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.mp3", noise(rate=48_000), 48_000)
    doubled(tmp_path / "a.mp3")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "av", None)
        with pytest.warns(
            UserWarning, match=r"1 of 1 files: read in part only; pip install .slicer-lite\[media\]"
        ):
            assert len(sl.load_clips(tmp_path, progress=False)[0]) < 35_000
    with pytest.warns(UserWarning, match="damaged") if DAMAGED in read(tmp_path / "a.mp3")[1] else _nothing():
        assert len(sl.load_clips(tmp_path, progress=False)[0]) > 60_000


class _nothing:  # noqa: N801
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_what_is_passed_over_is_counted_by_suffix(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", noise(), 16_000)
    for name in ("b.m4a", "c.m4a", "d.webm", "e.raw", "notes.txt", "f.M4A"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.warns(UserWarning) as said:
        assert len(sl.load_clips(tmp_path, progress=False)) == 1
    (message,) = (str(warning.message) for warning in said)
    assert message == (
        f"{tmp_path}: 4 files are passed over (3 .m4a, 1 .webm), not read without PyAV: "
        'pip install "slicer-lite[media]". '
        "1 file is passed over (1 .raw), not read, since no header says what is in them: write them as wav or flac."
    )
    (tmp_path / "a.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no audio file.*3 \.m4a"):
        sl.load_clips(tmp_path, progress=False)
    assert ".m4a" in MEDIA_SUFFIXES


def test_media_files_are_listed_where_pyav_is(tmp_path):
    encoded(tmp_path / "a.m4a", tone(rate=48_000), 48_000, "ipod", "aac")
    assert len(sl.load_clips(tmp_path, strict=True, progress=False)) == 1


# --- Memory -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_long_file_takes_no_more_memory_than_a_short_one(tmp_path, monkeypatch):
    peaks = []
    monkeypatch.setattr("slicer_lite.audio.store._IN_MEMORY", 2**20)
    for minutes in (1, 8):
        folder = tmp_path / f"{minutes}"
        folder.mkdir()
        with soundfile.SoundFile(folder / "a.flac", "w", 48_000, 2) as file:
            for _ in range(minutes):
                file.write(np.tile(tone(seconds=60, rate=48_000)[:, None], 2))
        tracemalloc.start()
        assert sl.load_clips(folder, progress=False).lengths[0] == minutes * 60 * 16_000
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**22
    assert peaks[1] < 32 * 2**20


def test_fewer_threads_where_memory_is_short(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    for free, threads in ((None, 64), (2**40, 64), (2**30, 3), (0, 1)):
        monkeypatch.setattr("slicer_lite.audio.store.available", lambda device, free=free: free)
        assert sl.audio.store._threads() == threads


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("resampling failed")])
def test_the_file_is_named_also_where_memory_runs_out(tmp_path, monkeypatch, error):
    soundfile.write(tmp_path / "big.wav", noise(), 16_000)

    def full(*_, **__):
        raise error

    monkeypatch.setattr(module, "_mix", full)
    with pytest.raises(
        (ValueError, RuntimeError), match=r"big\.wav: (there is not enough memory|resampling failed)"
    ):
        sl.load_clips(tmp_path, strict=True, progress=False)


# --- As they were reported ----------------------------------------------------------------------------------


REPORTED = {
    "01_mp3_vbr_without_xing/data/noise_then_tone.mp3": (40.05, set()),
    "01_mp3_vbr_without_xing/data/tone_then_noise.mp3": (40.05, set()),
    "01_mp3_vbr_without_xing/data/speech.mp3": (5.07, set()),
    "01_mp3_vbr_without_xing/data/pipe_vbr.mp3": (5.07, set()),
    "05_decoded_to_silence/data/antiphase_stereo.wav": (5.03, {CANCELLED}),
    "05_decoded_to_silence/data/one_spike_1e6.wav": (5.03, {SPIKES}),
    "05_decoded_to_silence/data/quiet_float_1e-5.wav": (5.03, {QUIET}),
    "05_decoded_to_silence/data/normal.wav": (5.03, set()),
    "06_flac_of_unknown_length/data/a.flac": (5.03, set()),
    "11_wav_never_closed/data/a.wav": (5.03, set()),
    "12_mp3_messages/data/junk_first.mp3": (5.09, set()),
    "12_mp3_messages/data/noisy0.mp3": (4.96, {DAMAGED}),
    "12_mp3_messages/data/noisy1.mp3": (4.96, {DAMAGED}),
    "12_mp3_messages/data/noisy2.mp3": (4.78, {DAMAGED}),
    "13_only_the_first_stream/data/garbage.mp3": (4.76, {DAMAGED}),
    "13_only_the_first_stream/data/joined.mp3": (10.11, {DAMAGED}),
    "18_small_things/data/flac_in_ogg.oga": (5.03, set()),
}


@pytest.mark.parametrize("name", REPORTED)
def test_files_as_they_were_reported(name, capfd):
    if not (CASES / name).exists():
        pytest.skip(f"the reported files are not there ({CASES})")
    seconds, expected = REPORTED[name]
    samples, remarks = read(CASES / name)
    assert len(samples) / 16_000 == pytest.approx(seconds, abs=0.02)
    assert set(remarks) == expected
    assert np.abs(samples).max() > 2**-8
    assert capfd.readouterr().err == ""
