"""The report end to end: one file, everything in it, nothing a browser complains about."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_renders import made_up_piece, publish, refused, write_renders
from tiny_models import write_random_checkpoint

from dexter_model.errors import InputError
from dexter_model.expression.config import TrainingConfig
from dexter_model.expression.plan import Sampling
from dexter_model.synthesis import why_silent
from dexter_model.training.checkpoint import write_checkpoint
from tasks.evaluate import evaluate
from tasks.report import ReportInputs, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = '<script>alert("x")</script>'


class Page(HTMLParser):
    """The tags and attributes of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of everything, on real and synthetic pieces, with hostile texts."""
    folder = tmp_path_factory.mktemp("report")
    pieces = [made_up_piece("a", seed=1), made_up_piece("b", 2, seed=2)]
    synthetic = made_up_piece("s", 2, synthetic=True, seed=4)
    publish(str(folder / "store"), [*pieces, synthetic], [refused("lost/x.mid", HOSTILE)])
    renders = write_renders(folder / "renders", [*pieces, synthetic])
    evaluation = evaluate(str(folder / "store"), [renders], folder / "evaluation").out
    meta = {
        "label": HOSTILE,
        "config": {},
        "statistics": {"mean": [0.0] * 5, "std": [1.0] * 5},
        "dataset": {"version": "v1", "digest": "2" * 64},
        "code_version": "0",
        "seed": 13,
        "step": 300,
        "history": [[step, 1 / step, 1.5 / step if step % 100 == 0 else None] for step in range(10, 301, 10)],
    }
    write_checkpoint(folder / "checkpoint", {"w": np.zeros(1, np.float32)}, meta)
    stages: list[dict[str, Any]] = [
        {"name": "build", "seconds": 3.2, "result": {"built": 7, "version": "v1"}},
        {"name": HOSTILE},
    ]
    inputs = ReportInputs(
        store_url=str(folder / "store"),
        checkpoint=folder / "checkpoint",
        renders=[renders],
        evaluation=evaluation,
        stages=stages,
    )
    return Path(write_report(inputs, folder))


def test_everything_is_in_the_file(report: Path) -> None:
    page = Page(report.read_text())
    assert report.name == "report.html"
    links = [attrs[name] for _, attrs in page.tags for name in ("src", "href", "action", "data") if name in attrs]
    assert all(link and link.startswith(("data:", "#")) for link in links)
    assert not any(tag in ("script", "iframe", "object") for tag, _ in page.tags)
    assert "url(" not in report.read_text()
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert all(link[1:] in ids for link in links if link and link.startswith("#"))


def test_sections_hold_what_there_is(report: Path) -> None:
    page = Page(report.read_text())
    text = re.sub(r"\s+", " ", page.text)
    for wanted in (
        "7 performances of 3 pieces built, 1 quarantined, 8 discovered",
        "missing_score",
        "synthetic: shows the plumbing, not the model",
        "human-to-human ceiling: not available",
        "rule-based performer left out: it made the data",
        "undefined constant prediction",
        "after 300 steps",
        "3.2 s",
        "Tempo and velocity",
        "Piano roll",
    ):
        assert wanted in text, wanted
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 1 + 2 + 3 * 3  # loss, a chart a table, and three figures for each of three pieces
    assert all(attrs["alt"] for attrs in images)


def test_texts_of_files_are_escaped(report: Path) -> None:
    html = report.read_text()
    assert HOSTILE not in html
    assert html.count("&lt;script&gt;") >= 3  # the checkpoint's label, the reason, the stage
    assert "<b>&</b>" not in html
    assert not re.search(r"\bnan\b", Page(html).text, re.IGNORECASE)


def test_sound_or_why_there_is_none(report: Path) -> None:
    page = Page(report.read_text())
    sounds = [attrs for tag, attrs in page.tags if tag == "audio"]
    if why_silent():
        assert not sounds
        assert why_silent() in page.text
    else:
        assert len(sounds) == 3


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_it_without_complaint(report: Path) -> None:
    from playwright.sync_api import sync_playwright

    quiet = ("background-networking", "component-update", "sync")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", *(f"--disable-{what}" for what in quiet)]
    complaints: list[str] = []
    requests: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report.resolve().as_uri())
        page.wait_for_load_state("load")
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        sounds = page.evaluate(
            "Promise.all([...document.querySelectorAll('audio')].map(sound => sound.readyState > 0 ? sound.duration : "
            "new Promise(done => sound.addEventListener('loadedmetadata', () => done(sound.duration)))))"
        )
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        browser.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert widths
    assert min(widths) > 300
    assert overflow <= 0
    assert all(seconds > 3 for seconds in sounds)


def test_a_report_of_what_there_is(tmp_path: Path) -> None:
    nothing = Page(Path(write_report(ReportInputs(), tmp_path / "nothing.html")).read_text())
    assert "Nothing but what ran." in nothing.text
    renders = write_renders(tmp_path / "renders", [made_up_piece("a", seed=1)])
    alone = Page(Path(write_report(ReportInputs(renders=[renders]), tmp_path)).read_text())
    assert [attrs["alt"].split(".")[0] for tag, attrs in alone.tags if tag == "img" and attrs["alt"]] == ["Piano roll"]


def test_a_model_at_work_or_why_it_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.report.EXAMPLES", 0)  # nothing else is drawn and played
    piece = made_up_piece("a", seed=1)
    publish(str(tmp_path / "store"), [piece])
    renders = write_renders(tmp_path / "renders", [piece])
    transfer = TrainingConfig(train_target="transfer")
    models = {
        "noise": write_random_checkpoint(tmp_path / "noise"),
        "transfer": write_random_checkpoint(tmp_path / "transfer", training=transfer),
        "mean": write_random_checkpoint(tmp_path / "mean", target="mean"),
    }

    def section(model: str) -> Page:
        how = {"checkpoint": models[model], "sampling": Sampling(steps=2)}
        inputs = ReportInputs(str(tmp_path / "store"), renders=[renders], **how)
        html = Path(write_report(inputs, tmp_path)).read_text()
        return Page(html[html.index('<section id="denoising">') :].partition("</section>")[0])

    def moves(page: Page) -> bool:
        return any((attrs.get("src") or "").startswith("data:image/webp") for tag, attrs in page.tags if tag == "img")

    assert moves(section("noise"))
    at_once = section("mean")
    assert (moves(at_once), "at once" in at_once.text) == (False, True)
    why = section("transfer")
    assert (moves(why), "trained to start from another performance" in why.text) == (False, True)
    content = json.loads((renders / "renders.json").read_text())
    content["renders"][0]["source"] = "a/p1.mid"
    (renders / "renders.json").write_text(json.dumps(content))
    page = section("transfer")
    assert moves(page)
    assert page.text.startswith("From a performance to performance")


def test_a_damaged_render_leaves_the_rest(tmp_path: Path) -> None:
    renders = write_renders(tmp_path / "renders", [made_up_piece("a", seed=1), made_up_piece("b", seed=2)])
    (renders / "a_0.mid").write_bytes(b"")
    page = Page(Path(write_report(ReportInputs(renders=[renders]), tmp_path)).read_text())
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 1


def test_parts_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        write_report(ReportInputs(evaluation=tmp_path), tmp_path)
    assert caught.value.code == "evaluation_unreadable"
    (tmp_path / "evaluation.json").write_text("[1]")
    with pytest.raises(InputError):
        write_report(ReportInputs(evaluation=tmp_path), tmp_path)
