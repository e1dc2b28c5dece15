"""Every command in the documents exists: stages, configs, settings and scripts are what the commands call them."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml
from documents import blocks, commands

from facedyn.command_line import ON_TRAINED, STAGES, read, settled
from facedyn.config import default_config
from facedyn.config_files import override

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "MODEL_CARD.md",
    "docs/data.md",
    "docs/fork.md",
    "docs/index.md",
    "docs/launching.md",
    "docs/method.md",
    "docs/processes.md",
)
# Programs of other people in our commands; what is behind some of them is a command of ours.
OTHERS = {"pip", "pytest", "ruff", "pyright", "mkdocs", "gcloud", "srun", "sbatch", "wait"}
FOLDERS = "configs|tests|docs|benchmarks|facedyn|data_pipelines"


def every_command(root):
    """(document, words) of each line of the shell blocks, and of each command in a docstring of a config."""
    found = [(name, words) for name in DOCUMENTS for block in blocks(root / name, "bash") for words in commands(block)]
    for path in sorted((root / "configs").glob("*.py")):
        text = path.read_text(encoding="utf-8").split('"""')[1].replace("\\\n", " ")
        lines = [line.strip() for line in text.splitlines()]
        found += [(path.name, shlex.split(line)) for line in lines if line.startswith(("facedyn ", "python "))]
    return found


def of_ours(words):
    """The part from `facedyn` or `python` on, without the variables set before it or what a shell does behind it; or None."""
    for i, word in enumerate(words):
        if word in ("facedyn", "python"):
            rest = [w for w in words[i:] if w not in ("&", "wait")]
            return rest[: rest.index(">")] if ">" in rest else rest
        quoted = re.search(r"facedyn run .*", word, re.DOTALL)  # in a variable, or for another machine
        if quoted:
            return shlex.split(quoted[0])
    return None


def understood(root, words, monkeypatch):
    """Fails, by the sentence that a user would get, when a `facedyn` command cannot be meant."""
    monkeypatch.chdir(root)
    call = read(words[1:])
    if call.stage in ON_TRAINED:
        defaults = default_config()
        for name, text in call.settings.items():
            override(defaults, name, text)
    else:
        settled(call)


def test_every_command_is_understood(root, monkeypatch):
    seen = {"facedyn": 0, "python": 0}
    for document, words in every_command(root):
        ours = of_ours(words)
        if ours is None:
            assert words[0] in OTHERS or "=" in words[0], f"{document}: {shlex.join(words)} is no command that is tested"
            continue
        seen[ours[0]] += 1
        if ours[0] == "facedyn":
            understood(root, ours, monkeypatch)
        else:
            script = f"{ours[2].replace('.', '/')}.py" if ours[1] == "-m" else ours[1]
            assert (root / script).is_file(), f"{document}: {shlex.join(ours)}"
            source = (root / script).read_text(encoding="utf-8")
            for word in ours[2:]:
                option = word.partition("=")[0]
                if option.startswith("--config.") or option in ("--config", "--workdir"):
                    continue
                assert not option.startswith("--") or f'"{option}"' in source, f"{document}: {script} has no option {option}"
    assert seen["facedyn"] > 20
    assert seen["python"] > 2


def test_commands_in_the_text_name_stages_and_settings(root):
    """`facedyn STAGE` and --config.NAME anywhere in the text, outside of blocks as well."""
    from facedyn.config import default_config, flatten

    settings, sections = flatten(default_config()), {name.rpartition(".")[0] for name in flatten(default_config())}
    for document in DOCUMENTS:
        text = (root / document).read_text(encoding="utf-8")
        for stage in re.findall(r"`facedyn (\w+)", text):
            assert stage in STAGES | ON_TRAINED or stage == "STAGE", f"{document}: facedyn {stage}"
        for name in re.findall(r"(?:--|`)config\.([a-z_.]+\w)", text):
            assert name in settings or name in sections or name == "py", f"{document}: config.{name}"


def test_files_that_the_documents_name_are_there(root):
    for document in DOCUMENTS:
        path = root / document
        text = path.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
            assert "://" in link or (path.parent / link).exists(), f"{document} links to {link}, which is not there"
        for name in re.findall(
            r"`((?:configs|tests|docs|benchmarks|facedyn|data_pipelines)/[\w/.]+\.(?:py|md|json|png))[`:]", text
        ):
            assert (root / name).exists() or "interviews" in name, f"{document} names {name}, which is not there"


@pytest.mark.parametrize("stage", ["", "fit", "embed"])
def test_help_comes_at_once(root, stage):
    """The cheap commands are run; .ci/run measures how long `facedyn --help` takes."""
    done = subprocess.run(
        [sys.executable, "-m", "facedyn", *([stage] if stage else []), "--help"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert f"facedyn {stage or 'STAGE'}" in done.stdout or stage == "fit"


def test_the_sweep_of_the_documents_prints_its_commands(root):
    command = next(of_ours(words) for _, words in every_command(root) if "configs/sweep.py" in words)
    done = subprocess.run([sys.executable, *command[1:]], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.count("facedyn run") == 16


def test_the_citation(root):
    """The keys that the format asks for, the licence of the package, and the paper."""
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert all("name" in author or "family-names" in author for author in citation["authors"])
    from facedyn import __version__

    assert str(citation["version"]) == __version__
    (paper,) = citation["references"]
    assert paper["doi"] == "10.1109/TAFFC.2021.3064601"
    assert paper["authors"][0]["family-names"] == "Song"


def test_the_picture_is_small(root):
    assert (root / "docs" / "dynamics.png").stat().st_size < 150_000
