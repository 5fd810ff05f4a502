"""plain.py, which says the method as the paper does, and the fast path, which has to compute the same."""

import ast
import inspect
import math
import random
import sys
from collections import Counter, deque
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import slicer_lite as sl
from slicer_lite.method import plain
from slicer_lite.method.views import Draws, TwoViews

SOURCE = Path(plain.__file__).read_text(encoding="utf-8")


def close(actual, expected):
    """To 1e-5 of the largest number; the 1e-12 is for what would be zero without rounding."""
    largest = expected.abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * largest + 1e-12)


@pytest.fixture
def double(monkeypatch):
    """All numbers in double precision, so that rounding decides no maximum and no ReLU, on any processor.

    The fast path asks for single precision where it might be in half: that becomes double, too.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(before)


def clips_of_unequal_clusters():
    """Standardised log-mels `(12, 1, 64, 96)`, and 4 centroids.

    The first has eight clips, the second three, the third one. The last has none and is the farthest from all.
    """
    centroids = torch.randn(3, 64)
    centroids = torch.nn.functional.normalize(torch.cat([centroids, -centroids.sum(0, keepdim=True)]), dim=1)
    cluster = torch.tensor([0, 0, 1, 0, 0, 2, 0, 1, 0, 0, 1, 0])
    lms = 8 * centroids[cluster][:, None, :, None] + torch.randn(12, 1, 64, 96)
    return lms, centroids


class Both:
    """The fast path and plain.py with the same weights, to train on the same clips with the same draws."""

    def __init__(self, queue, memory, top_k, dropout):
        config = sl.preset(
            "paper",
            channels=4,
            dim=16,
            dropout=dropout,
            projection_dim=8,
            clusters=5,
            mix_memory=memory,
            mix_top_k=top_k,
            queue=queue,
            temperature=0.2,
            teacher_momentum=0.8,
        )
        self.config, (self.lms, self.centroids) = config, clips_of_unequal_clusters()
        self.views, self.model = TwoViews(config, 0.0, 1.0, self.centroids), sl.SLICER(config)
        self.student = plain.Network(plain.Encoder(4, 16, dropout), keys=8, clusters=5)
        state = self.model.student.state_dict()
        self.student.load_state_dict({name: state[name] for name in self.student.state_dict()})
        self.teacher = plain.make_teacher(self.student)
        self.queue = plain.Queue(torch.zeros(0, 8), torch.zeros(0, dtype=torch.long))
        self.memory = deque(maxlen=memory)
        self.optimizers = [
            torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)
            for network in (self.model.student, self.student)
        ]

    def two_views(self, lms, step):
        """Both views of a batch, by the fast path and by plain.py, with the same draws."""
        drawn = self.views.draw(len(lms), 0, step)
        fast = Draws(*(view._replace(mixing=view.mixing.double()) for view in drawn))
        plainly = []
        for mixing, boxes in fast:
            draws = [
                plain.Draw(pick, self.config.mix_ratio * ratio, tuple(box))
                for (pick, ratio), box in zip(mixing.tolist(), boxes.tolist(), strict=True)
            ]
            plainly.append(plain.make_view(lms, self.memory, self.centroids, draws, self.config.mix_top_k))
        plain.remember(lms, self.memory, self.centroids)
        return self.views.drawn(lms, fast), plainly

    def step(self, fast, plainly, clips, seed):
        """One step of each on its own views. Returns the losses of both; gradients stay where they are."""
        torch.manual_seed(seed)  # dropout
        self.optimizers[0].zero_grad()
        parts = self.model.loss(*fast, clips)
        parts["total"].backward()
        self.optimizers[0].step()
        torch.manual_seed(seed)
        config = self.config
        settings = config.queue, config.temperature, config.teacher_momentum
        networks = self.student, self.teacher, self.optimizers[1]
        losses, self.queue = plain.step(*networks, *plainly, clips, self.queue, *settings)
        return parts, losses

    def check_gradients(self):
        fast = dict(self.model.student.named_parameters())
        for name, weight in self.student.named_parameters():
            close(fast[name].grad, weight.grad)

    def check_networks(self):
        """Weights and running statistics."""
        for fast, plainly in ((self.model.student, self.student), (self.model.teacher, self.teacher)):
            state = fast.state_dict()
            for name, value in plainly.state_dict().items():
                close(state[name], value)

    def check_queue(self):
        place = oldest_first(self.model.queued, self.config.queue)
        close(self.model.queue[place], self.queue.keys)
        assert self.model.queue_clip[place].tolist() == self.queue.clips.tolist()

    def check_memory(self):
        mixer = self.views.mixer
        place = oldest_first(mixer.pushed, self.config.mix_memory)
        assert torch.equal(mixer.memory[place], torch.stack([x for x, _ in self.memory]))
        assert mixer.memory_cluster[place].tolist() == [cluster for _, cluster in self.memory]


def oldest_first(entered, size):
    """The places of a ring that `entered` entries went into, from the oldest to the latest."""
    filled = min(int(entered), size)
    return (entered - filled + torch.arange(filled)) % size


@pytest.mark.parametrize(
    ("queue", "memory", "top_k", "dropout"),
    [
        pytest.param(200, 100, 50, 0.0, id="roomy"),
        pytest.param(27, 19, 3, 0.0, id="queue and memory wrap round"),
        pytest.param(11, 5, 2, 0.3, id="less room than a batch takes, and dropout"),
    ],
)
def test_five_whole_steps_are_those_of_the_fast_path(double, queue, memory, top_k, dropout):
    both = Both(queue, memory, top_k, dropout)
    mixer, masked, not_the_farthest = both.views.mixer, 0, 0
    for number in range(5):
        clips = (5 * number + torch.arange(8)) % len(both.lms)  # some come again in the next batch
        lms = both.lms[clips]
        masked += (clips[:, None] == both.queue.clips).sum()
        own = mixer.assign(lms.mean(3).flatten(1))
        if number:
            not_the_farthest += (mixer.partner_cluster()[own] != mixer.partner_order[own, 0]).sum()

        fast, plainly = both.two_views(lms, number)
        for actual, expected in zip(fast, plainly, strict=True):
            close(actual, expected)
        parts, losses = both.step(fast, plainly, clips, seed=number)
        assert parts.keys() == losses.keys()
        for name, loss in losses.items():
            close(parts[name], loss)
        both.check_gradients()
        both.check_networks()
        both.check_queue()
        both.check_memory()
    # What the cases are there for has happened.
    assert masked
    assert not_the_farthest
    assert (both.model.queued > queue) == (mixer.pushed > memory) == (queue < 200)
    assert len(set(Counter(cluster for _, cluster in both.memory).values())) > 1


def test_a_window_of_sound_gives_the_same_picture():
    waveforms = 0.1 * torch.randn(3, 15_200)
    torch.testing.assert_close(plain.log_mel(waveforms), sl.LogMel()(waveforms), rtol=0, atol=1e-3)


def test_centroids_are_the_same():
    time_means = torch.randn(200, 64)
    start = torch.randperm(200, generator=torch.Generator().manual_seed(7))[:4]
    torch.testing.assert_close(
        plain.fit_centroids(time_means, start), sl.kmix.fit_centroids(time_means, seed=7)
    )


@given(data=st.data())
def test_any_box_is_resized_alike(data):
    height, width = data.draw(st.integers(38, 64)), data.draw(st.integers(57, 144))
    box = data.draw(st.integers(0, 64 - height)), data.draw(st.integers(0, 144 - width)), height, width
    x = torch.randn(64, 96, generator=torch.Generator().manual_seed(width))
    resized = sl.RandomResizeCrop().apply(x[None, None], torch.tensor([box]))[0, 0]
    # Single precision knows places on the canvas to 1e-5 of a bin. The five steps, in double, have 80 boxes.
    torch.testing.assert_close(resized, plain.resize_crop(x, box), rtol=0, atol=3e-4)


def test_draws_are_those_that_the_fast_path_makes():
    random.seed(0)
    drawn = [plain.draw() for _ in range(4000)]
    boxes = torch.tensor([d.box for d in drawn])
    top, left, height, width = boxes.unbind(1)
    assert min(top.min(), left.min()) == 0
    assert (top + height).max() == 64
    assert (left + width).max() == 144
    assert all(0 <= d.pick < 1 and 0 <= d.a <= 0.4 for d in drawn)
    assert max(d.a for d in drawn) > 0.39
    fast = sl.RandomResizeCrop().boxes(4000, torch.Generator().manual_seed(0))
    # Two means of 4,000 draws lie within five of their standard errors of each other.
    error = (boxes.double().var(0) / 4000 + fast.double().var(0) / 4000).sqrt()
    assert ((boxes.double().mean(0) - fast.double().mean(0)).abs() < 5 * error).all()
    assert boxes.amin(0).tolist()[2:] == fast.amin(0).tolist()[2:] == [38, 57]
    assert boxes.amax(0).tolist()[2:] == [64, 143]


def test_defaults_are_the_settings_of_preset_paper():
    config = sl.preset("paper")
    for function, names in {
        plain.Encoder: {"channels": "channels", "dim": "dim", "dropout": "dropout"},
        plain.Network: {"keys": "projection_dim", "clusters": "clusters"},
        plain.k_mix: {"top_k": "mix_top_k"},
        plain.make_view: {"top_k": "mix_top_k"},
        plain.cluster_contrast: {"temperature": "cluster_temperature"},
        plain.step: {"queue_size": "queue", "temperature": "temperature", "momentum": "teacher_momentum"},
        plain.pretrain: {
            "batch_size": "batch_size",
            "memory_size": "mix_memory",
            "queue_size": "queue",
            "temperature": "temperature",
            "momentum": "teacher_momentum",
        },
    }.items():
        defaults = inspect.signature(function).parameters
        assert {name: defaults[name].default for name in names} == {
            name: getattr(config, setting) for name, setting in names.items()
        }


def test_its_own_loop_lowers_the_loss():
    random.seed(0)
    clips = torch.randn(32, 1, 64, 1) + 0.3 * torch.randn(32, 1, 64, 96)  # each has a spectrum of its own
    student = plain.Network(plain.Encoder(channels=4, dim=16, dropout=0.0), keys=8, clusters=4)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
    history = plain.pretrain(clips, student, optimizer, 16, 16, memory_size=24, queue_size=16, momentum=0.9)
    assert len(history) == 16 * 2
    totals = [losses["total"] for losses in history]
    for losses in history:
        assert losses["total"] == pytest.approx(losses["instance"] + losses["cluster"] + losses["entropy"])
        assert math.isfinite(losses["total"])
    # The first step is easy, since its queue is empty. (With a rate of 0 the rest fell by 0.11 at most, of 5 seeds.)
    assert sum(totals[-8:]) / 8 < sum(totals[1:9]) / 8 - 0.3


def test_it_is_short_and_needs_nothing_of_the_package():
    assert len(SOURCE.splitlines()) <= 300
    imported = set()
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            imported.add(str(node.module).partition(".")[0])
    assert imported - sys.stdlib_module_names == {"torch", "torchaudio"}
