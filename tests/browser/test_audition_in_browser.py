"""The audition in JupyterLab: controls move pictures, and the sounds are what they are said to be."""

import numpy as np
import pytest
from playwright.sync_api import expect

AUDITION = """
import numpy as np
import torch
import slicer_lite as sl
from slicer_lite.widgets import Audition

seconds = np.arange(15200) / 16000
clips = [np.float32(level * np.sin(2 * np.pi * f * seconds)) for f, level in ((500, 0.4), (2500, 0.2), (3000, 0.2))]
lms = sl.LogMel()(torch.from_numpy(np.stack(clips)))
mean, deviation = lms.mean().item(), lms.std().item()
spectra = ((lms - mean) / deviation).mean(-1).flatten(1)
centroids = torch.stack([spectra[0], spectra[1:].mean(0)])
audition = Audition(clips, centroids, mean, deviation, names=["500 Hz", "2500 Hz", "3000 Hz"])
audition
"""


@pytest.fixture(scope="module")
def audition(open_shared_notebook):
    notebook = open_shared_notebook(AUDITION)
    notebook.run_all()
    notebook.page.locator(".slicer-three").wait_for()
    return notebook


def pictures(notebook):
    return notebook.page.locator(".slicer-three canvas").evaluate_all(
        "all => all.map(one => one.toDataURL())"
    )


def wait_for_title(notebook, text):
    notebook.page.locator(".slicer-title", has_text=text).wait_for()


def amplitude(samples, frequency):
    """Of the sine of that frequency, away from the ends."""
    middle = samples[1600:-1600]
    angle = 2 * np.pi * frequency * np.arange(len(middle)) / 16_000
    return 2 * np.hypot((middle * np.cos(angle)).mean(), (middle * np.sin(angle)).mean())


def test_the_slider_moves_the_picture_of_the_mixture(audition):
    clip, partner, before = pictures(audition)
    slider = audition.page.get_by_label("a, the partner's share", exact=True)
    slider.press("ArrowRight")
    wait_for_title(audition, "mixture, a = 0.41")
    slider.press("Home")
    wait_for_title(audition, "mixture, a = 0.00")
    assert pictures(audition) == [clip, partner, clip]
    slider.press("End")
    wait_for_title(audition, "mixture, a = 1.00")
    assert pictures(audition)[:2] == [clip, partner]
    assert pictures(audition)[2] not in (clip, before)


def test_the_sounds_have_the_levels_and_pitches_of_the_mixture(audition, decoded):
    audition.run_code("audition.ratio = 0.4")
    audition.page.get_by_label("partner", exact=True).select_option("1")
    audition.page.get_by_label("before standardising").check()
    audition.page.get_by_text("with gains √0.60 and √0.40").wait_for()
    clip, partner, mixture = (decoded(one) for one in audition.page.locator(".slicer-three audio").all())
    assert amplitude(clip, 500) == pytest.approx(0.4, rel=1e-3)
    assert amplitude(partner, 2500) == pytest.approx(0.2, rel=1e-3)
    assert amplitude(mixture, 500) == pytest.approx(0.4 * np.sqrt(0.6), rel=1e-3)
    assert amplitude(mixture, 2500) == pytest.approx(0.2 * np.sqrt(0.4), rel=1e-3)

    audition.page.get_by_label("after standardising").check()
    audition.page.get_by_text("scaled band by band").wait_for()
    _, _, scaled, inverted = (decoded(one) for one in audition.page.locator(".slicer-three audio").all())
    # Where one of the two is silent, a mixture of standardised log-mels is softer than one of powers.
    assert 0.05 < amplitude(scaled, 500) < 0.4 * np.sqrt(0.6)
    assert 0.01 < amplitude(scaled, 2500) < 0.2 * np.sqrt(0.4)
    spectrum = np.abs(np.fft.rfft(inverted[1600:-1600]))
    assert spectrum.argmax() * 16_000 / 12_000 == pytest.approx(500, abs=25)  # Hz; a band is 45 Hz wide there
    level = 10 * np.log10(np.mean(inverted[1600:-1600] ** 2) / np.mean(scaled[1600:-1600] ** 2))
    assert abs(level) < 2  # dB


