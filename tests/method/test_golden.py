"""Agreement with the figures that the authors' released code computes, on every device that is there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from slicer_lite.method import kmix, losses
from slicer_lite.method.crop import RandomResizeCrop
from slicer_lite.method.encoder import Encoder
from slicer_lite.method.kmix import KMix
from slicer_lite.method.logmel import LogMel

GOLDEN = Path(__file__).parents[1] / "golden" / "reference_vectors.npz"
CLOSE = {"rtol": 0, "atol": 1e-4}


THERE = [
    "cpu",
    *(["cuda"] if torch.cuda.is_available() else []),
    *(["mps"] if torch.backends.mps.is_available() else []),
]


@pytest.fixture(scope="module", params=THERE)
def golden(request):
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        vectors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    with torch.backends.cudnn.flags(
        allow_tf32=False
    ):  # GPUs round the inputs of convolutions to 10 bits otherwise
        yield {name: vector.to(request.param) for name, vector in vectors.items()}


def test_log_mel(golden):
    ours = LogMel().to(golden["logmel_waveform"].device)(golden["logmel_waveform"]).squeeze(1)
    # Nearly silent bands hold only the rounding of a float32 FFT, hence 1e-3.
    torch.testing.assert_close(ours, golden["logmel_expected"], rtol=0, atol=1e-3)


def test_encoder(golden):
    prefix = "encoder_state."
    encoder = Encoder.from_audiontt(
        {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}
    )
    lms = golden["encoder_input"]
    frames = encoder.eval().to(lms.device)(lms)
    torch.testing.assert_close(frames, golden["encoder_frames"], **CLOSE)
    torch.testing.assert_close(Encoder.pool(frames), golden["encoder_pooled_max_plus_mean"], **CLOSE)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_cluster_contrast(golden, temperature):
    ours = losses.cluster_contrast(golden["cluster_p"], golden["cluster_q"], temperature)
    torch.testing.assert_close(ours, golden[f"cluster_contrast_T{temperature}"], **CLOSE)


def test_negative_entropy(golden):
    ours = losses.negative_entropy(golden["cluster_p"]) + losses.negative_entropy(golden["cluster_q"])
    torch.testing.assert_close(ours, golden["cluster_neg_entropy_sum"], **CLOSE)


def test_info_nce(golden):
    ours = losses.info_nce(golden["nce_query"], golden["nce_key"], golden["nce_queue"], 0.07)
    torch.testing.assert_close(ours, golden["nce_expected_T0.07"], **CLOSE)


def test_crop(golden):
    boxes = golden["crop_boxes_top_left_height_width_on_64x144_canvas"]
    ours = RandomResizeCrop().apply(golden["crop_input"], boxes)
    torch.testing.assert_close(ours, golden["crop_expected"], **CLOSE)


def test_mixing_rule(golden):
    ours = kmix.mix(golden["mix_x"], golden["mix_z"], 1 - golden["mix_weight_of_x"])
    torch.testing.assert_close(ours, golden["mix_expected"], **CLOSE)


def test_kmix_candidates_exactly(golden):
    mixer = KMix(golden["kmix_centroids"], memory=200).to(golden["kmix_centroids"].device)
    remembered = golden["kmix_memory_time_mean"][:, None, :, None].expand(-1, 1, -1, 96)
    mixer.push(remembered)
    ours = mixer.candidates(golden["kmix_query_time_mean"])
    assert torch.equal(ours, golden["kmix_candidates_mask_query_by_memory"])
