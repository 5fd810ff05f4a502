"""A GPU computes what the CPU does. Skipped where there is none."""

import gc

import pytest
import torch
from torch.overrides import TorchFunctionMode

import slicer_lite as sl
from slicer_lite.base.randomness import seeded
from slicer_lite.method.slicer import SLICER
from slicer_lite.method.views import TwoViews, fit_views
from slicer_lite.training import health, loop
from slicer_lite.training.run_folder import read_metrics

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def gpu():
    if torch.cuda.is_available():
        with torch.backends.cudnn.flags(allow_tf32=False):  # it rounds inputs to 10 bits
            yield torch.device("cuda")
    elif torch.backends.mps.is_available():
        yield torch.device("mps")
    else:
        pytest.skip("there is no GPU")


def test_views_are_those_of_the_cpu(gpu, minute):
    config = minute.replace(mixing="kmix")
    here = TwoViews(config, -5.0, 4.0, torch.randn(4, 64))
    there = TwoViews(config, -5.0, 4.0, here.mixer.centroids).to(gpu)
    for step in range(3):  # the memory fills and wraps round
        waveform = (3000 * torch.randn(16, 15_200)).to(torch.int16)
        inputs, inputs_there = here.inputs(waveform), there.inputs(waveform.to(gpu))
        torch.testing.assert_close(inputs_there.cpu(), inputs, rtol=0, atol=1e-3)
        for ours, theirs in zip(here(inputs, 0, step), there(inputs.to(gpu), 0, step), strict=True):
            torch.testing.assert_close(theirs.cpu(), ours, rtol=0, atol=1e-3)


def test_losses_gradients_teacher_and_queue_are_those_of_the_cpu(gpu, minute):
    here = SLICER(minute.replace(dropout=0.0))
    there = SLICER(minute.replace(dropout=0.0)).to(gpu)
    there.load_state_dict(here.state_dict())
    for step in range(3):
        view1, view2 = torch.randn(2, 16, 1, 64, 96).unbind(0)
        ids = torch.arange(16) + 16 * step
        for model, place in ((here, "cpu"), (there, gpu)):
            model.zero_grad()
            model.loss(view1.to(place), view2.to(place), ids.to(place))["total"].backward()
    for (name, ours), theirs in zip(here.named_parameters(), there.parameters(), strict=True):
        if ours.grad is not None:
            torch.testing.assert_close(theirs.grad.cpu(), ours.grad, rtol=1e-3, atol=1e-4, msg=name)
    for (name, ours), theirs in zip(here.state_dict().items(), there.state_dict().values(), strict=True):
        torch.testing.assert_close(theirs.cpu(), ours, rtol=1e-4, atol=1e-4, msg=name)


def test_a_stopped_run_goes_on(gpu, minute, tones, tmp_path):
    def stop_after_5(metrics):
        if metrics["step"] == 5:
            raise KeyboardInterrupt

    clips = sl.load_clips(tones, progress=False)
    settings = {"device": gpu.type, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        sl.pretrain(minute, clips, tmp_path / "stopped", on_step=stop_after_5, **settings)
    sl.pretrain(minute, clips, tmp_path / "stopped", **settings)
    sl.pretrain(minute, clips, tmp_path / "whole", **settings)
    losses = [[m["total"] for m in read_metrics(tmp_path / name)] for name in ("stopped", "whole")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"dropout": 0.3},
        {"optimizer": "sgd", "two_windows": True},
        {"optimizer": "muon"},
        {"method": "delores_m"},
        {"mixing": "none"},
    ],
    ids=str,
)
def test_a_replayed_step_is_the_step_itself(gpu, minute, tones, tmp_path, monkeypatch, changes):
    if gpu.type != "cuda":
        pytest.skip("only CUDA can replay")
    config, clips = minute.replace(**changes), sl.load_clips(tones, progress=False)
    replayed = _losses(config, clips, tmp_path / "replayed", gpu)
    monkeypatch.setattr(loop, "Replayed", lambda work, device: work)
    assert replayed == pytest.approx(_losses(config, clips, tmp_path / "plain", gpu), rel=1e-5)


@pytest.mark.filterwarnings("ignore:::torch")  # what its compiler has to say is not about us
def test_a_compiled_step_is_the_step_itself(gpu, minute, tones, tmp_path):
    if gpu.type != "cuda":
        pytest.skip("only CUDA networks are compiled")
    clips = sl.load_clips(tones, progress=False)
    plain, compiled = (
        _losses(minute, clips, tmp_path / str(compile), gpu, compile=compile) for compile in (False, True)
    )
    assert compiled == pytest.approx(plain, rel=1e-3)


