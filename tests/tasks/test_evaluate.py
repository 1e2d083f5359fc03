"""Evaluation end to end: a data set and folders of renders in, measures and tables out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from made_up_renders import made_up_piece, publish, write_renders

from dexter_model.codec.files import load_codec, save_codec
from dexter_model.dataset.piece import Piece
from dexter_model.errors import InputError
from dexter_model.renders import JOURNAL
from tasks.evaluate import EvaluationResult, evaluate
from tasks.report import ReportInputs, write_report

PIECES = [made_up_piece("a", seed=1), made_up_piece("b", 4, seed=2), made_up_piece("c", 2, seed=3)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = str(tmp_path_factory.mktemp("store") / "data")
    publish(url, [*PIECES, made_up_piece("s", 2, synthetic=True, seed=4)])
    return url


@pytest.fixture(scope="module")
def renders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_renders(tmp_path_factory.mktemp("renders") / "ours", PIECES, samples=2)


@pytest.fixture(scope="module")
def evaluated(store: str, renders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(evaluate(store, [renders], tmp_path_factory.mktemp("evaluation")).out)


def rows_of(folder: str | Path, **wanted: object) -> list[dict]:
    table = json.loads(Path(folder, "evaluation.json").read_text())["tables"][0]
    return [row for row in table["rows"] if all(row[name] == value for name, value in wanted.items())]


def test_every_render_meets_every_human(evaluated: Path) -> None:
    measures = pl.read_parquet(evaluated / "measures.parquet")
    ours = measures.filter(system="ours", feature="velocity", measure="correlation")
    assert len(ours) == 2 * (3 + 4 + 2)
    assert ours.select("piece", "sample", "human").n_unique() == len(ours)
    assert not ours["reference"].any()
    assert measures["system"].unique(maintain_order=True).to_list() == [
        "ours",
        "ours mean of 2",
        "deadpan",
        "rule-based performer",
        "human",
    ]


def test_the_ceiling_leaves_one_out(evaluated: Path) -> None:
    measures = pl.read_parquet(evaluated / "measures.parquet")
    humans = measures.filter(system="human", feature="velocity", measure="correlation")
    assert len(humans) == 3 * 2 + 4 * 3 + 2 * 1
    assert not (humans["render"] == humans["human"]).any()
    space = measures.filter(system="human", feature="velocity", measure="space_correlation")
    assert sorted(space["piece"].unique()) == ["a", "b"]  # two humans leave one, which is no space


def test_tables_say_what_they_hold(evaluated: Path) -> None:
    content = json.loads((evaluated / "evaluation.json").read_text())
    (table,) = content["tables"]
    assert not table["synthetic"]
    assert (table["pieces"], table["performances"]) == (3, 9)
    assert table["systems"] == ["ours", "ours mean of 2", "deadpan", "rule-based performer", "human"]
    assert content["systems"][0]["checkpoint"]["label"] == "made up"
    assert len(content["data_set"]["digest"]) == 64
    (row,) = rows_of(evaluated, system="ours", feature="velocity", measure="correlation")
    assert row["low"] <= row["mean"] <= row["high"]
    assert (row["pieces"], row["comparisons"], row["undefined"]) == (3, 18, 0)
    piece_means = (
        pl.read_parquet(evaluated / "measures.parquet")
        .filter(system="ours", feature="velocity", measure="correlation")
        .group_by("piece")
        .agg(pl.col("value").mean())["value"]
    )
    assert row["mean"] == pytest.approx(piece_means.mean())


def test_what_is_drawn_is_told(evaluated: Path) -> None:
    """Two pieces of one work are two pieces, and one work: an interval of one is none."""
    content = json.loads((evaluated / "evaluation.json").read_text())
    unit = content["bootstrap"]["unit"]
    assert set(unit) <= set(content["tables"][0])
    assert (unit["rows"], unit["performance"], unit["differences"]) == ("piece", "work", "work")
    same = [Piece(**vars(p) | {"work": "w"}) for p in PIECES[:2]]
    publish(str(evaluated.parent / "one work"), same)
    renders = write_renders(evaluated.parent / "of one work", same)
    (table,) = evaluate(str(evaluated.parent / "one work"), [renders], evaluated.parent / "e").tables
    velocity = ("of one work", "velocity", "correlation")
    (over_pieces,) = (r for r in table["rows"] if (r["system"], r["feature"], r["measure"]) == velocity)
    over_works = table["performance"][0]["rows"][0]["cells"][0]
    assert over_works["mean"] == pytest.approx(over_pieces["mean"])
    assert (over_pieces["low"] is None, over_works["low"] is None) == (False, True)


def test_samples_have_a_mean_that_is_a_system(evaluated: Path) -> None:
    measures = pl.read_parquet(evaluated / "measures.parquet").filter(feature="velocity", measure="correlation")
    samples = (
        measures.filter(system="ours").group_by("piece", "human").agg(pl.col("value").mean()).sort("piece", "human")
    )
    mean = measures.filter(system="ours mean of 2").sort("piece", "human")
    assert mean.select("piece", "human").rows() == samples.select("piece", "human").rows()
    assert (mean["value"] > samples["value"]).all()  # what two samples share remains, their noise is halved


def test_features_and_divergences_are_measured(evaluated: Path) -> None:
    measures = pl.read_parquet(evaluated / "measures.parquet")
    ours = measures.filter(system="ours")
    assert {"kor", "delta", "pitch_cor", "tempo_cor", "log_ioi"} <= set(ours.filter(measure="correlation")["feature"])
    assert "agreement" not in ours["feature"]  # the score marks no dynamics
    divergences = measures.filter(measure="js")
    assert set(divergences["feature"]) == {"velocity", "duration", "ioi", "pedal"}
    assert divergences["value"].is_between(0, 1).all()
    assert divergences.filter(system="human", feature="ioi")["value"].mean() < 1
    assert (divergences.filter(system="deadpan", feature="velocity")["value"] > 0.3).all()
    assert measures["work"].to_list() == measures["piece"].to_list()


def test_performances_over_works(evaluated: Path) -> None:
    (table,) = json.loads((evaluated / "evaluation.json").read_text())["tables"]
    pearson, error, divergence = table["performance"]
    for part in (pearson, error, divergence):
        assert [row["label"] for row in part["rows"]] == table["systems"]
        assert all(len(row["cells"]) == len(part["columns"]) for row in part["rows"])
    velocity = {row["label"]: row["cells"][0] for row in pearson["rows"]}
    assert velocity["deadpan"]["mean"] == 0
    assert velocity["ours"]["mean"] > 0
    (found,) = (
        row
        for row in table["differences"]
        if (row["system"], row["against"], row["feature"]) == ("ours mean of 2", "deadpan", "velocity")
    )
    assert found["mean"] == pytest.approx(velocity["ours mean of 2"]["mean"])
    assert found["works"] == 3
    assert len(table["attributes"]) == 4  # two systems, against each human and in the ground-truth space


def test_deadpan_has_errors_but_no_correlation(evaluated: Path) -> None:
    for feature in ("tempo_curve", "velocity", "timing", "articulation", "pedal"):
        (row,) = rows_of(evaluated, system="deadpan", feature=feature, measure="correlation")
        assert row["mean"] is None
        assert row["undefined"] == row["comparisons"] == 9
        assert row["why"] == "constant prediction"
    (error,) = rows_of(evaluated, system="deadpan", feature="velocity", measure="mean_absolute_error")
    assert error["mean"] > 1


def test_same_inputs_same_bytes(store: str, renders: Path, evaluated: Path, tmp_path: Path) -> None:
    again = evaluate(store, [renders], tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"evaluation.json", "measures.parquet"}
    for name in ("evaluation.json", "measures.parquet"):
        assert (Path(again.out) / name).read_bytes() == (evaluated / name).read_bytes()
    assert str(tmp_path) not in (Path(again.out) / "evaluation.json").read_text()


def test_the_order_of_performances_does_not_matter(renders: Path, evaluated: Path, tmp_path: Path) -> None:
    turned = [
        Piece(**vars(p) | {f: getattr(p, f)[::-1] for f in TURNED} | {"performances": p.performances[::-1]})
        for p in PIECES
    ]
    publish(str(tmp_path / "store"), turned)
    found = {key(row): row["mean"] for row in rows_of(evaluate(str(tmp_path / "store"), [renders], tmp_path / "e").out)}
    assert found == pytest.approx({key(row): row["mean"] for row in rows_of(evaluated)})


TURNED = ("performance", "matched", "named", "keydown_articulation")


def key(row: dict) -> tuple[str, str, str]:
    return row["system"], row["feature"], row["measure"]


def test_synthetic_pieces_are_tabulated_apart(store: str, tmp_path: Path) -> None:
    synthetic = made_up_piece("s", 2, synthetic=True, seed=4)
    folder = write_renders(tmp_path / "r", [PIECES[0], synthetic])
    real, plumbing = evaluate(store, [folder], tmp_path / "e").tables
    assert (real["synthetic"], plumbing["synthetic"]) == (False, True)
    assert plumbing["heading"] == "synthetic: shows the plumbing, not the model"
    assert plumbing["ceiling"] == "not available"
    assert plumbing["systems"] == ["r", "deadpan"]
    assert real["systems"] == ["r", "deadpan", "rule-based performer", "human"]
    assert real["pieces"] == plumbing["pieces"] == 1


def test_one_human_has_no_ceiling(tmp_path: Path) -> None:
    alone = made_up_piece("alone", 1, seed=9)
    publish(str(tmp_path / "store"), [alone])
    result = evaluate(str(tmp_path / "store"), [write_renders(tmp_path / "r", [alone])], tmp_path / "e")
    (table,) = result.tables
    assert table["ceiling"].startswith("not available")
    assert "human" not in table["systems"]
    (row,) = rows_of(result.out, system="r", feature="velocity", measure="correlation")
    assert row["low"] is None  # one piece: no interval
    assert not any(row["measure"].startswith("space_") for row in table["rows"])


def test_real_performances_alone_are_references_of_a_mixed_piece(tmp_path: Path) -> None:
    mixed = made_up_piece("mixed", 3, synthetic=[True, False, False], seed=5)
    publish(str(tmp_path / "store"), [mixed])
    result = evaluate(str(tmp_path / "store"), [write_renders(tmp_path / "r", [mixed])], tmp_path / "e")
    humans = pl.read_parquet(Path(result.out) / "measures.parquet").filter(system="r")["human"].unique()
    assert set(humans) == {"", "mixed/p1.mid", "mixed/p2.mid"}
    assert [table["synthetic"] for table in result.tables] == [False]


def made_from(folder: Path, **heard: str) -> Path:
    """Renders whose listing says which performer of a piece they were made from and like."""
    content = json.loads((folder / "renders.json").read_text())
    for row in content["renders"]:
        row |= {name: f"{row['piece']}/{performer}.mid" for name, performer in heard.items()}
    (folder / "renders.json").write_text(json.dumps(content | {"controls": dict.fromkeys(heard, "0")}))
    return folder


def test_a_render_does_not_meet_the_performance_it_was_made_from(store: str, tmp_path: Path) -> None:
    folder = made_from(write_renders(tmp_path / "transfer", PIECES, samples=2), source="p0", like="p1")
    result = evaluate(store, [folder], tmp_path / "e")
    measures = pl.read_parquet(Path(result.out) / "measures.parquet").filter(feature="velocity", measure="correlation")
    for system in ("transfer", "transfer mean of 2"):
        met = measures.filter(system=system).select("piece", "human").unique().sort("piece", "human").rows()
        assert met == [("a", "a/p2.mid"), ("b", "b/p2.mid"), ("b", "b/p3.mid")]
    assert measures.filter(system="deadpan", piece="a")["human"].n_unique() == 3
    # Two pianists played the third piece: one it was made from, the other it is like.
    assert [(r["name"], r["code"]) for r in result.refused] == [(f"c_{k}", "no_other_performance") for k in (0, 1)]
    page = Path(write_report(ReportInputs(evaluation=result.out), tmp_path)).read_text()
    assert "is not compared with that performance" in page
    plain = evaluate(store, [write_renders(tmp_path / "plain", PIECES[:1])], tmp_path / "e2")
    assert "not compared with that" not in Path(write_report(ReportInputs(evaluation=plain.out), tmp_path)).read_text()


def test_steered_renders_are_heard(store: str, tmp_path: Path) -> None:
    folders = []
    for level, overlap in (("less", -2.0), ("more", 2.0)):
        folder = write_renders(tmp_path / level, PIECES)
        for file in folder.glob("*.npz"):
            codec = load_codec(file)
            codec.p_codec[:, 3] = overlap
            save_codec(file, codec)
        content = json.loads((folder / "renders.json").read_text())
        content |= {"controls": {"steer": {"articulation": level}}, "perceptual_std": [0.1] * 7}
        (folder / "renders.json").write_text(json.dumps(content))
        folders.append(folder)
    result = evaluate(store, folders, tmp_path / "e")
    found = next(table for table in result.tables[0]["settings"] if table["heading"] == "Steering")
    cells = {row["label"]: row["cells"] for row in found["rows"]}
    less, normal, more, paper = cells["articulation"]
    assert abs(more["mean"] - less["mean"]) > 1
    assert normal is paper is None
    measures = pl.read_parquet(Path(result.out) / "measures.parquet").filter(measure="heard")
    assert measures.select("system", "feature").unique().sort("system").rows() == [
        ("less", "articulation"),
        ("more", "articulation"),
    ]
    assert ">Steering<" in Path(write_report(ReportInputs(evaluation=result.out), tmp_path)).read_text()


@pytest.fixture(scope="module")
def midi_alone(store: str, tmp_path_factory: pytest.TempPathFactory) -> EvaluationResult:
    """Renders with codec, beside renders without: never any, deleted; another score, damaged, missing."""
    folder = tmp_path_factory.mktemp("midi")
    with_codec = write_renders(folder / "codec", PIECES)
    alone = write_renders(folder / "alone", PIECES[:1], codecs=False)
    deleted = write_renders(folder / "deleted", PIECES[1:2])
    (deleted / "b_0.npz").unlink()
    damaged = write_renders(folder / "damaged", PIECES, codecs=False)
    shutil.copy(write_renders(folder / "other", [made_up_piece("other", seed=50)]) / "other_0.mid", damaged / "a_0.mid")
    (damaged / "b_0.mid").write_bytes(b"MThd\x00\x00")
    (damaged / "c_0.mid").unlink()
    return evaluate(store, [with_codec, alone, deleted, damaged], folder / "evaluation")


def test_midi_alone_is_aligned_and_compared_on_keydown_durations(midi_alone: EvaluationResult) -> None:
    measures = pl.read_parquet(Path(midi_alone.out, "measures.parquet")).filter(measure="correlation", human="a/p0.mid")
    by_codec, by_midi = (
        dict(measures.filter(system=s).select("feature", "value").iter_rows()) for s in ("codec", "alone")
    )
    assert "articulation" in by_codec
    assert "articulation_keydown" not in by_codec
    assert "articulation" not in by_midi
    assert "articulation_keydown" in by_midi
    assert ("kor" in by_codec, "kor_keydown" in by_codec) == (True, False)
    assert ("kor" in by_midi, "kor_keydown" in by_midi) == (False, True)
    assert by_midi["velocity"] == pytest.approx(by_codec["velocity"], abs=0.02)
    assert by_midi["tempo_curve"] == pytest.approx(by_codec["tempo_curve"], abs=0.05)
    humans = rows_of(midi_alone.out, system="human", feature="articulation_keydown", measure="correlation")
    assert humans[0]["mean"] is not None


def test_a_deleted_codec_leaves_the_midi(midi_alone: EvaluationResult) -> None:
    measures = pl.read_parquet(Path(midi_alone.out) / "measures.parquet").filter(system="deleted")
    assert "articulation_keydown" in measures["feature"]
    assert "articulation" not in measures["feature"]


def test_a_folder_of_midi_files_alone(store: str, tmp_path: Path) -> None:
    made = write_renders(tmp_path / "made", PIECES[:2], samples=2)
    folder = tmp_path / "external"
    (folder / "MADE_UP").mkdir(parents=True)
    for source, name in (("a_0", "MADE_UP/a.mid"), ("a_1", "MADE_UP/a_sample1.MID"), ("b_0", "MADE_UP/b.midi")):
        shutil.copy(made / f"{source}.mid", folder / name)
    shutil.copy(made / "b_1.mid", folder / "b.mid")
    shutil.copy(made / "b_1.mid", folder / "MADE_UP" / "B.mid")
    result = evaluate(store, [made, folder], tmp_path / "e")
    content = json.loads((Path(result.out) / "evaluation.json").read_text())
    assert [(system["name"], system.get("midi_only")) for system in content["systems"]] == [
        ("made", None),
        ("external", True),
    ]
    assert [(row["name"], row["code"], row["reason"]) for row in result.refused] == [
        ("b", "no_piece", "the data set has no piece b (corpus/key)"),
        ("MADE_UP/B", "no_piece", "the data set has no piece MADE_UP/B (corpus/key)"),
    ]
    measures = pl.read_parquet(Path(result.out) / "measures.parquet").filter(system="external")
    rendered = measures.select("piece", "render", "sample").unique().sort("render").rows()
    assert rendered == [("a", "MADE_UP/a", 0), ("a", "MADE_UP/a_sample1", 1), ("b", "MADE_UP/b", 0)]
    assert "articulation_keydown" in measures["feature"]
    assert "articulation" not in measures["feature"]
    page = Path(write_report(ReportInputs(store_url=store, evaluation=result.out), tmp_path)).read_text()
    assert "5 renders · MIDI files alone, aligned" in page


def test_an_unfinished_rendering_is_no_folder_of_midi_files(store: str, tmp_path: Path) -> None:
    folder = write_renders(tmp_path / "r", PIECES[:1])
    (folder / "renders.json").rename(folder / JOURNAL)
    with pytest.raises(InputError, match=r"renders\.json") as caught:
        evaluate(store, [folder], tmp_path / "e")
    assert caught.value.code == "renders_unreadable"


def test_damaged_renders_do_not_fail_the_rest(midi_alone: EvaluationResult) -> None:
    assert [(r["system"], r["name"]) for r in midi_alone.refused] == [("damaged", f"{p}_0") for p in "abc"]
    assert midi_alone.refused[0]["code"] == "other_score"
    assert all(r["reason"] and r["code"] for r in midi_alone.refused)
    assert midi_alone.tables[0]["systems"][:3] == ["codec", "alone", "deleted"]


def test_renders_of_other_scores_are_refused(store: str, tmp_path: Path) -> None:
    stranger = made_up_piece("stranger", seed=8)
    folder = write_renders(tmp_path / "r", [PIECES[0], stranger])
    result = evaluate(store, [folder], tmp_path / "e")
    assert [(r["name"], r["code"]) for r in result.refused] == [("stranger_0", "no_piece")]
    with pytest.raises(InputError, match="no render is of a piece"):
        evaluate(store, [write_renders(tmp_path / "none", [stranger])], tmp_path / "e2")


def test_folders_of_equal_names_stay_apart(store: str, tmp_path: Path) -> None:
    first = write_renders(tmp_path / "x" / "renders", PIECES[:1])
    second = tmp_path / "y" / "renders"
    shutil.copytree(first, second)
    human = tmp_path / "human"
    shutil.copytree(first, human)
    (table,) = evaluate(store, [first, second, human], tmp_path / "e").tables
    assert table["systems"][:3] == ["renders", "renders (2)", "human (2)"]


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"format": "other"}', '{"format": "dexter-renders-1", "renders": [{"name": "x"}]}'),
        *(
            f'{{"format": "dexter-renders-1", "renders": [], {wrong}}}'
            for wrong in (
                '"perceptual_std": [[]]',
                '"controls": [1]',
                '"controls": {"steer": [1]}',
                '"guidance": "2"',
                '"depth": []',
                '"guidance": NaN',
                '"eta": 1e999',
                '"checkpoint": 5',
                '"checkpoint": {"label": "m"}',
                '"checkpoint": {"label": "m", "digest": null}',
                '"checkpoint": {"label": "m", "digest": 5}',
                '"checkpoint": {"label": ["m"], "digest": "abc"}',
                f'"controls": {"[" * 100000}',
            )
        ),
        '{"format": "dexter-renders-1", "renders": [], "controls": {"steer": {"articulation": [1]}}}',
    ],
)
def test_a_folder_that_holds_no_renders(store: str, tmp_path: Path, content: str) -> None:
    if content:
        (tmp_path / "renders.json").write_text(content)
    with pytest.raises(InputError) as caught:
        evaluate(store, [tmp_path], tmp_path / "e")
    assert caught.value.code == "renders_unreadable"


def test_renders_lie_inside_their_folder(store: str, tmp_path: Path) -> None:
    folder = write_renders(tmp_path / "r", PIECES[:1])
    content = json.loads((folder / "renders.json").read_text())
    for path in ("/etc/passwd", "../a.mid"):
        content["renders"][0]["midi"] = path
        (folder / "renders.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match="leads out of the folder"):
            evaluate(store, [folder], tmp_path / "e")


@pytest.mark.cluster
def test_actors_give_the_same_bytes(store: str, renders: Path, evaluated: Path, tmp_path: Path) -> None:
    again = Path(evaluate(store, [renders], tmp_path, workers=2).out)
    for name in ("evaluation.json", "measures.parquet"):
        assert (again / name).read_bytes() == (evaluated / name).read_bytes()
