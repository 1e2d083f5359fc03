from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
from made_up_renders import made_up_piece, publish, refused
from object_arrays import write_object_array

from dexter_model.codec.performance_codec import decode
from dexter_model.dataset.hdf5 import Exported, export_hdf5, remapped
from dexter_model.dataset.hdf5_import import Imported, import_hdf5
from dexter_model.dataset.hdf5_pairs import export_pairs, import_pairs
from dexter_model.dataset.hdf5_reading import list_groups, read_group
from dexter_model.dataset.pairs import pair_tables
from dexter_model.dataset.piece import Piece
from dexter_model.dataset.store import DatasetVersion, open_version
from dexter_model.errors import InputError
from dexter_model.reading.sandbox import Sandbox
from dexter_model.reading.score import load_score

WINDOW = 25


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def heard(piece: Piece, seed: int = 0) -> Piece:
    """The piece with perceptual features at three times of each performance, and rows that say so."""
    count = len(piece.performance)
    values = np.random.default_rng(seed).random((2, 3 * count, 7)).astype(np.float32)
    values[0, -1] = np.nan
    rows = [row | {"perceptual": "estimate:symbolic-v1", "velocity_sd": 1.5} for row in piece.performances]
    frames = np.full(count, 3, np.int32)
    times = np.tile([2.5, 7.5, 12.5], count)
    return dataclasses.replace(
        piece, performances=rows, frames=frames, frame_time=times, perceptual=values[0], perceptual_reference=values[1]
    )


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    """Eight pieces, one of them virtual, two whose names clash as file names, and a failure."""
    keys = ["a/b__c", "a__b/c", "Étude", *(f"piece {i}" for i in range(4))]
    pieces = [heard(made_up_piece(key, performers=1 + i % 4, seed=i)) for i, key in enumerate(keys)]
    virtual = heard(made_up_piece("virtual", performers=3, synthetic=[True, False, False]))
    url = str(tmp_path_factory.mktemp("data") / "store")
    publish(url, sorted([*pieces, virtual], key=lambda piece: piece.key), [refused("lost.mid", "no score <&>")])
    return open_version(url)


@pytest.fixture
def exported(version: DatasetVersion, tmp_path: Path) -> Exported:
    return export_hdf5(version, tmp_path / "one", WINDOW, mixups=True)


def test_there_and_back_and_there_again(
    version: DatasetVersion, exported: Exported, tmp_path: Path, sandbox: Sandbox
) -> None:
    back = import_hdf5(exported.path, str(tmp_path / "store"), sandbox)
    assert list(back.lost) == ["windows of mixups, left out"]
    for before, after in zip(version.pieces(), back.version.pieces(), strict=True):
        assert before.digest() == after.digest()
    assert back.version.performances.equals(version.performances)
    assert back.version.quarantine.drop("traceback").equals(version.quarantine.drop("traceback"))
    assert back.version.catalogue["split"].to_list() == version.catalogue["split"].to_list()
    again = export_hdf5(back.version, tmp_path / "two", WINDOW, mixups=True)
    assert again.path.name == f"codec_N={WINDOW}_mixup.hdf5"
    assert again.path.read_bytes() == exported.path.read_bytes()
    files = [sorted(p.relative_to(f) for p in f.rglob("*.*")) for f in (tmp_path / "one", tmp_path / "two")]
    assert files[0] == files[1]
    for file in files[0]:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    same = import_hdf5(again.path, str(tmp_path / "store"), sandbox)
    assert same.version.id == "v1"  # nothing changed


