"""Find a Chromium for the browser tests, or fetch Playwright's own: python tests/browser/chromium.py"""

import os
import subprocess
import sys

from slicer_lite.doctor import find_browser as find

MISSING = (
    "there is no Chromium: install one (apt-get install chromium; brew install --cask chromium), or let "
    "`playwright install chromium` fetch its own"
)


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
