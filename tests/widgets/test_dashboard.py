"""The dashboard's Python half: what it sends, how it stops, what it says."""

import json

import numpy as np
import pytest

import slicer_lite as sl
from slicer_lite.training.health import SETTLED
from slicer_lite.training.run_folder import read_metrics
from slicer_lite.widgets import Dashboard


@pytest.fixture
def clips():
    rng = np.random.default_rng(0)
    return sl.load_clips([(0.1 * rng.standard_normal(16_000)).clip(-1, 1) for _ in range(16)])


class Page:
    """Stands for the page: keeps what is sent to it."""

    def __init__(self, dashboard):
        self.steps = []
        self.dashboard = dashboard
        dashboard.send = self.take

    def take(self, message, buffers=None):
        if message["type"] == "all":
            self.steps = []
        self.steps += [line["step"] for line in message["lines"]]


def test_every_step_reaches_the_page_once_also_after_a_stop(tmp_path, clips, minute):
    dashboard = Dashboard()
    page = Page(dashboard)
    stop_at_five = page.take

    def take(message, buffers=None):
        stop_at_five(message)
        if 5 in page.steps:
            dashboard._guarded(dashboard, {"type": "stop"}, [])

    dashboard.send = take
    trained = dashboard.pretrain(minute, clips, tmp_path / "run")
    assert dashboard.state == "stopped"
    assert 5 <= trained.step < minute.steps
    assert f"after step {trained.step} of {minute.steps}" in dashboard.status
    assert page.steps == list(range(1, trained.step + 1))

    page = Page(dashboard)
    trained = dashboard.pretrain(minute, clips, tmp_path / "run")
    assert (dashboard.state, trained.step) == ("finished", minute.steps)
    assert page.steps == list(range(1, minute.steps + 1))
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == page.steps
    assert dashboard.step == dashboard.steps == minute.steps


def test_steps_that_are_done_again_are_drawn_once(tmp_path, clips, minute):
    dashboard = Dashboard()
    dashboard.send = lambda message, buffers=None: message["type"] == "new" and dashboard._stop.set()
    stopped = dashboard.pretrain(minute, clips, tmp_path / "run").step
    with (tmp_path / "run" / "metrics.jsonl").open("a") as log:  # as a run leaves it that is killed later
        log.write(json.dumps({**read_metrics(tmp_path / "run")[-1], "step": stopped + 1}) + "\n")
    page = Page(dashboard)
    dashboard.pretrain(minute, clips, tmp_path / "run")
    assert page.steps == list(range(1, minute.steps + 1))


def test_stop_before_the_first_step(tmp_path, clips, minute):
    dashboard = Dashboard()
    dashboard.send = lambda message, buffers=None: dashboard._stop.set()
    assert dashboard.pretrain(minute, clips, tmp_path / "run").step == 0
    assert dashboard.status.startswith("Stopped after step 0 of 12")


def test_a_page_opened_late_gets_all_points(tmp_path, clips, minute):
    dashboard = Dashboard()
    dashboard.pretrain(minute, clips, tmp_path / "run", steps=3)
    page = Page(dashboard)
    dashboard._guarded(dashboard, {"type": "hello"}, [])
    assert page.steps == [1, 2, 3]
    again = Dashboard()  # on a run that has ended
    again.pretrain(minute, clips, tmp_path / "run", steps=3)
    assert again.health == dashboard.health != []


@pytest.mark.slow
def test_health_is_said_in_words_once_the_run_has_settled(tmp_path, clips, minute, monkeypatch):
    dashboard, said = Dashboard(), []
    monkeypatch.setattr("slicer_lite.widgets.dashboard.health.diagnose", lambda metrics: said)
    dashboard.pretrain(minute, clips, tmp_path / "run", steps=SETTLED - 1)
    assert (dashboard.verdict, len(dashboard.health)) == ("early", 1)
    assert f"Step {SETTLED - 1}: too early to judge" in dashboard.health[0]
    dashboard.pretrain(minute, clips, tmp_path / "well", steps=SETTLED)
    assert dashboard.verdict == "well"
    assert f"Step {SETTLED}: nothing looks wrong" in dashboard.health[0]
    said.append("The clusters are all one.")
    dashboard.pretrain(minute, clips, tmp_path / "ill", steps=SETTLED)
    assert (dashboard.verdict, dashboard.health) == ("ill", said)


def test_methods_without_clusters_are_watched_too(tmp_path, clips, minute):
    dashboard = Dashboard()
    dashboard.pretrain(minute.replace(method="moco"), clips, tmp_path / "run", steps=2)
    assert dashboard.state == "finished"
    assert "clusters" not in dashboard.health[0]
    assert len(dashboard.picture().axes) == 2


def test_an_error_is_shown_and_raised(tmp_path, clips, minute):
    dashboard = Dashboard()
    with pytest.raises(FloatingPointError):
        dashboard.pretrain(minute.replace(optimizer="sgd", learning_rate=1e9), clips, tmp_path / "run")
    assert dashboard.state == "failed"
    assert "nan" in dashboard.status or "inf" in dashboard.status
    with pytest.raises(ValueError, match="holds another run"):
        dashboard.pretrain(minute, clips, tmp_path / "run")
    assert "holds another run" in dashboard.status


def test_a_saved_notebook_has_its_curves(tmp_path, clips, minute):
    dashboard = Dashboard()
    assert dashboard.picture().axes == []  # a sentence only
    dashboard.pretrain(minute, clips, tmp_path / "run")
    figure = dashboard.picture()
    # The cluster loss moves by hundredths: beside the instance loss it would be a straight line.
    panels = {axes.get_title(): [line.get_label() for line in axes.lines] for axes in figure.axes}
    assert panels == {
        "instance loss": ["instance"],
        "cluster loss": ["cluster"],
        "clusters": ["in use", "entropy", "confidence"],
        "embedding rank": ["RankMe"],
    }
    assert "Finished" in figure.get_suptitle()
