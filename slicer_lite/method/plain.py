"""SLICER in one file of plain PyTorch, to be read from top to bottom.

Everything is done as the paper says it, clip by clip where it speaks of clips, and nothing is made fast. The rest of
the package computes the same: the tests compare the two.

Settings carry the mark of their source: [P] the SLICER paper (arXiv 2211.01519), [R] the authors' released toolkit
(LAPE), [B] BYOL-A (arXiv 2103.06695), [C] Contrastive Clustering (arXiv 2009.09687), [M] MoCo v2 (arXiv 2003.04297),
[ours] decided here, because the sources are silent or disagree.

In shapes: B clips of a batch, F = 64 mel bands, T = 96 frames, D numbers of a key, Q keys in the queue, K = 4
clusters of k-mix, M of the cluster loss. To train, on the CPU (`random.seed` and `torch.manual_seed` repeat a run):

    student = Network(Encoder())
    optimizer = torch.optim.SGD(student.parameters(), lr=3e-4, momentum=0.9, weight_decay=1e-4)  # [R]
    history = pretrain(log_mel(waveforms), student, optimizer)
"""

from __future__ import annotations

import copy
import math
import random
from collections import deque
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, normalize, pad
from torchaudio.transforms import MelSpectrogram

# ---- 1. A sound becomes a picture ----------------------------------------------------------------------------

power_in_bands = MelSpectrogram(  # 64 bands from 60 to 7,800 Hz, a frame every 10 ms [R]
    16_000, n_fft=1024, hop_length=160, f_min=60, f_max=7800, n_mels=64, norm="slaney", mel_scale="slaney"
)


def log_mel(waveforms: Tensor) -> Tensor:
    """Windows of 0.95 s at 16 kHz, in [-1, 1], to log-mels: `(B, 15200)` -> `(B, 1, 64, 96)` [R]."""
    return (power_in_bands(waveforms) + 1.19e-7).log().unsqueeze(1)


# ---- 2. k-mix: mix in a little of a clip that sounds as unlike this one as possible --------------------------


def fit_centroids(time_means: Tensor, start: Tensor, rounds: int = 20) -> Tensor:
    """Spherical k-means, from the rows `start`: `(N, F)`, `(K,)` -> `(K, F)` centroids of length 1 [R]."""
    points = normalize(time_means, dim=1)
    centroids = points[start]
    for _ in range(rounds):
        clusters = (points @ centroids.T).argmax(1)  # (N,); of length 1, so that the product is the cosine
        for c in clusters.unique():
            centroids[c] = normalize(points[clusters == c].sum(0), dim=0)
    return centroids


def nearest(x: Tensor, centroids: Tensor) -> int:
    """The cluster of a clip, whose centroid is nearest to its average over time: `(F, T)` -> 0 to K - 1."""
    return int((centroids @ normalize(x.mean(1), dim=0)).argmax())


Memory = deque[tuple[Tensor, int]]  # recent inputs (F, T), each with its cluster; the latest is the last


def k_mix(x: Tensor, memory: Memory, centroids: Tensor, pick: float, a: float, top_k: int = 128) -> Tensor:
    """Mix one standardised log-mel with a partner from the memory: `(F, T)` -> `(F, T)` [P], [R].

    `pick`, from 0 to below 1, says which of the candidates is the partner; `a`, how much of it to take.
    """
    if not memory:
        return x
    distances = (centroids - centroids[nearest(x, centroids)]).norm(dim=1)  # (K,), from the one of x
    for cluster in distances.argsort(descending=True).tolist():
        members = [z for z, its_cluster in memory if its_cluster == cluster]
        if members:
            break  # the farthest cluster that has any
    candidates = members[-top_k:][::-1]  # 128 at most [R], the latest [ours], newest first
    z = candidates[int(pick * len(candidates))]
    # Of standardised log-mels exp gives a root of the power, not the power [B][R].
    return ((1 - a) * x.exp() + a * z.exp()).log()


# ---- 3. Random resize crop: shift and stretch pitch and time a little ----------------------------------------

Box = tuple[int, int, int, int]  # top, left, height, width


def resize_crop(x: Tensor, box: Box) -> Tensor:
    """Lay x in the middle of a canvas, cut a box out, resize it to the size of x: `(F, T)` -> `(F, T)` [B]."""
    canvas = pad(x, (24, 24))  # (64, 144), of zeros: the mean level, not silence
    top, left, height, width = box
    part = canvas[top : top + height, left : left + width]
    return interpolate(part[None, None], x.shape, mode="bicubic", align_corners=True)[0, 0]


# ---- 4. Two views of each clip -------------------------------------------------------------------------------


