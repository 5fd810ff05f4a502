"""What a person sees when an input is bad: the documentation of every refusal, and its test.

Each case makes an input in an empty folder and says what the message must contain. No case may show a
traceback on the command line, and none may harm what was there before.
"""

import json
import multiprocessing
import os
import re
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import soundfile
import torch

import slicer_lite as sl
from slicer_lite.audio.decode import decode
from slicer_lite.base.device import choose_device
from slicer_lite.cli import main
from slicer_lite.lape.report import gather
from slicer_lite.lape.run import is_result_of
from slicer_lite.lape.tasks.sounds import _read_json
from slicer_lite.method.slicer import SLICERNetwork
from slicer_lite.share.weights import _ABOUT, SHIPPED, save_weights
from slicer_lite.training.run_folder import read_metrics


def wav(path, samples=None, rate=16_000, **options):
    soundfile.write(path, np.zeros(16_000) if samples is None else samples, rate, **options)


def with_good(folder):
    """A clip that can be read, beside the bad one."""
    wav(folder / "good.wav", 0.1 * np.random.default_rng(0).standard_normal(16_000))


# --- Files that cannot be read: named and skipped, or an error with strict -------------------------------


def truncated_header(folder):
    wav(folder / "bad.wav")
    (folder / "bad.wav").write_bytes((folder / "bad.wav").read_bytes()[:20])


def header_only(folder):
    wav(folder / "bad.wav", np.zeros(0))


def zero_bytes(folder):
    (folder / "bad.wav").write_bytes(b"")


def not_a_number(folder):
    wav(folder / "bad.wav", np.array([0.0, np.nan] * 8000), subtype="FLOAT")


def infinity(folder):
    wav(folder / "bad.wav", np.array([0.0, np.inf] * 8000), subtype="FLOAT")


def opposite_infinities(folder):
    wav(folder / "bad.wav", np.full((8000, 2), (np.inf, -np.inf)), subtype="FLOAT")


def text_called_wav(folder):
    (folder / "bad.wav").write_text("This is a letter, not a sound.\n" * 50)


def folder_called_wav(folder):
    (folder / "manifest.csv").write_text("path\ngood.wav\nbad.wav\n")
    (folder / "bad.wav").mkdir()


def listed_but_missing(folder):
    (folder / "manifest.csv").write_text("path\ngood.wav\nbad.wav\n")


def link_to_itself(folder):
    (folder / "bad.wav").symlink_to(folder / "bad.wav")


def listed_in_capitals(folder):
    (folder / "manifest.csv").write_text("path\ngood.wav\nbad.WAV\n")
    wav(folder / "bad.wav")


def listed_without_its_space(folder):
    (folder / "manifest.csv").write_text("path\ngood.wav\nbad.wav\n")
    wav(folder / "bad.wav ", format="WAV")


def listed_in_another_folder_of_that_name(folder):
    (folder / "manifest.csv").write_text("path\ngood.wav\nSounds/bad.wav\n")
    (folder / "sounds").mkdir()
    wav(folder / "sounds" / "bad.wav")


def listed_in_utf8_and_named_in_latin1(folder):
    (folder / "manifest.csv").write_text("path\ngood.wav\nbadé.wav\n")
    wav(folder / "bad.wav")
    (folder / "bad.wav").rename(os.fsdecode(os.fsencode(folder) + b"/bad\xe9.wav"))


def name_too_long(folder):
    (folder / "manifest.csv").write_text(f"path\ngood.wav\n{'bad' * 200}.wav\n")


def huge_claim(folder):
    """A FLAC header that declares 64 billion samples which are not there."""
    wav(folder / "bad.flac", np.zeros(16_000), format="FLAC")
    content = bytearray((folder / "bad.flac").read_bytes())
    content[21] |= 0x0F  # the upper bits of STREAMINFO's number of samples
    (folder / "bad.flac").write_bytes(bytes(content))


def git_lfs_pointer(folder):
    lines = ["version https://git-lfs.github.com/spec/v1", f"oid sha256:{'0' * 64}", "size 72862", ""]
    (folder / "bad.wav").write_text("\n".join(lines))


def web_page_called_wav(folder):
    (folder / "bad.wav").write_text("\ufeff\n<!DOCTYPE html><html><body>404: no such recording</body></html>")


def zip_called_wav(folder):
    with zipfile.ZipFile(folder / "bad.wav", "w") as archive:
        archive.writestr("a.wav", bytes(100))


def tar_called_mp3(folder):
    with tarfile.open(folder / "bad.mp3", "w") as archive:
        archive.add(folder / "good.wav", "good.wav")


def mp3_of_tags_alone(folder):
    (folder / "bad.mp3").write_bytes(b"ID3\4\0\0\0\0\0\x14" + bytes(2000))


