"""AudioNTT: shapes, other people's checkpoints, statistics that travel with the weights."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from slicer_lite.method.encoder import Encoder
from slicer_lite.method.fast import pooled_product


@pytest.fixture
def encoder():
    return Encoder(channels=8, dim=32).eval()


@pytest.mark.parametrize("frames", [8, 15, 96, 97, 200])
def test_one_frame_every_80_ms(encoder, frames):
    assert encoder(torch.randn(3, 1, 64, frames)).shape == (3, frames // 8, 32)


def test_pool_is_maximum_plus_mean(encoder):
    frames = torch.tensor([[[1.0, -1.0], [3.0, -3.0]]])
    assert Encoder.pool(frames).tolist() == [[5.0, -3.0]]


def test_pooling_before_relu_changes_nothing(encoder):
    x = torch.randn(2, 1, 64, 96)
    for conv, norm, pool, relu in encoder.features:
        plain = pool(relu(norm(conv(x))))
        assert torch.equal(relu(pool(norm(conv(x)))), plain)
        x = plain


def test_own_state_dict_carries_the_statistics(encoder):
    encoder.mean.fill_(-5.0)
    encoder.deviation.fill_(4.0)
    copy = Encoder(channels=8, dim=32).eval()
    copy.load_state_dict(encoder.state_dict())
    assert copy.standardise(torch.tensor(-1.0)).item() == 1.0
    x = torch.randn(2, 1, 64, 96)
    torch.testing.assert_close(copy(x), encoder(x))


NAMES = {
    "LAPE": ({f"features.{b}.{i}": f"features_{b + 1}.{i}" for b in range(3) for i in (0, 1)}, "encoder."),
    "LAPE in training": (
        {f"features.{b}.{i}": f"features_{b + 1}.{i}" for b in range(3) for i in (0, 1)},
        "module.encoder_q.",
    ),
    "BYOL-A": ({f"features.{b}.{i}": f"features.{4 * b + i}" for b in range(3) for i in (0, 1)}, ""),
    "our own": ({}, ""),
}


@pytest.mark.parametrize("kind", NAMES)
def test_checkpoints_of_others_are_understood(encoder, kind):
    renames, prefix = NAMES[kind]
    state = {}
    for name, value in encoder.state_dict().items():
        layer, _, rest = name.rpartition(".")
        if layer:  # others do not carry the statistics
            state[f"{prefix}{renames.get(layer, layer)}.{rest}"] = value
    state["head.weight"] = torch.zeros(3)
    x = torch.randn(2, 1, 64, 96)
    torch.testing.assert_close(Encoder.from_audiontt(state).eval()(x), encoder(x))


def test_what_is_no_audiontt_is_refused(encoder):
    with pytest.raises(ValueError, match="No AudioNTT encoder"):
        Encoder.from_audiontt({"conv1.weight": torch.zeros(1)})
    state = encoder.state_dict()
    del state["fc.3.weight"]
    with pytest.raises(ValueError, match=r"missing.*fc\.3\.weight"):
        Encoder.from_audiontt(state)
    state = encoder.state_dict()
    del state["features.1.1.running_mean"]
    with pytest.raises(ValueError, match=r"missing.*features\.1\.1\.running_mean"):
        Encoder.from_audiontt(state)
    two = {f"{name}.{k}": v for name in ("student", "teacher") for k, v in encoder.state_dict().items()}
    with pytest.raises(ValueError, match="Several encoders"):
        Encoder.from_audiontt(two)
    deeper = encoder.state_dict() | {"features.3.0.weight": torch.zeros(8, 8, 3, 3)}
    with pytest.raises(ValueError, match=r"unexpected.*features\.3\.0\.weight"):
        Encoder.from_audiontt(deeper)


@pytest.mark.parametrize("frames", [24, 25, 9])
@pytest.mark.parametrize("training", [True, False])
def test_first_block_equals_its_layers_one_after_the_other(training, frames):
    torch.manual_seed(0)
    block = Encoder(channels=5, dim=8).double().features[0].train(training)
    norm = block[1]
    with torch.no_grad():
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var.add_(1)):
            values.add_(torch.rand_like(values) - 0.5)
    plain = nn.Sequential(*copy.deepcopy(block)).train(training)
    lms = torch.randn(11, 1, 16, frames, dtype=torch.float64)  # more clips than are worked on at a time
    lms[:, :, :6] = 1  # the four values that are pooled are often equal, as where the crop has no sound
    weights = torch.randn(11, 5, 8, frames // 2, dtype=torch.float64)
    for layers in (block, plain):
        (layers(lms) * weights).sum().backward()
    torch.testing.assert_close(block(lms), plain(lms))
    for ours, theirs in zip(block.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-7, atol=1e-9)
    for ours, theirs in zip(block.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_frozen_first_batch_norm_stays_as_it_is_in_training():
    torch.manual_seed(0)
    encoder = Encoder(channels=5, dim=8, dropout=0.0)
    lms = torch.randn(6, 1, 16, 24)
    block = encoder.features[0]
    block(lms)
    block[1].eval()  # as in fine-tuning, with the block itself in training mode
    before = copy.deepcopy(block.state_dict())
    torch.testing.assert_close(block(lms)[:1], block(lms[:1]))
    for name, value in block.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.unchecked
@pytest.mark.parametrize("shape", [(2, 2, 64, 96), (2, 64, 96)])
def test_what_is_no_batch_of_log_mels_is_refused(encoder, shape):
    with pytest.raises(ValueError, match=r"\(B, 1, F, T\), got \(2, "):
        encoder(torch.zeros(shape))


@pytest.mark.filterwarnings("ignore")  # tracing is deprecated, and in use
def test_a_trace_takes_any_number_of_clips(encoder):
    encoder.eval()
    traced = torch.jit.trace(encoder, torch.randn(8, 1, 64, 96))
    for clips in (3, 8, 16):
        lms = torch.randn(clips, 1, 64, 96)
        torch.testing.assert_close(traced(lms), encoder(lms), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_first_block_in_bf16_equals_its_layers_but_for_rounding(training):
    torch.manual_seed(0)
    block = Encoder(channels=5, dim=8).features[0].train(training)
    plain = nn.Sequential(*copy.deepcopy(block)).train(training)
    lms = torch.randn(5, 1, 16, 24)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = block(lms)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), plain(lms), rtol=0.03, atol=0.03)


def test_the_first_blocks_product_is_convolution_and_pooling():
    lms, filters, shift = torch.randn(3, 1, 64, 96), torch.randn(8, 1, 3, 3), torch.randn(8)
    gradients = []
    for block in (
        pooled_product,
        lambda x, w, b: torch.nn.functional.max_pool2d(torch.nn.functional.conv2d(x, w, b, padding=1), 2),
    ):
        w, b = filters.clone().requires_grad_(), shift.clone().requires_grad_()
        out = block(lms, w, b)
        gradients.append((out, *torch.autograd.grad(out.square().sum(), (w, b))))
    for fast, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


@given(value=st.floats(-1e4, 1e4), only=st.integers(0, 8))
def test_constant_input_has_no_negative_variance(value, only):
    block = Encoder(channels=9, dim=8).features[0]
    with torch.no_grad():  # each filter looks at one place; in the middle one no edge is seen
        block[0].weight.copy_(torch.eye(9).view(9, 1, 3, 3))
        block[0].weight[only] *= 3
    block[1].momentum = 1.0
    lms = torch.full((3, 1, 64, 96), value)
    out = block(lms)
    out.sum().backward()
    assert out.isfinite().all() and block[0].weight.grad.isfinite().all()
    assert (block[1].running_var >= 0).all()
    assert block.eval()(lms).isfinite().all()