class Draw(NamedTuple):
    """What chance decides about one view of one clip."""

    pick: float  # from 0 to below 1: the partner
    a: float  # the partner's weight
    box: Box


def draw() -> Draw:
    """Let chance decide. (What else it decides: the first weights, dropout, and which clips come when.)"""
    height = min(int(random.uniform(0.6, 1.5) * 64), 64)  # [B]; the canvas is no higher
    width = int(random.uniform(0.6, 1.5) * 96)  # [B]
    box = random.randint(0, 64 - height), random.randint(0, 144 - width), height, width
    return Draw(random.random(), random.uniform(0, 0.4), box)  # [B]


def make_view(lms: Tensor, memory: Memory, centroids: Tensor, draws: list[Draw], top_k: int = 128) -> Tensor:
    """One view of each clip of a batch: `(B, 1, F, T)` -> `(B, 1, F, T)`."""
    pairs = zip(lms.squeeze(1), draws, strict=True)
    views = [resize_crop(k_mix(x, memory, centroids, d.pick, d.a, top_k), d.box) for x, d in pairs]
    return torch.stack(views).unsqueeze(1)


def remember(lms: Tensor, memory: Memory, centroids: Tensor) -> None:
    """Put a batch `(B, 1, F, T)`, unmixed, into the memory, which forgets the oldest."""
    memory.extend((x, nearest(x, centroids)) for x in lms.squeeze(1))


# ---- 5. The networks -----------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """AudioNTT-2020: what is kept in the end. `(B, 1, F, T)` -> embeddings `(B, dim)` [B]."""

    def __init__(self, channels: int = 64, dim: int = 2048, dropout: float = 0.3):  # [B]
        super().__init__()
        self.dim = dim

        def block(channels_in: int) -> nn.Sequential:
            convolution = nn.Conv2d(channels_in, channels, kernel_size=3, padding=1)
            return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2))

        self.features = nn.Sequential(block(1), block(channels), block(channels))
        self.fc = nn.Sequential(
            nn.Linear(channels * 8, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim), nn.ReLU()
        )

    def forward(self, lms: Tensor) -> Tensor:
        maps = self.features(lms)  # (B, channels, F / 8, T / 8)
        frames = maps.permute(0, 3, 2, 1).flatten(2)  # (B, T / 8, F / 8 * channels), one every 80 ms
        frames = self.fc(frames)  # (B, T / 8, dim)
        return frames.amax(1) + frames.mean(1)


class Outputs(NamedTuple):
    """What a network says of one view of a batch."""

    key: Tensor  # (B, D), length 1: which clip is it?
    assignment: Tensor  # (B, M), rows sum to 1: which cluster is it in?


class Network(nn.Module):
    """Encoder and a head for each loss [R]. Student and teacher are one of these each."""

    def __init__(self, encoder: Encoder, keys: int = 128, clusters: int = 128):  # D [R][M], M [R]
        super().__init__()
        self.encoder, dim = encoder, encoder.dim
        self.instance_head = nn.Linear(dim, keys)
        self.cluster_head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, clusters))

    def forward(self, lms: Tensor) -> Outputs:
        embedding = self.encoder(lms)  # (B, dim)
        key = normalize(self.instance_head(embedding), dim=1)
        return Outputs(key, self.cluster_head(embedding).softmax(1))


def make_teacher(student: Network) -> Network:
    """A copy that no gradient moves."""
    teacher = copy.deepcopy(student).requires_grad_(False)
    for layer in teacher.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # it answers without dropout [ours]
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0  # it uses the batch's statistics [M][R] and keeps its running ones [ours]
    return teacher


def move_teacher(teacher: Network, student: Network, momentum: float) -> None:
    """Move its weights [M] and its running statistics [ours] a little towards the student's."""
    for old, new in zip(teacher.state_dict().values(), student.state_dict().values(), strict=True):
        if old.is_floating_point():  # all but the counters of batches
            old.copy_(momentum * old + (1 - momentum) * new)


# ---- 6. The losses -------------------------------------------------------------------------------------------


def info_nce(query: Tensor, key: Tensor, queue: Tensor, masked: Tensor, temperature: float) -> Tensor:
    """Instance loss: find one's own key among those of other clips [M].

    Shape: query and key `(B, D)`, queue `(Q, D)`; masked `(B, Q)`, True where a key of the queue does not count.
    """
    positive = (query * key).sum(1, keepdim=True)  # (B, 1)
    negatives = (query @ queue.T).masked_fill(masked, -math.inf)  # (B, Q)
    logits = torch.cat([positive, negatives], dim=1) / temperature  # (B, 1 + Q)
    return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))  # the right answer is number 0


