"""Settings that cannot work are refused by every stage in one sentence, before any work; help and page are of one table."""

import math
import runpy

import pytest

from data_pipelines.errors import InputError
from data_pipelines.faces.clip_faces import PrepareSettings
from data_pipelines.sources import SOURCES
from data_pipelines.sources.collection import PROTOCOLS
from data_pipelines.synthetic.bench import SyntheticSettings
from data_pipelines.synthetic.worlds import WORLDS
from facedyn import settings_help
from facedyn.command_line import STAGES, parse
from facedyn.config import check, default_config, expand_home, flatten
from facedyn.config_files import load_config, override
from facedyn.core import bases, blocks, cross_validation, person_filters, solvers
from facedyn.core.rank_loss import RankLoss
from facedyn.main import main
from facedyn.settings_rules import site_names
from facedyn.settings_schema import SETTINGS
from facedyn.stages.fit import units
from facedyn.stages.runtime import keys
from facedyn.stages.traits import baselines, trait_protocol, traits_stage
from facedyn.store import representations

# Value of a setting -> what the sentence says beside the setting's name and value.
HOSTILE = {
    "seed=-1": "a whole number of at least 0",
    "seed=1.5": "of type int: a whole number",
    "seed=99999999999999999999": "of at most 2_147_483_647",
    "tensorboard=perhaps": "true or false",
    "data.dataset=udvia": "the nearest to it is 'udiva'",
    "data.manifest=nowhere.csv": "There is no manifest at nowhere.csv",
    "data.manifest=~nobody-here/clips.csv": "a user that does not exist",
    "data.pretrain_manifest=nowhere.csv": "There is no manifest at",
    "data.split_protocol=by_person": "one of official, person_disjoint",
    "data.source_fps=-25": "a number from 0 to 10_000",
    "data.person_pattern=(": "not a regular expression",
    "data.person_pattern=(.+)": "a group named person",
    "data.data_dir=gs://bucket/data": "must be a folder",
    "data.traits=calm,calm": "different words",
    "data.image_size=0": "a whole number from 8 to 2_048",
    "data.image_size=30": "use a multiple of 4",
    "data.channels=4": "one of 3, 1, 2",
    "data.channels=2": "it must be 3 (RGB) or 1 (grey)",
    "data.appearance=mirror": "one of own, canonical, motion",
    "data.image_format=gif": "one of png, jpeg",
    "data.fps=nan": "a number from 0",
    "data.detector=mtcnn": "one of auto, haar, yunet",
    "data.detector=yunet": "names no ONNX file",
    "data.yunet_model=/nowhere/yunet.onnx": "There is no YuNet model at",
    "data.sface_model=/nowhere/sface.onnx": "There is no SFace model at",
    "data.min_confidence=1.5": "a number from 0 to 1",
    "data.detect_every=0": "at least 1",
    "data.crop_scale=inf": "a number of at least 1",
    "data.main_person=middle": "one of auto, left, right",
    "data.split_fractions=0.7,0.3": "3 numbers from 0 to 1",
    "data.split_fractions=1,1,1": "add up to 1",
    "data.workers=-1": "at least 0",
    "data.synthetic.frames=9": "2 whole numbers",
    "model.channels=8,x": "whole numbers from 1",
    "model.channels=8": "at least two levels",
    "model.groups=0": "at least 1",
    "model.groups=3": "the nearest that divides all of them is 2",
    "model.dtype=float8": "the nearest to it is 'float32'",
    "rank_loss.scales=a": "different whole numbers of at least 1",
    "rank_loss.scales=1.5": "different whole numbers of at least 1",
    "rank_loss.scales=2,2": "different whole numbers of at least 1",
    "rank_loss.scales=()": "different whole numbers of at least 1",
    "rank_loss.half_length=1": "at least 2",
    "rank_loss.direction=centred": "needs two_maps",
    "rank_loss.kind=hing": "the nearest to it is 'hinge'",
    "rank_loss.margin=nan": "a number above 0",
    "pretrain.splits=validation": "must not name validation",
    "pretrain.splits=A split!": "as the column split has them",
    "pretrain.init_from=nowhere.safetensors": "There is no generic model at",
    "pretrain.batch_size=0": "at least 1",
    "pretrain.steps=0": "name it with config.pretrain.init_from",
    "pretrain.learning_rate=-0.1": "a number above 0",
    "pretrain.eval_every=0": "at least 1",
    "fit.unit=people": "the nearest to it is 'person'",
    "fit.filter_kind=pointwise": "do not go together",
    "fit.filter_sites=skip9": "must be connections, all, or some of skip0",
    "fit.solver=adam": "do not go together",
    "fit.rank=0": "from 1",
    "fit.blocks=spectre": "the nearest to it is 'spectrum'",
    "fit.blocks=spectrum": "must begin with filters",
    "data.synthetic.world=drawm": "the nearest to it is 'drawn'",
    "fit.ridge=nan": "a number of at least 0",
    "fit.held_back=1": "a number of at least 0 and below 1",
    "fit.chunk_size=-3": "at least 0",
    "fit.memory_gb=-1": "at least 0",
    "fit.controls=shuffled": "the nearest to it is 'time_shuffled'",
    "traits.heads=svm": "some of banded_ridge, ridge, mlp",
    "traits.heads=": "some of banded_ridge, ridge, mlp",
    "traits.protocol=loo": "one of k_fold, leave_one_out, official",
    "traits.aggregate=clip": "needs several units per person",
    "traits.folds=1": "at least 2",
    "traits.seeds=0,0": "different whole numbers",
    "traits.penalties=a": "numbers above 0",
    "traits.penalties=0": "numbers above 0",
    "traits.pca=-1": "whole numbers of at least 0",
    "traits.baselines=mean_fase": "the nearest to it is 'mean_face'",
    "traits.fused_baselines=oracle": "none, one or several of mean_face",
    "traits.bootstrap=0": "at least 1",
    "report.examples=-1": "at least 0",
    "distributed.processes=2": "config.distributed.coordinator=HOST:PORT",
    "distributed.coordinator=host:99999": "must be HOST:PORT",
}
# Files are asked for by those stages alone that read them.
READING = {
    "data.manifest=nowhere.csv": ("prepare", "run", "doctor"),
    "data.pretrain_manifest=nowhere.csv": ("prepare", "run", "doctor"),
    "data.yunet_model=/nowhere/yunet.onnx": ("prepare", "run", "doctor"),
    "data.sface_model=/nowhere/sface.onnx": ("prepare", "run", "doctor"),
    "pretrain.init_from=nowhere.safetensors": ("pretrain", "run", "doctor"),
}


