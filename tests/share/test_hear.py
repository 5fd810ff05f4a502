"""HEAR's common interface: the checks of its public validator, written out, and what the stamps mean."""

import numpy as np
import pytest
import torch
from networks import Bands

import slicer_lite as sl
from slicer_lite.method.slicer import SLICERNetwork
from slicer_lite.share import hear
from slicer_lite.share.weights import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    config = sl.preset("tiny", channels=4, dim=16)
    torch.manual_seed(0)
    network = SLICERNetwork(config)
    network.encoder.mean.fill_(-6.0)
    network.encoder.deviation.fill_(4.0)
    path = tmp_path_factory.mktemp("hear") / "weights.safetensors"
    save_weights(path, network, None, config, step=1)
    return path


@pytest.fixture(scope="module")
def model(weights):
    return hear.load_model(str(weights))


def white_noise(clips, seconds):
    return 2 * torch.rand(clips, int(seconds * 16_000), generator=torch.Generator().manual_seed(0)) - 1


def test_the_model(model):
    assert isinstance(model, torch.nn.Module)
    assert not any(module.training for module in model.modules())
    assert model.sample_rate == 16_000
    assert type(model.scene_embedding_size) is int
    assert type(model.timestamp_embedding_size) is int
    assert model.scene_embedding_size == model.timestamp_embedding_size == 16


def test_load_model_needs_no_path():
    for arguments in ((), ("",)):
        model = hear.load_model(*arguments)
        assert not model.training
        assert hear.get_scene_embeddings(white_noise(2, 1.0), model).shape == (2, model.scene_embedding_size)


def test_load_model_is_of_the_package_also_beside_a_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hear.load_model().scene_embedding_size == 256


def test_load_model_takes_a_path(weights, model):
    again = hear.load_model(model_file_path=weights)
    assert torch.equal(again.encoder.fc[0].weight, model.encoder.fc[0].weight)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        hear.load_model("nowhere")


@pytest.mark.parametrize("seconds", [1.07, 1.98, 2.74, 4.0])
@pytest.mark.parametrize("clips", [1, 2, 4])
def test_timestamp_embeddings(model, clips, seconds):
    embeddings, stamps = hear.get_timestamp_embeddings(white_noise(clips, seconds), model)
    assert embeddings.dtype == stamps.dtype == torch.float32
    assert embeddings.ndim == 3
    assert embeddings.shape == (clips, stamps.shape[1], model.timestamp_embedding_size)
    assert stamps.shape == (clips, stamps.shape[1])
    gaps = stamps.double().diff(dim=1)
    assert (gaps - gaps.mean()).abs().max() < 1  # evenly spaced within a millisecond
    assert gaps.max() <= 50
    assert 0 <= stamps.min() < gaps.mean()
    assert 1000 * seconds - gaps.mean() < stamps.max() <= 1000 * seconds
    assert embeddings.isfinite().all()


@pytest.mark.parametrize("seconds", [0.2, 1.07, 1.98, 2.74, 4.0])
@pytest.mark.parametrize("clips", [1, 2, 4])
def test_scene_embeddings(model, clips, seconds):
    noise = white_noise(clips, seconds)
    embeddings = hear.get_scene_embeddings(noise, model)
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (clips, model.scene_embedding_size)
    np.testing.assert_array_equal(embeddings.numpy(), sl.embed(model.encoder, list(noise.numpy())))


def test_stamps_do_not_drift():
    untrained = hear.HearModel(sl.Encoder(channels=1, dim=2)).eval()
    stamps = hear.get_timestamp_embeddings(torch.zeros(1, 60 * 16_000), untrained)[1][0]
    assert stamps.tolist() == [35 + 40 * number for number in range(1500)]


@pytest.mark.parametrize("samples", [560, 1199, 1200, 1839, 1840, 15_200, 16_000])
def test_stamps_stay_inside_the_clip(model, samples):
    embeddings, stamps = hear.get_timestamp_embeddings(torch.zeros(1, samples), model)
    assert stamps[0, 0] == 35
    assert stamps[0, -1] <= samples / 16 < stamps[0, -1] + 40
    assert embeddings.shape[1] == stamps.shape[1]


def test_every_stamp_is_computed_and_in_its_place(model):
    """A clip that begins 40 ms later has the same embeddings one stamp later, away from the ends."""
    noise = white_noise(1, 2.0) * torch.rand(1, 100).repeat_interleave(
        320, dim=1
    )  # another level every 20 ms
    later = torch.nn.functional.pad(noise, (640, 0))[:, : noise.shape[1]]
    there, _ = hear.get_timestamp_embeddings(noise, model)
    here, _ = hear.get_timestamp_embeddings(later, model)
    torch.testing.assert_close(here[:, 6:-6], there[:, 5:-7], rtol=1e-4, atol=1e-5)
    assert (there[:, 6:-6] - there[:, 5:-7]).abs().max() > 1e-3  # neighbours do differ


