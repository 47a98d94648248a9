"""Rules behind each verdict, read from their syntax trees: functions that give it, limits, what helps.

A page made of this is as the code is; no rule is run.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from places import ROOT

from gradscape.measure.diagnose.advice import Traits
from gradscape.records.diagnosis import VERDICTS

SOURCE = ROOT / "src"
FOLDERS = [SOURCE / "gradscape" / name for name in ("measure/diagnose", "measure/check", "records")]
# Verdicts that a function puts together of two words: the function's beginning.
COMPUTED = {
    "inputs out of scale": "out_of_scale", "unscaled inputs": "out_of_scale",
    "targets out of scale": "target_scale", "unscaled targets": "target_scale",
}  # fmt: skip


@dataclass(frozen=True)
class Limit:
    """Limit that a rule reads.

    Attributes:
        name: Name of its field.
        value: Default.
        text: What its class says of it.
        source: Where it comes from; empty where the module has no table of sources.
        is_option: True if it is a field of `gradscape.Limits`, which a user can set.
    """

    name: str
    value: float
    text: str
    source: str
    is_option: bool


@dataclass(frozen=True)
class Rule:
    """Function that gives a verdict.

    Attributes:
        path: Path of its file, within the repository.
        line: Its first line there.
        text: First paragraph of its docstring.
        limits: Limits that it reads.
        remedies: Alternatives that it may advise; `…` stands for what the training's numbers fill in.
        before: True if it is of a check, before training.
    """

    path: str
    line: int
    text: str
    limits: tuple[Limit, ...]
    remedies: tuple[str, ...]
    before: bool


@cache
def rules() -> dict[str, tuple[Rule, ...]]:
    """Return the rules of each verdict."""
    found: dict[str, list[Rule]] = {verdict: [] for verdict in VERDICTS}
    for path in sorted(each for folder in FOLDERS for each in folder.rglob("*.py")):
        module = _Rules(path)
        for function in module.functions.values():
            for verdict in module.verdicts(function):
                found[verdict].append(module.rule(function))
    return {verdict: tuple(each) for verdict, each in found.items()}


class _Rules:
    """Module of rules: its functions, and what its names stand for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        bodies = [tree.body, *(each.body for each in classes)]
        self.functions = {
            node.name: node for body in bodies for node in body if isinstance(node, ast.FunctionDef)
        }
        self.module = _imported(path)

    def verdicts(self, function: ast.FunctionDef) -> list[str]:
        """Return the verdicts that a function gives to a finding, or to a helper that makes one."""
        makers = {"Finding"} | {name for name, each in self.functions.items() if "Finding" in _calls(each)}
        names = [name for name, start in COMPUTED.items() if function.name.lstrip("_").startswith(start)]
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and _name(node.func) in makers:
                values = [word.value for word in node.keywords if word.arg == "verdict"] or node.args
                names += [text for value in values for text in self._texts(value, function)]
        if "Finding" in _calls(function):
            defaults = [*function.args.defaults, *filter(None, function.args.kw_defaults)]
            names += [text for value in defaults for text in self._texts(value, function)]
        return [verdict for verdict in dict.fromkeys(names) if verdict in VERDICTS]

    def _texts(self, value: ast.expr, function: ast.FunctionDef) -> Iterator[str]:
        """Yield the texts that a value may be: its own, a name's, or what the function gives to that name."""
        for node in ast.walk(value):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.Name) and isinstance(known := getattr(self.module, node.id, None), str):
                yield known
            elif isinstance(node, ast.Name):
                for each in _assigned(function, node.id):
                    yield from self._texts(each, ast.FunctionDef(body=[]))

    def rule(self, function: ast.FunctionDef) -> Rule:
        """Return what a function's source says."""
        inner = [self.functions[name] for name in sorted(_calls(function)) if name in self.functions]
        names = dict.fromkeys(name for each in (function, *inner) for name in _limit_names(each))
        limits = [limit for name in names if (limit := _limit(self.module, name))]
        text = re.sub(r"\s+", " ", (ast.get_docstring(function) or "").split("\n\n")[0])
        path = str(self.path.relative_to(ROOT))
        remedies = tuple(dict.fromkeys(self._remedies(function)))
        return Rule(path, function.lineno, text, tuple(limits), remedies, "/check/" in path)

    def _remedies(self, function: ast.FunctionDef) -> Iterator[str]:
        """Yield what the calls of `options` within a function offer."""
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and _name(node.func) == "options":
                for value in node.args:
                    yield from self._alternatives(value)

    def _alternatives(self, value: ast.expr) -> Iterator[str]:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value
        elif isinstance(value, ast.Name) and isinstance(known := getattr(self.module, value.id, None), str):
            yield known
        elif isinstance(value, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in value.values)
        elif isinstance(value, ast.Starred) and _name(getattr(value.value, "value", value)) == "traits":
            yield from getattr(
                Traits(norm=False, squashing="sigmoid or tanh", modules=True, scale=None), value.value.attr
            )
        elif isinstance(value, ast.Starred | ast.IfExp | ast.Tuple):
            for each in ast.iter_child_nodes(value):
                if isinstance(each, ast.expr) and each is not getattr(value, "test", None):
                    yield from self._alternatives(each)


def _imported(path: Path) -> ModuleType:
    return import_module(".".join(path.relative_to(SOURCE).with_suffix("").parts))


def _assigned(function: ast.FunctionDef, name: str) -> Iterator[ast.expr]:
    """Yield the values that a function gives to a variable."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            names = (each for target in node.targets for each in ast.walk(target))
            if any(_name(each) == name for each in names):
                yield node.value


def _calls(function: ast.FunctionDef) -> set[str]:
    return {_name(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _limit_names(function: ast.FunctionDef) -> Iterator[str]:
    """Yield the names of the limits that a function reads: `limits.NAME`, and `evidence`'s first word."""
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and getattr(node.value, "attr", _name(node.value)) == "limits":
            yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "evidence":
            yield from (str(each.value) for each in node.args[:1] if isinstance(each, ast.Constant))


def _limit(module: ModuleType, name: str) -> Limit | None:
    """Return a limit by its name, of the class of limits that a module knows; None where there is none."""
    from gradscape.measure.diagnose.limits import Limits
    from gradscape.measure.diagnose.loss.limits import LossLimits

    own = [each for key, each in vars(module).items() if key.endswith("Limits") and isinstance(each, type)]
    for kind in (*own, LossLimits if ".loss." in module.__name__ else Limits):
        fields = {each.name: each for each in dataclasses.fields(kind)}
        if name in fields and isinstance(fields[name].default, int | float):
            home = next(each for each in kind.__mro__ if name in vars(each).get("__annotations__", ()))
            sources = getattr(import_module(home.__module__), "SOURCES", {})
            source = str(sources.get(name, ""))
            is_option = name in {each.name for each in dataclasses.fields(Limits)} and issubclass(
                Limits, home
            )
            return Limit(name, fields[name].default, _described(home, name), source, is_option)
    return None


def _described(kind: type, name: str) -> str:
    """Return what a class's docstring says of an attribute."""
    match = re.search(rf"^ {{8}}{name}: (.*?)(?=^ {{8}}\w|\Z)", kind.__doc__ or "", re.DOTALL | re.MULTILINE)
    return re.sub(r"\s+", " ", match[1]).strip() if match else ""
