"""The dashboard in JupyterLab: it draws while a cell runs, stops it, goes on, and says what went wrong."""

import re
import time
from collections import Counter

from playwright.sync_api import expect

SETUP = """
import numpy as np
import slicer_lite as sl
from slicer_lite.widgets import Dashboard

rng = np.random.default_rng(0)
clips = [(0.1 * rng.standard_normal(16_000)).clip(-1, 1) for _ in range(64)]
config = sl.preset("tiny", channels=4, dim=16, clusters=4, queue=64, batch_size=8, steps=100_000)
"""
TRAIN = "trained = Dashboard().pretrain(config, clips, 'runs/stopped')\nprint('at', trained.step)"


def test_stop_stops_a_running_cell_within_two_seconds_and_the_next_run_goes_on(open_notebook):
    notebook = open_notebook(SETUP, TRAIN)
    page = notebook.page
    status, curve = page.locator(".slicer-status"), page.locator(".slicer-line").first
    stop = page.get_by_role("button", name="Stop", exact=True)

    notebook.start()
    expect(status).to_have_text(
        re.compile(r"^step \d\d+ of 100000 · \d+ clips/s · \d+:\d\d left$"), timeout=60_000
    )
    drawn = curve.get_attribute("d")
    expect(curve).not_to_have_attribute("d", drawn)  # it moves while the cell runs
    expect(page.locator(".slicer-health")).to_contain_text("dimensions", timeout=30_000)
    seconds = [stopping(notebook)]
    first = int(re.findall(r"at (\d+)", notebook.printed())[-1])
    expect(status).to_contain_text(f"Stopped after step {first} of 100000")
    expect(stop).to_be_disabled()

    notebook.start()
    expect(status).to_have_text(re.compile(r"^step \d+ of"), timeout=60_000)
    seconds.append(stopping(notebook))
    second = int(re.findall(r"at (\d+)", notebook.printed())[-1])
    assert second > first
    assert min(seconds) < 2  # the first time, libraries are still being loaded
    points = curve.get_attribute("d").split(" L ")[1].split()
    assert len(points) == 2 * second  # x and y of every step, those of the first run too


def stopping(notebook):
    """How many seconds a running cell goes on after Stop was pressed."""
    begun = time.monotonic()
    notebook.page.get_by_role("button", name="Stop", exact=True).press("Enter")
    notebook.wait(60)
    return time.monotonic() - begun


def test_what_went_wrong_is_said_in_the_dashboard(open_notebook):
    notebook = open_notebook(
        SETUP,
        "config = config.replace(warmup=0.0, steps=60)",
        "try:\n"
        "    Dashboard().pretrain(config.replace(optimizer='sgd', learning_rate=1e9), clips, 'runs/broken')\n"
        "except FloatingPointError as error:\n"
        "    print(error)",
        "poor = config.replace(optimizer='adamw', learning_rate=1e-3, weight_decay=900.0)\n"
        "Dashboard().pretrain(poor, clips, 'runs/poor');",
        "Dashboard().pretrain(config, clips, 'runs/early', steps=2);",
    )
    notebook.run_all(120)
    broken, poor, early = notebook.page.locator(".slicer-dashboard").all()
    expect(broken.locator(".slicer-status")).to_contain_text("total = nan")
    expect(poor.locator(".slicer-health")).to_contain_text("The teacher has lost the student")
    expect(early.locator(".slicer-health")).to_contain_text("too early to judge")
    assert sign(early.locator(".slicer-health li")) == '"… "'
    assert sign(poor.locator(".slicer-health li").first) == '"⚠ "'
    expect(poor.locator("[data-name=rank]")).to_have_text(re.compile(r"RankMe \d"))
    ends = poor.locator("figure:visible svg").evaluate_all(
        "all => all.map(one => [...one.querySelectorAll('text')].slice(0, 2).map(text => text.textContent))"
    )
    assert len(ends) == 4
    # Also where a curve moves by a thousandth.
    assert all(float(upper) > float(lower) and len(upper) <= 7 for upper, lower in ends)
    for width, rows in ((880, [2, 2]), (1100, [4])):  # JupyterLab's column of cells is 880 pixels wide
        poor.evaluate("(root, width) => { root.style.width = `${width}px` }", width)
        tops = poor.locator("figure:visible").evaluate_all("all => all.map(one => one.offsetTop)")
        assert list(Counter(tops).values()) == rows
    poor.evaluate("root => { root.style.width = '880px' }")
    notebook.screenshots("dashboard-broken", broken)
    notebook.screenshots("dashboard", poor)


def sign(sentence):
    """What the style sheet writes before a sentence about health."""
    return sentence.evaluate("one => getComputedStyle(one, '::before').content")
