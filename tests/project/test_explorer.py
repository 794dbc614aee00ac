"The explorer: what the page holds, and in a browser what it does."

import base64
import io
import itertools
import json
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import explorer
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import websocket

from fmnist_cluster.data import class_names, load_images, load_labels

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
N = 60
IMAGES, TRUTH, NAMES = (
    load_images("digits", "test")[:N],
    load_labels("digits", "test")[:N],
    [f"digit {name}" for name in class_names("digits")],
)


def made_table():
    """Put 60 images on a grid.

    `good` knows every class, `bad` takes each for the next but for the first ten images, which its
    clusters leave without a name.
    """
    row = np.arange(N)
    bad = np.where(row < 10, -1, (TRUTH + 1) % 10)
    return pd.DataFrame(
        {
            "index": row + 5,
            "x": row % 10 * 2.5,
            "y": row // 10 * 2.5,
            "good": TRUTH,
            "bad": bad,
            "good_cluster": 9 - TRUTH,
            "bad_cluster": bad,
        }
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    file = tmp_path_factory.mktemp("explorer") / "explorer.html"
    file.write_text(
        explorer.explorer_page(made_table(), IMAGES, TRUTH, NAMES, "digits", "preset none"),
        encoding="utf-8",
    )
    return file


# what the page holds


def test_every_image_is_in_the_sprite():
    sheet = np.asarray(
        PIL.Image.open(
            io.BytesIO(
                base64.b64decode(explorer.sprite(np.tile(IMAGES, (3, 1, 1))).partition(",")[2])
            )
        ).convert("L")
    ).astype(int)
    assert sheet.shape == (2 * explorer.TILE, explorer.ACROSS * explorer.TILE)
    for row in (0, 59, 99, 100, 179):
        top, left = row // explorer.ACROSS * explorer.TILE, row % explorer.ACROSS * explorer.TILE
        assert np.abs(sheet[top : top + 28, left : left + 28] - IMAGES[row % N]).mean() < 4


def test_the_page_loads_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert (
        re.findall(
            r'<(?:script|link|img|iframe|source)\b[^>]*\s(?:src|href)="(?!data:)[^"]*"', text
        )
        == []
    )
    assert (
        re.findall(
            r"@import|url\(\s*['\"]?(?:https?:)?//",
            "".join(re.findall(r"<style>.*?</style>", text, re.S)),
        )
        == []
    )
    assert 'href="index.html"' in text


@pytest.mark.skipif(
    not explorer.have_images("fashion_mnist"),
    reason="Fashion-MNIST is not on this machine: the size of its page was not measured",
)
def test_the_page_of_all_test_images_stays_under_6_mb():
    images, truth, random = (
        load_images("fashion_mnist", "test"),
        load_labels("fashion_mnist", "test"),
        np.random.default_rng(0),
    )
    said = {
        f"method {number}{ending}": random.integers(0, 10, 10_000)
        for number in range(8)
        for ending in ("", "_cluster")
    }
    table = pd.DataFrame(
        {
            "index": np.arange(10_000),
            "x": random.normal(size=10_000),
            "y": random.normal(size=10_000),
        }
        | said
    )
    page = explorer.explorer_page(
        table, images, truth, class_names("fashion_mnist"), "fashion_mnist", "preset none"
    )
    assert 2e6 < len(page.encode()) < 6e6


# where it comes from


@pytest.fixture
def reference(tmp_path, monkeypatch):
    "A folder in place of results/reference/, with the made-up table of digits."
    monkeypatch.setattr(explorer, "REFERENCE", tmp_path)
    made_table().to_csv(tmp_path / "test_assignments.csv", index=False)
    records = [
        {"method": method, "dataset": "digits", "preset": "quick", "commit": "abc123"}
        for method in ("good", "bad")
    ]
    (tmp_path / "evaluation_metrics.json").write_text(json.dumps(records))
    return tmp_path


def test_it_is_written_from_the_reference_run(reference):
    assert explorer.write_explorer(reference)
    text = (reference / "explorer.html").read_text(encoding="utf-8")
    assert "60 test images of digits" in text and "preset quick, commit abc123" in text


@pytest.mark.parametrize("name", ["test_assignments.csv", "evaluation_metrics.json"])
def test_without_its_table_there_is_none(reference, name, capsys):
    (reference / name).unlink()
    assert not explorer.write_explorer(reference) and not (reference / "explorer.html").exists()
    assert re.fullmatch(
        rf"No explorer: results/reference/{name} is not there; .+\n", capsys.readouterr().out
    )


def test_without_the_images_there_is_none_and_nothing_is_downloaded(reference, monkeypatch, capsys):
    records = json.loads((reference / "evaluation_metrics.json").read_text())
    (reference / "evaluation_metrics.json").write_text(
        json.dumps([record | {"dataset": "kmnist"} for record in records])
    )
    monkeypatch.setattr(explorer, "data_folders", lambda: [reference])
    monkeypatch.setattr(
        explorer, "load_images", lambda *_: pytest.fail("the images were asked for")
    )
    assert not explorer.write_explorer(reference) and not (reference / "explorer.html").exists()
    assert re.fullmatch(
        r"No explorer: the images of kmnist .+FMNIST_CLUSTER_DATA.+\n", capsys.readouterr().out
    )


def test_chapter_09_leaves_the_table(book, tmp_path, monkeypatch):
    table, truth = (
        pd.read_csv(book.base / "09_evaluation" / "test_assignments.csv"),
        load_labels("digits", "test"),
    )
    assert list(table["index"]) == list(range(len(truth)))
    scored = {
        record["method"]: record["acc_train_mapping"]
        for record in json.loads((book.base / "evaluation_metrics.json").read_text())
        if record["split"] == "test"
    }
    assert {
        method: (table[method] == truth).mean() for method in explorer.methods_in(table)
    } == pytest.approx({name: acc for name, acc in scored.items() if name != "random"})
    for method in explorer.methods_in(table):
        clusters = np.load(next(book.base.glob(f"seed=42/*/{method}/labels_test.npy")))
        assert (
            list(table[f"{method}_cluster"]) == list(clusters)
            and table.groupby(f"{method}_cluster")[method].nunique().eq(1).all()
        )
    for file in (
        book.base / "evaluation_metrics.json",
        book.base / "09_evaluation" / "test_assignments.csv",
    ):
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(explorer, "REFERENCE", tmp_path)
    assert explorer.write_explorer(tmp_path)


# in a browser


class Browser:
    "Chromium, driven by DevTools as a person would: pointer, finger, keys; and looked at."

    def __init__(self, profile):
        self.process = subprocess.Popen(
            [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port_file = Path(profile) / "DevToolsActivePort"
        self.wait(
            lambda: port_file.exists() and port_file.read_text().count("\n"),
            "Chromium did not start",
        )
        targets = json.load(
            urllib.request.urlopen(
                f"http://127.0.0.1:{port_file.read_text().split()[0]}/json", timeout=60
            )
        )
        self.socket = websocket.create_connection(
            next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"),
            timeout=120,
        )
        self.numbers, self.events = itertools.count(1), []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")
        self.ask("Emulation.setFocusEmulationEnabled", enabled=True)

    def ask(self, method, **parameters):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := json.loads(self.socket.recv())).get("id") != number:
            self.events.append(message)
        assert "error" not in message, message
        return message["result"]

    def js(self, code):
        answer = self.ask(
            "Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition, complaint, seconds=60):
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, complaint
            time.sleep(0.05)
        return value

    def open(self, file, width=1280, height=1400, phone=False):
        self.events.clear()
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        self.ask("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.ask("Page.navigate", url=file.as_uri())
        self.wait(
            lambda: self.js("document.querySelectorAll('#gallery canvas').length"),
            "the page did not become ready",
        )
        self.js("Bokeh.documents[0].get_model_by_name('map').toolbar.active_scroll = null; 0")
        self.settle()

    def settle(self):
        "Let two frames pass: what was changed is drawn then."
        self.js("""new Promise(done => requestAnimationFrame(
            () => requestAnimationFrame(() => setTimeout(done, 150))))""")

    def choose(self, field, value):
        self.js(f"""(field => {{
            field.value = '{value}'
            field.dispatchEvent(new Event('change', {{bubbles: true}}))
        }})(document.querySelector('[name={field}]'))""")
        self.settle()

    def place(self, row):
        "Return where on the screen the point of a row lies."
        x, y = made_table().loc[row, ["x", "y"]]
        return self.js(f"""(() => {{
            document.querySelector('.map').scrollIntoView({{block: 'center'}})
            const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name('map'))
            const box = document.querySelector('.map').getBoundingClientRect(), frame = view.frame
            return [box.left + frame.x_scale.compute({x}), box.top + frame.y_scale.compute({y})]
        }})()""")

    def point(self, row):
        x, y = self.place(row)
        self.settle()
        for step in (3, 0):
            self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y)
        self.settle()

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key)
        self.settle()

    def colour(self, row):
        "Return the colour that the screen shows at the point of a row."
        x, y = self.place(row)
        self.settle()
        picture = PIL.Image.open(
            io.BytesIO(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))
        ).convert("RGB")
        return "#" + bytes(picture.getpixel((round(x), round(y)))).hex()

    def card(self):
        """Return what the card shows, None if there is no card.

        Its text by lines, and the row whose image is most like its picture.
        """
        if self.js("document.getElementById('card').hidden"):
            return None
        text, pixels = self.js("""(card => {
            const context = card.querySelector('canvas').getContext('2d')
            const data = Array.from(context.getImageData(0, 0, 28, 28).data)
            return [card.innerText, data.filter((_, place) => place % 4 == 0)]
        })(document.getElementById('card'))""")
        distance = np.abs(IMAGES.astype(int) - np.reshape(pixels, (28, 28))).mean(axis=(1, 2))
        return [line.split("\t") for line in text.splitlines() if line], int(distance.argmin())

    def text(self, selector):
        return self.js(f"document.querySelector('{selector}').innerText")

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine: the explorer was not opened in a browser")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium, page):
    chromium.open(page)
    return chromium


def test_the_pointer_brings_up_the_image_and_what_each_method_said(browser):
    for row in (0, 17, 42, 59):
        browser.point(row)
        lines, like = browser.card()
        bad = "no name" if row < 10 else NAMES[(TRUTH[row] + 1) % 10]
        assert like == row and lines[:2] == [[NAMES[TRUTH[row]]], [f"test image {row + 5}"]]
        assert (
            lines[2][:2] == ["good", f"✓ {NAMES[TRUTH[row]]}"]
            and lines[2][2] == f"#{9 - TRUTH[row]}"
        )
        assert lines[3][:2] == ["bad", f"✗ {bad}"]
    x, y = browser.place(0)
    # between two points
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x + 25, y=y)
    browser.settle()
    assert browser.card() is None


