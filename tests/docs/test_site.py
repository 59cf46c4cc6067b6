"""The built site: no warning, every link and anchor resolves, formulas are set, nothing is wider than a phone."""

import functools
import http.server
import shutil
import subprocess
import sys
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="needs the extra `docs`")
    pytest.importorskip("mkdocstrings", reason="needs the extra `docs`")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """Addresses that a page asks for, and places in it that others may point to."""

    def __init__(self, path):
        super().__init__()
        self.wanted, self.places, self.loaded = [], {""}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.places |= {given[name] for name in ("id", "name") if given.get(name)}
        address = given.get("href") if tag in ("a", "link") else given.get("src")
        if address:
            self.wanted.append(address)
            if tag not in ("a",) and given.get("rel") != "canonical":
                self.loaded.append(address)


def test_every_link_and_anchor_resolves_and_nothing_is_loaded_from_elsewhere(site):
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 15
    broken = []
    for path, page in pages.items():
        far = [address for address in page.loaded if urlsplit(address).scheme in ("http", "https")]
        broken += [f"{path.name} loads {address}" for address in far]
        for address in page.wanted:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            places = pages[target].places if target in pages else {unquote(parts.fragment)}
            if not target.is_file() or unquote(parts.fragment) not in places:
                broken.append(f"{path.name}: {address}")
    assert broken == []


@pytest.fixture(scope="module")
def address(site):
    handler = functools.partial(Quiet, directory=str(site))
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # a browser opens several connections at once; a busy machine is slow to take them up


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    window.set_page_load_timeout(60)
    yield window
    window.quit()


@pytest.mark.parametrize("width", [400, 1400])
def test_pages_in_a_browser(site, address, browser, width):
    """At phone and desktop width: no page scrolls sideways, every formula is set, every picture is there, no error."""
    set_size(browser, width)
    for path in sorted(site.rglob("*.html")):
        if path.name == "404.html":
            continue
        name = str(path.relative_to(site))
        browser.get(f"{address}/{name}")
        left = formulas_left(browser)
        state = browser.execute_script(
            """return {width: document.documentElement.scrollWidth, inner: window.innerWidth,
                errors: document.querySelectorAll('.katex-error').length,
                cut: [...document.querySelectorAll('.katex-display')]
                    .filter(e => e.scrollHeight > e.clientHeight).length,
                quoted: document.querySelectorAll('blockquote blockquote').length,
                pictures: [...document.images].filter(e => e.complete && e.naturalWidth === 0).map(e => e.src)}"""
        )
        assert state["inner"] == width
        assert state["width"] <= width, f"{name} is {state['width']} wide"
        severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert [message for message in severe if "favicon" not in message] == [], name
        assert (left, state["errors"], state["pictures"]) == (0, 0, []), name
        assert (state["cut"], state["quoted"]) == (0, 0), name  # formulas by their box; examples as quotations


def formulas_left(browser, seconds=20):
    """How many formulas are not set: the page sets them some time after it has loaded, so wait for it."""
    script = """return [...document.querySelectorAll('.arithmatex')].filter(e => !e.querySelector('.katex')).length"""
    until = time.monotonic() + seconds
    while (left := browser.execute_script(script)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def set_size(browser, width):
    """Make the page `width` wide, also below the least width of a window."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
