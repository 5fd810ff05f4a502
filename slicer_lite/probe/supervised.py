"""The baseline with labels: the same encoder, trained from scratch on the train split for the tasks themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from slicer_lite.audio.store import Clips
from slicer_lite.base.device import choose_device, computes_in_bf16, keep_freed_blocks
from slicer_lite.base.randomness import clip_order, generator, seeded
from slicer_lite.explore.embed import mean_over_windows, set_statistics
from slicer_lite.method.encoder import Encoder
from slicer_lite.method.logmel import LogMel
from slicer_lite.method.views import random_starts
from slicer_lite.probe.linear import Accuracy, scored, with_validation
from slicer_lite.share.wrapped import as_encoder

# All [ours], tried on the embedded sound world.
_BATCH, _RATE, _DECAY, _RISING = (
    64,
    2e-3,
    0.05,
    0.2,
)  # clips; peak learning rate; weight decay; share of the steps
_LOOKS = 10  # at the validation split
_WIDEST, _LONGEST = 10, 12  # bands and frames, of which at most one less is flattened
_NO_LABEL = -100


class _Model(nn.Module):
    """An encoder and a linear layer for each task."""

    def __init__(self, encoder: Callable[[], nn.Module], classes: Sequence[int]):
        super().__init__()
        self.encoder, self.classes = as_encoder(encoder), classes
        self.heads = nn.ModuleList(nn.Linear(self.encoder.dim, count) for count in classes)

    def forward(self, lms: Tensor) -> list[Tensor]:
        embedding = self.encoder.pool(self.encoder(self.encoder.standardise(lms))).float()
        return [head(embedding) for head in self.heads]


def supervised(
    clips: Clips,
    rows: pd.DataFrame,
    channels: int = 32,
    dim: int = 256,
    epochs: int = 40,
    seed: int = 0,
    device: str = "cpu",
    validate: bool = True,
    progress: bool = False,
    encoder: Callable[[], nn.Module] | None = None,
) -> dict[str, Accuracy]:
    """Train an encoder with labels and test it.

    Of several tasks, one encoder learns all together, with a linear layer for each. AdamW with a one-cycle
    learning rate; a random window of each clip, its gain varied, one band and one moment flattened. Of ten states
    along the way the one serves under which the validation labels are likeliest; where a task has no validation
    split, a fifth of its train split is held out for that. A test clip's logits are the mean of its windows' logits.

    Args:
        clips: the data set.
        rows: of its tasks; columns `clip`, `task`, `label`, `split` and `group`, as in `Clips.rows`.
        channels, dim: of the encoder.
        epochs: passes over the train split.
        seed: of weights, order, windows and of the fifth.
        device: `auto`, `cpu`, `cuda` or `mps`.
        validate: if not, nothing is held out and the last state serves.
        progress: show a bar.
        encoder: makes another one than AudioNTT, of which `channels` and `dim` then say nothing: see
            `slicer_lite.as_encoder`.

    Returns:
        The test accuracy of each task.

    Raises:
        ValueError: no epochs, or no encoder.
    """
    if epochs < 1:
        raise ValueError(f"epochs = {epochs}: there must be at least one.")
    where = choose_device(device)
    tasks = {str(task): part for task, part in rows.groupby("task", sort=False)}
    train = {task: part[part["split"] == "train"] for task, part in tasks.items()}
    test = {task: part[part["split"] == "test"] for task, part in tasks.items()}
    names = {task: np.unique(part["label"].to_numpy(str)) for task, part in train.items()}
    held = {task: part[:0] for task, part in train.items()}
    if validate:
        for task, part in tasks.items():
            train[task], held[task] = with_validation(part, seed)
    numbers = np.full((len(clips), len(tasks)), _NO_LABEL)
    for column, (task, part) in enumerate(train.items()):
        numbers[part["clip"], column] = np.searchsorted(names[task], part["label"].to_numpy(str))
    labelled = (numbers != _NO_LABEL).any(1)
    fit, y = clips.subset(labelled), torch.from_numpy(numbers[labelled]).to(where)
    with seeded(seed, where):
        kind = encoder or partial(Encoder, channels=channels, dim=dim)
        model = _Model(kind, [len(n) for n in names.values()]).to(where)
        set_statistics(model.encoder, fit)
        best, highest = (
            model.state_dict(),
            -np.inf,
        )  # without a choice: the weights as they will be at the end
        with keep_freed_blocks(where, computes_in_bf16(where)):
            for _ in _training(model, fit, y, epochs, seed, where, progress):
                if validate:
                    likelihood = _likelihood(model, clips, held, names, where)
                    if likelihood > highest:
                        highest, best = likelihood, copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    logits = _logits(model, clips, test, where)
    right = {task: names[task][logits[task].argmax(1)] == test[task]["label"].to_numpy(str) for task in tasks}
    return {task: scored(r, test[task]["label"], test[task]["group"]) for task, r in right.items()}


def _training(
    model: _Model, clips: Clips, y: Tensor, epochs: int, seed: int, device: torch.device, progress: bool
) -> Iterator[int]:
    """Train; yields the number of the step ten times along the way, the last time at the end."""
    batch = min(_BATCH, len(clips))
    steps = epochs * (len(clips) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), _RATE, weight_decay=_DECAY)
    rising = max(_RISING, min(1.5 / steps, 0.75))  # the schedule divides by the rising steps less one
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps, pct_start=rising)
    looks = set(np.linspace(0, steps, _LOOKS + 1).round().astype(int)[1:].tolist())
    logmel = LogMel().to(device)
    for step in tqdm(range(1, steps + 1), desc="supervised", unit="step", disable=not progress, leave=False):
        draws = generator(seed, step, "supervised")
        chosen = clip_order(len(clips), batch, seed, step - 1)
        starts = random_starts(clips, chosen, draws)
        waveform = clips.windows(chosen.numpy(), starts.numpy()).to(device)
        model.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=computes_in_bf16(device)):
            logits = model(_varied(logmel(waveform.float() / 32768), draws))
        # Clips without a label in a task add nothing to its sum.
        losses = [
            F.cross_entropy(s.float(), y[chosen, column], reduction="sum", ignore_index=_NO_LABEL)
            for column, s in enumerate(logits)
        ]
        (torch.stack(losses).sum() / batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step in looks:
            model.eval()
            yield step


def _varied(lms: Tensor, draws: torch.Generator) -> Tensor:
    """Log-mels `(B, 1, F, T)` with another gain each, and one band and one moment flattened to the mean."""
    count, bands, frames = len(lms), lms.shape[2], lms.shape[3]

    def stretch(size: int, longest: int) -> Tensor:  # (B, size): True in a random stretch
        begin = torch.randint(size, (count, 1), generator=draws)
        places = torch.arange(size)
        return (places >= begin) & (places < begin + torch.randint(longest, (count, 1), generator=draws))

    flat = stretch(bands, _WIDEST)[:, None, :, None] | stretch(frames, _LONGEST)[:, None, None, :]
    gain = torch.randn(count, 1, 1, 1, generator=draws)
    lms = torch.where(flat.to(lms.device), lms.mean((2, 3), keepdim=True), lms)
    return lms + gain.to(lms.device)


def _logits(
    model: _Model, clips: Clips, rows: Mapping[str, pd.DataFrame], device: torch.device
) -> dict[str, np.ndarray]:
    """For each task `(N, K)`: the mean over each clip's windows, in the order of its rows."""
    wanted = np.unique(np.concatenate([part["clip"].to_numpy(int) for part in rows.values()]))
    together = mean_over_windows(lambda lms: torch.cat(model(lms), 1), clips.subset(wanted), device)
    parts = np.split(together, np.cumsum(model.classes)[:-1], axis=1)
    return {
        task: logits[np.searchsorted(wanted, part["clip"].to_numpy(int))]
        for (task, part), logits in zip(rows.items(), parts, strict=True)
    }


def _likelihood(
    model: _Model,
    clips: Clips,
    rows: Mapping[str, pd.DataFrame],
    names: Mapping[str, np.ndarray],
    device: torch.device,
) -> float:
    """Log-likelihood of the rows' labels, averaged within tasks and summed over them."""
    total = 0.0
    for task, logits in _logits(model, clips, rows, device).items():
        labels = rows[task]["label"].to_numpy(str)
        in_train = np.isin(labels, names[task])
        if not in_train.any():  # no label that training knows: the task has no say
            continue
        true = np.searchsorted(names[task], labels[in_train])
        total += log_softmax(logits[in_train], axis=1)[np.arange(len(true)), true].mean()
    return total
