"""The main job with every path at S3, corpora included: the same artefacts as with folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dexter_model import places
from dexter_model.dataset.store import open_version
from dexter_model.training.checkpoint import load_checkpoint
from flows.configuration import load
from flows.job import run
from flows.parameters import JobParameters

SMALL = {
    "build": {"corpora": ["FOLDER"], "workers": 0, "perceptual": "csv"},
    "train": {
        "denoiser": {"channels": 8, "layers": 2, "window": 20, "perceptual": "none"},
        "training": {"steps": 4, "batch_size": 4, "log_every": 2, "validation_windows": 4, "checkpoint_every": 2},
    },
    "render": {"steps": 2, "workers": 0, "split": "train"},
    "evaluate": {"workers": 0},
}


@pytest.fixture
def corpus(tmp_path: Path, corpora_root: Path) -> Path:
    """Four pieces of Vienna, two performances each, one with features of its own."""
    folder = tmp_path / "corpus"
    (folder / "match").mkdir(parents=True)
    for score in sorted((corpora_root / "vienna4x22" / "musicxml").glob("*.musicxml")):
        shutil.copy(score, folder / "match")
        for number in (1, 2):
            shutil.copy(corpora_root / "vienna4x22" / "match" / f"{score.stem}_p{number:02}.match", folder / "match")
    rows = "\n".join(f"{time},1,2,3,4,5,6,7" for time in range(15, 200, 5))
    names = "melody,articulation,rhythm_complexity,rhythm_stability,dissonance,tonal_stability,minorness"
    (folder / "match" / "Chopin_op38_p01_cep_features.csv").write_text(f"frame_start_time,{names}\n{rows}")
    return folder


def upload(folder: Path, url: str) -> None:
    with places.writing(url) as written:
        shutil.copytree(folder, written.folder, dirs_exist_ok=True)


def job(root: str, out: str) -> JobParameters:
    parts = {name: dict(values) for name, values in SMALL.items()}
    parts["build"]["data_root"] = root
    return load(JobParameters, options={"out": out, **parts})


@pytest.mark.cluster
@pytest.mark.corpora
def test_the_main_job_at_s3_makes_what_it_makes_in_folders(
    tmp_path: Path, corpus: Path, moto_bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(corpus, f"{moto_bucket}/corpus")
    url = f"{moto_bucket}/lab/out"
    run(job(str(corpus), str(tmp_path / "out")))
    remote = run(job(f"{moto_bucket}/corpus", url))
    assert remote == f"{url}/report.html"
    assert b"</html>" in places.read(remote)
    ours, theirs = (json.loads(places.read(places.join(out, "run.json"))) for out in (tmp_path / "out", url))
    assert theirs["artefacts"] == ours["artefacts"]
    told = [str(path) for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {"renders.json", "evaluation.json", "checkpoint.json"} <= {Path(name).name for name in told}
    known = set(places.names(url))
    assert {"evaluation/evaluation.json", "renders/renders.json", "run.json"} <= known
    assert "model/checkpoints/step_00000004/checkpoint.json" in known
    written = "s3-writing"
    for name in ("evaluation/evaluation.json", "renders/renders.json", "run.json", "report.html"):
        assert written not in places.read(f"{url}/{name}").decode()
        assert str(places.copy_of(url)) not in places.read(f"{url}/{name}").decode()
    capsys.readouterr()
    run(job(f"{moto_bucket}/corpus", url))
    again = capsys.readouterr().err
    assert "0 pieces encoded" in again
    assert "(0 made now)" in again
    assert load_checkpoint(f"{url}/model").digest == ours["artefacts"]["train"]
    piece = next(open_version(f"{url}/dataset").pieces())
    assert json.loads(places.read(f"{url}/renders/renders.json"))["renders"][0]["corpus"] == piece.corpus
