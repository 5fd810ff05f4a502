"""The hub's methods, offline: what they write, what they read, what they would send."""

import json
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from networks import Bands

import slicer_lite as sl
from slicer_lite.method.slicer import SLICERNetwork
from slicer_lite.share.weights import Pretrained, save_weights

hub = pytest.importorskip("slicer_lite.share.hub", reason="needs the extra `hub`")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def pretrained():
    config = sl.preset("tiny", channels=4, dim=16, clusters=6)
    network = SLICERNetwork(config).eval().requires_grad_(False)
    network.encoder.mean.fill_(-6.5)
    network.encoder.deviation.fill_(4.25)
    return Pretrained(network, torch.randn(4, 64), config, 1234)


def test_a_folder_holds_weights_settings_and_card(pretrained, tmp_path):
    hub.HubModel.of(pretrained).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    assert json.loads((tmp_path / "config.json").read_text()) == pretrained.config.to_dict()
    assert sl.load(tmp_path / "model.safetensors").step == 1234


def test_there_and_back(pretrained, tmp_path):
    hub.HubModel.of(pretrained).save_pretrained(tmp_path)
    model = hub.HubModel.from_pretrained(tmp_path)
    assert not model.training
    assert model.pretrained.config == pretrained.config
    assert torch.equal(model.pretrained.centroids, pretrained.centroids)
    waveforms = torch.rand(2, 40_000) - 0.5
    expected = sl.embed(pretrained.encoder, list(waveforms.numpy()))
    torch.testing.assert_close(model(waveforms), torch.from_numpy(expected), rtol=1e-4, atol=1e-5)


def test_a_run_folder_is_a_model_too(pretrained, tmp_path):
    save_weights(tmp_path / "weights.safetensors", pretrained.network, None, pretrained.config, 5)
    (tmp_path / "config.json").write_text(json.dumps({"config": pretrained.config.to_dict(), "clips": {}}))
    assert hub.HubModel.from_pretrained(str(tmp_path)).pretrained.step == 5


def test_the_card(pretrained, tmp_path):
    model = hub.HubModel.of(pretrained)
    about = {"training_data": "The sound world, 3,200 clips.", "license": "cc-by-4.0"}
    model.save_pretrained(tmp_path, model_card_kwargs=about)
    card = hub.ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "slicer-lite"
    assert card.data.pipeline_tag == "feature-extraction"
    assert {"audio", "self-supervised-learning", "model_hub_mixin"} <= set(card.data.tags)
    for text in (
        "1,234 steps of 256 clips", "one embedding of 16 numbers", "The sound world, 3,200 clips.",
        "mean (-6.50)", "| `temperature` | 0.05 |", "https://arxiv.org/abs/2211.01519",
        "method `slicer`", "Not stated. `slicer-lite probe`",
    ):  # fmt: skip
        assert text in " ".join(card.content.split()), text
    assert "{{" not in card.content


def test_the_card_of_an_encoder_of_ones_own(pretrained, tmp_path):
    pretrained.network.encoder = sl.as_encoder(Bands)
    card = hub.HubModel.of(pretrained).generate_model_card().content
    assert "A Bands encoder pre-trained without labels" in card and "AudioNTT" not in card


def test_the_licence_of_weights_is_for_their_maker_to_name(pretrained, tmp_path):
    hub.HubModel.of(pretrained).save_pretrained(tmp_path)
    assert hub.ModelCard.load(tmp_path / "README.md").data.license is None


@pytest.fixture
def sent(monkeypatch):
    """What would have been sent to the hub."""
    sent = {}

    def create_repo(self, repo_id, **about):
        sent["repo"] = repo_id
        return type("Url", (), {"repo_id": repo_id})()

    def upload_folder(self, *, repo_id, folder_path, **about):
        sent["files"] = {path.name for path in folder_path.iterdir()}
        sent["card"] = (folder_path / "README.md").read_text()
        return f"https://huggingface.co/{repo_id}/commit/0"

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create_repo)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
    return sent


def test_what_push_to_hub_would_send(pretrained, sent):
    about = {"training_data": "Rain."}
    assert hub.HubModel.of(pretrained).push_to_hub("me/slicer", model_card_kwargs=about).endswith("commit/0")
    assert sent["repo"] == "me/slicer"
    assert sent["files"] == {"model.safetensors", "config.json", "README.md"}
    assert 'from_pretrained("me/slicer")' in sent["card"]
    assert "Rain." in sent["card"]
    assert about == {"training_data": "Rain."}  # the caller's own


def test_what_is_saved_and_sent_at_once_has_one_card(pretrained, sent, tmp_path):
    hub.HubModel.of(pretrained).save_pretrained(tmp_path / "m", repo_id="me/slicer", push_to_hub=True)
    assert 'from_pretrained("me/slicer")' in sent["card"]
    assert (tmp_path / "m" / "README.md").read_text() == sent["card"]


def test_what_was_saved_before_can_be_sent(pretrained, sent, tmp_path):
    model = hub.HubModel.of(pretrained)
    model.save_pretrained(tmp_path / "m")
    model.save_pretrained(tmp_path / "m", repo_id="me/slicer", push_to_hub=True)
    assert 'from_pretrained("me/slicer")' in sent["card"]


def test_a_name_without_its_account_is_not_told_to_others(pretrained, sent, tmp_path):
    model = hub.HubModel.of(pretrained)
    model.push_to_hub("slicer")
    assert 'from_pretrained("user/name")' in sent["card"]
    model.save_pretrained(tmp_path / "m", push_to_hub=True)
    assert 'from_pretrained("user/name")' in sent["card"]


