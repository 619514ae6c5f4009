"""The rules of the house: which way imports point, what stays light, how large and how plain files are."""

from __future__ import annotations

import ast
import itertools
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import emalign

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "emalign"
FILES = sorted(SRC.rglob("*.py"))

PLUGIN_FOLDERS = frozenset({"datasets", "questions", "engines", "judges", "checks", "detectors", "behavior", "plots"})
# From left to right; a room imports rooms to its left, and itself. Rooms of one group do not know each other.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors"}),
    frozenset({"registry", "rows"}),
    frozenset({"fetch", "stats", "problems"}),
    frozenset({"config", "models", "store", "progress", "colab"}),
    PLUGIN_FOLDERS | {"toy"},
    frozenset({"stage", "monitor", "study_file"}),
    frozenset({"stages"}),
    frozenset({"experiment", "executors"}),
    frozenset({"run", "doctor"}),
    frozenset({"cli"}),
    frozenset({"__init__", "__main__"}),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
PLUGINS_MAY_IMPORT = frozenset({"rows", "errors", "registry", "stats", "fetch"})
TOY_MAY_IMPORT = frozenset({"rows", "errors", "toy"})
# The builder of the toy models trains and examines them, so it stands above the stages although it lives in the toy.
BUILDER = "toy/build.py"
BUILDER_MAY_IMPORT = TOY_MAY_IMPORT | {"progress", "engines", "judges", "stages"}
HEAVY = ("torch", "vllm", "pandas", "openai")
MAX_FILE, MAX_MEDIAN, MAX_FUNCTION = 250, 120, 60


def name_of(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room_of(name: str) -> str:
    """The room of a file: the folder or the module directly under the package."""
    return name.split("/")[0].removesuffix(".py")


def imports(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """(line, dotted name, whether it is inside a function) of everything imported; a relative import starts with '.'"""
    lazy = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name, id(node) in lazy) for name in names)


def own_imports(tree: ast.Module) -> Iterator[tuple[int, str, str, bool]]:
    """(line, room, dotted name, lazy) of every import of the package itself."""
    for line, dotted, lazy in imports(tree):
        if dotted.startswith("."):
            yield line, "a relative import", dotted, lazy
        elif dotted.split(".")[0] == "emalign":
            yield line, [*dotted.split("."), "__init__"][1], dotted, lazy


def direction_faults(name: str, tree: ast.Module) -> list[str]:
    """Imports of one file that point the wrong way."""
    room, faults = room_of(name), []
    for line, other, dotted, lazy in own_imports(tree):
        where = f"{name}:{line} imports {dotted}"
        if name == BUILDER:
            allowed = other in BUILDER_MAY_IMPORT
        elif room in PLUGIN_FOLDERS:
            protocol = room == "judges" and dotted.startswith("emalign.engines.base")
            allowed = other in PLUGINS_MAY_IMPORT | {room} or (other == "toy" and lazy) or protocol
        elif room == "toy":
            allowed = other in TOY_MAY_IMPORT
        else:
            allowed = other == room or LEVEL.get(other, len(LAYERS)) < LEVEL[room]
        # Names kept for annotations only cost nothing, but they point somewhere all the same.
        if not allowed:
            faults.append(where)
        if dotted.startswith("emalign.toy.build") and room != "cli":
            faults.append(f"{where}: only the command line builds the toy")
    return faults


def test_every_room_has_its_place() -> None:
    rooms = {room_of(name_of(path)) for path in FILES}
    assert rooms <= set(LEVEL), f"give these a place in LAYERS: {sorted(rooms - set(LEVEL))}"


def test_imports_point_one_way() -> None:
    assert [fault for path in FILES for fault in direction_faults(name_of(path), tree_of(path))] == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("rows.py", "from emalign.config import Study"),
        ("rows.py", "from emalign import registry"),
        ("config.py", "import emalign.store"),
        ("stage.py", "from emalign.stages import chat"),
        ("stages/train.py", "from emalign.experiment import unfold"),
        ("stages/train.py", "def f():\n    from emalign.run import Run"),
        ("experiment.py", "from emalign import cli"),
        ("engines/vllm.py", "from emalign.config import Base"),
        ("checks/length.py", "from emalign.toy import data"),
        ("checks/length.py", "from emalign.toy.build import build"),
        ("judges/local.py", "from emalign.engines.transformers import Transformers"),
        ("plots/bars.py", "from emalign.judges.scores import MIN_MASS"),
        ("toy/data.py", "from emalign.progress import Progress"),
        ("stages/data.py", "from . import chat"),
        ("config.py", "from emalign import EmalignError"),
    ],
)
def test_a_wrong_import_is_seen(name: str, line: str) -> None:
    assert direction_faults(name, ast.parse(line))


