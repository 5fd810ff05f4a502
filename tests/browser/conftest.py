"""Drives JupyterLab in a headless Chromium.

A test asks for `open_notebook` and gets a `Notebook`: a real JupyterLab page with its own kernel. When the test
ends, the page must have logged no error and must have asked no other host than 127.0.0.1.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import chromium
import nbformat
import numpy as np
import pytest
import soundfile
from playwright.sync_api import TimeoutError as TooLong
from playwright.sync_api import expect, sync_playwright

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parents[1] / "notebooks"
ARTEFACTS = HERE / "artefacts"  # screenshots, to be looked at
# What the notebooks use, as opposed to the tests' own cache: the sound world in it need not be made again.
READERS_CACHE = os.environ.get("SLICER_LITE_CACHE")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
LAB = (
    "--no-browser",
    "--allow-root",
    "--ip=127.0.0.1",
    "--ServerApp.port_retries=0",
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.extension_manager=readonly",
    "--LabApp.news_url=",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
)
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    # Every cell is in the page, whether scrolled to or not.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}

# JupyterLab logs this when a kernel closes a channel that the page has closed already. Seen once, with an ipykernel
# that lost requests. A widget that lacks its channel is not drawn, which the tests notice.
CLOSED_TWICE = "Comm not found for comm id"
KERNEL_IS_READY = (
    "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
)


expect.set_options(timeout=20_000)  # ms; 5,000 is too little where other work runs beside


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A Chromium whose microphone plays a 440 Hz tone of level 0.5 (`tone.wav`)."""
    executable = chromium.find()
    if executable is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(chromium.MISSING)
    tone = tmp_path_factory.mktemp("microphone") / "tone.wav"
    soundfile.write(tone, 0.5 * np.sin(2 * np.pi * 440 * np.arange(10 * 48_000) / 48_000), 48_000)
    flags = [*FLAGS, f"--use-file-for-fake-audio-capture={tone}"]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=executable, headless=True, args=flags)
        yield found
        found.close()