def test_a_download_is_asked_for_with_what_was_given(pretrained, tmp_path, monkeypatch):
    hub.HubModel.of(pretrained).save_pretrained(tmp_path)
    asked = []

    def download(repo_id, filename, **about):
        asked.append((repo_id, filename, about["revision"]))
        return str(tmp_path / filename)

    monkeypatch.setattr("slicer_lite.share.hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    assert hub.HubModel.from_pretrained("me/slicer", revision="v1").pretrained.step == 1234
    assert ("me/slicer", "model.safetensors", "v1") in asked


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no weights\.safetensors"):
        hub.HubModel.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_text("hello")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        hub.HubModel.from_pretrained(tmp_path)


@pytest.mark.slow
def test_without_the_library_the_remedy_is_named():
    code = (
        "import sys; sys.modules['huggingface_hub'] = None; import slicer_lite; import slicer_lite.share.hub"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "pip install 'slicer-lite[hub]'" in done.stderr


def test_a_card_of_ones_own_is_replaced_as_its_weights_are(pretrained, tmp_path):
    about = {"license": "cc0-1.0", "training_data": "Rain.", "results": "58 %"}
    hub.HubModel.of(pretrained).save_pretrained(tmp_path, model_card_kwargs=about)
    pretrained.step = 5678
    hub.HubModel.of(pretrained).save_pretrained(tmp_path, model_card_kwargs=about)
    card = (tmp_path / "README.md").read_text()
    assert "5,678 steps" in card and "1,234" not in card
    assert sl.load(tmp_path / "model.safetensors").step == 5678
    (tmp_path / "README.md").write_bytes(card.replace("\n", "\r\n").encode())  # as Git leaves it on Windows
    hub.HubModel.of(pretrained).save_pretrained(tmp_path, model_card_kwargs=about)
    # What its maker has said of the old weights goes with the old card, and not without a word.
    with pytest.warns(UserWarning, match=r"README.md is replaced.* license, results, training_data.*again"):
        hub.HubModel.of(pretrained).save_pretrained(tmp_path)
    assert "Rain." not in (tmp_path / "README.md").read_text()


def by_hand(text):
    def edit(card):
        card.write_text(text(card.read_text()), encoding="utf-8")

    return edit


def folder_for_card(card):
    card.unlink()
    card.mkdir()


@pytest.mark.parametrize(
    "edit",
    [
        by_hand(lambda text: text + "\nMy own words.\n"),
        by_hand(lambda text: text.replace("# Audio encoder", "# Rain encoder")),
        by_hand(lambda text: text.replace("---\n", "---\nlicense: mit\n", 1)),
        by_hand(lambda text: "My own card.\n"),
        by_hand(lambda text: ""),
        lambda card: card.write_bytes(b"\xff\xfe"),
        folder_for_card,
    ],
)
def test_a_card_that_somebody_has_written_is_kept(pretrained, tmp_path, edit):
    hub.HubModel.of(pretrained).save_pretrained(tmp_path)
    card = tmp_path / "README.md"
    edit(card)
    before = card.read_bytes() if card.is_file() else None
    weights = (tmp_path / "model.safetensors").read_bytes()
    pretrained.step = 5678
    with pytest.raises(
        FileExistsError, match=r"README\.md is no card that save_pretrained has written.* remove it"
    ):
        hub.HubModel.of(pretrained).save_pretrained(tmp_path)
    assert before == (card.read_bytes() if card.is_file() else None)
    assert (tmp_path / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "\udcff", "[]", "3"])
def test_settings_that_cannot_be_read_are_named(pretrained, tmp_path, content):
    hub.HubModel.of(pretrained).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(content, errors="surrogateescape")
    with pytest.raises(ValueError, match=r"config\.json cannot be read.*model\.safetensors holds all of it"):
        hub.HubModel.from_pretrained(tmp_path)


def test_a_run_folder_stays_a_run_folder(pretrained, tmp_path):
    save_weights(tmp_path / "weights.safetensors", pretrained.network, None, pretrained.config, 5)
    (tmp_path / "config.json").write_text('{"clips": {}}')
    model = hub.HubModel.from_pretrained(tmp_path)
    with pytest.raises(FileExistsError, match="holds a run, or another model"):
        model.save_pretrained(tmp_path)
    (tmp_path / "weights.safetensors").unlink()  # a run that was killed before it wrote weights
    with pytest.raises(FileExistsError, match="holds a run, or another model"):
        model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(safetensors.torch.save({"w": torch.zeros(1)}))  # not ours
    with pytest.raises(FileExistsError, match="holds a run, or another model"):
        model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == '{"clips": {}}'


def test_a_home_folder_is_meant_by_its_sign(pretrained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    hub.HubModel.of(pretrained).save_pretrained("~/m")
    assert (tmp_path / "m" / "model.safetensors").exists()
    assert hub.HubModel.from_pretrained("~/m").pretrained.step == 1234


def test_a_model_with_an_encoder_of_ones_own_goes_there_and_back(tones, minute, tmp_path):
    trained = sl.pretrain(minute, tones, tmp_path / "run", steps=2, progress=False, encoder=Bands)
    for _ in range(2):  # the second replaces the first
        hub.HubModel.of(trained).save_pretrained(tmp_path / "m")
    again = hub.HubModel.from_pretrained(tmp_path / "m", encoder=Bands).pretrained
    assert again.encoder.dim == 16
    for name, value in trained.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value), name
    with pytest.raises(ValueError, match="its encoder is Bands, not AudioNTT: give encoder="):
        sl.load(tmp_path / "run")
    with pytest.raises(ValueError, match="its encoder is AudioNTT: leave encoder= out"):
        sl.load("tiny", encoder=Bands)
