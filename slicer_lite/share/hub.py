"""The Hugging Face hub's way with models: `save_pretrained`, `from_pretrained`, `push_to_hub`.

    from slicer_lite.share.hub import HubModel

    HubModel.of(sl.load("runs/first")).push_to_hub("my-name/my-slicer")
    model = HubModel.from_pretrained("my-name/my-slicer")  # or a local folder
    embeddings = model(waveforms)  # (B, S) float32 at 16 kHz -> (B, dim)

Needs the optional package huggingface_hub (extra `hub`), so `import slicer_lite` leaves this module alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from slicer_lite import __version__
from slicer_lite.base.files import write_durably
from slicer_lite.config import Config
from slicer_lite.explore.embed import Embedder
from slicer_lite.method.encoder import Encoder
from slicer_lite.method.method import Network
from slicer_lite.method.registry import MakesEncoder, MakesMethod
from slicer_lite.share.heard import Heard
from slicer_lite.share.weights import WEIGHTS, Pretrained, load, save_weights
from slicer_lite.share.wrapped import kind_of

try:
    from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "slicer_lite.share.hub needs huggingface_hub: pip install 'slicer-lite[hub]'.", name=error.name
    ) from None

MODEL = "model.safetensors"  # the hub's name for it
# Ends a card of ours: what its maker had to say, and a hash of all above it, by which an edited card is known.
_SEAL = "\n<!-- Written by save_pretrained, with {given}: {digest} -->\n"
_SEALED = re.compile(r"(?s)(.*)\n<!-- Written by save_pretrained, with ([\w, ]+): ([0-9a-f]{64}) -->\n")
_CARD = """\
---
{{ card_data }}
---

# Audio encoder

{{ encoder }} encoder pre-trained without labels by slicer-lite {{ version }}, a package for
[SLICER]({{ paper_url }}) (Seth, Ghosh, Umesh, Manocha, ICASSP 2023): method `{{ config.method }}`, {{ step }} steps
of {{ config.batch_size }} clips. It turns 16 kHz mono
sound of any length into one embedding of {{ dim }} numbers, the mean over windows of 0.95 s.

```python
from slicer_lite.share.hub import HubModel  # pip install 'slicer-lite[hub]'

model = HubModel.from_pretrained("{{ repo_id | default("user/name", true) }}")
embeddings = model(waveforms)  # (clips, samples) float32 in [-1, 1] at 16 kHz -> (clips, {{ dim }})
```

The file holds the student's encoder and both heads, the mean ({{ "%.2f" | format(mean) }}) and the deviation
({{ "%.2f" | format(deviation) }}) of the training data's log-mels, and k-mix's centroids where it used them. It is
safetensors: loading it runs no code.

## Training data

{{ training_data | default("Not stated by whoever made this file: ask before you rely on it.", true) }}

## Results

{{ results | default("Not stated. `slicer-lite probe` measures linear-probe accuracy on labelled clips.", true) }}

## Limits

It hears 60 to 7,800 Hz and nothing of how the windows of a clip follow each other. What it can tell apart depends
on the sounds that it was trained on; it was not tested for uses in which a mistake harms somebody.

## Settings