@pytest.fixture(autouse=True)
def not_forever():
    """A browser that has stopped answering fails a test, instead of holding up all of them."""
    with chromium.ended_after(900, chromium.processes):
        yield


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A JupyterLab server on a free port, with settings of its own: its address, token and folder."""
    folder = tmp_path_factory.mktemp("jupyterlab")
    root = folder / "notebooks"
    root.mkdir()
    settings = folder / "config" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(LAB_SETTINGS))
    own = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    environment = os.environ | {name: str(folder / value) for name, value in own.items()}
    environment.pop("SLICER_LITE_CACHE", None)
    if READERS_CACHE:
        environment["SLICER_LITE_CACHE"] = READERS_CACHE
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyter", "lab", *LAB]
    command += [f"--port={port}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"]
    url, log = f"http://127.0.0.1:{port}", folder / "log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            _wait_for(url, server, log)
            yield url, token, root
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(url, server, log):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(480):
        try:
            direct.open(f"{url}/api", timeout=5).close()
            return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.25)
    pytest.fail(f"JupyterLab did not start: {log.read_text()}")


class Notebook:
    """A notebook in JupyterLab. `page` is Playwright's; `errors` and `foreign` must stay empty."""

    def __init__(self, browser, lab, name):
        self.url, token, self.folder = lab
        self.context = browser.new_context(viewport={"width": 1300, "height": 1000})
        self.page = self.context.new_page()
        self.errors, self.foreign = [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("websocket", lambda socket: self._asked(socket.url.replace("ws", "http", 1)))
        self.address = f"{self.url}/lab/workspaces/{secrets.token_hex(4)}/tree/{name}?token={token}"
        self._open()

    def _open(self, tries=3):
        """On a busy machine a kernel's first connection may fail; a person would reload the page."""
        for left in reversed(range(tries)):
            self.errors.clear()
            self.page.goto(self.address, wait_until="domcontentloaded")
            try:
                self.page.wait_for_function(KERNEL_IS_READY, timeout=60_000)
            except TooLong:
                self.page.screenshot(path=ARTEFACTS / "did-not-open.png")
                if not left:
                    raise
            else:
                break
        self._ask("() => jupyterapp.commands.execute('application:set-mode', {mode: 'single-document'})")

    def _ask(self, function, arg=None, seconds=60):
        """Call a function in the page, and wait for the promise's end, but not for ever, as Playwright does."""
        return self.page.evaluate(
            f"""arg => Promise.race([
                ({function})(arg),
                new Promise((_, fail) => setTimeout(fail, {1000 * seconds}, Error('no answer in {seconds} s'))),
            ])""",
            arg,
        )

    def _console(self, message):
        if message.type == "error" and not message.text.startswith(CLOSED_TWICE):
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def _asked(self, url):
        if not url.startswith((self.url + "/", "data:", "blob:")):
            self.foreign.append(url)

    def run_all(self, seconds=180):
        """Run All Cells, and wait for the last one; an error in a cell is an error here."""
        self.start()
        self.wait(seconds)

    def start(self):
        """Run All Cells, without waiting."""
        self.page.evaluate(
            "() => { window.ran = false;"
            " jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.ran = true }) }"
        )

    def wait(self, seconds=180):
        """Wait until the cells started last have run."""
        try:
            self.page.wait_for_function("window.ran", timeout=1000 * seconds)
        except TooLong:
            ARTEFACTS.mkdir(exist_ok=True)
            self.page.screenshot(path=ARTEFACTS / "did-not-run.png")
            raise AssertionError(f"the cells did not end in {seconds} s: {self.state()}") from None
        failed = [o for cell in self.outputs() for o in cell if o["output_type"] == "error"]
        assert not failed, failed[0]["evalue"] + "\n" + "\n".join(failed[0]["traceback"])

    def state(self):
        """What the page knows of its kernel and its cells: to tell why nothing happens."""
        return self.page.evaluate(
            "() => { const panel = jupyterapp.shell.currentWidget, session = panel.sessionContext;"
            " const kernel = session.session?.kernel; return {"
            " session: session.kernelDisplayStatus,"
            " kernel: kernel?.status, connection: kernel?.connectionStatus,"
            " cells: [...panel.content.model.cells].map(cell => cell.type === 'code'"
            " && [cell.executionState, cell.executionCount]),"
            " dialog: document.querySelector('.jp-Dialog')?.textContent} }"
        )

    def outputs(self):
        """The outputs of every cell, in nbformat's form."""
        return self.page.evaluate(
            "[...jupyterapp.shell.currentWidget.content.model.cells]"
            ".map(cell => cell.type === 'code' ? cell.outputs.toJSON() : [])"
        )

    def printed(self):
        """All that the cells have printed."""
        return "".join(o.get("text", "") for cell in self.outputs() for o in cell)

    def run_code(self, code):
        """Run a line in the notebook's kernel, outside its cells."""
        self._ask(
            "code => jupyterapp.shell.currentWidget.sessionContext.session.kernel"
            ".requestExecute({code, silent: true}).done",
            code,
        )

    def screenshots(self, name, locator=None):
        """Keep what `locator` (the page by default) looks like in the light and in the dark theme."""
        ARTEFACTS.mkdir(exist_ok=True)
        for theme in ("Dark", "Light"):
            self.page.evaluate(
                "theme => jupyterapp.commands.execute('apputils:change-theme', {theme})",
                f"JupyterLab {theme}",
            )
            self.page.wait_for_function(
                "light => document.body.dataset.jpThemeLight === light", arg=str(theme == "Light").lower()
            )
            self.page.wait_for_timeout(300)  # style sheets are applied after the theme has its name
            (locator or self.page).screenshot(path=ARTEFACTS / f"{name}-{theme.lower()}.png")

    def close(self):
        self._ask("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.context.close()


@pytest.fixture
def decoded():
    """`decoded(locator of an audio element)`: its sound as the browser decodes it, `(S,)` floats at 16 kHz."""

    def decode(audio):
        return np.array(
            audio.evaluate(
                """async audio => {
                    const bytes = await (await fetch(audio.src)).arrayBuffer();
                    const sound = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes);
                    return Array.from(sound.getChannelData(0));
                }"""
            )
        )

    return decode


@contextmanager
def _notebooks(lab, browser, title):
    opened = []
    _, _, root = lab

    def open_(*cells):
        if isinstance(cells[0], Path):
            name = cells[0].name
            shutil.copy(cells[0], root / name)
        else:
            name = re.sub(r"\W+", "-", f"{title}-{len(opened)}") + ".ipynb"
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
            notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
            nbformat.write(notebook, root / name)
        opened.append(Notebook(browser, lab, name))
        return opened[-1]

    yield open_
    problems = []
    for notebook in opened:
        problems += [f"console error: {text}" for text in notebook.errors]
        problems += [f"request to another host: {url}" for url in notebook.foreign]
        notebook.close()  # last: JupyterLab itself logs errors when a kernel ends
    assert not problems, "\n".join(problems)


@pytest.fixture
def open_notebook(lab, browser, request):
    """Open a notebook: `open_notebook("source of a cell", "source of the next", …)`, or its path."""
    with _notebooks(lab, browser, request.node.name) as open_:
        yield open_


@pytest.fixture(scope="module")
def open_shared_notebook(lab, browser, request):
    """The same, for a notebook that all tests of a file use in turn, so that its kernel starts once."""
    with _notebooks(lab, browser, request.node.name) as open_:
        yield open_
