"""The modules and packages of the top level lie in layers: imports go down, never round."""

import ast
from graphlib import TopologicalSorter

from conftest import ROOT


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_no_import_goes_back_up():
    files = {path.stem: [path] for path in ROOT.glob("*.py")}
    files |= {path.parent.name: sorted(path.parent.rglob("*.py")) for path in ROOT.glob("*/__init__.py")}
    uses = {}
    for name, paths in files.items():
        uses[name] = {other for path in paths for other in imported(path)} & files.keys() - {name}
    assert len(uses) >= 15 and uses["training"] >= {"run", "datagenerator"}
    list(TopologicalSorter(uses).static_order())  # CycleError names the circle
    for name in ("enet", "loss", "data"):
        assert not uses[name], (name, uses[name])
    commands = {"training", "inference"}
    assert not any(uses[name] & commands for name in uses)