def test_the_layout_is_the_originals(version: DatasetVersion, exported: Exported, tmp_path: Path) -> None:
    pieces = {piece.key: piece for piece in version.pieces()}
    splits = dict(version.catalogue.select("key", "split").rows())
    with h5py.File(exported.path) as file:
        assert len(file) == version.performances.height + 1
        for index, row in enumerate(version.performances.iter_rows(named=True)):
            group, piece = file[f"MADE_UP_{index}"], pieces[row["piece"]]
            real = [not told["synthetic"] for told in piece.performances]
            later = sum(real[row["row"] + 1 :]) if real[row["row"]] and splits[piece.key] == "train" else 0
            segments = -(-len(piece.score) // WINDOW)
            size = segments * (1 + later)
            shapes = {name: group[name].shape for name in ("p_codec", "s_codec", "c_codec")}
            assert shapes == {f"{k}_codec": (size, WINDOW, n) for k, n in (("p", 5), ("s", 4), ("c", 7))}
            names = ("snote_id_path", "score_path", "piece_name", "split")
            assert all(group[name].shape == (size,) for name in names)
            assert set(group["piece_name"].asstr()[:]) == {piece.key}
            ids = [np.load(tmp_path / "one" / path) for path in group["snote_id_path"].asstr()[:segments]]
            assert np.concatenate(ids).tolist() == piece.note_id.tolist()
            flat = group["p_codec"][:segments].reshape(-1, 5)
            np.testing.assert_array_equal(flat[: len(piece.score)], piece.performance[row["row"]])
            assert not flat[len(piece.score) :].any()
            known = group["c_codec"][:segments].reshape(-1, 7)[: len(piece.score)]
            np.testing.assert_array_equal(known, piece.perceptual_notes(delta=False)[row["row"]])
            if later:
                other = row["row"] + 1 + real[row["row"] + 1 :].index(True)
                mean = (piece.performance[row["row"]] + piece.performance[other]) / 2
                mixed = group["p_codec"][segments : 2 * segments].reshape(-1, 5)[: len(piece.score)]
                np.testing.assert_array_equal(mixed, mean)
        failure = file[f"MADE_UP_{version.performances.height}"]
        assert failure["error"].asstr()[()] == "missing_files"
        assert "p_codec" not in failure
    [line] = (tmp_path / "one" / "errors.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "missing_files"


def test_pairs_are_numbers_that_point_at_windows(
    version: DatasetVersion, exported: Exported, tmp_path: Path, sandbox: Sandbox
) -> None:
    paired, unpaired = export_pairs(version, tmp_path / "one", WINDOW, 40, seed=1, mixups=True)
    assert paired.name == f"codec_N={WINDOW}_mixup_paired_K=40.npy"
    table, others = pair_tables(version, WINDOW, count=40, seed=1, mixups=True)
    with h5py.File(exported.path) as file:
        for a, row_a, b, row_b in np.load(paired).tolist():
            one, other = file[f"MADE_UP_{a}"], file[f"MADE_UP_{b}"]
            np.testing.assert_array_equal(one["s_codec"][row_a], other["s_codec"][row_b])
            assert one["piece_name"].asstr()[row_a] == other["piece_name"].asstr()[row_b]
        pieces = {piece.key: piece for piece in version.pieces()}
        rows = version.performances.select("piece", "row").rows()
        for (a, row), told in zip(np.load(unpaired).tolist(), others.iter_rows(named=True), strict=True):
            piece, span = pieces[rows[a][0]], slice(told["start"], told["start"] + WINDOW)
            expected = piece.performance[rows[a][1], span]
            if told["b"] is not None:
                expected = (expected + piece.performance[rows[told["b"]][1], span]) / 2
            np.testing.assert_array_equal(file[f"MADE_UP_{a}"]["p_codec"][row][: len(expected)], expected)
    back = import_hdf5(exported.path, str(tmp_path / "store"), sandbox).version
    assert import_pairs(paired, back, WINDOW, sandbox).equals(table)
    assert import_pairs(unpaired, back, WINDOW, sandbox).equals(others)


def test_pickled_pairs_are_refused_with_a_remedy(version: DatasetVersion, tmp_path: Path, sandbox: Sandbox) -> None:
    write_object_array(tmp_path / "objects.npy")
    for name, array in {"floats": np.zeros((3, 4)), "other": np.full((2, 4), 10_000)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(InputError, match="dexter dataset pairs") as told:
        import_pairs(tmp_path / "objects.npy", version, WINDOW, sandbox)
    assert told.value.code == "pickled"
    for name, refusal in {"floats": "array_unreadable", "text": "pickled", "other": "other_pairs"}.items():
        with pytest.raises(InputError) as told:
            import_pairs(tmp_path / f"{name}.npy", version, WINDOW, sandbox)
        assert told.value.code == refusal


def test_paths_are_remapped_where_a_folder_ends() -> None:
    prefixes = {"/old/data/": "/new", "C:/x": "y"}
    assert remapped("/old/data/score.xml", prefixes) == "/new/score.xml"
    assert remapped("/old/data", {"/old/data": "/new"}) == "/new"
    assert remapped("/old/database/score.xml", prefixes) == "/old/database/score.xml"
    assert remapped("C:/x/a", prefixes) == "y/a"


def test_score_paths_lead_from_the_export_to_the_corpus_unless_they_are_remapped(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    theirs, _, _ = write_original(tmp_path / "theirs")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "theirs", target_is_directory=True)
    remap = {"/gone": str(tmp_path / "theirs")}
    version = import_hdf5(theirs, str(tmp_path / "store"), sandbox, path_remap=remap).version
    scores = {("VIENNA422", "Chopin_op38"): str(tmp_path / "elsewhere" / "scores" / "x.musicxml")}
    for prefixes, written in (
        ({}, "../../theirs/scores/x.musicxml"),
        ({str(tmp_path / "elsewhere"): "/data"}, "/data/scores/x.musicxml"),
        ({"/another": "/data"}, "../../theirs/scores/x.musicxml"),
    ):
        done = export_hdf5(version, tmp_path / "ours" / "one", 20, score_paths=scores, path_remap=prefixes)
        with h5py.File(done.path, "a") as file:
            assert set(file["VIENNA422_0/score_path"].asstr()) == {written}
            for name in ("VIENNA422_0", "VIENNA422_1", "VIENNA422_2"):
                del file[name]["dexter"]  # so that beats come from the score
        back = import_hdf5(done.path, str(tmp_path / "back"), sandbox, path_remap={"/data": str(tmp_path / "theirs")})
        np.testing.assert_allclose(np.diff(back.version.piece("VIENNA422", "Chopin_op38").score["onset_beat"]), 1)


NOTE = """<note id="n{n}"><pitch><step>{step}</step><octave>4</octave></pitch><duration>2</duration>
<voice>1</voice></note>"""
SCORE = """<?xml version="1.0"?><score-partwise version="3.1"><part-list><score-part id="P1"><part-name>P</part-name>
</score-part></part-list><part id="P1"><measure number="1"><attributes><divisions>2</divisions><time>
<beats>{count}</beats><beat-type>4</beat-type></time></attributes>{notes}</measure></part></score-partwise>"""


def write_original(folder: Path, notes: int = 30, performances: int = 3) -> tuple[Path, np.ndarray, np.ndarray]:
    """A file as the original writes it, of a score of quarter notes of two divs each; its codecs and features."""
    steps = "CDEFGAB"
    body = "".join(NOTE.format(n=n, step=steps[n % 7]) for n in range(notes))
    (folder / "scores").mkdir(parents=True)
    (folder / "scores" / "x.musicxml").write_text(SCORE.format(count=notes, notes=body))
    score = load_score(folder / "scores" / "x.musicxml")
    rng = np.random.default_rng(3)
    p_codec = rng.normal(0.5, 0.1, (performances, notes, 5)).astype(np.float32)
    p_codec[..., 2] *= 0.01
    c_codec = rng.random((performances, notes, 7)).astype(np.float32)
    c_codec[1] = 0  # its features were missing
    s_codec = np.stack([score.notes[name] for name in ("onset_div", "duration_div", "pitch", "voice")], axis=1)
    padding = ((0, 0), (0, 40 - notes), (0, 0))
    (folder / "snote_ids" / "N=20").mkdir(parents=True)
    for k in range(2):
        ids = folder / "snote_ids" / "N=20" / f"VIENNA422_Chopin_op38_seg{k}.npy"
        np.save(ids, score.note_id[20 * k : 20 * k + 20].astype(str))
    with h5py.File(folder / "codec_N=20.hdf5", "w") as file:
        for i in range(performances):
            group = file.create_group(f"VIENNA422_{i}")
            group["p_codec"] = np.pad(p_codec[i : i + 1], padding).reshape(2, 20, 5)
            group["c_codec"] = np.pad(c_codec[i : i + 1], padding).reshape(2, 20, 7)
            group["s_codec"] = np.pad(s_codec[None].astype(np.float64), padding).reshape(2, 20, 4)
            group["piece_name"] = ["Chopin_op38"] * 2
            group["split"] = ["test"] * 2
            group["score_path"] = ["/gone/scores/x.musicxml"] * 2
            group["snote_id_path"] = [f"/gone/snote_ids/N=20/VIENNA422_Chopin_op38_seg{k}.npy" for k in range(2)]
        file.create_group("VIENNA422_3")["error"] = "alignment_load_error"
    return folder / "codec_N=20.hdf5", p_codec, c_codec


def test_a_file_of_the_original_becomes_a_data_set(tmp_path: Path, sandbox: Sandbox) -> None:
    path, p_codec, c_codec = write_original(tmp_path / "theirs")
    remap = {"/gone": str(tmp_path / "theirs")}
    done = import_hdf5(path, str(tmp_path / "store"), sandbox, path_remap=remap)
    # theirs says test, and here a single work is for training
    assert done.lost == {"windows that the file has in another split: here works decide it": 6}
    piece = done.version.piece("VIENNA422", "Chopin_op38")
    np.testing.assert_array_equal(piece.performance, p_codec)
    assert (piece.work, piece.composer, piece.matched.all()) == ("chopin/op-38", "Chopin", True)
    assert done.version.catalogue["split"].to_list() == ["train"]  # a single work is
    assert piece.note_id[:3].tolist() == ["n0", "n1", "n2"]
    np.testing.assert_allclose(np.diff(piece.score["onset_beat"]), 1)
    notes = piece.perceptual_notes(delta=False)
    np.testing.assert_array_equal(notes[[0, 2]], c_codec[[0, 2]])
    assert np.isnan(notes[1]).all()
    assert np.isnan(piece.perceptual_notes(delta=True)).all()
    assert [row["perceptual"] for row in piece.performances] == ["cep_csv", "none", "cep_csv"]
    [failure] = done.version.quarantine.iter_rows(named=True)
    assert (failure["code"], failure["performance"]) == ("alignment_load_error", "VIENNA422_3")
    again = export_hdf5(done.version, tmp_path / "ours", 20, score_paths={("VIENNA422", "Chopin_op38"): "/gone/x"})
    with h5py.File(path) as theirs, h5py.File(again.path) as ours:
        for name in ("VIENNA422_0", "VIENNA422_2"):
            for codec in ("p_codec", "s_codec", "c_codec"):
                np.testing.assert_array_equal(ours[name][codec][:], theirs[name][codec][:])
        assert ours["VIENNA422_3"]["error"].asstr()[()] == "alignment_load_error"


def test_without_scores_a_data_set_can_still_be_trained_on(tmp_path: Path, sandbox: Sandbox) -> None:
    path, p_codec, _ = write_original(tmp_path / "theirs")
    done = import_hdf5(path, str(tmp_path / "store"), sandbox)
    assert any("beats" in told for told in done.lost)
    piece = done.version.piece("VIENNA422", "Chopin_op38")
    np.testing.assert_array_equal(piece.performance, p_codec)
    assert piece.score["onset_div"].tolist() == list(range(0, 60, 2))
    assert np.isnan(piece.score["onset_beat"]).all()
    assert np.isnan(piece.perceptual_notes(delta=False)).all()
    with pytest.raises(InputError) as told:
        decode(piece.score, piece.note_id, piece.performance[0])
    assert told.value.code == "no_beats"


def test_performances_of_other_notes_are_a_piece_of_their_own(tmp_path: Path, sandbox: Sandbox) -> None:
    path, _, _ = write_original(tmp_path / "theirs")
    with h5py.File(path, "a") as file:
        rows = file["VIENNA422_1"]["s_codec"]
        rows[1, 9] = 0  # one note fewer
    done = import_hdf5(path, str(tmp_path / "store"), sandbox, path_remap={"/gone": str(tmp_path / "theirs")})
    assert done.version.catalogue["key"].to_list() == ["Chopin_op38", "Chopin_op38~2"]
    assert done.version.catalogue["performances"].to_list() == [2, 1]
    assert done.version.catalogue["work"].unique().to_list() == ["chopin/op-38"]


def damage_link(file: h5py.File) -> None:
    del file["VIENNA422_1/p_codec"]
    file["VIENNA422_1/p_codec"] = h5py.ExternalLink("/etc/hostname", "/p_codec")


def damage_soft_link(file: h5py.File) -> None:
    del file["VIENNA422_1"]
    file["VIENNA422_1"] = h5py.SoftLink("/VIENNA422_0")


def damage_size(file: h5py.File) -> None:
    del file["VIENNA422_1/s_codec"]
    file.create_dataset("VIENNA422_1/s_codec", (10**7, 10**4, 4), "i4", chunks=(1, 10, 4))


def damage_kind(file: h5py.File) -> None:
    del file["VIENNA422_1/p_codec"]
    file["VIENNA422_1/p_codec"] = np.full((2, 20, 5), b"x")


def damage_shape(file: h5py.File) -> None:
    del file["VIENNA422_1/p_codec"]
    file["VIENNA422_1/p_codec"] = np.zeros((2, 20, 4))


def damage_values(file: h5py.File) -> None:
    file["VIENNA422_1/p_codec"][0, 0, 0] = np.nan


def damage_place(file: h5py.File) -> None:
    del file["VIENNA422_1/c_codec"]
    external = [("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
    file.create_dataset("VIENNA422_1/c_codec", (2, 20, 7), "f4", external=external)


def damage_virtual(file: h5py.File) -> None:
    del file["VIENNA422_1/p_codec"]
    layout = h5py.VirtualLayout((2, 20, 5), "f4")
    layout[:] = h5py.VirtualSource("other.hdf5", "p", (2, 20, 5))
    file.create_virtual_dataset("VIENNA422_1/p_codec", layout)


def damage_name(file: h5py.File) -> None:
    del file["VIENNA422_1/piece_name"]
    file["VIENNA422_1/piece_name"] = ["../../outside"] * 2


def damage_text(file: h5py.File) -> None:
    del file["VIENNA422_1/piece_name"]
    file["VIENNA422_1/piece_name"] = [1, 2]


def damage_order(file: h5py.File) -> None:
    file["VIENNA422_1/s_codec"][0, 3, 0] = 50


def damage_missing(file: h5py.File) -> None:
    del file["VIENNA422_1/p_codec"]


def damage_pitch(file: h5py.File) -> None:
    file["VIENNA422_1/s_codec"][0, 3, 2] = 5000


def damage_beat_period(file: h5py.File) -> None:
    file["VIENNA422_1/p_codec"][0, 3, 0] = 0


def damage_emptiness(file: h5py.File) -> None:
    file["VIENNA422_1/s_codec"][:, :, 2] = 0


def damage_attribute(file: h5py.File) -> None:
    file["VIENNA422_1"].attrs["dexter"] = "no JSON"


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_damaged_performance_is_refused_and_the_others_are_read(
    damage: Callable[[h5py.File], None], tmp_path: Path, sandbox: Sandbox
) -> None:
    path, p_codec, _ = write_original(tmp_path / "theirs")
    with h5py.File(path, "a") as file:
        damage(file)
    done = import_hdf5(path, str(tmp_path / "store"), sandbox, path_remap={"/gone": str(tmp_path / "theirs")})
    np.testing.assert_array_equal(done.version.piece("VIENNA422", "Chopin_op38").performance, p_codec[[0, 2]])
    refused_here = done.version.quarantine.filter(pl.col("performance") == "VIENNA422_1")
    assert refused_here["code"].to_list() == ["hdf5_damaged"]
    assert refused_here["reason"].str.len_chars()[0] > 10


def tell(group: h5py.Group, part: str, **values: object) -> None:
    """Change what we wrote about a performance."""
    about = json.loads(group["dexter"].attrs["dexter"])
    about[part] |= values
    group["dexter"].attrs["dexter"] = json.dumps(about)


def put(group: h5py.Group, name: str, values: object) -> None:
    del group["dexter"][name]
    group["dexter"][name] = values


NO_FEATURES = np.zeros((3, 7), np.float32)
OWN_DAMAGES: dict[str, Callable[[h5py.Group], None]] = {
    "huge count": lambda group: tell(group, "performance", unknown_ids=10**30),
    "count beyond 64 bits": lambda group: tell(group, "performance", unknown_ids=2**63),
    "number of 5,000 digits": lambda group: group["dexter"].attrs.__setitem__("dexter", '{"a": 1' + "0" * 5000 + "}"),
    "no number": lambda group: tell(group, "performance", mean_tempo=float("nan")),
    "surrogate in a name": lambda group: tell(group, "performance", performer="\udcff"),
    "surrogate in a title": lambda group: tell(group, "piece", title="\ud800"),
    "another's key": lambda group: tell(group, "performance", key="a/p0.mid"),
    "times of two dimensions": lambda group: put(group, "frame_time", np.zeros((3, 2))),
    "times without end": lambda group: put(group, "frame_time", [1.0, 2.0, np.inf]),
    "falling times": lambda group: put(group, "frame_time", [1.0, 3.0, 2.0]),
    "a time twice": lambda group: put(group, "frame_time", [1.0, 2.0, 2.0]),
    "features without end": lambda group: put(group, "perceptual", NO_FEATURES + np.inf),
    "articulation that is no number": lambda group: put(group, "keydown_articulation", np.full(60, np.nan)),
    "no note played": lambda group: put(group, "matched", np.zeros(60, bool)),
}


@pytest.mark.parametrize("damage", OWN_DAMAGES.values(), ids=OWN_DAMAGES.keys())
def test_what_we_wrote_is_not_trusted_either(
    damage: Callable[[h5py.Group], None], tmp_path: Path, sandbox: Sandbox
) -> None:
    pieces = [heard(made_up_piece("a")), heard(made_up_piece("b", seed=1))]
    publish(str(tmp_path / "data"), pieces)
    exported = export_hdf5(open_version(str(tmp_path / "data")), tmp_path, WINDOW)
    with h5py.File(exported.path, "a") as file:
        damage(file["MADE_UP_1"])
    version = import_hdf5(exported.path, str(tmp_path / "store"), sandbox).version
    assert version.piece("MADE_UP", "b").digest() == pieces[1].digest()  # the neighbour
    np.testing.assert_array_equal(version.piece("MADE_UP", "a").performance, pieces[0].performance[[0, 2]])
    [failure] = version.quarantine.iter_rows(named=True)
    assert (failure["code"], failure["performance"]) == ("hdf5_damaged", "MADE_UP_1")
    assert "Traceback" not in failure["reason"]
    assert len(failure["reason"]) > 10


def test_a_name_that_another_piece_has_is_not_given_twice(tmp_path: Path, sandbox: Sandbox) -> None:
    path, _, _ = write_original(tmp_path / "theirs")
    with h5py.File(path, "a") as file:
        file.copy("VIENNA422_0", "VIENNA422_4")
        del file["VIENNA422_4/piece_name"]
        file["VIENNA422_4/piece_name"] = ["Chopin_op38~2"] * 2
        file["VIENNA422_2/s_codec"][1, 9] = 0  # other notes than most of its piece
    version = import_hdf5(path, str(tmp_path / "store"), sandbox).version
    rows = version.performances.select("piece", "key").rows()
    assert rows == [("Chopin_op38", "VIENNA422_0"), ("Chopin_op38", "VIENNA422_1"), ("Chopin_op38~2", "VIENNA422_4")]
    refused_here = dict(version.quarantine.select("performance", "reason").rows())
    assert list(refused_here) == ["VIENNA422_2", "VIENNA422_3"]
    assert "Chopin_op38~2" in refused_here["VIENNA422_2"]


@pytest.mark.parametrize("place", ["/" + 300 * "x", "a\0b", "/gone\udcff"])
def test_paths_that_no_file_can_have_lead_nowhere(place: str, tmp_path: Path, sandbox: Sandbox) -> None:
    path, p_codec, _ = write_original(tmp_path / "theirs")
    with h5py.File(path, "a") as file:
        del file["VIENNA422_0/score_path"]
        file["VIENNA422_0/score_path"] = np.array([place.encode("utf-8", "surrogateescape")] * 2)
    done = import_hdf5(path, str(tmp_path / "store"), sandbox, path_remap={"/gone": str(tmp_path / "theirs")})
    np.testing.assert_array_equal(done.version.piece("VIENNA422", "Chopin_op38").performance, p_codec)


def test_note_ids_that_are_no_text_are_not_taken(tmp_path: Path, sandbox: Sandbox) -> None:
    path, _, _ = write_original(tmp_path / "theirs")
    ids = tmp_path / "theirs" / "snote_ids" / "N=20" / "VIENNA422_Chopin_op38_seg0.npy"
    for number in (0xD800, 0x7FFFFFFF):
        np.save(ids, np.full(20, number, np.uint32).view("U1"))
        done = import_hdf5(
            path, str(tmp_path / f"store{number}"), sandbox, path_remap={"/gone": str(tmp_path / "theirs")}
        )
        assert done.version.piece("VIENNA422", "Chopin_op38").note_id[0] == "row0"


def test_what_nobody_foresaw_costs_one_piece(
    version: DatasetVersion, exported: Exported, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work_of(corpus: str, key: str, composer: str, name: str) -> str:
        raise ZeroDivisionError("unforeseen")

    with h5py.File(exported.path, "a") as file:
        tell(file["MADE_UP_0"], "piece", work="")
    monkeypatch.setattr("dexter_model.dataset.hdf5_import.work_of", work_of)
    done = import_hdf5(exported.path, str(tmp_path / "store"), sandbox).version
    assert done.catalogue.height == version.catalogue.height - 1
    lost = done.quarantine.filter(pl.col("code") == "hdf5_damaged")
    assert lost.height == 1
    assert "ZeroDivisionError: unforeseen" in lost["reason"][0]


def test_a_slip_of_the_program_is_no_damage_of_a_file(
    exported: Exported, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slip(*_: object) -> None:
        raise NameError("no such name")

    monkeypatch.setattr("dexter_model.dataset.hdf5_import._stacked", slip)
    with pytest.raises(NameError):
        import_hdf5(exported.path, str(tmp_path / "store"), sandbox)
    monkeypatch.setattr("dexter_model.dataset.hdf5_reading._score_rows", slip)
    for read in (lambda path: list_groups(path), lambda path: read_group(path, "MADE_UP_0")):
        with pytest.raises(NameError):
            read(str(exported.path))


def test_files_that_are_none_get_one_clear_error(tmp_path: Path, sandbox: Sandbox) -> None:
    path, _, _ = write_original(tmp_path / "theirs")
    whole = path.read_bytes()
    cases = {"empty": b"", "text": b"no file of the kind", "cut": whole[: len(whole) // 3]}
    for name, content in cases.items():
        (tmp_path / f"{name}.hdf5").write_bytes(content)
    h5py.File(tmp_path / "bare.hdf5", "w").close()
    with h5py.File(path, "a") as file:
        group = file.create_group("VIENNA422_9")
        group["s_codec"], group["p_codec"] = np.ones((1, 30, 4)), np.ones((1, 30, 5))
    for file_path in (*(tmp_path / f"{name}.hdf5" for name in (*cases, "bare")), path, tmp_path / "gone.hdf5"):
        with pytest.raises(InputError) as told:
            import_hdf5(file_path, str(tmp_path / "store"), sandbox)
        assert told.value.code == "hdf5_unreadable"
    assert not (tmp_path / "store").exists()


def test_flipped_bytes_never_end_in_anything_but_an_answer(tmp_path: Path, sandbox: Sandbox) -> None:
    path, _, _ = write_original(tmp_path / "theirs", performances=2)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(5)
    for trial in range(15):
        broken = whole.copy()
        places = rng.integers(0, len(whole), 20)
        broken[places] = rng.integers(0, 256, 20)
        path.write_bytes(broken.tobytes())
        try:
            done: Imported = import_hdf5(path, str(tmp_path / f"store{trial}"), sandbox)
        except InputError:
            continue
        assert done.version.performances.height <= 2