@pytest.mark.parametrize("bad", HOSTILE)
def test_hostile_settings_get_one_sentence_in_every_stage(bad, root, blob_manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name, _, value = bad.partition("=")
    for stage in READING.get(bad, STAGES):
        flags = [f"--config.data.manifest={blob_manifest}"] * (name != "data.manifest") + [f"--config.{bad}"]
        assert main([stage, f"--config={root}/configs/videos.py", "--workdir=w", *flags]) == 2
        out, err = capsys.readouterr()
        assert err.startswith("facedyn: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err + out
        assert f"config.{name}" in err
        assert HOSTILE[bad] in err
        assert value.split(",")[-1] in err or "too large" in err
        assert out == ""
        assert list(tmp_path.iterdir()) == []  # nothing was begun


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank_loss.scales", (1, "a")),
        ("rank_loss.scales", (True,)),
        ("data.traits", (1, 2)),
        ("data.traits", ([],)),
        ("fit.ridge", math.nan),
        ("fit.learning_rate", math.inf),
        ("fit.split_half", 1),
        ("fit.steps", True),
        ("fit.steps", None),
        ("seed", 10**400),
        ("data.manifest", 3),
    ],
)
def test_a_config_file_may_not_smuggle_values_in(name, value):
    config = default_config()
    *sections, leaf = name.split(".")
    place = config
    for section in sections:
        place = place[section]
    with place.ignore_type():
        place[leaf] = value
    with pytest.raises(InputError, match=rf"^config\.{name} [^\n]*; it must be [^\n]*\.$"):
        check(config)


