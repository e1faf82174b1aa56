"""Imports go down, never round: commands, packages, flat modules; below all are data/files.py and run/command.py."""

import ast
import importlib.util
from graphlib import TopologicalSorter

from conftest import ROOT

FILES = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for path in (*ROOT.glob("*.py"), *(p for init in ROOT.glob("*/__init__.py") for p in init.parent.rglob("*.py")))
}
COMMANDS = {"training", "inference", *(name for name in FILES if name.endswith(".__main__"))}
COMMANDS |= {name for name in FILES if name.endswith(("_dataset_processing", ".synthetic_dataset"))}
BOTTOM = {"data.files", "run.command"}  # the two modules that flat ones may import, too
FLAT = {name for name in FILES if "." not in name and FILES[name].name != "__init__.py"} - COMMANDS


def imported(name):
    """Names of our modules that the module `name` imports, wherever in it."""
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            submodules = [f"{module}.{alias.name}" for alias in node.names]
            yield from [submodule for submodule in submodules if submodule in FILES] or [module]


USES = {name: set(imported(name)) & FILES.keys() - {name} for name in FILES}


def test_no_circle_and_no_command_below():
    assert len(USES) > 50 and USES["training"] >= {"run.command", "run.folder"} and len(COMMANDS) == 9, COMMANDS
    list(TopologicalSorter(USES).static_order())  # CycleError names the circle
    assert not {name: uses & COMMANDS for name, uses in USES.items() if uses & COMMANDS}


def test_layers():
    for name in ("enet", "loss", "clustering", "run.command"):
        assert not USES[name], name
    assert USES["data.files"] == {"run.command"}
    for name in FLAT:
        assert USES[name] <= FLAT | BOTTOM, name
    for name, uses in USES.items():
        if not name.startswith("data."):
            assert not {used for used in uses if used.startswith("data.") and used != "data.files"}, name
    assert not [name for name, path in FILES.items() if "__package__" in path.read_text(encoding="utf-8")]
