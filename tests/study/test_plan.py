"""The cells of a study: which there are, whose settings win, what is refused before anything runs, and what counts as a change."""

import hashlib
from pathlib import Path

import pytest

from m2clip.errors import ConfigError, ManifestError
from m2clip.study import load_study
from m2clip.study.plan import changed, flat, need_files, plan
from tests.study.small_study import small_study

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted((ROOT / "configs" / "studies").glob("*.yaml"))
METHODS = {"m2clip": {}, "clip": {"set": {"model.method": "frozen"}}, "narrow": {"set": {"model": {"ted_width": 4}}}}
GRID = {"methods": ["m2clip", "clip", "narrow"], "data": ["small"]}


def names(*arguments: object, **changes: object) -> list[str]:
    return [cell.name for cell in small_study(*arguments, **changes)[1]]  # type: ignore[arg-type]


def test_cells_come_seed_by_seed_and_each_once(tmp_path: Path) -> None:
    twice = [{"methods": ["m2clip"], "data": ["small"]}, {"methods": ["m2clip", "st"], "data": ["small"]}]
    assert names(tmp_path, grids=twice) == ["m2clip/small/0", "m2clip/small/1", "st/small/0", "st/small/1"]
    own = [{"methods": ["m2clip"], "data": ["small"], "seeds": [7]}]
    assert names(tmp_path, grids=own) == ["m2clip/small/7"]


def test_what_trains_nothing_has_one_cell(tmp_path: Path) -> None:
    found = names(tmp_path, methods=METHODS, grids=[GRID])
    assert [name for name in found if name.startswith("clip/")] == ["clip/small/0"]
    assert "narrow/small/1" in found