def film_without_sound(folder):
    av = pytest.importorskip("av", reason="needs the extra `media`")
    with av.open(folder / "bad.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def bomb(folder):
    """Five hours of silence, packed into a small file."""
    wav(folder / "bad.flac", np.zeros(5 * 3600 * 1000, np.int16), 1000, format="FLAC")
    assert (folder / "bad.flac").stat().st_size < 1e6


def claims_rate(rate):
    def case(folder):
        wav(folder / "bad.wav")
        content = bytearray((folder / "bad.wav").read_bytes())
        content[24:28] = struct.pack("<I", rate)
        (folder / "bad.wav").write_bytes(bytes(content))

    case.__name__ = f"claims_{rate}_samples_a_second"
    return case


UNREADABLE = {
    truncated_header: "not readable as audio",
    header_only: "holds no samples",
    zero_bytes: "empty \\(0 bytes\\)",
    not_a_number: "not finite",
    infinity: "not finite",
    opposite_infinities: "not finite",
    text_called_wav: "not readable as audio",
    git_lfs_pointer: "a Git LFS pointer, not the sound itself: run `git lfs pull` where it was cloned",
    web_page_called_wav: "a web page or other markup \\(HTML, XML\\), not a sound: download it anew",
    zip_called_wav: "an archive \\(zip\\), not a sound: unpack it",
    tar_called_mp3: "an archive \\(tar\\), not a sound: unpack it",
    mp3_of_tags_alone: "no MPEG sound was found in it",
    film_without_sound: "it has no sound track",
    folder_called_wav: "a folder, not a file",
    listed_but_missing: "no such file(?!;)",
    listed_in_capitals: "no such file; there is '.*bad.wav', which differs in capitals, spaces",
    listed_without_its_space: "no such file; there is '.*bad.wav ', which differs in",
    listed_in_another_folder_of_that_name: "no such file; there is '.*sounds/bad.wav', which differs in",
    listed_in_utf8_and_named_in_latin1: r"no such file; there is '.*bad.udce9.wav', which differs in",
    link_to_itself: "no such file|symbolic links",
    name_too_long: "no such file|File name too long",
    bomb: "declares 18,000,000 samples \\(5.0 h\\), more than the 268,435,456 allowed",
    claims_rate(1): "declares 1 samples a second; from 1,000 to 768,000 are allowed",
    claims_rate(2**31 - 1): "declares 2,147,483,647 samples a second",
    huge_claim: "declares .* samples .* cut it into shorter files",
}


@pytest.mark.parametrize("case", UNREADABLE, ids=lambda case: case.__name__)
def test_unreadable_files_are_named_and_skipped(tmp_path, case):
    with_good(tmp_path)
    case(tmp_path)
    with pytest.warns(UserWarning, match="1 of 2 files could not be read.*bad") as caught:
        clips = sl.load_clips(tmp_path, progress=False)
    assert [path.name for path in clips.paths] == ["good.wav"]
    assert re.search(UNREADABLE[case], str(caught[0].message))


def test_a_stream_that_does_not_say_how_long_it_is_ends_somewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("slicer_lite.audio.decode.MAX_SAMPLES", 5_000)
    flac_of_unknown_length(tmp_path)
    with pytest.raises(
        ValueError, match="it goes on after the 5,000 samples allowed; cut it into shorter files"
    ):
        sl.load_clips(tmp_path, progress=False)


def test_without_soxr_what_has_another_rate_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soxr", None)
    wav(tmp_path / "a.wav", rate=44_100)
    with pytest.raises(
        ModuleNotFoundError, match="Resampling sounds needs soxr: pip install --force-reinstall soxr"
    ):
        sl.load_clips(tmp_path, progress=False)


def test_without_pyav_what_it_reads_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.m4a").write_bytes(bytes(4) + b"ftypM4A " + bytes(100))
    (tmp_path / "list.csv").write_text("path\na.m4a\n")
    with pytest.raises(
        ValueError, match=r"not readable as audio .*PyAV reads more kinds: pip install .slicer-lite\[media"
    ):
        sl.load_clips(tmp_path / "list.csv", progress=False)
    with pytest.raises(
        FileNotFoundError, match=r"holds no audio file.*1 file is passed over \(1 \.m4a\), not read without"
    ):
        sl.load_clips(tmp_path, progress=False)


@pytest.mark.parametrize("case", UNREADABLE, ids=lambda case: case.__name__)
def test_unreadable_files_are_errors_with_strict(tmp_path, case):
    with_good(tmp_path)
    case(tmp_path)
    with pytest.raises(ValueError, match=f"bad.*({UNREADABLE[case]})"):
        sl.load_clips(tmp_path, strict=True, progress=False)


# --- Odd files that are fine ------------------------------------------------------------------------------


def one_sample(folder):
    wav(folder / "odd.wav", np.array([0.5]))


def silence(folder):
    wav(folder / "odd.wav", np.zeros(16_000))


def direct_current(folder):
    wav(folder / "odd.wav", np.full(16_000, 0.5))


def clipped(folder):
    wav(folder / "odd.wav", np.sign(np.sin(np.arange(16_000.0))))


def declares_too_much(folder):
    wav(folder / "odd.wav", 0.1 * np.ones(16_000))
    content = bytearray((folder / "odd.wav").read_bytes())
    content[40:44] = struct.pack("<I", 2**31)
    (folder / "odd.wav").write_bytes(bytes(content))


def flac_of_unknown_length(folder):
    """As a stream leaves it that was never closed: a FLAC header may say 0, which means that nobody knows."""
    wav(folder / "odd.flac", np.zeros(16_000), format="FLAC")
    content = bytearray((folder / "odd.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (folder / "odd.flac").write_bytes(bytes(content))


def wav_never_closed(folder):
    wav(folder / "odd.wav", 0.1 * np.ones(16_000))
    content = bytearray((folder / "odd.wav").read_bytes())
    content[40:44] = bytes(4)
    (folder / "odd.wav").write_bytes(bytes(content))


def wrong_extension(folder):
    wav(folder / "odd.mp3", format="FLAC")


def unicode_name(folder):
    wav(folder / "odd 名前 🎵.wav")


ODD = [
    one_sample,
    silence,
    direct_current,
    clipped,
    declares_too_much,
    flac_of_unknown_length,
    wav_never_closed,
    wrong_extension,
    unicode_name,
]


@pytest.mark.parametrize("case", ODD, ids=lambda case: case.__name__)
def test_odd_files_are_read_and_embedded(tmp_path, case):
    case(tmp_path)
    clips = sl.load_clips(tmp_path, strict=True, progress=False)
    embedding = sl.embed(sl.Encoder(channels=4, dim=8), clips)
    assert embedding.shape == (1, 8)
    assert np.isfinite(embedding).all()


# --- Files that are read, and something is said -----------------------------------------------------------


def truncated_samples(folder):
    wav(folder / "odd.wav", 0.1 * np.ones(16_000))
    (folder / "odd.wav").write_bytes((folder / "odd.wav").read_bytes()[:9_000])


def goes_on(folder):
    wav(folder / "odd.wav", 0.1 * np.ones(16_000))
    content = (folder / "odd.wav").read_bytes()
    (folder / "odd.wav").write_bytes(2 * content)


def joined_mp3(folder):
    wav(folder / "odd.mp3", 0.1 * np.random.default_rng(0).standard_normal(16_000), format="MP3")
    (folder / "odd.mp3").write_bytes(2 * (folder / "odd.mp3").read_bytes())


def channels_cancel(folder):
    samples = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    wav(folder / "odd.wav", np.stack([samples, -samples], axis=1))


def one_spike(folder):
    samples = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    samples[500] = 1e6
    wav(folder / "odd.wav", samples, subtype="FLOAT")


def quiet_floats(folder):
    wav(folder / "odd.wav", 1e-5 * np.random.default_rng(0).standard_normal(16_000), subtype="FLOAT")


REMARKED = {
    truncated_samples: "damaged or cut short, so that only what could be decoded is there",
    goes_on: "go on after the end that their header declares, and what follows is not read",
    channels_cancel: "their channels cancel in the mean, so that the loudest channel is taken instead",
    one_spike: "a few samples far beyond full scale would make the rest silent, so that they are clipped and "
    "the rest keeps its level",
    quiet_floats: "too quiet for 16 bits, so that their peak is raised to -42 dB: their level means nothing",
}


@pytest.mark.parametrize("case", REMARKED, ids=lambda case: case.__name__)
def test_what_is_special_about_a_file_is_said_in_one_note(tmp_path, case):
    with_good(tmp_path)
    case(tmp_path)
    with pytest.warns(UserWarning) as said:
        clips = sl.load_clips(tmp_path, strict=True, progress=False)
    assert [str(warning.message) for warning in said] == [f"1 of 2 files: {REMARKED[case]}. odd.wav"]
    assert clips[1].any()


def test_without_pyav_what_was_read_in_part_is_said_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    joined_mp3(tmp_path)
    with pytest.warns(
        UserWarning, match=r'read in part only; pip install "slicer-lite\[media\]" may read the rest'
    ):
        sl.load_clips(tmp_path, progress=False)


# --- Sources and tables that cannot be used ---------------------------------------------------------------


def missing_folder(folder):
    return folder / "nowhere"


def empty_folder(folder):
    return folder


def single_file(folder):
    with_good(folder)
    return folder / "good.wav"


def only_bad_files(folder):
    zero_bytes(folder)
    return folder


def manifest_is_a_folder(folder):
    (folder / "manifest.csv").mkdir()
    return folder


def link_leads_out(folder):
    (folder / "data").mkdir()
    with_good(folder / "data")
    wav(folder / "secret.wav")
    (folder / "data" / "link.wav").symlink_to(folder / "secret.wav")
    return folder / "data"


def listed_link_leads_out(folder):
    (link_leads_out(folder) / "manifest.csv").write_text("path\ngood.wav\nlink.wav\n")
    return folder / "data"


def linked_folder_leads_out(folder):
    (folder / "data").mkdir()
    (folder / "elsewhere").mkdir()
    with_good(folder / "elsewhere")
    (folder / "data" / "inside").symlink_to(folder / "elsewhere")
    (folder / "data" / "manifest.csv").write_text("path\ninside/good.wav\n")
    return folder / "data"


def almost_its_name(folder):
    (folder / "data").mkdir()
    return folder / "Data"


def hidden_folders(folder):
    for name in (".git", ".ipynb_checkpoints", ".Trash-1000", "$RECYCLE.BIN", "@eaDir", "__MACOSX"):
        (folder / name).mkdir()
        wav(folder / name / "deleted.wav")
    return folder


def another_table(folder):
    (folder / "list.tsv").write_text("path\tlabel\ngood.wav\tx\n")
    return folder / "list.tsv"


def dots_behind_a_link(folder):
    """`inside/..` is the data's own folder by its letters, and another one on the disk."""
    (folder / "elsewhere" / "deep").mkdir(parents=True)
    wav(folder / "elsewhere" / "secret.wav")
    (folder / "data").mkdir()
    (folder / "data" / "inside").symlink_to(folder / "elsewhere" / "deep")
    (folder / "data" / "manifest.csv").write_text("path\ninside/../secret.wav\n")
    return folder / "data"


def table(text):
    def case(folder):
        with_good(folder)
        (folder / "list.csv").write_bytes(text.encode() if isinstance(text, str) else text)
        return folder / "list.csv"

    return case


SOURCES = {
    "missing folder": (missing_folder, "does not exist"),
    "empty folder": (empty_folder, "holds no audio file"),
    "a single file": (single_file, "neither a folder nor a .csv"),
    "only bad files": (only_bad_files, "None of the 1 files could be read"),
    "manifest.csv is a folder": (manifest_is_a_folder, "is not a file"),
    "empty CSV": (table(""), "is empty"),
    "a folder of almost this name": (
        almost_its_name,
        "does not exist; there is '.*data', which differs in capitals",
    ),
    "only hidden folders": (hidden_folders, "holds no audio file .* Hidden folders are not searched"),
    "a table of another kind": (another_table, "list.tsv is neither .*save tables of other kinds as CSV"),
    "another name of the column": (
        table("file_name,label\ngood.wav,x\n"),
        "Is it file_name. Then call it path",
    ),
    "stretches with labels": (
        table("path,start,end,label\ngood.wav,0,1,x\ngood.wav,1,2,y\n"),
        "contradicting rows .* The columns start and end are not used: a clip is a whole file. Cut the files",
    ),
    "a link and two dots lead out": (dots_behind_a_link, "secret.wav is a link that leads out of"),
    "header only": (table("path,label\n"), "lists no clips"),
    "no path column": (table("name,label\ngood.wav,x\n"), "has the columns name, label; one of path, files"),
    "semicolons": (table("path;label\ngood.wav;x\n"), "separated by something else"),
    "ragged rows": (table("path,label\ngood.wav,x\na,b,c,d\n"), "cannot be read as comma-separated"),
    "not UTF-8": (table(b"path\n\xff\xfe.wav\n"), "cannot be read as comma-separated UTF-8"),
    "empty path": (
        table("path,label\ngood.wav,x\n\n,y\n"),
        "row 2 below the header: the column path is empty",
    ),
    "a comma too many": (table("path,label\ngood.wav,x,\n"), "more fields than its header"),
    "unknown split": (table("path,label,split\ngood.wav,x,dev\n"), "unknown split 'dev'"),
    "a label without a task": (table("path,task,label\ngood.wav,,x\n"), "has the label 'x' and no task"),
    "a column twice": (table("path,Label,label\ngood.wav,x,y\n"), "several columns 'label': keep one"),
    "contradiction": (table("path,label\ngood.wav,x\ngood.wav,y\n"), "contradicting rows"),
    "path leads out": (table("path\n../../etc/passwd\n"), "leads out of"),
    "link leads out": (
        link_leads_out,
        "link.wav is a link that leads out of .*secret.wav. Pass allow_outside",
    ),
    "listed link leads out": (listed_link_leads_out, "link.wav is a link that leads out of"),
    "linked folder leads out": (linked_folder_leads_out, "inside/good.wav is a link that leads out of"),
    "absolute path": (table("path\n/etc/passwd\n"), "leads out of"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_unusable_sources_are_explained(tmp_path, case):
    make, message = SOURCES[case]
    source = make(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        sl.load_clips(source, progress=False)


@pytest.mark.parametrize("case", SOURCES)
def test_the_command_line_says_so_in_one_line_and_no_traceback(tmp_path, capsys, case):
    source = SOURCES[case][0](tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", "--data", str(source), "--out", str(tmp_path / "run")])
    assert ended.value.code == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("Error: ")
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_repeated_rows_are_read_once(tmp_path):
    source = table("path,label\ngood.wav,x\ngood.wav,x\n")(tmp_path)
    assert len(sl.load_clips(source, progress=False).rows) == 1


def test_paths_may_leave_the_folder_when_allowed(tmp_path):
    with_good(tmp_path)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list.csv").write_text("path\n../good.wav\n")
    assert len(sl.load_clips(tmp_path / "lists" / "list.csv", allow_outside=True, progress=False)) == 1


@pytest.mark.parametrize(
    ("case", "count"), [(link_leads_out, 2), (listed_link_leads_out, 2), (linked_folder_leads_out, 1)]
)
def test_links_may_leave_the_folder_when_allowed(tmp_path, case, count):
    assert len(sl.load_clips(case(tmp_path), allow_outside=True, progress=False)) == count


def test_links_that_stay_inside_are_fine(tmp_path):
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    with_good(data)
    wav(data / "deep" / ".hidden", format="WAV")
    (data / "deep" / "again.wav").symlink_to(data / "deep" / ".hidden")
    (data / "whole").symlink_to(data)  # a circle of folders, which nobody walks
    assert len(sl.load_clips(data, progress=False)) == 2
    (tmp_path / "alias").symlink_to(data)
    assert len(sl.load_clips(tmp_path / "alias", progress=False)) == 2


def read_as_nobody(folder, said):
    os.setgid(65534)
    os.setuid(65534)
    try:
        decode(folder / "bad.wav")
    except ValueError as error:
        said.put(str(error))


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_file_without_permission_is_named(tmp_path):
    wav(tmp_path / "bad.wav")
    (tmp_path / "bad.wav").chmod(0)
    if os.geteuid():
        with pytest.raises(ValueError, match="no permission"):
            decode(tmp_path / "bad.wav")
        return
    for folder in (
        tmp_path,
        *tmp_path.parents[:2],
    ):  # the superuser may read everything; somebody else may not
        folder.chmod(0o755)
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    child = context.Process(target=read_as_nobody, args=(tmp_path, said))
    child.start()
    assert "no permission" in said.get(timeout=30)
    child.join()


def test_a_file_that_vanishes_while_it_is_read_is_named(tmp_path, monkeypatch):
    with_good(tmp_path)
    wav(tmp_path / "bad.wav")
    real = soundfile.SoundFile

    def vanishing(path, *arguments, **options):
        if Path(path).name == "bad.wav":
            Path(path).unlink()
        return real(path, *arguments, **options)

    monkeypatch.setattr(soundfile, "SoundFile", vanishing)
    with pytest.warns(UserWarning, match=r"1 of 2 files could not be read.*bad.wav: not readable as audio"):
        assert len(sl.load_clips(tmp_path, progress=False)) == 1


@pytest.mark.parametrize(
    ("waveforms", "message"),
    [
        ([], "the list is empty"),
        (
            [np.zeros((2, 100))],
            "Clip 0: .*1-D float array.* Channels come last, as from soundfile: turn .* by .T",
        ),
        ([np.zeros((100, 64))], "1-D float array"),
        (
            [np.zeros(100, np.int16)],
            "1-D float array.* Integers have to be divided by their full scale, 32768",
        ),
        ([0.0, 0.5], "Clip 0: .* A single waveform goes into a list"),
        ([{"array": np.zeros(100)}], "Clip 0: .* got a dict"),
        ([np.zeros(100), "a.wav"], "Clip 1: .* got a str"),
        ([[0.0], [[0.0], 0.5]], "Clip 1: .* got a list of unequal parts"),
        ([(np.zeros(100), 8000)], "Clip 0 is at 8000 Hz: resample it to 16,000 Hz, or give its file's path"),
        ({"a": np.zeros(100)}, r"clips: expected a folder, .* got a dict. Give list\(….values\(\)\)"),
        ({"a.wav", "b.wav"}, "clips: expected a folder, .* got a set"),
        (None, "clips: expected a folder, .* got a NoneType"),
        (sl.Config(), "clips: expected a folder, .* got a Config"),
        ([np.zeros(0)], "at least one sample"),
        ([np.zeros(100), np.full(100, np.nan)], "Clip 1: samples must be finite"),
        ([np.array([0.1, np.inf])], "Clip 0: samples must be finite; its peak is inf"),
        ([np.array([20_000.0, 0.5])], "Clip 0: its peak is 20000, on the scale of integers: divide it by"),
        ([np.array([3.0, -2.0, 0.0])], "Clip 0: its peak is 3, on the scale of integers"),
    ],
)
def test_arrays_that_are_no_clips(waveforms, message):
    with pytest.raises(ValueError, match=message):
        sl.embed(sl.Encoder(channels=4, dim=8), waveforms)


@pytest.mark.parametrize("encoder", ["tiny", None])
def test_what_is_no_encoder_is_named(encoder):
    with pytest.raises(ValueError, match="encoder: expected an Encoder, got a (str|NoneType): give what"):
        sl.embed(encoder, [np.zeros(100)])


class Flat(torch.nn.Module):
    """No encoder, unless it is given what it lacks."""

    def __init__(self, answer=None, **attributes):
        super().__init__()
        self.answer = answer
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, lms):
        return self.answer(lms) if self.answer else lms.squeeze(1).transpose(1, 2)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tiny", "expected a torch.nn.Module, or a class or function .* got a str."),
        (None, "expected a torch.nn.Module, .* got a NoneType."),
        (lambda: 3, "expected a torch.nn.Module, .* got a function that makes a int."),
        (torch.nn.Linear, "Linear cannot be called without arguments (.*'in_features'.*): .*lambda: Linear"),
        (Flat(), "Flat has no `dim`: set it to the number of values in a frame embedding"),
        (Flat(dim=0), "Flat has dim = 0: set it"),
        (Flat(dim="64"), "Flat has dim = '64': set it"),
        (Flat(dim=32), "Flat gives (2, 96, 64) of torch.float32 .* expected .* (2, T', 32), 32 being its `dim`"),
        (Flat(lambda lms: lms, dim=96), "Flat gives (2, 1, 64, 96)"),
        (Flat(lambda lms: lms[:1, 0], dim=96), "Flat gives (1, 64, 96)"),
        (Flat(lambda lms: lms[:, 0].long(), dim=96), "Flat gives (2, 64, 96) of torch.int64"),
        (Flat(lambda lms: (lms, 3), dim=96), "Flat gives a tuple: expected float frame embeddings"),
        (Flat(torch.nn.Conv1d(64, 8, 3), dim=8), "Flat does not take log-mels of shape (2, 1, 64, 96): Runtime"),
        (sl.Encoder(n_mels=80, channels=2, dim=4), "Encoder does not take log-mels of shape (2, 1, 64, 96)"),
    ],
)  # fmt: skip
def test_what_cannot_stand_for_an_encoder_is_named(source, message):
    pattern = "^encoder: " + ".*".join(re.escape(part) for part in message.split(".*"))
    with pytest.raises(ValueError, match=pattern):
        sl.as_encoder(source)


def test_a_network_that_is_no_encoder_yet_is_told_how_to_become_one():
    with pytest.raises(ValueError, match=r"got a Flat: give .* slicer_lite.as_encoder\(…\) makes one of it"):
        sl.embed(Flat(dim=64), [np.zeros(100)])


@pytest.mark.parametrize("choice", [[0.5], [[0]], [True], "a", 1.5, None])
def test_what_chooses_no_clips_is_named(choice):
    with pytest.raises(
        IndexError, match="give a whole number|Of 2 clips some are chosen by a list of places"
    ):
        sl.load_clips([np.zeros(100)] * 2)[choice]


def test_a_list_of_paths_with_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder: give it alone, or list its files"):
        sl.load_clips([tmp_path])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("start,end", "columns start and end are"),
        ("Begin Time (s),End Time (s)", r"columns begin time \(s\) and end time \(s\) are"),
        ("start_seconds,end_seconds", "columns start_seconds and end_seconds are"),
        ("offset,take", "column offset is"),
    ],
)
def test_stretches_of_files_that_are_not_cut_are_said(tmp_path, columns, said):
    with_good(tmp_path)
    (tmp_path / "list.csv").write_text(f"path,{columns}\ngood.wav,0,1\ngood.wav,1,2\n")
    with pytest.warns(
        UserWarning, match=f"list.csv: The {said} not used: a clip is a whole file. Cut the files"
    ):
        assert len(sl.load_clips(tmp_path / "list.csv", progress=False)) == 1


def test_what_a_probe_lacks_and_has_is_said(tmp_path):
    weights = sl.load("tiny")
    with_good(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,label\ngood.wav,x\n")
    with pytest.raises(
        ValueError,
        match=r"manifest.csv.* Found: 1 clip without labels. .* holds metadata.csv, which are not read",
    ):
        sl.lape.evaluate(weights, sl.load_clips(tmp_path, progress=False))
    (tmp_path / "list.csv").write_text("path,label,split\ngood.wav,x,train\n")
    with pytest.raises(ValueError, match=r"Found: 1 clip; their splits: label: train\."):
        sl.lape.evaluate(weights, sl.load_clips(tmp_path / "list.csv", progress=False))


# --- Settings that cannot work ----------------------------------------------------------------------------

SETTINGS = {
    "negative": ({"batch_size": -4}, "batch_size = -4: it must be a whole number of at least 2"),
    "not whole": ({"queue": 10.5}, "queue = 10.5: it must be a whole number"),
    "not a number": ({"learning_rate": float("nan")}, "learning_rate = nan"),
    "infinite": ({"temperature": float("inf")}, "temperature = inf"),
    "zero": ({"temperature": 0.0}, "temperature = 0.0: it must be a number above 0"),
    "above one": ({"mix_ratio": 1.5}, "mix_ratio = 1.5: it must be a number from 0 to 1"),
    "unknown mixing": ({"mixing": "cutmix"}, "one of kmix, mixup, none"),
    "text": ({"dim": "big"}, "dim = 'big'"),
    "seed": ({"seed": 2**63}, f"seed = {2**63}: it must be a whole number from 0 to below"),
    "canvas": ({"crop_max": 0.8}, "crop_max = 0.8: it must be at least 1"),
    "unknown name": ({"learning_speed": 1}, "no setting 'learning_speed'"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_cannot_work_are_refused_at_once(case):
    changes, message = SETTINGS[case]
    with pytest.raises(ValueError, match=message):
        sl.preset("tiny", **changes)


def test_numbers_of_numpy_are_numbers():
    config = sl.preset("tiny", seed=np.arange(4)[3], learning_rate=np.float32(0.5), symmetric=np.bool_(False))
    assert config == sl.preset("tiny", seed=3, learning_rate=0.5, symmetric=False)
    assert json.dumps(config.to_dict())


def test_unknown_preset_lists_the_known():
    with pytest.raises(ValueError, match="'huge'. The presets are: tiny, small, paper"):
        sl.preset("huge")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 33}, "batch_size = 33 is more than the 32 clips"),
        ({"mix_centroids": 40}, "too few for k-mix's 40 centroids"),
    ],
)
def test_settings_that_do_not_fit_the_data(tones, tmp_path, minute, changes, message):
    with pytest.raises(ValueError, match=message):
        sl.pretrain(minute.replace(**changes), tones, tmp_path / "run", progress=False)


def test_silence_cannot_be_trained_on(tmp_path, minute):
    clips = [np.zeros(16_000)] * 10
    with pytest.raises(ValueError, match="All clips sound alike"):
        sl.pretrain(minute, clips, tmp_path / "run", progress=False)


@pytest.mark.parametrize(("device", "message"), [("tpu9", "Unknown device"), ("cuda:7", "is not there")])
def test_devices_that_are_not_there(tones, tmp_path, minute, device, message):
    with pytest.raises(ValueError, match=message):
        sl.pretrain(minute, tones, tmp_path / "run", device=device, progress=False)


def test_gpus_that_are_there_are_named(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(
        ValueError, match="'cuda:3' is not there on this machine. Use --device cuda:0 or cuda:1"
    ):
        choose_device("cuda:3")


def test_only_networks_on_a_gpu_are_compiled(tones, tmp_path, minute):
    with pytest.raises(ValueError, match="for CUDA GPUs: leave it out"):
        sl.pretrain(minute, tones, tmp_path / "run", device="cpu", progress=False, compile=True)
    assert not (tmp_path / "run").exists()


def test_a_test_split_only_leaves_nothing_to_train_on(tmp_path, minute):
    with_good(tmp_path)
    (tmp_path / "list.csv").write_text("path,label,split\ngood.wav,x,test\n")
    with pytest.raises(ValueError, match="No clip is left to train on"):
        sl.pretrain(minute, tmp_path / "list.csv", tmp_path / "run", progress=False)


def test_clips_without_a_fold_are_counted():
    rows = pd.DataFrame({"clip": range(4), "label": "siren", "split": "test", "group": ["1", "", "2", ""]})
    with pytest.raises(
        ValueError, match="2 of 4 clips of the task 'us8k' name no fold: give each the name of one"
    ):
        list(sl.lape.TASKS["us8k"].rounds(rows))


def test_a_folder_with_other_things_is_no_run_folder(tones, tmp_path, minute):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(ValueError, match=r"holds other things \(thesis.txt"):
        sl.pretrain(minute, tones, tmp_path, progress=False)
    assert Path(tmp_path / "thesis.txt").read_text() == "three years of work"


def test_a_run_with_other_settings_is_refused_and_stays(tones, tmp_path, minute):
    sl.pretrain(minute, tones, tmp_path / "run", steps=2, progress=False)
    weights = (tmp_path / "run" / "weights.safetensors").read_bytes()
    with pytest.raises(ValueError, match="holds another run \\(temperature: 0.05 there, 0.2 here\\)"):
        sl.pretrain(minute.replace(temperature=0.2), tones, tmp_path / "run", steps=2, progress=False)
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == weights


def test_too_few_clips_are_refused_before_anything_is_written(tmp_path, minute):
    noise = [0.1 * np.random.default_rng(i).standard_normal(16_000) for i in range(3)]
    with pytest.raises(ValueError, match="Only 1 clip is there: pre-training needs 2 at least"):
        sl.pretrain(minute.replace(batch_size=2), noise[:1], tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match=r"3 clips .*4 centroids.*--mix-centroids.*--mixing mixup"):
        sl.pretrain(minute.replace(batch_size=2), noise, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_folder_in_which_nothing_was_trained_takes_mended_settings_and_clips(tmp_path, minute):
    with pytest.raises(ValueError, match="silent"):
        sl.pretrain(minute, [np.zeros(16_000)] * 8, tmp_path, progress=False)
    noise = [0.1 * np.random.default_rng(i).standard_normal(16_000) for i in range(9)]
    assert sl.pretrain(minute, noise, tmp_path, steps=1, progress=False).step == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", None])
def test_a_damaged_config_of_a_run_is_named(tones, tmp_path, minute, content):
    sl.pretrain(minute, tones, tmp_path, steps=1, progress=False)
    path = tmp_path / "config.json"
    if content is None:  # one part alone
        content = json.dumps({**json.loads(path.read_text()), "clips": []})
    path.write_text(content)
    with pytest.raises(ValueError, match=r"config.json is damaged"):
        sl.pretrain(minute, tones, tmp_path, steps=1, progress=False)


# --- Weights that cannot be loaded: refused by their header, before a network is built -----------------------


def description(**changes):
    config = sl.preset("tiny", channels=4, dim=16, clusters=6).to_dict()
    return {"format": "weights 1", "step": 3, "config": config} | changes


def settings(**changes):
    return description(config=description()["config"] | changes)


def claims(about, tensors=None):
    """A file of few bytes with a description that says `about`; its tensors by default fit `description()`."""

    def case(path):
        found = tensors
        if found is None:
            config = sl.preset("tiny", channels=4, dim=16, clusters=6)
            found = {k: v.contiguous() for k, v in SLICERNetwork(config).state_dict().items()}
        path.write_bytes(
            safetensors.torch.save(found, {_ABOUT: about if isinstance(about, str) else json.dumps(about)})
        )

    return case


def header(text):
    """A safetensors file with a header written by hand, and 64 bytes of numbers."""

    def case(path):
        path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + bytes(64))

    return case


def without(name):
    def case(path):
        claims(description())(path)
        tensors = safetensors.torch.load_file(path)
        del tensors[name]
        claims(description(), tensors)(path)

    return case


def with_one_more(name, value):
    def case(path):
        claims(description())(path)
        claims(description(), safetensors.torch.load_file(path) | {name: value})(path)

    return case


DEEP = "[" * 100_000 + "]" * 100_000
ONE = {"x": torch.zeros(1)}
WEIGHTS = {
    "huge dim": (claims(settings(dim=100_000), ONE), "does not fit together: it lacks encoder.mean; .*; …"),
    "huge channels": (claims(settings(channels=10**9), ONE), "does not fit together"),
    "huge clusters": (
        claims(settings(clusters=10**12)),
        r"cluster_head.2.weight is \(6, 16\), not \(1000000000000, 16\)",
    ),
    "huge queue": (claims(settings(queue=10**12), ONE), "lacks encoder"),  # only a run has one
    "beyond all numbers": (claims(settings(dim=10**40), ONE), "does not fit together"),
    "another size": (claims(settings(dim=32)), r"encoder.fc.0.weight is \(16, 32\), not \(32, 32\)"),
    "another method": (claims(settings(method="moco")), r"it holds cluster_head.0.bias"),
    "unknown method": (
        claims(settings(method="slicer-3")),
        "There is no method 'slicer-3'. The methods are: slicer, moco",
    ),
    "a tensor less": (without("instance_head.bias"), "it lacks instance_head.bias"),
    "a tensor more": (with_one_more("extra", torch.zeros(2)), "it holds extra"),
    "centroids of another size": (
        with_one_more("centroids", torch.zeros(4, 63)),
        r"centroids is \(4, 63\), not \(4, 64\)",
    ),
    "whole numbers for weights": (
        with_one_more("instance_head.bias", torch.zeros(128, dtype=torch.int64)),
        "instance_head.bias holds I64",
    ),
    "steps below zero": (claims(description(step=-1)), "step = -1"),
    "endless steps": (claims(description(step=float("inf"))), "step = inf"),
    "steps in words": (claims(description(step="many")), "step = 'many'"),
    "no step": (
        claims({k: v for k, v in description().items() if k != "step"}),
        "its description lacks 'step'",
    ),
    "no settings": (claims({"format": "weights 1", "step": 1}), "its description lacks 'config'"),
    "settings that are a list": (claims(description(config=[1])), "its settings are no table"),
    "a description that is a list": (claims("[]"), "its description is no table"),
    "a description that is no JSON": (claims("{"), "not a readable safetensors file"),
    "a description that nests too deeply": (claims(DEEP), "nests too deeply"),
    "a setting that nests too deeply": (
        claims(json.dumps(settings(dim=0)).replace('"dim": 0', f'"dim": {"[" * 900}{"]" * 900}')),
        "does not fit together: dim = ",
    ),
    "a header that nests too deeply": (header(DEEP), "not a readable safetensors file"),
    "a negative shape": (
        header('{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,64]}}'),
        "not a readable safetensors file",
    ),
    "a shape that its bytes do not fill": (
        header('{"x":{"dtype":"F32","shape":[100000,100000],"data_offsets":[0,64]}}'),
        "not a readable safetensors file",
    ),
    "a header longer than the file": (
        lambda p: p.write_bytes(struct.pack("<Q", 2**60)),
        "not a readable safetensors",
    ),
    "a later format": (claims(description(format="weights 2")), "format 'weights 2', expected 'weights 1'"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_cannot_be_loaded_are_named_and_cost_nothing(tmp_path, monkeypatch, case):
    make, message = WEIGHTS[case]
    path = tmp_path / "x.safetensors"
    make(path)
    monkeypatch.setattr(
        "slicer_lite.share.weights._new_network", lambda *_: pytest.fail("a network is built")
    )
    with pytest.raises(ValueError, match=f"x.safetensors(?s:.)*{message}") as caught:
        sl.load(path)
    assert len(str(caught.value)) < 1000


def test_weights_of_a_later_version_load_with_one_note(tmp_path):
    path = tmp_path / "x.safetensors"
    claims(settings(tempo=3, warp=[1]) | {"version": "7.1"})(path)
    with pytest.warns(UserWarning, match=r"x.safetensors .*: tempo, warp\..*slicer-lite 7\.1") as caught:
        model = sl.load(path)
    assert len(caught) == 1
    assert model.config == sl.preset("tiny", channels=4, dim=16, clusters=6)
    claims(settings(tempo=3, dim=32))(path)  # what it does not know may be why
    with (
        pytest.warns(UserWarning, match=r"tempo.*by a version that it does not name"),
        pytest.raises(ValueError, match="does not fit together"),
    ):
        sl.load(path)


def test_weights_say_which_version_wrote_them(tmp_path, minute):
    save_weights(tmp_path / "x.safetensors", SLICERNetwork(minute), None, minute, 0)
    with safetensors.safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert json.loads(file.metadata()[_ABOUT])["version"] == sl.__version__


def test_settings_that_a_file_lacks_are_the_defaults(tmp_path):
    about = description()
    del about["config"]["mask_own_keys"]
    claims(about)(tmp_path / "x.safetensors")
    assert sl.load(tmp_path / "x.safetensors").config.mask_own_keys


def test_a_folder_called_as_shipped_weights_are_and_these_are_told_apart(tmp_path, monkeypatch, minute):
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"tiny holds no weights.*come with the package.*pretrained.tiny\.saf"
    ):
        sl.load("tiny")
    save_weights(Path("tiny/weights.safetensors"), SLICERNetwork(minute), None, minute, 3)
    with pytest.warns(
        UserWarning, match=r"'tiny' is here the folder .*tiny, not the weights .*pretrained.tiny\.saf"
    ):
        assert sl.load("tiny").step == 3
    sl.load("./tiny")  # without a note, as with a whole path
    sl.load(tmp_path / "tiny")
    sl.load(SHIPPED / "tiny.safetensors")


@pytest.mark.parametrize("content", ["{", DEEP])
def test_json_that_cannot_be_read_is_named_wherever_it_lies(tones, tmp_path, minute, content):
    run = tmp_path / "run"
    sl.pretrain(minute, tones, run, steps=1, progress=False)
    (run / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        sl.pretrain(minute, tones, run, steps=1, progress=False)
    (run / "metrics.jsonl").write_text(content + "\n" + '{"step": 1}\n')
    with pytest.warns(UserWarning, match=r"metrics\.jsonl, line 1 is damaged"):
        assert read_metrics(run) == [{"step": 1}]
    (tmp_path / "pitch.json").write_text(content)
    with pytest.raises(ValueError, match=r"pitch\.json holds no results"):
        gather([tmp_path])
    with pytest.raises(ValueError, match=r"pitch\.json holds no results"):
        is_result_of(tmp_path / "pitch.json", None, None, "pitch", "quick", [0], [])
    (tmp_path / "examples.json").write_text(content)
    with pytest.raises(ValueError, match=r"examples\.json is not readable as JSON"):
        _read_json(tmp_path / "examples.json")