def test_method_and_colouring_change_the_points(browser):
    # no name lies over row 48
    classes, row = explorer.COLOURS["classes"], 48
    assert browser.colour(row) == classes[TRUTH[row]]
    browser.choose("method", "bad")
    assert (
        browser.colour(row) == classes[(TRUTH[row] + 1) % 10]
        and browser.colour(4) == explorer.COLOURS["noName"]
    )
    assert "no name" in browser.text("#legend") and browser.text("#summary").startswith(
        "bad: 0 of 60 images right (0.0 %)."
    )
    browser.choose("colour", "class")
    assert browser.colour(row) == classes[TRUTH[row]]
    browser.choose("colour", "verdict")
    assert browser.colour(row) == explorer.COLOURS["wrong"]
    browser.choose("method", "good")
    assert browser.colour(row) == explorer.COLOURS["right"]


def test_errors_can_be_searched(browser):
    shown = lambda: int(browser.text("#summary").rpartition("Shown: ")[2].strip("."))
    browser.choose("show", "wrong")
    assert shown() == 0
    browser.choose("show", "alone")
    assert shown() == N
    browser.choose("method", "bad")
    browser.choose("show", "wrong")
    assert shown() == N
    browser.choose("show", "hard")
    assert shown() == 0
    browser.choose("show", "all")
    browser.choose("said", "-1")
    assert shown() == 10 == browser.js("document.querySelectorAll('#gallery canvas').length")
    browser.js("document.querySelector('#clear').click()")
    pairs = pd.Series(
        [f"{NAMES[label]} → {NAMES[(label + 1) % 10]}" for label in TRUTH[10:]]
    ).value_counts()
    name, count = browser.text("#errors button").splitlines()
    assert int(count) == pairs.max() == pairs[name]
    browser.js("document.querySelector('#errors button').click()")
    assert shown() == pairs.max()
    hidden = next(row for row in range(10, N) if f"{NAMES[TRUTH[row]]} →" not in name)
    browser.point(hidden)
    assert browser.card() is None, "a point that is filtered out still answers"


def test_the_keyboard_goes_along_the_images(browser):
    # scrolls it into view
    browser.js("document.querySelector('#gallery canvas').focus()")
    browser.settle()
    assert browser.card()[1] == 0
    browser.press("ArrowRight")
    assert browser.card()[1] == 1
    browser.press("Escape")
    assert browser.card() is None
    assert browser.js("document.querySelectorAll('#gallery [tabindex=\"0\"]').length") == 1


def test_on_a_phone(browser, page):
    browser.open(page, 390, 844, phone=True)
    assert browser.js("document.documentElement.scrollWidth") <= 390
    x, y = browser.place(33)
    browser.settle()
    browser.ask("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    browser.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.wait(browser.card, "a tap brings up nothing")
    assert browser.card()[1] == 33
    left, right = browser.js(
        "(box => [box.left, box.right])(document.getElementById('card').getBoundingClientRect())"
    )
    assert left >= 0 and right <= 390


def test_it_asks_nobody_and_complains_of_nothing(browser):
    asked = {
        event["params"]["request"]["url"].partition(":")[0]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert asked == {"file", "data"}
    assert [
        event
        for event in browser.events
        if event["method"]
        in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    ] == []
