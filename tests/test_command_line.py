"""The command line refuses what it cannot use in one sentence, and answers for help without importing JAX."""

import os
import subprocess
import sys

import pytest

import facedyn
from data_pipelines.errors import InputError
from facedyn.command_line import ALL, parse, parser, read, usage
from facedyn.config import check, config_hash, default_config, flatten
from facedyn.main import main


def demo(root, *more):
    return ["fit", f"--config={root}/configs/demo.py", "--workdir=w", *more]


def test_every_config_of_ours_is_valid(root):
    for path in sorted(set((root / "configs").glob("*.py")) - {root / "configs" / "sweep.py"}):
        stage, config, workdir = parse(["run", f"--config={path}", "--workdir", "w"])
        assert (stage, workdir.name) == ("run", "w")


def test_overrides_take_the_type_of_the_default(root):
    _, config, _ = parse(
        demo(
            root,
            "--config.fit.steps=7",
            "--config.fit.split_half=false",
            "--config.rank_loss.scales=1,4",
            "--config.data.traits=calm,bold",
            "--config.fit.learning_rate=1",
            "--config.data.manifest",
            "a b.csv",
        )
    )
    assert config.fit.steps == 7
    assert config.fit.split_half is False
    assert config.rank_loss.scales == (1, 4)
    assert config.data.traits == ("calm", "bold")
    assert config.fit.learning_rate == 1.0
    assert config.data.manifest == "a b.csv"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--config.fit.step=3"], "no setting 'fit.step'; the nearest one is 'fit.steps'"),
        (["--config.manifest=x"], "no setting 'manifest'; the nearest one is 'data.manifest'"),
        (["--config.fit.step", "3"], "no setting 'fit.step'"),
        (["--config.fit.damping=3"], "nearest one is 'fit.ridge'"),  # its name in version 0.1
        (["--config.fit.steps=many"], "--config.fit.steps=many must be of type int"),
        (["--config.fit.split_half=perhaps"], "must be of type bool"),
        (["--steps=3"], "no option --steps"),
        (["steps"], "'steps' is not understood"),
        (["--config.fit.steps"], "--config.fit.steps needs a value"),
        (["--workdir=a\0b"], "--workdir contains a NUL character"),
    ],
)
def test_wrong_options_get_one_sentence(root, args, sentence):
    with pytest.raises(InputError, match=sentence):
        parse(demo(root, *args))


def test_wrong_stage_and_missing_options(root, tmp_path):
    for args, sentence in (
        (["fitt", "--config=x", "--workdir=y"], "no stage 'fitt', did you mean 'fit'"),
        (["FIT", "--config=x", "--workdir=y"], "no stage 'FIT', did you mean 'fit'"),
        (["version"], "did you mean '--version'"),
        (["fit", "--config=demmo", "--workdir=y"], "no config named 'demmo', did you mean 'demo'"),
        (["fit", "--workdir=y"], "--config is missing"),
        (["fit", f"--config={root}/configs/demo.py"], "--workdir is missing"),
        (["fit", f"--config={root}/configs/nope.py", "--workdir=y"], "no config file .*nope.py; .* has .*default.py, demo.py"),
    ):
        with pytest.raises(InputError, match=sentence):
            parse(args)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("c.fit.stepps = 3", "'stepps', which is not a setting; the nearest one is 'fit.steps'"),
        ("c.fit.steps = 'x'", "cannot be used"),
        ("c.unlock(); c.colour = 3", "has no setting 'colour'"),
        ("import nonsense_package", "cannot be used: ModuleNotFoundError"),
    ],
)
def test_a_config_file_with_an_error(tmp_path, body, sentence):
    path = tmp_path / "mine.py"
    path.write_text(
        f"from facedyn.config import default_config\ndef get_config():\n    c = default_config()\n    {body}\n    return c\n"
    )
    with pytest.raises(InputError, match=sentence):
        parse(["fit", f"--config={path}", "--workdir=w"])


