"""README.md and doc/: what they name exists, their commands are known to `--help`, their example does what it says."""

import contextlib
import importlib.util
import io
import json
import re
import shlex
import subprocess

import cv2
import numpy as np
import pytest
from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "doc").glob("*.md"))]
RUNS = sorted((ROOT / "doc" / "runs").glob("*.args"))
README = PAGES[0].read_text(encoding="utf-8")
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


COMMANDS = [(page, command) for page in PAGES for command in commands_of(page)]


def call_of(command):
    """What is run, with the words before the first flag, some of which name a subcommand."""
    start = 2 if command[0] == "-m" else 1
    end = next((i for i, word in enumerate(command[start:], start) if word.startswith(("-", "@"))), len(command))
    return tuple(command[:end])


@pytest.fixture(scope="module")
def known_flags():
    """{call: set of the flags that its --help lists}."""
    calls = {call_of(command) for _, command in COMMANDS if command[:2] != ["-m", "pytest"]}
    assert calls >= {("training.py",), ("inference.py",), ("-m", "evaluation"), ("-m", "benchmark")}
    flags = {}
    for call in calls:
        start = 2 if call[0] == "-m" else 1
        name = f"{call[1]}.__main__" if start == 2 else call[0].removesuffix(".py").replace("/", ".")
        with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
            importlib.import_module(name).main([*call[start:], "--help"])
        assert output.getvalue().startswith("usage:")
        # an option's line: two blanks, its names, two blanks, what it does
        options = re.findall(r"^  (-.*?)(?:  .*)?$", output.getvalue(), re.MULTILINE)
        flags[call] = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", "\n".join(options)))
    return flags


def test_commands_are_found():
    """The other tests would pass with none."""
    assert {page.name for page, _ in COMMANDS} >= {page.name for page in PAGES} - {
        "tusimple_frames.md",
        "experiments.md",
    }
    calls = {" ".join(command[: 2 if command[0] == "-m" else 1]) for _, command in COMMANDS}
    assert calls >= {"training.py", "inference.py", "-m evaluation", "-m export", "-m benchmark", "-m pytest"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_what_exists(page):
    for command in commands_of(page):
        if command[0] == "-m":
            assert (ROOT / command[1] / "__main__.py").is_file() or importlib.util.find_spec(command[1]), command
        else:
            assert (ROOT / command[0]).is_file(), command
        for word in command:
            assert not word.startswith("@") or (ROOT / word[1:]).is_file(), command


def test_commands_use_flags_that_help_knows(known_flags):
    assert all("--help" in flags for flags in known_flags.values()), known_flags
    for page, command in COMMANDS:
        if command[:2] == ["-m", "pytest"]:
            continue
        used = {word for word in command[1 + (command[0] == "-m") :] if re.match(r"--?[a-zA-Z]", word)}
        assert used <= known_flags[call_of(command)], f"{page.name}: {shlex.join(command)}"


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_run_files_are_flags_of_training(path, monkeypatch):
    from run.flags import parse_args

    monkeypatch.chdir(ROOT)
    args = parse_args([f"@{path.relative_to(ROOT)}"])
    assert args.outdir == path.stem and args.steps
    starts = {"none", "pretrained_semantic_model", *(f"{run.stem}/best" for run in RUNS)}
    assert args.modeldir in starts - {f"{path.stem}/best"}
    head = re.findall(r"^# (starts from|data|took|scored|commit) +\S", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert head == ["starts from", "data", "took", "scored", "commit"]


@pytest.mark.parametrize(
    ("run", "folder"), [("twenty-first", "trained_model"), ("semantic", "pretrained_semantic_model")]
)
def test_run_files_are_those_of_the_shipped_models(run, folder, monkeypatch):
    from run.flags import parse_args

    monkeypatch.chdir(ROOT)
    flags = vars(parse_args([f"@doc/runs/{run}.args"]))
    config = json.loads((ROOT / folder / "config.json").read_text(encoding="utf-8"))
    if isinstance(config["flags"]["valdir"], str):  # as before there could be several
        config["flags"]["valdir"] = [config["flags"]["valdir"]]
    shared = config["flags"].keys() & flags.keys()
    assert len(shared) > 25
    assert {name: flags[name] for name in shared} == {name: config["flags"][name] for name in shared}
    assert config["commit"][:7] in (ROOT / "doc" / "runs" / f"{run}.args").read_text(encoding="utf-8")


def tree():
    """Paths of the README's tree of files."""
    (block,) = [block for block in code_blocks(README) if "├──" in block]
    paths, parents = [], []
    for line in block.splitlines():
        indent, name = re.match(r"([│ ]*)[├└]── (\S+)", line).groups()
        parents = [*parents[: len(indent) // 4], name]
        paths.append("/".join(parents))
    return paths


def test_tree_is_that_of_the_repository():
    paths = tree()
    assert [path for path in paths if not (ROOT / path).exists()] == []
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files"]
    tracked = subprocess.run(git, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("no git checkout: what belongs to the repository is not known")
    assert {line.split("/")[0] for line in tracked.stdout.splitlines()} == {p.split("/")[0] for p in paths} | (
        NOT_IN_THE_TREE
    )


def test_readme_is_short():
    assert 120 <= len(README.splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [
        target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not target.startswith(("https://", "http://"))
    ]
    assert [target for target in targets if not (page.parent / target).exists()] == []
    # pages named in the text without a link are named from the root
    assert [name for name in re.findall(r"`(doc/[\w./]*)`", text) if not (ROOT / name).exists()] == []
    assert page != PAGES[0] or len(targets) > 8


def pieces(mask):
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1


@pytest.mark.parametrize("thickness", [7, 1])
def test_label_example_makes_labels_that_stay_whole(tmp_path, monkeypatch, thickness):
    from datagenerator import prepare_label, read_label

    (code,) = code_blocks((ROOT / "doc" / "own_data.md").read_text(encoding="utf-8"), "python")
    assert "thickness=7)" in code
    (tmp_path / "my_data/labels").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("thickness=7)", f"thickness={thickness})"), "own_data.md", "exec"), {})

    label = read_label("my_data/labels/a.png")
    assert label.shape == (720, 1280) and np.unique(label).tolist() == [0, 1, 2] and label[480, 655] == 2
    small = prepare_label(label, (288, 512))
    counts = [pieces(small == number) for number in (1, 2)]
    # a thin line breaks, as the page says
    assert counts == [1, 1] if thickness == 7 else max(counts) > 1
