"README and site: both made from the notebooks, nothing broken, nothing fetched from elsewhere."

import copy
import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from conftest import ROOT, tree_status

NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
LOADING = {
    ("img", "src"),
    ("script", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("object", "data"),
    ("link", "href"),
}
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


# the README


@pytest.fixture(scope="module")
def index():
    return nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)


@pytest.mark.parametrize("name", ["README.md", "README.ko.md", "llms.txt"])
def test_pages_are_what_the_index_says(name, index):
    from build_readme import PAGES

    assert (ROOT / name).read_text(encoding="utf-8") == PAGES[name](index), (
        "run tools/build_readme.py"
    )


def test_index_shows_what_the_results_say(index):
    from build_readme import executed, readme

    def written():
        return {file: file.stat().st_mtime_ns for file in (ROOT / "nbs").rglob("*")}

    stored, before = readme(index), written()
    assert readme(executed(index)) == stored, (
        "results/reference/ has changed since; run tools/build_readme.py"
    )
    assert written() == before


def links(name):
    return re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))


PAGES_BY_HAND = ["CONTRIBUTING.md", "PROTOCOL.md", "OPERATIONS.md", "RELEASING.md", "CHANGELOG.md"]


@pytest.mark.parametrize("name", ["README.md", "README.ko.md", *PAGES_BY_HAND])
def test_files_named_in_the_pages_are_there(name):
    assert [
        target for target in links(name) if "://" not in target and not (ROOT / target).exists()
    ] == []


@pytest.mark.parametrize("name", ["README.md", "README.ko.md", *PAGES_BY_HAND])
def test_sections_named_in_the_pages_are_there(name):
    def sections(page):
        headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}

    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"\]\(([\w.]*)#([^)]+)\)", text)
    assert [
        (page, section) for page, section in named if section not in sections(page or name)
    ] == []


def test_the_page_for_contributors_stays_short():
    assert (ROOT / "CONTRIBUTING.md").stat().st_size <= 6144


def test_the_korean_page_has_the_same_code_tables_and_links():
    def fixed(name):
        return re.findall(
            r"^```.*?^```|^\|.*?$",
            (ROOT / name).read_text(encoding="utf-8"),
            re.MULTILINE | re.DOTALL,
        )

    assert fixed("README.ko.md") == fixed("README.md") != []
    other = {"README.md": "README.ko.md", "README.ko.md": "README.md"}
    assert sorted(links("README.ko.md")) == sorted(
        other.get(target, target) for target in links("README.md")
    )


def test_changed_english_asks_for_a_new_translation_and_stops_nothing(index, capsys):
    from build_readme import readme_in_korean

    prose = [number for number, cell in enumerate(index.cells) if cell.cell_type == "markdown"]
    first, last = (index.cells[prose[end]].id for end in (0, -1))
    changed = copy.deepcopy(index)
    changed.cells[prose[0]].source += " More words."
    del changed.cells[prose[-1]]
    changed.cells.append(nbformat.v4.new_markdown_cell("New words.", id="new"))
    stale = re.compile(r"<!-- (\w+) (?:\w{8}|is gone) -->")
    readme_in_korean(index)
    before = stale.findall(capsys.readouterr().err)
    page = readme_in_korean(changed)
    said = stale.findall(capsys.readouterr().err)
    assert {first, "new", last} <= {*said} <= {first, "new", last, *before}
    assert page.rstrip().endswith("New words.")


def test_llms_txt_keeps_to_its_convention_and_names_what_is_there():
    text = (ROOT / "llms.txt").read_text(encoding="utf-8")
    opening, *sections = re.split(r"^## .+\n", text, flags=re.MULTILINE)
    assert re.match(r"# \S+\n\n> \S.+\n\n", opening) and "](" not in opening
    items = [line for section in sections for line in section.strip().splitlines()]
    assert [
        line for line in items if not re.fullmatch(r"- \[[^]]+\]\(https://\S+\)(: \S.*)?", line)
    ] == []
    pages = {target.rpartition("/")[2] for target in links("llms.txt") if target.endswith(".html")}
    assert pages == {page_of(notebook) for notebook in NOTEBOOKS}
    files = [
        target.partition("/blob/main/")[2]
        for target in links("llms.txt")
        if not target.endswith(".html")
    ]
    assert [file for file in files if not file or not (ROOT / file).exists()] == []
    assert {file for file in files if file.startswith("fmnist_cluster/")} == {
        f"fmnist_cluster/{file.name}"
        for file in (ROOT / "fmnist_cluster").glob("[a-z]*.py")
        if "AUTOGENERATED" in file.read_text()
    }


