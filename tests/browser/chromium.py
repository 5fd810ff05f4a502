"""Find a Chromium for the browser tests, or fetch Playwright's own: python tests/browser/chromium.py"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "there is no Chromium: install one (apt-get install chromium; brew install --cask chromium), or let "
    "`playwright install chromium` fetch its own"
)


def find() -> str | None:
    """The path of an installed Chromium or Chrome, or of the one that Playwright has fetched."""
    installed = next(filter(None, map(shutil.which, NAMES)), None)
    if installed:
        return installed
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


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