def test_settings_of_the_method_stand_above_those_of_the_data_and_of_the_study(tmp_path: Path) -> None:
    data = {"small": {"protocol": str(tmp_path / "small.yaml"), "set": {"train.lr": 0.5, "data.frames": 3}}}
    methods = {"m2clip": {"set": {"train.lr": 0.25, "model.ted": False}}, "st": {"set": {"model.method": "st-adapter"}}}
    _, cells = small_study(tmp_path, methods=methods, data=data)
    first, st = cells[0].config, cells[1].config
    assert (first.train.lr, first.data.frames, first.model.ted, first.train.epochs) == (0.25, 3, "off", 2)
    assert (st.train.lr, st.model.ted) == (0.5, "both")
    assert first.data.train == str(tmp_path / "videos/base")
    assert first.out == str(tmp_path / "out/cells/m2clip/small/0/run")
    assert [cell.config.train.seed for cell in cells] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["run.train.epochs=none"], "override 'run.train.epochs=none' .method m2clip, data small.: train.epochs is 'none'"),
        (["methods.st.set.model.ted=off"], r"study.yaml:\d+ .method st, data small.: model: ted is set, but the method st-adapter"),
        (["run.train.epoch=1"], "there is no setting train.epoch; did you mean train.epochs"),
        (["run.train.seed=1"], "train.seed is set for each cell by the study itself"),
        (["run.out=x"], "out is set for each cell by the study itself"),
        (["run.data.train=x"], "data.train comes from the protocol of the data"),
        (["methods.st.set.data.classes=x"], "data.classes comes from the protocol"),
        (["data.small.protocol=nothing.yaml"], "override 'data.small.protocol=nothing.yaml': nothing.yaml"),
        (["data.small.choose.shots=4"], "there is no choice 'shots'"),
        (["evaluations={a: {of: [m2clip], templates: [no gap]}}"], "evaluations.*the template 'no gap' must hold"),
        (["evaluations={a: {of: [m2clip], texts: none.json}}"], "none.json"),
        (["evaluations={a: {of: [m2clip], protocol: none.yaml}}"], "none.yaml"),
        (
            ["evaluations={a: {of: [st], strength: 0.5}}", "methods.st.set.model.method=linear-probe"],
            "a model of the method linear-probe has no adapters to weaken",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_runs(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        small_study(tmp_path, *overrides)
    assert not (tmp_path / "out").exists()


def test_a_mistake_in_a_method_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        small_study(tmp_path, methods={"m2clip": {"set": {"model.ted": "bothh"}}, "st": {}})
    place = str(caught.value).split(" ")[0]
    line = int(place.rpartition(":")[2])
    assert "bothh" in (tmp_path / "study.yaml").read_text().splitlines()[line - 1]


def test_a_protocol_without_training_cannot_be_trained_on(tmp_path: Path) -> None:
    study, _ = small_study(tmp_path)
    protocol = tmp_path / "small.yaml"
    protocol.write_text(protocol.read_text().replace("train:\n  list: base\n", ""))
    with pytest.raises(ConfigError, match=r"small.yaml has nothing to train on, so m2clip cannot be trained there"):
        plan(study)


def test_missing_lists_are_told_before_the_work(tmp_path: Path) -> None:
    _, cells = small_study(tmp_path)
    need_files(cells)
    (tmp_path / "videos/novel").rename(tmp_path / "elsewhere")
    with pytest.raises(ManifestError, match=r"videos/novel is not there, but the data small needs it"):
        need_files(cells)


def test_changes_are_named_and_speed_is_none(tmp_path: Path) -> None:
    before = small_study(tmp_path)[1][0].settings()
    faster = small_study(
        tmp_path, "run.data.workers=1", "run.data.cache=frames", "run.eval.batch_size=3", "out=elsewhere"
    )[1][0].settings()
    assert changed(before, faster) == []
    longer = small_study(tmp_path, "run.train.epochs=3", "methods.m2clip.set.model.ted=off")[1][0].settings()
    assert changed(before, longer) == ["model.ted was 'both' and is 'off'", "train.epochs was 2 and is 3"]
    protocol = tmp_path / "small.yaml"
    text = protocol.read_text()
    (tmp_path / "small.yaml").write_text(text + "views: 2x1\n")
    other = plan(load_study(tmp_path / "study.yaml"))[0].settings()
    assert changed(before, other) == ["protocol.views was None and is '2x1'"]


def test_training_settings_are_nothing_to_what_trains_nothing(tmp_path: Path) -> None:
    changes = {"methods": METHODS, "grids": [GRID]}
    before = small_study(tmp_path, **changes)[1][1].settings()
    longer = small_study(tmp_path, "run.train.epochs=3", **changes)[1][1].settings()
    wider = small_study(tmp_path, "run.data.frames=3", **changes)[1][1].settings()
    assert changed(before, longer) == []
    assert changed(before, wider) == ["data.frames was 2 and is 3"]


def test_a_setting_of_a_newer_version_is_no_change_until_it_is_set(tmp_path: Path) -> None:
    before, now = ({"run": {"a": 1}, "given": ["a"]}, {"run": {"a": 1, "b": 2}, "given": ["a"]})
    assert changed(before, now) == []
    assert changed(before, {**now, "given": ["a", "b"]}) == ["b was None and is 2"]
    assert changed(now, before) == ["b was 2 and is None"]


def test_lists_count_by_what_is_in_them(tmp_path: Path) -> None:
    _, cells = small_study(tmp_path)
    assert cells[0].files() == [tmp_path / "videos/base", tmp_path / "videos/novel"]
    assert cells[0].settings()["files"] == {}  # folders of videos: only lists are read
    protocol, listed = tmp_path / "small.yaml", tmp_path / "videos/novel.csv"
    protocol.write_text(protocol.read_text().replace("list: novel", "list: novel.csv"))
    listed.write_text("path,label\nnovel/a.mp4,a\n")
    study = load_study(tmp_path / "study.yaml")
    assert plan(study)[0].settings()["files"] == {str(listed): hashlib.sha256(listed.read_bytes()).hexdigest()[:16]}
    assert changed({"files": {"x": "1"}}, {"files": {"x": "2"}}) == ["files.x was '1' and is '2'"]
    assert changed({}, {"files": {"x": "2"}}) == []  # written before lists were looked at


@pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])
def test_shipped_studies_have_a_plan_and_say_how_they_are_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name = path.relative_to(ROOT)
    cells = plan(load_study(name))
    assert len({cell.folder for cell in cells}) == len(cells) > 0
    comment = "".join(line for line in path.read_text().splitlines(True) if line.startswith("#"))
    assert f"m2clip study {name}" in comment
    assert "# Hardware: " in comment
    assert "# Result: " in comment


def test_flat() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2], "e": {}}