def test_llms_txt_lies_beside_the_pages_of_the_site(site):
    assert (site / "llms.txt").read_text(encoding="utf-8") == (ROOT / "llms.txt").read_text(
        encoding="utf-8"
    )


# the site


class PageReader(HTMLParser):
    "Collect what a page loads, what it links to and the names of its places."

    def __init__(self, file):
        super().__init__()
        self.loads, self.links, self.ids, self.text = [], [], [], ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if (tag, name) in LOADING:
                self.loads.append(value)
            if (tag, name) == ("a", "href"):
                self.links.append(value)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the plain site, as `make docs` does where there is no Quarto.

    Its folder, git's status before and after, and the seconds of computing.
    """
    folder, before, used = tmp_path_factory.mktemp("site") / "_docs", tree_status(), computed()
    build = subprocess.run(
        [sys.executable, "tools/build_docs.py", "--plain", "--out", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr[-3000:]
    return folder, before, tree_status(), computed() - used


@pytest.fixture(scope="module")
def site(built):
    return built[0]


def computed() -> float:
    """Return the seconds of computing that the programs started here have used.

    Unlike the clock they do not ask what else runs on the machine.
    """
    times = os.times()
    return times.children_user + times.children_system


@pytest.fixture(scope="module")
def pages(site):
    return {file.name: PageReader(file) for file in sorted(site.glob("*.html"))}


def test_building_leaves_the_project_as_it_was(built):
    _, before, after, _ = built
    assert after == before


def test_the_site_is_small(site):
    assert sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) < 40e6


@pytest.mark.long
def test_the_site_is_soon_built(built):
    assert built[3] < 90


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_is_small(notebook):
    assert notebook.stat().st_size < 1.5e6


def test_one_page_a_notebook(pages):
    assert set(pages) - {"explorer.html"} == {page_of(notebook) for notebook in NOTEBOOKS}
    assert "index.html" in pages


def test_the_sidebar_lists_the_chapters_in_order_and_the_explorer_where_it_is(pages):
    chapters = [
        "index.html",
        *(page_of(notebook) for notebook in NOTEBOOKS if notebook.stem != "index"),
    ]
    extra = ["explorer.html"] if "explorer.html" in pages else []
    assert [link for link in pages["core.html"].links if link in pages or link == "explorer.html"][
        1 : len(chapters + extra) + 1
    ] == chapters + extra


def page_of(notebook):
    return re.sub(r"^\d+_", "", notebook.stem) + ".html"


def test_links_and_images_resolve(site, pages):
    assert [link for name in pages for link in broken_links(site, pages, name)] == []


def broken_links(site, pages, name):
    "Yield the targets within the site that a page names and that are not there."
    for target in pages[name].loads + pages[name].links:
        parts = urlsplit(target)
        if parts.scheme:
            continue
        file = unquote(parts.path) or name
        if not (site / file).is_file() or (
            parts.fragment and unquote(parts.fragment) not in pages[file].ids
        ):
            yield f"{name}: {target}"


def test_a_chapter_opens_in_colab(pages):
    for notebook in NOTEBOOKS:
        links = [
            link for link in pages[page_of(notebook)].links if link.startswith("https://colab.")
        ]
        assert [link.rpartition("/nbs/")[2] for link in links] == (
            [notebook.name] if notebook.stem != "index" else []
        )


def test_public_names_have_an_entry_with_its_source(pages):
    for page, name in {
        "runs.html": "stage",
        "autoencoder.html": "autoencoder",
        "dec_idec.html": "idec",
    }.items():
        assert name in pages[page].ids
        assert any(
            "/blob/main/fmnist_cluster/" in link and "#L" in link for link in pages[page].links
        )
    assert "autoencoder.html#autoencoder" in pages["index.html"].links


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_page_shows_the_introduction_and_the_exported_code(pages, notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    shown = pages[page_of(notebook)].text
    exported = [
        cell.source
        for cell in cells
        if cell.cell_type == "code" and re.match(r"#\| *export[si]?\n", cell.source)
    ]
    assert [source for source in exported if source.strip().splitlines()[-1] not in shown] == []
    introduction = re.match(r"# .+\n+> .+\n+(\w[\w ,]+)", cells[0].source)
    assert not introduction or introduction[1] in " ".join(shown.split())


def test_no_place_is_named_twice(pages):
    assert {
        name: ids
        for name, page in pages.items()
        if (ids := {i for i in page.ids if page.ids.count(i) > 1})
    } == {}


def test_nothing_is_loaded_from_elsewhere(site, pages):
    "What a page's scripts load is seen in the browser, below."
    foreign = [
        f"{name}: {target}"
        for name, page in pages.items()
        for target in page.loads
        if urlsplit(target).scheme not in ("", "data") or target.startswith("//")
    ]
    styles = [
        f"{file.name}: {use}"
        for file in site.rglob("*")
        if file.suffix in (".html", ".css") and file.name != "explorer.html"
        for use in re.findall(
            r"@import.*|url\(\s*['\"]?(?:https?:)?//.*", file.read_text(encoding="utf-8")
        )
    ]
    assert foreign + styles == []


def test_every_formula_became_mathml(site):
    # no prose in the explorer; Bokeh's own code holds two dollars
    pages = set(site.glob("*.html")) - {site / "explorer.html"}
    left = [
        file.name
        for file in pages
        if re.search(r'class="math |\$\$', file.read_text(encoding="utf-8"))
    ]
    assert left == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_can_be_told_from_their_ground(dark):
    "WCAG 2, level AA: text and ground differ by a ratio of at least 4.5."
    light_part, dark_part = (
        (ROOT / "tools" / "docs.css").read_text().split("@media (prefers-color-scheme: dark)", 1)
    )
    colours = dict(re.findall(r"--(\w+): (#\w{6});", dark_part if dark else light_part))
    grounds, inks = ["ground", "raised"], set(colours) - {"ground", "raised", "line"}
    assert len(inks) == 11
    assert [
        (ink, ground)
        for ink in inks
        for ground in grounds
        if contrast(colours[ink], colours[ground]) < 4.5
    ] == []


def contrast(one, other) -> float:
    darker, lighter = sorted(luminance(bytes.fromhex(colour[1:])) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(rgb) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (byte / 255 for byte in rgb)
    ]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear))


# how one notebook is shown


def code(source, **data):
    output = nbformat.v4.new_output(
        "display_data", {name.replace("_", "/"): value for name, value in data.items()}
    )
    return nbformat.v4.new_code_cell(source, outputs=[output])


PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
FEATURES = [
    nbformat.v4.new_raw_cell(
        "---\ntitle: One & all\ndescription: 'A colon: and `code`'\noutput-file: all.html\n---\n"
    ),
    nbformat.v4.new_markdown_cell(
        "A list without an empty line, after (Xie,\n2016) and `f`:\n"
        "- see [the other](02_other.ipynb#place)\n- $a_1 < b$, so"
    ),
    nbformat.v4.new_markdown_cell("::: {.callout-tip}\n## Mind this\n\nText.\n:::"),
    code(
        '#| fig-cap: "What to see: a pixel"\n#| code-fold: true\nplot()',
        image_png=PIXEL,
        text_plain="<Figure>",
    ),
    code(
        "#| echo: false\nhidden()",
        text_html="<table><tr><td>1_000_000 * 2 * 3</td></tr></table>",
        text_plain="no",
    ),
    code(
        "#| output: asis",
        text_markdown="```python\ndef f(\n    x, # As in [`g`](https://host/base/other.html#g).\n):\n"
        "```\n\n*See [`C.f`](https://host/base/all.html#c.f)*\n\n#### C.f",
    ),
    code("#| hide\nsecret()", text_plain="secret"),
    nbformat.v4.new_code_cell(
        "train()",
        outputs=[
            nbformat.v4.new_output(
                "stream", name="stderr", text="fit: 10%\rfit: 100%\n\x1b[31mred\x1b[0m\n"
            )
        ],
    ),
]


def test_what_a_cell_may_ask_for(tmp_path):
    from types import SimpleNamespace

    from build_docs import Page, write_page

    notebook = tmp_path / "01_all.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=FEATURES), notebook)
    page, other = (
        Page(notebook),
        SimpleNamespace(notebook=Path("02_other.ipynb"), file="other.html", label="02 The other"),
    )
    config = SimpleNamespace(
        doc_host="https://host", doc_baseurl="/base", title="site", git_url="https://host/code"
    )
    write_page(
        page, [page, other], config, tmp_path, [{"title": "Explorer", "href": "explorer.html"}]
    )
    shown = (tmp_path / "all.html").read_text(encoding="utf-8")
    assert "<h1>One &amp; all</h1>" in shown and "<code>code</code>" in shown
    assert '<li>see <a href="other.html#place">the other</a></li>' in shown and "<math" in shown
    assert '<span class="callout-title">Mind this</span>' in shown and "<h2" not in shown
    assert (
        re.search(r"<summary>\s*Code\s*</summary>", shown)
        and "What to see: a pixel</figcaption>" in shown
    )
    assert (tmp_path / "all_files" / "1.png").read_bytes().startswith(b"\x89PNG")
    assert "1_000_000 * 2 * 3" in shown and "hidden()" not in shown and "secret" not in shown
    assert "fit: 100%\nred</code>" in shown and "10%\r" not in shown and "&lt;Figure" not in shown
    assert "# As in `g`." in shown and 'href="all.html#c"' in shown and 'id="cf"' in shown
    assert "2016) and" in shown and re.search(
        r'<span class="together"><math.*?</math>,</span>\s+so', shown, re.DOTALL
    )
    assert '<li><a href="explorer.html">Explorer</a></li>' in shown
    assert (
        '<a rel="next" href="other.html">02 The other →</a>' in shown and 'rel="prev"' not in shown
    )


def test_a_tagged_equation_carries_its_number():
    from build_docs import numbered

    assert numbered("$$a = b \\tag{DEC, eq. 2}$$") == "$$a = b \\qquad\\text{(DEC, eq. 2)}$$"


def test_a_chapter_says_how_long_it_takes():
    from types import SimpleNamespace

    from build_docs import facts

    cells = [
        nbformat.v4.new_markdown_cell("word " * 400),
        nbformat.v4.new_code_cell("x = 1\n\n" * 60),
    ]
    costs = [
        {"chapter": chapter, "preset": preset, "wall_seconds": seconds, "machine": machine}
        for chapter, preset, seconds, machine in [
            ("06_x", "full", 1234.5, "2 cores"),
            ("06_x", "quick", 42.4, "2 cores"),
            ("06_x", "gpu", 7200, "8 cores"),
            ("07_y", "full", 9, "2 cores"),
        ]
    ]
    config = SimpleNamespace(
        user="u", repo="r", branch="main", git_url="https://host/code", nbs_path=Path("nbs")
    )
    line = facts("06_x", cells, costs, config)
    times = "runs in 42 s (quick), 21 min (full) on 2 cores · runs in 2.0 h (gpu) on 8 cores"
    assert f"About 4 min to read · {times} · [" in line
    assert "/github/u/r/blob/main/nbs/06_x.ipynb)" in line
    assert "runs in" not in facts("08_z", cells, costs, config)


# in a browser


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def served(site):
    "Serve the site on this machine, one folder below the host as on GitHub Pages; its address."
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=site.parent)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{site.name}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine: the site was not opened in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield browser
        browser.close()


@pytest.fixture
def tab(browser):
    "Open a tab as wide as a phone."
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    yield tab
    tab.close()


def faults_of(tab) -> list[str]:
    """Return a list that fills with what goes wrong in a tab.

    Complaints of the console, failed requests, and requests to a foreign host.
    """
    faults = []
    tab.on(
        "console",
        lambda message: (
            message.type in ("error", "warning") and faults.append(f"{tab.url}: {message.text}")
        ),
    )
    tab.on("pageerror", lambda error: faults.append(f"{tab.url}: {error}"))
    tab.on(
        "response",
        lambda response: (
            response.status >= 400 and faults.append(f"{tab.url}: {response.status} {response.url}")
        ),
    )
    tab.on(
        "request",
        lambda request: (
            urlsplit(request.url).hostname not in ("127.0.0.1", None)
            and faults.append(f"{tab.url}: asks {request.url}")
        ),
    )
    return faults


def test_pages_in_a_browser(served, pages, tab):
    faults, wide, empty = faults_of(tab), {}, {}
    for name in pages:
        tab.goto(f"{served}/{name}", wait_until="networkidle")
        wide[name] = tab.evaluate("document.documentElement.scrollWidth") - 390
        empty[name] = tab.evaluate(
            "[...document.images].filter(image => image.naturalWidth === 0).map(image => image.src)"
        )
    assert faults == []
    assert {name: pixels for name, pixels in wide.items() if pixels > 0} == {}
    assert {name: images for name, images in empty.items() if images} == {}


def test_search_by_keyboard_leads_to_the_chapter(served, tab):
    faults = faults_of(tab)
    tab.goto(f"{served}/index.html")
    tab.keyboard.press("Control+k")
    tab.keyboard.type("target distribution")
    tab.locator('pagefind-searchbox a[href$="/dec_idec.html"]').wait_for()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"{served}/dec_idec.html*")
    assert tab.title().startswith("DEC")
    assert faults == []