| setting | value |
|---|---|
{%- for name, value in config.items() %}
| `{{ name }}` | {{ value }} |
{%- endfor %}
"""


class HubModel(
    Embedder,
    ModelHubMixin,
    library_name="slicer-lite",
    paper_url="https://arxiv.org/abs/2211.01519",
    pipeline_tag="feature-extraction",
    tags=["audio", "self-supervised-learning"],
    model_card_template=_CARD,
):
    """A trained model with the hub's methods; called on waveforms `(B, S)` it gives embeddings `(B, dim)`.

    On the hub it is two files and a card: `model.safetensors`, which is what `slicer_lite.load` reads and holds
    everything, and `config.json`, the settings once more for people and for the hub. The library's mixin for
    PyTorch is not used, since it falls back to pickled weights and would store the encoder without its description.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        centroids: Tensor | None = None,
        step: int = 0,
        heard: Heard | None = None,
    ):
        super().__init__(network.encoder)
        self.pretrained = Pretrained(network, centroids, config, step, heard)
        self.eval()

    @classmethod
    def of(cls, pretrained: Pretrained) -> HubModel:
        """The model of `slicer_lite.load` or `slicer_lite.pretrain`; it is shared, not copied."""
        model = cls(
            pretrained.config, pretrained.network, pretrained.centroids, pretrained.step, pretrained.heard
        )
        model.pretrained = pretrained
        return model

    def generate_model_card(self, *arguments: Any, license: str | None = None, **about: Any) -> ModelCard:
        """The card that `save_pretrained` and `push_to_hub` write.

        Args:
            license: of the weights, by the hub's name for it, such as `cc-by-4.0`; none is stated by default, since
                the sounds that they were trained on have a say in it.
            about: what else is in `model_card_kwargs`: `training_data`, `results` and `repo_id`, each a text.
        """
        pretrained = self.pretrained
        defaults = {
            "version": __version__,
            "config": pretrained.config.to_dict(),
            "step": f"{pretrained.step:,}",
            "encoder": "An AudioNTT-2020"
            if isinstance(pretrained.encoder, Encoder)
            else f"A {kind_of(pretrained.encoder)}",
            "dim": pretrained.encoder.dim,
            "mean": pretrained.encoder.mean.item(),
            "deviation": pretrained.encoder.deviation.item(),
        }
        card = super().generate_model_card(*arguments, **{**defaults, **about})
        card.data["license"] = license
        stated = {"license": license, **about}
        given = ", ".join(sorted(name for name in stated if name != "repo_id" and stated[name] is not None))
        card.text += _SEAL.format(given=given or "nothing", digest=_digest(str(card)))
        return card

    def save_pretrained(self, save_directory: str | Path, **arguments: Any) -> str | None:
        """As the hub's: what it has written there before is replaced, its weights, settings and card alike.

        The hub's own would replace any config.json and keep any card. Here files that are not its own are refused,
        and so is a card that somebody has edited since. Where the new card lacks what the old one was given
        (licence, training data, results), a warning says so.

        Raises:
            FileExistsError: the folder holds a run or another model, or README.md is not as it was written here.
        """
        folder = Path(save_directory).expanduser()
        taken = any((folder / name).exists() for name in (MODEL, "config.json"))
        if (folder / WEIGHTS).exists() or (taken and not _is_ours(folder / MODEL, *self.pretrained.makers)):
            raise FileExistsError(f"{folder} holds a run, or another model: give a folder of its own.")
        about = dict(arguments.pop("model_card_kwargs", None) or {})
        about = {**_whole(arguments.get("repo_id") if arguments.get("push_to_hub") else None), **about}
        card = folder / "README.md"
        before = _given(card) if card.exists() else set()
        if before is None:
            raise FileExistsError(
                f"{card} is no card that save_pretrained has written, or was edited since: move or remove it, or "
                "give another folder."
            )
        if lost := sorted(before - {name for name, value in about.items() if value is not None}):
            warnings.warn(
                f"{card} is replaced, and says no more what it was given as {', '.join(lost)}: give that again in "
                "model_card_kwargs, if it is true of these weights, too.",
                stacklevel=2,
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(card, str(self.generate_model_card(**about)).encode())
        return super().save_pretrained(folder, model_card_kwargs=about, **arguments)

    def push_to_hub(self, repo_id: str, **arguments: Any) -> str:
        """As the hub's; the card says how to get the model from there, if `repo_id` names the account, too."""
        about = {**_whole(repo_id), **(arguments.pop("model_card_kwargs", None) or {})}
        return super().push_to_hub(repo_id, model_card_kwargs=about, **arguments)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **arguments: Any) -> HubModel:
        """As the hub's; a folder may begin with `~`, and `method` and `encoder` are as of `slicer_lite.load`.

        Raises:
            ValueError: config.json, which the hub's reads first, is damaged, or the weights are.
        """
        name = str(pretrained_model_name_or_path)
        try:
            return super().from_pretrained(Path(name).expanduser() if name[:1] == "~" else name, **arguments)
        except (RecursionError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
            if isinstance(error, AttributeError) and error.name != "items":  # of what is no table
                raise
            raise ValueError(
                f"{name}: its config.json cannot be read ({str(error)[:200]}). Its {MODEL} holds all of it: remove "
                "config.json, or give that file to slicer_lite.load."
            ) from None

    def _save_pretrained(self, save_directory: Path) -> None:
        model = self.pretrained
        save_weights(
            save_directory / MODEL, model.network, model.centroids, model.config, model.step, model.heard
        )

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        method: MakesMethod | None = None,
        encoder: MakesEncoder | None = None,
        **unused: Any,
    ) -> HubModel:
        """Find `model.safetensors` in a folder or on the hub. The settings are read from it, not from config.json."""
        folder = Path(model_id)
        if folder.is_dir():
            path = folder / MODEL if (folder / MODEL).exists() else folder  # or a run folder
        else:
            path = Path(
                hf_hub_download(
                    model_id, MODEL, revision=revision, cache_dir=cache_dir,
                    force_download=force_download, local_files_only=local_files_only, token=token,
                )
            )  # fmt: skip
        return cls.of(load(path, method, encoder))


def _whole(repo_id: str | None) -> dict[str, str]:
    """For the card: a name by which everybody finds the model, which has the account's before it."""
    return {"repo_id": repo_id} if repo_id and "/" in repo_id else {}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _given(card: Path) -> set[str] | None:
    """What a card that was written here was given by its maker; None of one that was not, or was edited since."""
    try:
        sealed = _SEALED.fullmatch(card.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    if sealed is None or _digest(sealed[1]) != sealed[3]:
        return None
    return set(sealed[2].split(", ")) - {"nothing"}


def _is_ours(path: Path, method: MakesMethod | None, encoder: MakesEncoder | None) -> bool:
    try:
        load(path, method, encoder)
    except (FileNotFoundError, ValueError):
        return False
    return True