def test_a_sound_plays(audition):
    audio = audition.page.locator(".slicer-three audio").nth(2)
    audio.evaluate("audio => audio.play()")
    audition.page.wait_for_function("document.querySelectorAll('.slicer-three audio')[2].currentTime > 0.1")


def test_partners_are_drawn_and_chosen(audition):
    chosen = audition.page.get_by_label("partner", exact=True)
    for button, allowed in (("The most alike", {"1"}), ("From the farthest cluster", {"1", "2"})):
        audition.page.get_by_role("button", name=button).click()
        audition.page.wait_for_timeout(500)
        assert chosen.input_value() in allowed
    audition.page.get_by_label("clip", exact=True).select_option("2")
    audition.page.get_by_role("button", name="From the farthest cluster").click()
    wait_for_title(audition, "partner: 500 Hz")
    assert "cluster 1, its partner in 0" in audition.page.locator(".slicer-widget").text_content()
    audition.screenshots("audition", audition.page.locator(".slicer-widget"))


def test_python_and_the_page_agree(audition):
    audition.run_code("audition.ratio = 0.9")
    wait_for_title(audition, "mixture, a = 0.90")
    assert audition.page.get_by_label("a, the partner's share", exact=True).input_value() == "0.9"


def test_what_is_mixed_is_reached_by_tab_and_changed_by_arrow_keys(audition):
    audition.run_code("audition.domain = 'standardised'")
    first, second = audition.page.get_by_role("radio").all()
    expect(first).to_be_checked()
    audition.page.get_by_label("a, the partner's share", exact=True).focus()
    audition.page.keyboard.press("Tab")
    expect(first).to_be_focused()
    for key in ("ArrowDown", "ArrowLeft", "ArrowRight", "ArrowUp"):  # from each to the other, and round
        audition.page.keyboard.press(key)
        chosen, other = (second, first) if key in ("ArrowDown", "ArrowRight") else (first, second)
        expect(chosen).to_be_focused()
        expect(chosen).to_be_checked()
        expect(other).not_to_be_checked()
    audition.page.keyboard.press("ArrowUp")
    audition.page.get_by_text("with gains √").wait_for()  # Python has followed
    expect(second).to_be_checked()


def test_keys_in_a_menu_are_no_commands_to_jupyterlab(audition):
    cells = audition.page.locator(".jp-Cell")
    before = cells.count()
    menu = audition.page.get_by_label("clip", exact=True)
    menu.select_option("3000 Hz")
    menu.focus()
    for key in ("d", "d", "x", "a"):  # delete, cut, new cell
        menu.press(key)
    assert cells.count() == before
    menu.press("ArrowUp")  # one cell up, it would be
    expect(menu.locator("option:checked")).to_have_text("2500 Hz")
    expect(menu).to_be_focused()


def test_pictures_stand_side_by_side_where_one_title_takes_more_lines(audition):
    tops = """() => {
        document.querySelector(".slicer-title").textContent = "long ".repeat(40);
        return [...document.querySelectorAll(".slicer-three canvas")].map(one => one.getBoundingClientRect().top);
    }"""
    assert len(set(audition.page.evaluate(tops))) == 1


def test_two_auditions_on_a_page_keep_their_own_choices(open_notebook):
    both = AUDITION.rstrip().removesuffix("audition") + (
        "other = Audition(clips, centroids, mean, deviation)\nother.domain = 'power'\ndisplay(audition, other)\n"
    )
    notebook = open_notebook(both)
    notebook.run_all()
    first, second = notebook.page.locator(".slicer-widget").all()
    expect(first.get_by_label("after standardising")).to_be_checked()
    expect(second.get_by_label("before standardising")).to_be_checked()
    first.get_by_label("before standardising").check()
    expect(second.get_by_label("before standardising")).to_be_checked()
