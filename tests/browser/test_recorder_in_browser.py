"""The recorder in JupyterLab: files, the microphone, junk."""

import re

import numpy as np
import pytest
import soundfile
from playwright.sync_api import expect

SETUP = """
import numpy as np
import slicer_lite as sl
from slicer_lite.method.slicer import SLICERNetwork
from slicer_lite.share.weights import Pretrained
from slicer_lite.widgets import Recorder

config = sl.preset("tiny", channels=4, dim=16, clusters=4)
pretrained = Pretrained(SLICERNetwork(config).eval().requires_grad_(False), None, config, 0)
time = np.arange(16_000) / 16_000
clips = sl.load_clips([(0.5 * np.sin(2 * np.pi * pitch * time)).astype("float32") for pitch in (220, 440, 880)])
recorder = Recorder(pretrained, clips, neighbours=2)
recorder
"""
# Steady part of the sound: pitch in Hz and RMS level.
LISTEN = """
sound = recorder.heard.waveform
middle = sound[len(sound) // 4 : 3 * len(sound) // 4]
power = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
print(f"name {recorder.heard.name} seconds {len(sound) / 16_000:.3f} "
      f"pitch {power.argmax() * 16_000 / len(middle):.1f} level {np.sqrt((middle**2).mean()):.4f}")
"""


@pytest.fixture
def notebook(open_notebook):
    opened = open_notebook(SETUP, LISTEN)
    opened.page.evaluate("jupyterapp.commands.execute('notebook:run-cell-and-select-next')")
    expect(opened.page.locator(".slicer-recorder")).to_be_visible(timeout=60_000)
    return opened


def listen(notebook):
    """What the kernel received: name, seconds, pitch, level."""
    notebook.page.evaluate(
        "() => { jupyterapp.shell.currentWidget.content.activeCellIndex = 1;"
        " jupyterapp.commands.execute('notebook:run-cell') }"
    )
    words = re.compile(r"name (\S+) seconds (\S+) pitch (\S+) level (\S+)\n$")
    for _ in range(100):
        found = words.search(notebook.printed())
        if found:
            return found[1], *map(float, found.groups()[1:])
        notebook.page.wait_for_timeout(100)
    raise AssertionError(f"nothing was heard: {notebook.outputs()}")


def test_a_file_finds_its_neighbours_and_junk_is_refused_in_words(notebook, tmp_path):
    page = notebook.page
    time = np.arange(2 * 44_100) / 44_100
    stereo = np.stack([0.6 * np.sin(2 * np.pi * 440 * time), 0.2 * np.sin(2 * np.pi * 440 * time)], axis=1)
    soundfile.write(tmp_path / "tone.ogg", stereo, 44_100)
    (tmp_path / "junk.wav").write_bytes(b"no sound at all")

    def open_file(name):
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Open a file …").press("Enter")
        chooser.value.set_files(tmp_path / name)

    open_file("junk.wav")
    expect(page.get_by_role("alert")).to_contain_text("“junk.wav” is no sound that this browser can decode")
    open_file("tone.ogg")
    figures = page.locator(".slicer-recorder figure")
    expect(figures).to_have_count(3, timeout=15_000)
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(figures.first).to_contain_text("tone.ogg, 2.0 s")
    expect(page.locator(".slicer-cluster")).to_contain_text("of the 3 clips")

    name, seconds, pitch, level = listen(notebook)
    assert (name, pitch) == ("tone.ogg", pytest.approx(440, abs=2))
    assert seconds == pytest.approx(2, abs=0.02)
    assert level == pytest.approx(0.4 / np.sqrt(2), rel=0.05)  # the mean of both channels

    # A neighbour plays, and what plays is a clip: 1 s long, of level 0.5.
    player = figures.nth(1).locator("audio")
    player.evaluate("audio => audio.play()")
    page.wait_for_function("audio => audio.currentTime > 0.1", arg=player.element_handle())
    peak, duration = player.evaluate(
        "async audio => { const content = await (await fetch(audio.src)).arrayBuffer();"
        " const sound = await new AudioContext().decodeAudioData(content);"
        " return [sound.getChannelData(0).reduce((a, b) => Math.max(a, b)), sound.duration] }"
    )
    assert peak == pytest.approx(0.5, abs=0.02)
    assert duration == pytest.approx(1, abs=0.01)
    notebook.screenshots("recorder", page.locator(".slicer-recorder"))


def test_the_microphone_finds_neighbours(notebook):
    page = notebook.page
    button = page.locator(".slicer-recorder button").first
    expect(button).to_have_text("● Record")
    button.press("Enter")
    expect(button).to_have_text("■ Stop")
    page.wait_for_timeout(1500)
    button.press("Enter")
    expect(page.locator(".slicer-recorder figure")).to_have_count(3, timeout=15_000)
    name, seconds, pitch, level = listen(notebook)
    assert (name, pitch) == ("microphone", pytest.approx(440, abs=5))  # the browser's microphone plays a tone
    assert 1 < seconds < 4
    assert 0.1 < level < 0.5


SLOW_PERMISSION = """
window.streams = [];
const media = navigator.mediaDevices, real = media.getUserMedia.bind(media);
media.getUserMedia = async (wanted) => {
  const stream = await real(wanted);
  window.streams.push(stream);
  await new Promise((resolve) => setTimeout(resolve, 500));
  return stream;
};
null;
"""


def test_the_microphone_is_opened_once_and_never_stays_on(notebook):
    page, record = notebook.page, notebook.page.get_by_role("button", name="Record")
    page.evaluate(SLOW_PERMISSION)
    record.evaluate(
        "button => { button.click(); button.click(); }"
    )  # the second while the browser still asks
    page.get_by_role("button", name="Stop").click()
    expect(record).to_be_visible()
    live = "streams.map((stream) => stream.getTracks().filter((t) => t.readyState === 'live').length)"
    assert page.evaluate(live) == [0]


def test_a_recording_whose_widget_is_taken_away_ends_and_is_not_sent(open_notebook):
    noted = "sounds = []\nrecorder.on_msg(lambda _, message, __: sounds.append(message['type']))\nrecorder\n"
    notebook = open_notebook(SETUP.replace("\nrecorder\n", f"\n{noted}"), "print('messages', sounds)")
    page = notebook.page
    page.evaluate("jupyterapp.commands.execute('notebook:run-cell')")
    page.evaluate(SLOW_PERMISSION)
    page.get_by_role("button", name="● Record").click(timeout=60_000)
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.wait_for_timeout(300)
    page.evaluate("jupyterapp.commands.execute('notebook:clear-cell-output')")
    expect(page.locator(".slicer-recorder")).to_have_count(0)
    page.wait_for_function("streams[0].getTracks().every((track) => track.readyState === 'ended')")
    page.wait_for_timeout(1000)  # in which a sound would arrive
    page.evaluate(
        "() => { jupyterapp.shell.currentWidget.content.activeCellIndex = 1;"
        " jupyterapp.commands.execute('notebook:run-cell') }"
    )
    for _ in range(100):
        if "messages" in notebook.printed():
            break
        page.wait_for_timeout(100)
    assert notebook.printed() == "messages ['hello']\n"
