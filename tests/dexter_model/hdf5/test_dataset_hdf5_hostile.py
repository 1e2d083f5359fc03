"""HDF5 files that are damaged or hostile: refused by the performance, never a crash, never a silent wrong value."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest
from hdf5_files import WINDOW, heard, write_original
from made_up_renders import made_up_piece, publish

from dexter_model.dataset.hdf5 import Exported, export_hdf5
from dexter_model.dataset.hdf5_import import Imported, import_hdf5
from dexter_model.dataset.hdf5_reading import list_groups, read_group
from dexter_model.dataset.store import DatasetVersion, open_version
from dexter_model.errors import InputError
from dexter_model.reading.sandbox import Sandbox


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
