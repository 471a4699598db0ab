"""Reports: one escaped, repeatable file that loads nothing from anywhere."""

from __future__ import annotations

import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from echofm.errors import EchofmError
from echofm.report.blocks import Commands, FilmStrip, Notice, Panels, Picture, Prose, Table
from echofm.report.page import Page
from echofm.report.style import themed
from examples import demo_figures as figures

HOSTILE = "<script>alert('Jane Doe')</script>&\"`<img src=x onerror=1>`"
FRAMES = np.random.default_rng(0).integers(0, 255, (3, 16, 16), np.uint8)


def losses() -> Figure:
    return figures.loss_curves(
        {"total": (np.arange(9), np.geomspace(2, 1, 9)), "triplet": ([0, 4, 8], [0.3, 0.2, 0.1])}
    )


def everything(text: str = "text") -> Page:
    page = Page(f"Title {text}", f"Lead {text}").warn(text)
    page.add(f"First {text}", Prose(f"One {text}\n\nTwo `code`."), Notice(text), Commands(f"echofm --help # {text}"))
    page.add(
        "Second",
        Table(["clip", "EF (%)", text], [[text, 55.0, 3], ["b", float("nan"), None]], caption=text),
        Picture(losses, text, caption=text, tag=text),
        Panels([Picture(losses, text, caption=text)], caption=text, tag=text),
        FilmStrip({text: FRAMES, "rgb": np.repeat(FRAMES[..., None], 3, 3)}, text, ["0 s", "1 s", text], caption=text),
    )
    return page


class Seen(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_text_is_escaped() -> None:
    plain, hostile = Seen(everything().html()), Seen(everything(HOSTILE).html())
    assert "script" not in hostile.tags and not [name for name, _ in hostile.attributes if name.startswith("on")]
    assert hostile.tags.count("img") == plain.tags.count("img")
    # Title twice, lead, banner, prose, notice, commands, table (3), captions (5), tags (2), row name, frame label ...
    assert hostile.text.count("alert('Jane Doe')") >= 15
    assert not hostile.open and not plain.open


def test_nothing_is_loaded_from_anywhere() -> None:
    html = everything().html()
    places = [value for name, value in Seen(html).attributes if name in ("src", "srcset", "href", "action", "data")]
    assert len(places) > 10
    assert all(value and value.startswith(("data:image/png;base64,", "#")) for value in places)
    assert not re.search(r"url\(|@import|https?:", html)
    assert "default-src 'none'" in html


def test_same_blocks_same_bytes(tmp_path: Path) -> None:
    first, second = everything().save(tmp_path / "a.html"), everything().save(tmp_path / "deep" / "b.html")
    assert first.read_bytes() == second.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"a.html", "deep"}


def test_contents_lead_to_sections() -> None:
    page = Page("t").add("Held-out clips", Prose("a")).add("Held-out clips", Prose("b")).add("Größe", Prose("c"))
    attributes = Seen(page.html()).attributes
    targets = [value[1:] for name, value in attributes if name == "href" and value]
    assert len(set(targets)) == 3 and set(targets) <= {value for name, value in attributes if name == "id"}


def test_pictures_are_drawn_for_both_themes() -> None:
    sources = Picture(losses, "losses").sources
    assert sources["light"] != sources["dark"]
    assert matplotlib.rcParams["axes.facecolor"] == matplotlib.rcParamsDefault["axes.facecolor"]


def test_cells_of_a_wide_table_know_their_column_for_narrow_screens() -> None:
    html = Page("t").add("s", Table(["a", "b", "c", "<d>"], [[1, 2, 3, 4]]), Table(["a"], [[1]])).html()
    assert html.count('class="table wide"') == html.count('class="table"') == 1
    assert 'data-column="&lt;d&gt;"' in html


def test_tables_show_numbers_plainly() -> None:
    table = Table(["a", "b"], [["x", 0.123456], ["y", np.float32(2)], ["z", None], ["n", 12345]])
    assert [row[1] for row in table.cells] == [("0.123", True), ("2", True), ("–", False), ("12345", True)]
    assert table.numeric == [False, True]


def test_film_strip_rows_must_agree() -> None:
    with pytest.raises(AssertionError):
        FilmStrip({"a": FRAMES, "b": FRAMES[:2]}, "alt")
    with pytest.raises(AssertionError):
        FilmStrip({"a": FRAMES}, "alt", ["one"])


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EchofmError, match="cannot be written") as caught:
        Page("t").save(tmp_path / "file" / "page.html")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "draw",
    [
        losses,
        partial(figures.similarity_map, np.eye(5), title="prior", token_s=0.08),
        partial(figures.similarity_map, np.eye(5), title="prior", token_s=None),
        partial(
            figures.phase_trajectory, np.random.default_rng(0).normal(size=(9, 4)), np.linspace(0, 0.9, 9), title="t"
        ),
        partial(figures.phase_trajectory, np.random.default_rng(0).normal(size=(9, 4)), np.full(9, np.nan), title="t"),
        partial(figures.scatter_by_group, np.zeros((3, 2)), ["a", "b", "a"], title="t", x_label="EF (%)", y_label="y"),
    ],
)
def test_axes_are_labelled(draw: partial[Figure]) -> None:
    with themed("light"):
        axes = draw().axes[0]
    assert axes.get_xlabel() and axes.get_ylabel()


def test_unknown_frame_times_are_not_called_seconds() -> None:
    axes = figures.similarity_map(np.eye(5), title="", token_s=None).axes[0]
    assert axes.get_xlabel() == "time (token)"


def test_principal_components_against_covariance() -> None:
    features = np.random.default_rng(1).normal(size=(40, 6)) * [5, 3, 1, 1, 1, 1]
    points, shares = figures.principal_components(features)
    variances = np.linalg.eigvalsh(np.cov(features.T))[::-1]
    np.testing.assert_allclose(points.var(axis=0, ddof=1), variances[:2])
    np.testing.assert_allclose(shares, variances[:2] / variances.sum())
    np.testing.assert_allclose(figures.principal_components(-features)[0], points)


def test_phase_colours_close_the_ring() -> None:
    colours = np.array(figures.phase_colours().colors)
    step = np.abs(np.diff(np.vstack([colours, colours[:1]]), axis=0)).max()
    assert step < 0.03 and colours.min() >= 0 and colours.max() <= 1
    luminance = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]
    assert luminance.max() / luminance.min() < 1.5


def test_a_report_that_cannot_be_finished_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(EchofmError, match="No space left"):
        Page("t").save(tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