def test_every_other_stamp_is_a_plain_reading(model):
    noise = white_noise(2, 1.6)
    frames = model.encoder(model.encoder.standardise(sl.LogMel()(noise)))
    embeddings, stamps = hear.get_timestamp_embeddings(noise, model)
    # The last ones feel where the spectrogram ends.
    torch.testing.assert_close(embeddings[:, 0:-4:2], frames[:, : -4 // 2], rtol=1e-4, atol=1e-5)
    assert stamps[0, :3].tolist() == [35, 75, 115]


@pytest.mark.parametrize("samples", [17_199, 17_840, 32_000, 64_000])
def test_the_last_stamps_hear_the_end_of_the_clip(model, samples):
    noise = white_noise(1, 4.0)[:, :samples]
    quieter = noise.clone()
    quieter[:, -128:] *= 0.01  # the last 8 ms
    there, _ = hear.get_timestamp_embeddings(noise, model)
    here, _ = hear.get_timestamp_embeddings(quieter, model)
    assert (here - there).norm(dim=2)[0, -3:].min() > 1e-6


def test_a_burst_is_found_where_it_is(model):
    audio = torch.zeros(1, 32_000)
    audio[:, 16_000:16_160] = white_noise(1, 0.01)  # 10 ms in the middle, at 1,005 ms
    quiet, _ = hear.get_timestamp_embeddings(torch.zeros(1, 32_000), model)
    embeddings, stamps = hear.get_timestamp_embeddings(audio, model)
    loudest = (embeddings - quiet).norm(dim=2).argmax()
    assert abs(stamps[0, loudest].item() - 1005) <= 60


def test_batches_do_not_matter(model, monkeypatch):
    noise = white_noise(3, 1.3)
    together, _ = hear.get_timestamp_embeddings(noise, model)
    monkeypatch.setattr(hear, "BATCH", 1)
    torch.testing.assert_close(hear.get_timestamp_embeddings(noise, model)[0], together, rtol=1e-4, atol=1e-5)


def test_every_tensor_moves_with_the_model():
    moved = hear.HearModel(sl.Encoder(channels=4, dim=16)).to("meta")
    state = [*moved.parameters(), *moved.buffers()]
    assert {tensor.device.type for tensor in state} == {"meta"}
    assert not [name for name, value in vars(moved).items() if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize(
    ("span", "first", "apart"),
    [(1, 0, 10), (2, 5, 20), (3, 10, 30), (4, 15, 40), (6, 25, 30), (8, 35, 40), (12, 55, 40), (16, 75, 40)],
)
def test_stamps_of_other_encoders_are_where_their_frames_are(span, first, apart):
    """Each embedding is the mean of its own `span` frames: a click is in those whose middle is near."""
    other = hear.HearModel(sl.as_encoder(Bands(span=span)).eval()).eval()
    assert other.span == span
    audio = torch.zeros(1, 32_000)
    embeddings, stamps = hear.get_timestamp_embeddings(audio, other)
    gaps = stamps[0].diff()
    assert stamps[0, 0] == first and set(gaps.tolist()) == {apart}
    assert 2000 - apart < stamps[0, -1] <= 2000
    audio[:, 16_000] = 1.0  # at 1,000 ms, heard by the frames of 1,024 samples around it
    moved = (hear.get_timestamp_embeddings(audio, other)[0] - embeddings).norm(dim=2)[0] > 1e-4
    heard = stamps[0][moved]
    assert (heard.min() + heard.max()) / 2 == pytest.approx(1000, abs=apart / 2)
    reach = 32 + 5 * span
    assert 1000 - reach <= heard.min() and heard.max() <= 1000 + reach


def test_timestamps_need_even_frames():
    class Uneven(Bands):
        def forward(self, lms):
            return super().forward(lms)[:, 1:]

    other = hear.HearModel(sl.as_encoder(Uneven).eval()).eval()
    assert hear.get_scene_embeddings(torch.zeros(1, 16_000), other).shape == (1, 16)
    with pytest.raises(ValueError, match="gives 23 embeddings for 96 spectrogram frames and 47 for 192"):
        hear.get_timestamp_embeddings(torch.zeros(1, 16_000), other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu(weights, model):
    noise, there = white_noise(2, 1.98), hear.load_model(weights).cuda()
    for here, found in zip(
        [hear.get_scene_embeddings(noise, model), *hear.get_timestamp_embeddings(noise, model)],
        [hear.get_scene_embeddings(noise.cuda(), there), *hear.get_timestamp_embeddings(noise.cuda(), there)],
        strict=True,
    ):
        assert found.device.type == "cuda"
        torch.testing.assert_close(found.cpu(), here, rtol=1e-2, atol=1e-2)  # TF32 convolutions


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(16_000), "shape"),
        (torch.zeros(2, 16_000, dtype=torch.int16), "int16"),
        (torch.zeros(0, 16_000), "shape"),
    ],
)
def test_other_audio_is_refused(model, audio, message):
    for function in (hear.get_scene_embeddings, hear.get_timestamp_embeddings):
        with pytest.raises(ValueError, match=message):
            function(audio, model)


def test_clips_without_a_stamp_are_refused(model):
    with pytest.raises(ValueError, match="too short for a timestamp: 560"):
        hear.get_timestamp_embeddings(torch.zeros(1, 559), model)


def test_both_functions_refuse_the_same_audio(model):
    audio = torch.zeros(1, 16_000)
    audio[0, 5] = torch.nan
    for embeddings in (hear.get_scene_embeddings, hear.get_timestamp_embeddings):
        with pytest.raises(ValueError, match="Clip 0"):
            embeddings(audio, model)


def test_what_soundfile_reads_is_taken(model):
    samples = 0.9 * np.sin(np.arange(16_000.0))  # float64
    for embeddings in (hear.get_scene_embeddings, lambda *given: hear.get_timestamp_embeddings(*given)[0]):
        expected = embeddings(torch.from_numpy(samples / np.abs(samples).max())[None], model)
        loud = samples / np.abs(samples).max() * 1.09  # scaled down to a peak of 1, as a file's would be
        np.testing.assert_allclose(embeddings(loud[None], model), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "hint"),
    [((16_000,), r"One sound is audio\[None\]"), ((16_000, 2), r"one sound: audio.mean\(1\)")],
)
def test_one_sound_is_no_batch(model, shape, hint):
    for embeddings in (hear.get_scene_embeddings, hear.get_timestamp_embeddings):
        with pytest.raises(ValueError, match=f"audio: HEAR passes floats of shape .*{hint}"):
            embeddings(np.zeros(shape), model)
