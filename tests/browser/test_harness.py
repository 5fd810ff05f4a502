"""The harness itself: a notebook runs in JupyterLab, and what must not happen is noticed."""

import pytest


def test_a_notebook_runs_and_a_failing_cell_is_an_error(open_notebook):
    notebook = open_notebook("print(6 * 7)", "1 / 0")
    with pytest.raises(AssertionError, match="division by zero"):
        notebook.run_all(60)
    assert "42" in notebook.printed()


def test_console_errors_and_foreign_requests_are_noticed(open_notebook):
    notebook = open_notebook("1")
    notebook.page.evaluate("console.error('seen')")
    notebook.page.evaluate("fetch('http://127.0.0.2:9/').catch(() => 0)")
    assert any("seen" in text for text in notebook.errors)
    assert notebook.foreign == ["http://127.0.0.2:9/"]
    notebook.errors.clear()
    notebook.foreign.clear()


def test_cells_that_do_not_end_are_an_error_that_says_which(open_notebook):
    notebook = open_notebook("print(6 * 7)", "import time\ntime.sleep(600)")
    with pytest.raises(AssertionError, match=r"did not end in 20 s.*\['idle', 1\], \['running', None\]"):
        notebook.run_all(20)
