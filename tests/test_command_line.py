"""The command line refuses what it cannot use in one sentence, and answers for help without importing JAX."""

import subprocess
import sys

import pytest

from data_pipelines.errors import InputError
from facedyn.command_line import parse
from facedyn.config import check, config_hash, default_config
from facedyn.main import STAGES, main


def demo(root, *more):
    return ["fit", f"--config={root}/configs/demo.py", "--workdir=w", *more]


def test_every_config_of_ours_is_valid(root):
    for path in sorted(set((root / "configs").glob("*.py")) - {root / "configs" / "sweep.py"}):
        stage, config, workdir = parse(["run", f"--config={path}", "--workdir", "w"], STAGES)
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
        ),
        STAGES,
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
        (["--config.fit.steps=many"], "--config.fit.steps=many must be of type int"),
        (["--config.fit.split_half=perhaps"], "must be of type bool"),
        (["--steps=3"], "no option --steps"),
        (["steps"], "'steps' is not understood"),
        (["--config.fit.steps"], "--config.fit.steps needs a value"),
    ],
)
def test_wrong_options_get_one_sentence(root, args, sentence):
    with pytest.raises(InputError, match=sentence):
        parse(demo(root, *args), STAGES)


def test_wrong_stage_and_missing_options(root, tmp_path):
    for args, sentence in (
        (["fitt", "--config=x", "--workdir=y"], "no stage 'fitt', did you mean 'fit'"),
        (["fit", "--workdir=y"], "--config is missing"),
        (["fit", f"--config={root}/configs/demo.py"], "--workdir is missing"),
        (["fit", f"--config={root}/configs/nope.py", "--workdir=y"], "no config file .*nope.py; .* has .*default.py, demo.py"),
    ):
        with pytest.raises(InputError, match=sentence):
            parse(args, STAGES)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("c.fit.stepps = 3", "'stepps', which is no setting; the nearest one is 'fit.steps'"),
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
        parse(["fit", f"--config={path}", "--workdir=w"], STAGES)


def test_the_user_sees_one_line_and_exit_code_2(root, tmp_path, capsys):
    assert main(["fit", f"--config={tmp_path}/none.py", f"--workdir={tmp_path}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["prepare", f"--config={root}/configs/videos.py", f"--workdir={tmp_path}/w"]) == 2
    assert "No videos are named" in capsys.readouterr().err


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
