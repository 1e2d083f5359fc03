"""HDF5 files there and back: the original layout, pairs, paths, pieces told apart."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hdf5_files import WINDOW, write_original
from object_arrays import write_object_array

from dexter_model.codec.performance_codec import decode
from dexter_model.dataset.hdf5 import Exported, export_hdf5, remapped
from dexter_model.dataset.hdf5_import import import_hdf5
from dexter_model.dataset.hdf5_pairs import export_pairs, import_pairs
from dexter_model.dataset.pairs import pair_tables
from dexter_model.dataset.store import DatasetVersion
from dexter_model.errors import InputError
from dexter_model.reading.sandbox import Sandbox


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
