"""What a push of a folder at ``s3://`` costs beside the requests themselves: these are not made.

``python benchmarks/places.py [FILES]``: small files in eight folders, as renders are; then pushes that find all of them
new, nothing new, one more, and a JSON file that tells of them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from dexter_model import places


def push(written: places.Writing, what: str) -> None:
    """Push, and print what it took."""
    cpu, wall = time.process_time(), time.monotonic()
    written.push()
    print(f"{what:12} {time.monotonic() - wall:6.2f} s, CPU {time.process_time() - cpu:6.2f} s")


def main(files: int) -> None:
    """Write and push."""
    with places.writing("s3://bucket/renders") as written:
        for index in range(files):
            path = Path(written.folder, f"corpus{index % 8}", f"{index}.mid")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x" * 100)
        push(written, "all new")
        push(written, "nothing new")
        Path(written.folder, "corpus0", "one more.mid").write_bytes(b"x")
        push(written, "one new")
        Path(written.folder, "renders.json").write_bytes(b"{}")
        push(written, "JSON new")


if __name__ == "__main__":
    silent = dict.fromkeys(("upload", "delete", "put"), mock.DEFAULT)
    with (
        tempfile.TemporaryDirectory() as cache,
        mock.patch.dict(os.environ, DEXTER_CACHE_DIR=cache),
        mock.patch.object(places, "PUSH_SECONDS", 1e6),
        mock.patch.multiple(places.s3, objects_at=lambda _url: [], **silent),
    ):
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