def test_the_user_sees_one_line_and_exit_code_2(root, tmp_path, capsys):
    assert main(["fit", f"--config={tmp_path}/none.py", f"--workdir={tmp_path}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["prepare", f"--config={root}/configs/videos.py", f"--workdir={tmp_path}/w"]) == 2
    assert "No videos are named" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("off", False), ("TRUE", True), ("0", False)])
def test_truth_is_written_in_the_usual_ways(root, text, value):
    assert parse(demo(root, f"--config.fit.split_half={text}"))[1].fit.split_half is value


def test_configs_are_named_from_anywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    by_name = parse(["fit", "--config=demo", "--workdir=w"])[1]
    assert by_name.data.dataset == "synthetic"
    assert parse(["fit", "--config=launch:slurm", "--workdir=w"])[1].distributed.coordinator == "auto"
    (tmp_path / "mine.py").write_text("from facedyn.config import default_config as get_config\n")
    assert parse(["fit", "--config=mine.py", "--workdir=w"])[1] == default_config()
    assert main(["configs"]) == 0
    said = capsys.readouterr().out
    assert "videos" in said
    assert "sweep" not in said  # which is no config


def test_the_version_and_the_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"facedyn {facedyn.__version__}\n"
    assert main(["help", "fit"]) == main(["fit", "--help"]) == 0
    first, second = capsys.readouterr().out.split("usage: ")[1:]
    assert first == second
    assert "--config.fit.ridge" in first
    assert "--videos" not in first
    assert main(["help", "ebmed"]) == 2
    assert "did you mean 'embed'" in capsys.readouterr().err
    for stage in ("embed", "forget"):
        assert "--config=" not in usage(stage)


def test_videos_may_be_named_without_an_option():
    for args in (["embed", "v", "--out=t.csv"], ["embed", "--videos=v", "--out=t.csv"]):
        assert read(args).options["videos"] == "v"
    with pytest.raises(InputError, match="VIDEOS is missing, for example facedyn embed new_videos"):
        read(["embed", "--out=t.csv"])
    with pytest.raises(InputError, match="'w' is not understood"):
        read(["embed", "v", "w", "--out=t.csv"])


def test_how_much_is_said_is_an_option_of_every_stage():
    for word, name in (("-q", "quiet"), ("-v", "verbose"), ("--no-progress", "no_progress")):
        for stage in ALL:
            assert vars(parser(stage).parse_known_args([word])[0])[name]
            assert word in usage(stage)


def test_the_shell_can_complete_every_setting():
    names = {option for action in parser("fit")._actions for option in action.option_strings}
    assert {f"--config.{name}" for name in flatten(default_config())} <= names


@pytest.mark.parametrize(
    ("line", "some", "none"),
    [
        ("facedyn emb", {"embed"}, {"fit"}),
        ("facedyn fit --", {"--config", "--workdir"}, {"--config.fit.rank"}),  # settings only once one is begun
        ("facedyn fit --config.fit.ra", {"--config.fit.rank"}, {"--config.fit.ridge"}),
        ("facedyn run --config=de", {"--config=demo", "--config=default"}, {"--config=videos"}),
    ],
)
def test_the_shell_is_told_what_can_follow(line, some, none, tmp_path):
    pytest.importorskip("argcomplete")
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"), "_ARGCOMPLETE_IFS": "\n"}
    subprocess.run([sys.executable, "-m", "facedyn"], env=os.environ | asked, check=False, capture_output=True)
    answer = set((tmp_path / "answer").read_text().split("\n"))
    assert some <= answer
    assert not none & answer


def test_help_imports_neither_jax_nor_tfds():
    code = (
        "import sys; from facedyn.main import main; main(['--help']); main(['fit', '--help']);"
        "sys.exit(any(m in sys.modules for m in ('jax', 'tensorflow_datasets', 'pandas', 'cv2')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "pretrain" in result.stdout


def test_the_hash_names_the_settings():
    one, two = default_config(), default_config()
    assert config_hash(one) == config_hash(two)
    two.fit.steps += 1
    assert config_hash(one) != config_hash(two)
    assert config_hash(one, ("data",)) == config_hash(two, ("data",))
    assert check(one) is one
