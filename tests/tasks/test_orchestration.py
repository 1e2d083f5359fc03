"""What runs publish, and what they do without a server."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from dexter_model import places
from tasks.orchestration import link_to, only_writer, publish_link, tag_run


def test_a_link_to_a_report_at_s3_opens_in_a_browser(moto_bucket: str) -> None:
    page = f"{moto_bucket}/nights/2026-11-21_0.1.0+abc/report.html"
    places.write(page, b"<html>night</html>")
    link = link_to(page)
    with urllib.request.urlopen(link) as answer:
        assert (answer.read(), answer.headers["Content-Type"]) == (b"<html>night</html>", "text/html")
    assert "X-Amz-Signature" in link
    assert "test-secret-key" not in link


def test_a_link_to_a_report_on_disk_is_absolute(tmp_path: Path) -> None:
    page = tmp_path / "a night" / "report.html"
    assert link_to(str(page)) == page.as_uri()


def test_without_a_server_there_is_nobody_to_tell_or_to_wait_for(tmp_path: Path) -> None:
    with only_writer(str(tmp_path)), only_writer(str(tmp_path)):
        tag_run(store="somewhere")
        publish_link("report", str(tmp_path / "report.html"), "report.html")
