"""The report as a browser sees it: no errors, charts drawn, text there, nothing fetched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from PIL import Image

import uniap as python_interface

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
]


@pytest.fixture(scope="module")
def report(uniap, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    plan, page = folder / "plan.json", folder / "report.html"
    assert uniap("plan", "llama-7b", "-c", "8xA100-40G", "-b", 32, "--pin", "pp=4", "-o", plan).code == 0
    assert uniap("report", plan, "-o", page).code == 0
    return page


class Words(HTMLParser):
    """Everything a reader can search for, and everything a page would fetch."""

    def __init__(self):
        super().__init__()
        self.text, self.fetched, self.ids, self.refers, self.tags = [], [], set(), set(), {}

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.fetched += [v for k, v in attributes if k in ("src", "href") and v and not v.startswith(("#", "data:"))]
        self.ids.add(values.get("id"))
        self.refers |= set((values.get("aria-labelledby") or "").split())

    def handle_data(self, data):
        self.text.append(data)


def parse(text):
    words = Words()
    words.feed(text)
    return words


def test_the_page_stands_alone_and_says_everything(report):
    words = parse(report.read_text())
    text = " ".join(words.text)
    assert words.fetched == []
    assert words.tags.get("script", 0) == 0
    for word in ("layers.", "tokens/s", "pruned by bound", "Reproduce", "sha256:", "slower", "stage 3", "--pin pp=4"):
        assert word in text
    assert words.refers <= words.ids, "every picture has the words that stand for it"
    assert words.tags["svg"] >= 6


@pytest.mark.skipif(
    CHROMIUM is None and "chromium" not in os.environ.get("UNIAP_REQUIRE", ""), reason="no chromium is installed"
)
@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (390, "light"), (1100, "dark")])
def test_a_real_browser_draws_it_without_errors(report, tmp_path, width, scheme):
    assert CHROMIUM, "chromium is required here and not installed"
    shot, log = tmp_path / "shot.png", tmp_path / "log"
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    flags = [*FLAGS, *dark, f"--user-data-dir={tmp_path}/profile", f"--window-size={width},2400"]
    with log.open("w") as errors:
        run = [CHROMIUM, *flags, f"--screenshot={shot}", report.as_uri()]
        subprocess.run(run, stdout=subprocess.DEVNULL, stderr=errors, timeout=90, check=True)
    assert not re.findall(r".*CONSOLE.*", log.read_text())
    colors = histogram(shot)
    background = max(colors, key=colors.get)
    assert (sum(background) < 200) == (scheme == "dark")
    assert len(colors) > 30, "charts are drawn in color"
    inked = sum(count for color, count in colors.items() if color != background) / sum(colors.values())
    assert inked > 0.03


def histogram(path):
    """Colors of a picture and how often each occurs."""
    with Image.open(path) as picture:
        return {color: count for count, color in picture.convert("RGB").getcolors(maxcolors=1 << 24)}


def test_a_result_shows_itself_in_a_notebook():
    found = python_interface.plan("gpt:layers=4,hidden=256,heads=8,seq=128", "8xA100-40G", batch=16)
    frame = parse(found._repr_html_())
    assert frame.tags == {"iframe": 1}