@pytest.mark.parametrize(
    "body", ["return None", "raise ZeroDivisionError", "return undefined", "return 1 / 0", "raise OSError"]
)
def test_any_error_in_a_config_file_is_one_sentence(body, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(f"def get_config():\n    {body}\n")
    assert main(["doctor", f"--config={tmp_path}/mine.py", f"--workdir={tmp_path}/w"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "mine.py" in err


def test_every_default_is_allowed_and_said():
    for name, setting in SETTINGS.items():
        assert setting.fault(setting.default) == "", name
        assert setting.help, name
        config = default_config()
        override(config, name, settings_help.written(setting.default).replace("''", ""))
        assert flatten(config)[name] == setting.default
    check(default_config())


def test_the_names_are_those_that_the_code_knows():
    def choices(name):
        return set(SETTINGS[name].choices)

    assert choices("data.dataset") == {"manifest", "synthetic", *SOURCES}
    assert choices("data.split_protocol") == set(PROTOCOLS)
    assert choices("data.synthetic.world") == set(WORLDS)
    assert choices("fit.unit") == set(units.UNITS)
    assert SETTINGS["fit.blocks"].choices == tuple(blocks.BLOCKS)
    assert choices("fit.filter_kind") == {"low_rank", *person_filters.KINDS}
    assert choices("fit.controls") == set(representations.CONTROLS)
    assert choices("traits.heads") == set(traits_stage.HEADS)
    assert choices("traits.aggregate") == set(traits_stage.AGGREGATES)
    assert choices("traits.protocol") == set(trait_protocol.PROTOCOLS)
    assert choices("traits.ridge_solver") == set(cross_validation.SOLVERS)
    assert choices("traits.baselines") == set(baselines.NAMES)
    assert choices("traits.fused_baselines") == set(baselines.ON_PIXELS)
    assert site_names(3) == [s.name for s in person_filters.sites((4, 8, 16), "all,dynamic_representation", 6)]
    assert choices("fit.basis") == set(bases.BASES)
    for name in choices("fit.solver") - {"least_squares"}:
        solvers.make(name, learning_rate=1.0, steps=1, batch_size=1)
    for name in ("direction", "kind", "frame_features"):
        for value in choices(f"rank_loss.{name}"):
            RankLoss(**{name: value})


def test_the_defaults_are_those_of_the_functions_that_take_them():
    for section, settings in (("data", PrepareSettings()), ("data.synthetic", SyntheticSettings()), ("rank_loss", RankLoss())):
        for name in settings_help.of_section(section):
            leaf = name.rpartition(".")[2]
            if hasattr(settings, leaf):
                assert getattr(settings, leaf) == SETTINGS[name].default, name


def test_the_page_of_settings_is_up_to_date():
    assert settings_help.PAGE.read_text(encoding="utf-8") == settings_help.page(), "run python -m facedyn.settings_help"


@pytest.mark.parametrize("stage", STAGES)
def test_help_names_the_stages_settings(stage, hear):
    assert main([stage, "--help"]) == 0
    said = hear()
    for section in settings_help.OF_STAGE[stage]:
        for name, setting in settings_help.of_section(section).items():
            assert f"--config.{name}=" in said
            assert setting.allowed().split(",")[0] in " ".join(said.split())


def test_home_is_expanded(root, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "clips.csv").touch()
    flags = [f"--config={root}/configs/videos.py", "--workdir=~/runs", "--config.data.manifest=~/clips.csv"]
    _, config, workdir = parse(["run", *flags, "--config.data.data_dir=~/data"])
    assert workdir == tmp_path / "runs"
    assert config.data.manifest == f"{tmp_path}/clips.csv"
    assert config.data.data_dir == f"{tmp_path}/data"
    for name, setting in SETTINGS.items():
        if setting.path:
            config = default_config()
            override(config, name, "~/there")
            assert flatten(expand_home(config))[name] == f"{tmp_path}/there"


def test_home_is_expanded_on_a_trained_workdir(workdir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(workdir.parent))
    monkeypatch.chdir(tmp_path)
    assert main(["export", f"--workdir=~/{workdir.name}", "--out=~/exported.safetensors"]) == 0
    assert (workdir.parent / "exported.safetensors").is_file()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("data.detector=mtcnn", "one of auto, haar, yunet"),
        ("data.yunet_model=/nowhere/yunet.onnx", "There is no YuNet model at"),
        ("data.min_confidence=nan", "a number from 0 to 1"),
        ("fit.chunk_size=-3", "at least 0"),
    ],
)
def test_embed_refuses_before_it_looks_at_a_video(bad, said, workdir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["embed", f"--workdir={workdir}", "--videos=v", "--out=t.parquet", f"--config.{bad}"]) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert f"config.{bad.partition('=')[0]}" in err
    assert said in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["fit", "traits", "report"])