@pytest.mark.filterwarnings("ignore:::torch")
@pytest.mark.parametrize("compile", [False, True])
def test_a_gpu_s_memory_is_free_after_a_run(gpu, minute, tones, tmp_path, compile, request):
    if gpu.type != "cuda":
        pytest.skip("only CUDA's memory is counted")
    clips = sl.load_clips(tones, progress=False)
    config = minute.replace(mix_memory=8192)  # 201 MB
    sl.pretrain(config, clips, tmp_path / "first", device="cuda", progress=False, compile=compile)
    gc.collect()
    before = torch.cuda.memory_allocated()
    gc.disable()
    request.addfinalizer(gc.enable)
    sl.pretrain(config, clips, tmp_path / "second", device="cuda", progress=False, compile=compile)
    # CUDA's libraries keep some 70 MB of workspace for each run's stream.
    assert torch.cuda.memory_allocated() - before < 100e6


class _OnMPS(torch.Tensor):
    """Stands for a tensor on Apple's MPS, which has neither double precision nor `pdist`."""

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        if function == torch.Tensor.device.__get__:
            return torch.device("mps")
        if function in (torch.Tensor.double, torch.pdist):
            raise TypeError(f"MPS has no {function.__name__}")
        found = super().__torch_function__(function, types, arguments, options or {})
        return found.as_subclass(torch.Tensor) if function is torch.Tensor.cpu else found


class _WithMPS(TorchFunctionMode):
    """What is moved to MPS becomes an `_OnMPS`."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        if function is torch.Tensor.to and arguments[1] == torch.device("mps"):
            return arguments[0].as_subclass(_OnMPS)
        return function(*arguments, **(options or {}))


def test_health_needs_nothing_that_mps_lacks():
    x = torch.randn(40, 8)
    assert health.rank_me(x.as_subclass(_OnMPS)) == pytest.approx(health.rank_me(x))
    assert health.uniformity(x.as_subclass(_OnMPS)) == pytest.approx(health.uniformity(x))


def test_what_views_need_is_measured_without_what_mps_lacks(minute, tones):
    clips = sl.load_clips(tones, progress=False).for_pretraining()
    here = fit_views(minute, clips, CPU)
    with _WithMPS():
        there = fit_views(minute, clips, torch.device("mps"))
    for name, value in here.state_dict().items():
        torch.testing.assert_close(there.state_dict()[name].as_subclass(torch.Tensor), value)


def _losses(config, clips, folder, gpu, **how):
    sl.pretrain(config, clips, folder, device=gpu.type, progress=False, **how)
    return [m["total"] for m in read_metrics(folder)]


def test_first_block_is_that_of_the_cpu(gpu):
    here = sl.Encoder(channels=8, dim=16)
    there = sl.Encoder(channels=8, dim=16).to(gpu)
    there.load_state_dict(here.state_dict())
    lms = torch.randn(4, 1, 64, 96)
    for _ in range(2):  # the second time in evaluation mode, with the statistics of the first
        blocks = [here.blocks(lms)[0], there.blocks(lms.to(gpu))[0]]
        torch.testing.assert_close(blocks[1].cpu(), blocks[0], rtol=1e-4, atol=1e-4)
        gradients = [
            torch.autograd.grad(y.square().sum(), list(encoder.features[0].parameters()))
            for y, encoder in zip(blocks, (here, there), strict=True)
        ]
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(theirs.cpu(), ours, rtol=1e-3, atol=1e-2)
        here.eval(), there.eval()


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_the_gpu_that_is_computed_on_is_the_one_that_is_seeded(monkeypatch, name):
    gpus = tuple(torch.Generator() for _ in range(3))  # stand for the GPUs' own; number 2 is the current one
    chosen = torch.device(name).index if ":" in name else 2

    def of(device="cuda"):
        number = torch.device(device).index if not isinstance(device, int) else device
        return gpus[2 if number is None else number]

    monkeypatch.setattr(torch.cuda, "default_generators", gpus)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: of().manual_seed(seed))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device="cuda": of(device).get_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device="cuda": of(device).set_state(state))
    before = [gpu.get_state() for gpu in gpus]
    drawn = []
    for seed in (1, 2, 1):
        with seeded(seed, torch.device(name)):
            drawn.append(torch.rand(1, generator=gpus[chosen]).item())
            assert all(
                torch.equal(g.get_state(), s)
                for g, s in zip(gpus, before, strict=True)
                if g is not gpus[chosen]
            )
        assert all(torch.equal(g.get_state(), s) for g, s in zip(gpus, before, strict=True))
    assert drawn[0] == drawn[2] != drawn[1]
