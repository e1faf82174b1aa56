"""README.md and doc/: what they name exists, their commands are known to `--help`, their example does what it says."""

import contextlib
import importlib
import json
import re
import shlex
import subprocess

import cv2
import numpy as np
import pytest
from conftest import ROOT

from datagenerator import prepare_label, read_label
from run.flags import parse_args

PAGES = [ROOT / "README.md", *sorted((ROOT / "doc").glob("*.md"))]
RUNS = sorted((ROOT / "doc" / "runs").glob("*.args"))
# at the top level, but no part of the project that a reader looks for
NOT_IN_THE_TREE = {".ci", ".gitignore", ".ruff.toml", "LICENSE", "README.md", "requirements.txt"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_blocks(text, language=""):
    return [block for name, block in FENCE.findall(text) if name == language]


def commands_of(page):
    """The python command lines of a page, in code blocks and in the text, each a list of the words after `python`."""
    text = page.read_text(encoding="utf-8")
    lines = "".join(code_blocks(text)).replace("\\\n", " ").splitlines()
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCE.sub("", text))]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True) if re.match(r"python |pip |[A-Z_]+=", line) else []
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            while command and re.match(r"[A-Z_]+=", command[0]):  # variables of the environment
                command.pop(0)
            if command[:1] == ["python"]:
                found.append(command[1:])
    return found


def test_commands_exist_and_help_knows_their_flags(capsys):
    commands = [(page.name, command) for page in PAGES for command in commands_of(page)]
    assert len(commands) > 80 and any(command[:2] == ["-m", "pytest"] for _, command in commands)
    for page, command in commands:
        start = 2 if command[0] == "-m" else 1
        if command[1:2] == ["pytest"]:
            continue
        # the words before the first flag may name a subcommand
        end = next((i for i, word in enumerate(command) if i >= start and word[0] in "-@"), len(command))
        name = f"{command[1]}.__main__" if start == 2 else command[0].removesuffix(".py").replace("/", ".")
        with contextlib.suppress(SystemExit):
            importlib.import_module(name).main([*command[start:end], "--help"])
        known = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", capsys.readouterr().out))
        used = {word for word in command[start:] if re.match(r"--?[a-zA-Z]", word)}
        assert "--help" in known and used <= known, f"{page}: {shlex.join(command)}"
        assert all((ROOT / word[1:]).is_file() for word in command if word[:1] == "@"), f"{page}: {command}"


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_run_files_are_flags_of_training(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    args = parse_args([f"@{path.relative_to(ROOT)}"])
    assert args.outdir == path.stem and args.steps
    others = [run.stem for run in RUNS if run != path]
    starts = {f"{run}/{model}" for run in others for model in ("best", "last")}
    assert args.modeldir in starts | {"none", "pretrained_semantic_model", "world-4-5"}


@pytest.mark.parametrize("run", ["world-7", "semantic"])
def test_run_files_are_those_of_the_shipped_models(run, monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = {"world-7": "trained_model", "semantic": "pretrained_semantic_model"}[run]
    flags = vars(parse_args([f"@doc/runs/{run}.args"]))
    config = json.loads((ROOT / folder / "config.json").read_text(encoding="utf-8"))
    shared = (config["flags"].keys() & flags.keys()) - {"valdir"}  # one, before there could be several
    assert len(shared) > 25
    assert {name: flags[name] for name in shared} == {name: config["flags"][name] for name in shared}
    assert config["commit"][:7] in (ROOT / "doc" / "runs" / f"{run}.args").read_text(encoding="utf-8")


def test_tree_is_that_of_the_repository():
    readme = PAGES[0].read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 200
    (block,) = [block for block in code_blocks(readme) if "├──" in block]
    paths, parents = [], []
    for line in block.splitlines():
        indent, name = re.match(r"([│ ]*)[├└]── (\S+)", line).groups()
        parents = [*parents[: len(indent) // 4], name]
        paths.append("/".join(parents))
    assert [path for path in paths if not (ROOT / path).exists()] == []
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files"]
    tracked = subprocess.run(git, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("no git checkout: what belongs to the repository is not known")
    top = {path.split("/")[0] for path in paths}
    assert {line.split("/")[0] for line in tracked.stdout.splitlines()} == top | NOT_IN_THE_TREE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match("https?://", target)]
    assert [target for target in targets if not (page.parent / target).exists()] == []
    # pages named in the text without a link are named from the root
    assert [name for name in re.findall(r"`(doc/[\w./]*)`", text) if not (ROOT / name).exists()] == []
    assert page != PAGES[0] or len(targets) > 8


def test_label_example_makes_labels_that_stay_whole(tmp_path, monkeypatch):
    (code,) = code_blocks((ROOT / "doc" / "own_data.md").read_text(encoding="utf-8"), "python")
    (tmp_path / "my_data/labels").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "own_data.md", "exec"), {})
    label = read_label("my_data/labels/a.png")
    assert label.shape == (720, 1280) and np.unique(label).tolist() == [0, 1, 2] and label[480, 655] == 2
    small = prepare_label(label, (288, 512))
    assert [cv2.connectedComponents(np.uint8(small == number))[0] for number in (1, 2)] == [2, 2]
