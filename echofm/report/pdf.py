"""A page as PDF: the same file, printed by a Chromium without a window."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from echofm.atomic import whole_file
from echofm.errors import EchofmError, os_errors_as
from echofm.machine import is_root

BROWSER = "ECHOFM_BROWSER"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
)
_MOST_S = 180


def browser() -> str:
    """The program that prints. Raises EchofmError, saying what to install, where there is none."""
    named = os.environ.get(BROWSER)
    if named is not None:
        if shutil.which(named) is None:
            raise EchofmError(f"${BROWSER} names no program that can be run; give a Chromium's or Chrome's path")
        return named
    found = next((path for name in (*_NAMES, *_PLACES) if (path := shutil.which(name))), None)
    if found is None:
        raise EchofmError(
            "--pdf is printed by Chromium or Chrome, and none is here; install one (Debian, Ubuntu: apt install "
            f"chromium) or name it by ${BROWSER}; without --pdf report.html can be printed from any browser"
        )
    return found


def print_pdf(page: Path, pdf: Path) -> None:
    """Print an HTML file, whole or not at all. Raises EchofmError where that cannot be done."""
    program = browser()
    with (
        os_errors_as("the PDF cannot be written ({reason}); check --out"),
        tempfile.TemporaryDirectory() as profile,
        whole_file(pdf) as part,
    ):
        command = [program, "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command += [f"--user-data-dir={profile}", "--no-pdf-header-footer", f"--print-to-pdf={part.absolute()}"]
        # Chromium's sandbox refuses to run as root, as in containers; the page is ours and loads nothing.
        command += ["--no-sandbox"] * is_root()
        try:
            subprocess.run(
                [*command, page.absolute().as_uri()], check=True, timeout=_MOST_S, capture_output=True, close_fds=True
            )
        except subprocess.SubprocessError as error:
            raise EchofmError(f"the browser did not print the page ({type(error).__name__}); name another") from None
        if not part.read_bytes()[:5] == b"%PDF-":
            raise EchofmError(f"the browser printed no PDF; name another by ${BROWSER}")