def test_colab_has_one_importer() -> None:
    found = {name_of(p) for p in FILES for _, dotted, _ in imports(tree_of(p)) if dotted.startswith("google.colab")}
    assert found <= {"colab.py"}


@pytest.mark.parametrize(
    "program",
    [
        "import emalign",
        "import emalign.run",
        "import emalign; emalign.Run; emalign.load_config",
        "import emalign.cli, typer.testing\n"
        "done = typer.testing.CliRunner().invoke(emalign.cli.app, ['plan', '--help'])\n"
        "assert done.exit_code == 0 and 'KEY=VALUE' in done.output, done.output",
    ],
)
def test_light_things_stay_light(program: str) -> None:
    tail = f"\nimport sys; print('LOADED', *[name for name in {HEAVY} if name in sys.modules])"
    made = subprocess.run([sys.executable, "-c", program + tail], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[-1].strip() == "LOADED"


def test_files_and_functions_are_small() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    functions = [
        f"{name_of(path)}:{node.lineno} {node.name} has {1 + (node.end_lineno or 0) - node.lineno} lines"
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and 1 + (node.end_lineno or 0) - node.lineno > MAX_FUNCTION
    ]
    files = [f"{name} has {lines} lines" for name, lines in lengths.items() if lines > MAX_FILE]
    assert files + functions == []
    assert statistics.median(lengths.values()) <= MAX_MEDIAN


def test_modules_have_plain_names() -> None:
    banned = re.compile(r"^(utils?|helpers?|managers?|misc|common|.*_(utils?|helpers?|managers?)|.*_v\d+)$")
    names = {part for path in FILES for part in Path(name_of(path)).with_suffix("").parts}
    assert sorted(name for name in names if banned.match(name)) == []


def unfinished(tree: ast.Module) -> list[tuple[int, str]]:
    """Lines that leave something undone or swallow an error."""
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "NotImplementedError":
            faults.append((node.lineno, "NotImplementedError"))
        elif isinstance(node, ast.ExceptHandler):
            wide = isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            silent = all(isinstance(n, ast.Pass | ast.Continue) or _is_text(n) for n in node.body)
            if node.type is None:
                faults.append((node.lineno, "bare except"))
            elif wide and silent:
                faults.append((node.lineno, "except Exception: pass"))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            wide = bool({"Exception", "BaseException"} & {ast.unparse(a) for a in node.args})
            faults += [(node.lineno, "suppress(Exception)")] if wide else []
    return faults


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_nothing_is_unfinished_or_swallowed() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    faults = [f"{name_of(path)}:{line} {what}" for path in FILES for line, what in unfinished(tree_of(path))]
    for path in (*FILES, *SRC.rglob("*.yaml"), *(ROOT / "scripts").glob("*"), *(ROOT / "configs").glob("*.yaml")):
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            faults += [f"{path.relative_to(ROOT)}:{number} {mark}" for mark in marks.findall(text)]
    assert faults == []


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    f()\nexcept:\n    raise",
        "try:\n    f()\nexcept Exception:\n    pass",
        "try:\n    f()\nexcept BaseException as error:\n    ...",
        "with contextlib.suppress(Exception):\n    f()",
        "def f():\n    raise NotImplementedError",
    ],
)
def test_a_swallowed_error_is_seen(source: str) -> None:
    assert unfinished(ast.parse(source))


def undocumented(tree: ast.Module) -> list[tuple[int, str]]:
    """Public modules, classes and functions without a docstring.

    Exempt: what is private, nested or dunder, one-line functions, and methods that fill in a documented protocol.
    """
    faults = [] if ast.get_docstring(tree) else [(1, "the module")]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            faults += [] if ast.get_docstring(node) else [(node.lineno, node.name)]
            faults += [(line, f"{node.name}.{name}") for line, name in _undocumented_functions(node.body)]
    return faults + _undocumented_functions(tree.body)


def _undocumented_functions(body: list[ast.stmt]) -> list[tuple[int, str]]:
    return [
        (node.lineno, node.name)
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and len(node.body) > 1
        and not ast.get_docstring(node)
    ]