def test_a_workdir_without_the_stage_before_is_said(stage, root, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder in ("absent", "empty"):
        assert main([stage, f"--config={root}/configs/demo.py", f"--workdir={tmp_path / folder}"]) == 2
        err = capsys.readouterr().err
        assert err.count("facedyn: ") == 1
        assert str(tmp_path / folder) in err
        assert "run the stage prepare first" in err
    assert not (tmp_path / "absent").exists()
    assert list((tmp_path / "empty").iterdir()) == []


def test_splits_that_the_manifest_lacks_are_said_before_a_video_is_decoded(arguments, tmp_path, capsys):
    for stage in ("prepare", "run", "doctor"):
        for section in ("pretrain", "fit", "traits"):
            assert main(arguments(stage, tmp_path / "w", **{f"{section}__splits": "tset"})) == 2
            err = capsys.readouterr().err
            assert f"config.{section}.splits names 'tset'; the splits of the manifest are test, train, validation" in err
            assert "the nearest to it is 'test'" in err
    assert not (tmp_path / "w" / "data").exists()


def test_a_batch_that_the_devices_cannot_share_is_said_first(arguments, tmp_path, capsys):
    assert main(arguments("run", tmp_path / "w", pretrain__batch_size=6)) == 2  # four devices
    assert "config.pretrain.batch_size is 6; it must be a multiple of the 4 devices, for example 8" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


# Those in which people are set apart by something else: descent on the rank loss.
DESCENDING = ("paper", "ablation:adam", "ablation:gradient")


def every_config(root):
    """(name, config) of all files, and of each of the names that a file takes."""
    for path in sorted((root / "configs").glob("*.py")):
        names = runpy.run_path(str(path)).get("CHANGES", {"": {}})
        for name in names if path.stem != "sweep" else ():
            yield (f"{path.stem}:{name}" if name else path.stem), load_config(f"{path}:{name}" if name else str(path))


def test_all_configs_use_the_reference_method_but_the_papers(root):
    method = ("solver", "filter_kind", "filter_sites", "blocks", "ridge")
    reference, seen = default_config().fit, set()
    assert (reference.solver, reference.filter_kind) == ("least_squares", "low_rank")
    for name, config in every_config(root):
        check(config)
        seen.add(name)
        other = [setting for setting in method if config.fit[setting] != reference[setting]]
        if name in DESCENDING or name.startswith("ablation:gauss_newton"):
            assert config.fit.solver in ("adam", "gradient", "gauss_newton")
        elif not name.startswith("ablation:"):
            assert other == [], name
    assert {"paper", "default", "chalearn_first_impressions", "deep_personality", "udiva", "voxceleb", "openface"} <= seen
    assert {"folder", "demo", "bench", "videos", "launch:gpu", "ablation:base"} <= seen


def test_no_two_uses_of_the_seed_share_a_key():
    import jax

    drawn = {use: float(jax.random.uniform(keys.key(0, use))) for use in keys.TAGS}
    of_models = {scale: float(jax.random.uniform(jax.random.fold_in(jax.random.key(0), scale))) for scale in range(1, 65)}
    assert len({*drawn.values(), *of_models.values(), float(jax.random.uniform(jax.random.key(0)))}) == len(drawn) + 65
