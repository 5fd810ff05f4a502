"""The recorder's Python half: from samples to neighbours, and what it refuses."""

import io

import numpy as np
import pytest
import soundfile
import torch

import slicer_lite as sl
from slicer_lite.method.registry import METHODS
from slicer_lite.method.slicer import SLICERNetwork
from slicer_lite.share.weights import Pretrained
from slicer_lite.widgets import Recorder

TIME = np.arange(16_000) / 16_000


def tone(pitch, seconds=1.0):
    return (0.5 * np.sin(2 * np.pi * pitch * TIME[: int(16_000 * seconds)])).astype(np.float32)


@pytest.fixture
def pretrained(minute):
    torch.manual_seed(0)
    return Pretrained(SLICERNetwork(minute).eval().requires_grad_(False), None, minute, 0)


@pytest.fixture
def recorder(pretrained):
    found = Recorder(pretrained, sl.load_clips([tone(200), tone(500), tone(2000)]), neighbours=2)
    found.sent = []
    found.send = lambda message, buffers=None: found.sent.append((message, buffers))
    return found


def test_a_sound_that_is_there_is_its_own_neighbour(recorder):
    for place, pitch in enumerate((200, 500, 2000)):
        heard = recorder.hear(tone(pitch), "a tone")
        assert heard.neighbours[0] == place
        assert heard.similarities[0] == pytest.approx(1, abs=1e-4)
        assert list(heard.similarities) == sorted(heard.similarities, reverse=True)
        assert heard.assignment.sum() == pytest.approx(1)


def test_the_page_gets_sounds_and_pictures(recorder):
    samples = tone(500, 0.7)
    recorder._guarded(recorder, {"type": "sound", "name": "mine.ogg", "rate": 16_000}, [samples.tobytes()])
    (message, buffers), *more = recorder.sent
    assert (more, recorder.error) == ([], "")
    assert [s["seconds"] for s in message["sounds"]] == [0.7, 1.0, 1.0]
    assert message["sounds"][0]["title"] == "mine.ogg"
    assert "of the 3 clips" in message["cluster"]
    played, rate = soundfile.read(io.BytesIO(buffers[0]))
    assert rate == 16_000
    np.testing.assert_allclose(played, samples, atol=2**-15)
    assert [len(b) for b in buffers[3:]] == [4 * 64 * s["frames"] for s in message["sounds"]]  # RGBA


def test_what_the_page_sends_is_resampled_as_files_are(recorder):
    time = np.arange(48_000) / 48_000
    two = 0.25 * np.sin(2 * np.pi * 500 * time) + 0.25 * np.sin(2 * np.pi * 9000 * time)
    message = {"type": "sound", "name": "mine", "rate": recorder.rate}
    recorder._guarded(recorder, message, [two.astype("<f4").tobytes()])
    assert recorder.rate == 48_000
    np.testing.assert_allclose(recorder.heard.waveform[1000:-1000], 0.5 * tone(500)[1000:-1000], atol=1e-5)


def test_a_decoder_may_overshoot(recorder):
    recorder._guarded(
        recorder, {"type": "sound", "name": "loud", "rate": 16_000}, [(2.2 * tone(500)).tobytes()]
    )
    assert recorder.error == ""
    assert np.abs(recorder.heard.waveform).max() == pytest.approx(1)
    assert np.abs(recorder.hear(2.2 * tone(500)).waveform).max() == pytest.approx(1)


@pytest.mark.parametrize(
    ("samples", "said"),
    [(np.zeros(16_000), "silent"), (np.zeros(0), "at least one sample"), (np.full(100, np.nan), "finite")],
)
def test_what_cannot_be_heard_is_refused_in_the_widget(recorder, samples, said):
    recorder._guarded(
        recorder, {"type": "sound", "name": "junk", "rate": 16_000}, [samples.astype("<f4").tobytes()]
    )
    assert said in recorder.error
    assert recorder.heard is None
    assert recorder.sent == []


def test_very_short_sounds_are_heard(recorder):
    assert recorder.hear(tone(500, 0.01)).waveform.shape == (160,)
    assert len(recorder.picture().axes) == 3  # its log-mel and two neighbours'


def test_embeddings_of_other_clips_are_refused(pretrained):
    with pytest.raises(ValueError, match=r"shape \(1, 16\).*Got \(5, 16\)"):
        Recorder(pretrained, sl.load_clips([tone(200)]), np.zeros((5, 16)))


def test_of_long_sounds_the_beginning_is_shown(pretrained):
    long = np.tile(tone(300), 12)
    recorder = Recorder(pretrained, sl.load_clips([long, tone(200)]), neighbours=2)
    sent = []
    recorder.send = lambda message, buffers=None: sent.append((message, buffers))
    recorder.hear(long, "mine")
    message, buffers = sent[-1]
    assert [s["seconds"] for s in message["sounds"]] == [10.0, 10.0, 1.0]
    assert message["sounds"][0]["title"] == "mine (its beginning)"
    assert [len(soundfile.read(io.BytesIO(b))[0]) for b in buffers[:3]] == [160_000, 160_000, 16_000]
    assert len(recorder.heard.waveform) == 12 * 16_000


def test_a_name_with_dollars_is_no_formula(recorder):
    recorder.hear(tone(200), "cost_$1_$2.wav")
    assert "image/png" in recorder._repr_mimebundle_()[0]


@pytest.mark.parametrize("method", ["moco", "delores_m"])
def test_models_without_clusters_find_neighbours_too(minute, method):
    config = minute.replace(method=method)
    network = METHODS[method].network(config).eval().requires_grad_(False)
    recorder = Recorder(
        Pretrained(network, None, config, 0), sl.load_clips([tone(200), tone(500)]), neighbours=1
    )
    sent = []
    recorder.send = lambda message, buffers=None: sent.append(message)
    heard = recorder.hear(tone(500))
    assert (heard.neighbours.tolist(), heard.assignment) == ([1], None)
    assert sent[-1]["cluster"] == ""
    assert "image/png" in recorder._repr_mimebundle_()[0]
