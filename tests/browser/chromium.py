"""Find a Chromium for the browser tests, or fetch Playwright's own: python tests/browser/chromium.py"""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import psutil

from slicer_lite.doctor import find_browser as find

MISSING = (
    "there is no Chromium: install one (apt-get install chromium; brew install --cask chromium), or let "
    "`playwright install chromium` fetch its own"
)


def processes():
    """Those that this process has started, directly or not."""
    return {child for child in psutil.Process().children(recursive=True) if "chrom" in child.name()}


@contextmanager
def ended_after(seconds, which):
    """End the processes that `which` names, if the work takes longer.

    Playwright waits for some of a browser's answers without end.
    """

    def end():
        for process in which():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def main() -> int:
    if find():
        return 0
    print("No Chromium found: fetching Playwright's, for the browser tests.")
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    if find():
        return 0
    print(f"The browser tests will be skipped: {MISSING}.")
    return 1 if os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