def cluster_contrast(p: Tensor, q: Tensor, temperature: float = 1.0) -> Tensor:  # [C][R]
    """Cluster loss: a cluster should have the same members in views p and q, and share none: `(B, M)` each [C]."""
    columns = normalize(torch.cat([p, q], dim=1).T, dim=1)  # (2M, B): a row for each cluster in each view
    logits = columns @ columns.T / temperature  # (2M, 2M)
    logits = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -math.inf)  # none with itself
    right = torch.arange(len(logits)).roll(p.shape[1])  # of row i, i + M or i - M: the same cluster
    return cross_entropy(logits, right)


def negative_entropy(p: Tensor) -> Tensor:
    """`(B, M)` -> 0 if the clusters are used alike, log M if one has all clips [C]."""
    use = p.mean(0)  # (M,), sums to 1
    return torch.xlogy(use, use).sum() + math.log(len(use))


# ---- 7. The step ---------------------------------------------------------------------------------------------


class Queue(NamedTuple):
    """The teacher's answers of earlier batches."""

    keys: Tensor  # (Q, D), the oldest first
    clips: Tensor  # (Q,), which clip each of them is of


def step(
    student: Network,
    teacher: Network,
    optimizer: torch.optim.Optimizer,
    view1: Tensor,  # (B, 1, F, T)
    view2: Tensor,
    clips: Tensor,  # (B,), which clip each row is of
    queue: Queue,
    queue_size: int = 65_536,  # [M][R]
    temperature: float = 0.07,  # [M][R]
    momentum: float = 0.999,  # of the teacher [M][R]
) -> tuple[dict[str, Tensor], Queue]:
    """Train on one batch: student, teacher and optimiser change. Returns the losses and the next queue."""
    s1, s2 = student(view1), student(view2)
    move_teacher(teacher, student, momentum)  # once, and before the keys are computed [P]
    with torch.no_grad():
        t1, t2 = teacher(view1), teacher(view2)
    own_keys = clips[:, None] == queue.clips  # (B, Q): a clip's earlier keys are no negatives to it [ours]
    pairs = (s1, t2), (s2, t1)  # both directions: of clusters [P], of keys [ours]
    parts: dict[str, Any] = {
        "instance": sum(info_nce(s.key, t.key, queue.keys, own_keys, temperature) for s, t in pairs),
        "cluster": sum(cluster_contrast(s.assignment, t.assignment) for s, t in pairs),
        "entropy": sum(negative_entropy(s.assignment) + negative_entropy(t.assignment) for s, t in pairs),
    }
    total = sum(parts.values())  # weights of 1 [ours]
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    # Both directions have used the queue as it was; only now do the new keys enter [ours].
    keys, of_clips = torch.cat([queue.keys, t2.key, t1.key]), torch.cat([queue.clips, clips, clips])
    return {"total": total, **parts}, Queue(keys[-queue_size:], of_clips[-queue_size:])


# ---- 8. The loop ---------------------------------------------------------------------------------------------


def pretrain(
    log_mels: Tensor,  # (N, 1, F, T)
    student: Network,
    optimizer: torch.optim.Optimizer,
    passes: int = 50,  # over all clips [R]
    batch_size: int = 512,  # clips at most [R]
    memory_size: int = 2048,  # inputs [B][R]
    queue_size: int = 65_536,  # keys [M][R]
    temperature: float = 0.07,  # [M][R]
    momentum: float = 0.999,  # of the teacher [M][R]
) -> list[dict[str, float]]:
    """Train the student on N clips. Returns the losses of every step."""
    lms = (log_mels - log_mels.mean()) / log_mels.std()  # [B]
    sample = torch.randperm(len(lms))[: max(2000, len(lms) // 20)]  # 5 % [R], at least 2,000 [ours]
    centroids = fit_centroids(lms[sample].mean(3).squeeze(1), start=torch.arange(4))  # [R]
    memory: Memory = deque(maxlen=memory_size)
    teacher = make_teacher(student)
    queue = Queue(torch.zeros(0, student.instance_head.out_features), torch.zeros(0, dtype=torch.long))
    history = []
    for _ in range(passes):
        order = torch.randperm(len(lms))
        for clips in order.tensor_split(math.ceil(len(lms) / batch_size)):
            batch = lms[clips]  # (B, 1, F, T)
            # Both views draw from the memory as it was before the batch [ours].
            view1, view2 = (make_view(batch, memory, centroids, [draw() for _ in clips]) for _ in range(2))
            remember(batch, memory, centroids)
            losses, queue = step(
                student, teacher, optimizer, view1, view2, clips, queue, queue_size, temperature, momentum
            )
            history.append({name: loss.item() for name, loss in losses.items()})
    return history