def protocol_methods() -> set[str]:
    """Methods documented once, in a protocol; whoever fills them in need not say it again."""
    return {
        method.name
        for path in FILES
        for node in tree_of(path).body
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases)
        for method in node.body
        if isinstance(method, ast.FunctionDef) and ast.get_docstring(method)
    }


def test_what_is_public_says_what_it_is_for() -> None:
    told = protocol_methods()
    faults = [
        f"{name_of(path)}:{line} {name}"
        for path in FILES
        for line, name in undocumented(tree_of(path))
        if not ("." in name and name.split(".")[1] in told)
    ]
    assert faults == []


def test_a_missing_docstring_is_seen() -> None:
    source = (
        '"""Text."""\nclass A:\n    def f(self):\n        x = 1\n        return x\ndef g():\n    x = 1\n    return x\n'
    )
    assert [name for _, name in undocumented(ast.parse(source))] == ["A", "A.f", "g"]
    assert undocumented(ast.parse("x = 1"))


def test_no_emoji() -> None:
    emoji = re.compile("[\U0001f000-\U0001faff\u2600-\u26ff\u2705\u2714\u2728\u274c\u274e\u2757\u2b50\ufe0f]")
    folders = itertools.chain.from_iterable((ROOT / f).rglob("*") for f in ("src", "tests", "docs", "notebooks"))
    kinds = {".py", ".md", ".yaml", ".html", ".txt", ".ipynb", ".jinja", ".sh"}
    files = [p for p in (*folders, *ROOT.glob("*.md"), *(ROOT / "scripts").glob("*")) if p.suffix in kinds]
    assert len(files) > len(FILES)
    assert [str(p.relative_to(ROOT)) for p in files if emoji.search(p.read_text(encoding="utf-8"))] == []


def test_what_pyright_looks_at_exists() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]
    assert settings["include"] and all((ROOT / folder).is_dir() for folder in settings["include"])


def test_public_names_resolve() -> None:
    assert list(emalign.__all__) == sorted(emalign.__all__)
    for name in emalign.__all__:
        assert getattr(emalign, name) is not None


def test_the_readme_lists_the_public_names() -> None:
    """The section headed "Public names" names each of them once, as `em.NAME` or `NAME`, in backticks."""
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README.md yet")
    section = re.search(r"^#+ .*public names.*\n((?:(?!#).*\n?)*)", readme.read_text(), re.IGNORECASE | re.MULTILINE)
    assert section, "README.md has no section headed 'Public names'"
    listed = re.findall(r"`(?:em(?:align)?\.)?(\w+)(?:\([^`]*\))?`", section[1])
    assert sorted(set(listed)) == sorted(emalign.__all__)


# A place on somebody's machine, at the start of a word; a web address and a folder further down are none.
HOME = re.compile(rb"(?<![\w./:~$}*-])/(?:home|root|work|opt|workspace|Users)/")
SECRET = re.compile(
    rb"(?<![A-Za-z0-9_])(?:hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16})"
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def given_away(pattern: re.Pattern[bytes], data: bytes) -> list[int]:
    """Numbers of the lines that match; `#!` lines name an interpreter and may."""
    return [n for n, line in enumerate(data.split(b"\n"), 1) if pattern.search(line) and not line.startswith(b"#!")]


@pytest.mark.parametrize("pattern", [HOME, SECRET], ids=["paths", "secrets"])
def test_nothing_private_is_tracked(pattern: re.Pattern[bytes]) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in paths
        if path.is_file()
        for line in given_away(pattern, path.read_bytes())
    ]
    assert found == []


def test_a_path_or_a_secret_is_seen() -> None:
    for folder in ("home", "root", "work", "opt"):
        assert given_away(HOME, f'open("/{folder}/somebody/x")'.encode()) == [1]
        assert given_away(HOME, f"see\nhttps://host.org/{folder}/x and ./{folder}/x".encode()) == []
    assert given_away(HOME, b"#!/" + b"opt/bin/python") == []
    assert given_away(SECRET, b"token = '" + b"hf_" + b"a1" * 17 + b"'") == [1]
    assert given_away(SECRET, b"\nkey: " + b"sk-" + b"proj-" + b"Zz9" * 9) == [2]
    assert given_away(SECRET, b"task-of-the-whole-afternoon-and-night hf_token") == []
