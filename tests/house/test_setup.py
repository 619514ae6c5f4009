"""The set-up: what is pinned is what the code needs, and scripts/setup.sh does what it promises without a network."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = (ROOT / "scripts" / "setup.sh").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# The same list, with its reasons, heads constraints/cpu.txt.
LEFT_OUT = {
    *("torchvision", "xformers", "triton", "torchao", "diffusers", "tyro", "cut-cross-entropy", "msgspec", "einops"),
    *("hf-transfer", "sentencepiece", "protobuf", "json5", "nest-asyncio", "structlog", "wheel"),
}
BOUNDS_NOT_MET = {("unsloth", "certifi"), ("unsloth-zoo", "certifi")}


def pin_lines(name: str) -> list[str]:
    lines = (ROOT / "constraints" / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def pins(*names: str) -> dict[str, str]:
    pairs = (line.split("==") for name in names for line in pin_lines(name))
    return {canonicalize_name(name): version for name, version in pairs}


USER_PINS = pins("cpu.txt")
ALL_PINS = pins("cpu.txt", "cpu-test.txt")


def imported_names(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_every_import_is_pinned_or_declared_in_an_extra():
    providers = metadata.packages_distributions()
    declared = {canonicalize_name(Requirement(line).name) for lines in EXTRAS.values() for line in lines}
    allowed = USER_PINS.keys() | (declared - {canonicalize_name(Requirement(line).name) for line in EXTRAS["dev"]})
    strangers = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "src").rglob("*.py")
        for name in imported_names(path) - sys.stdlib_module_names - {"emalign"}
        if not allowed & {canonicalize_name(provider) for provider in providers.get(name, [name])}
    }
    assert not strangers


def test_every_constraint_is_one_exact_pin():
    lines = pin_lines("cpu.txt") + pin_lines("cpu-test.txt")
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)] == []
    assert len(lines) == len(ALL_PINS), "a package is pinned twice"


def test_what_breaks_a_cpu_environment_is_not_pinned():
    assert not ALL_PINS.keys() & (LEFT_OUT | {"torchaudio", "torchcodec"})
    assert not [name for name in ALL_PINS if name.startswith("nvidia-")]


@pytest.mark.parametrize("group", ["dependencies", "cpu", "dev"])
def test_the_pins_satisfy_pyproject(group: str):
    wanted = PROJECT["dependencies"] if group == "dependencies" else EXTRAS[group]
    have = ALL_PINS if group == "dev" else USER_PINS
    for requirement in map(Requirement, wanted):
        version = have.get(canonicalize_name(requirement.name))
        assert version and requirement.specifier.contains(version), f"{requirement} is pinned as {version}"


def test_the_script_installs_the_pinned_torch():
    assert f"\nTORCH=torch=={USER_PINS['torch']}\n" in SCRIPT


def needs(name: str, extra: str, python: str) -> list[Requirement]:
    environment = {"python_version": python, "python_full_version": f"{python}.5", "sys_platform": "linux"}
    lines = metadata.requires(name) or []
    return [r for r in map(Requirement, lines) if not r.marker or r.marker.evaluate({**environment, "extra": extra})]


def installed_version(name: str) -> str | None:
    try:
        return metadata.version(name).split("+")[0]
    except metadata.PackageNotFoundError:
        return None


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_pins_are_closed_under_their_requirements(python: str):
    """Everything is installed with --no-deps, so whatever is missing here is missing on the user's machine."""
    if any(installed_version(name) != version for name, version in ALL_PINS.items()):
        pytest.skip("this environment is not the one that the constraints describe: run make test")
    todo = [(name, "") for name in ALL_PINS]
    seen, wrong = set(), []
    while todo:
        name, extra = item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        for need in needs(name, extra, python):
            wanted = canonicalize_name(need.name)
            if wanted in LEFT_OUT or (name, wanted) in BOUNDS_NOT_MET:
                continue
            if wanted not in ALL_PINS or not need.specifier.contains(ALL_PINS[wanted]):
                wrong.append(f"{name} needs {need}, pinned: {ALL_PINS.get(wanted)}")
            else:
                todo += [(wanted, wanted_extra) for wanted_extra in need.extras]
    assert not wrong


# The tests below run scripts/setup.sh in a copy, with a Python that only notes what pip is asked to do.

FAKE_PYTHON = """#!/bin/sh
echo "$0 $*" >> "$CALLS"
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *"--dry-run"*) exit "${LOCAL_TORCH:-1}" ;;
  *"-m pip "*"${FAIL_ON:-nothing-fails}"*) echo "pip says why"; exit 1 ;;
  *"-m pip "* | *"import unsloth"* | *"import pip"*) ;;
  *) exec "REAL" "$@" ;;
esac
"""


class Machine:
    """A copy of the project's set-up in a folder with a space, and a PATH of fakes."""

    def __init__(self, folder: Path):
        self.root = folder / "my project"
        self.calls = folder / "calls"
        self.bin = folder / "bin"
        for name in ("scripts", "constraints"):
            shutil.copytree(ROOT / name, self.root / name)
        shutil.copy(ROOT / "pyproject.toml", self.root)
        self.bin.mkdir()
        self.add("python3.11", FAKE_PYTHON.replace("REAL", sys.executable))

    def add(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, mode: str = "quickstart", **extra: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "EMALIGN_ANYWAY")}
        env = {**kept, "PATH": f"{self.bin}:{os.environ['PATH']}", "CALLS": str(self.calls), **extra}
        command = ["bash", str(self.root / "scripts" / "setup.sh"), mode]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

    @property
    def installs(self) -> list[str]:
        """The pip installs of the last run, each from its first argument after `install`."""
        calls = self.calls.read_text().splitlines()
        return [call.split(" install ", 1)[1] for call in calls if " install " in call and "--dry-run" not in call]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(("system", "word"), [("Darwin", "macOS"), ("MINGW64_NT-10.0", "WSL2"), ("FreeBSD", "FreeBSD")])
def test_other_systems_are_refused_with_a_clear_word(machine: Machine, system: str, word: str):
    machine.add("uname", f"#!/bin/sh\necho {system}\n")
    done = machine.run()
    assert done.returncode == 1 and word in done.stderr and "Colab" in done.stderr
    assert not machine.calls.read_text() and not (machine.root / ".venv").exists()


def test_macos_goes_on_when_asked_and_takes_the_default_torch(machine: Machine):
    machine.add("uname", "#!/bin/sh\necho Darwin\n")
    assert machine.run(EMALIGN_ANYWAY="1").returncode == 0
    assert machine.installs[0].endswith("--no-compile torch==2.13.0") and CPU_INDEX not in machine.installs[0]


def test_torch_comes_first_from_the_cpu_index_and_nothing_resolves_dependencies(machine: Machine):
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert machine.installs[0] == f"-q --no-deps --no-compile --index-url {CPU_INDEX} torch==2.13.0"
    assert [call.split("/")[-1] for call in machine.installs[1:]] == ["cpu.txt", "my project"]
    assert all("--no-deps" in call for call in machine.installs)


def test_a_local_torch_wheel_is_preferred(machine: Machine):
    machine.run(LOCAL_TORCH="0")
    assert machine.installs[0] == "-q --no-deps --no-compile --no-index torch==2.13.0"


def test_a_broken_shim_is_passed_over(machine: Machine):
    shutil.move(machine.bin / "python3.11", machine.bin / "python3.12")
    machine.add("python3.11", "#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    assert machine.run().returncode == 0
    assert "bin/python3.12 -m venv" in machine.calls.read_text()


def test_no_suitable_python_is_said_plainly(machine: Machine):
    for name in ("python3.11", "python3.12", "python3.13", "python3"):
        machine.add(name, "#!/bin/sh\nexit 1\n")
    done = machine.run()
    assert done.returncode == 1 and "PYTHON=/path/to/python make quickstart" in done.stderr
    named = machine.run(PYTHON="/no/such/python")
    assert named.returncode == 1 and "/no/such/python" in named.stderr


def test_a_repeat_does_nothing_and_is_quick(machine: Machine):
    assert machine.run("test").returncode == 0
    for mode in ("test", "quickstart"):
        start = time.monotonic()
        done = machine.run(mode)
        assert done.returncode == 0 and done.stdout == "" and not machine.installs
        assert time.monotonic() - start < 5


def test_the_tests_need_more_than_the_quickstart(machine: Machine):
    machine.run("quickstart")
    assert machine.run("test").returncode == 0
    assert any(call.endswith("cpu-test.txt") for call in machine.installs)


@pytest.mark.parametrize("file", ["constraints/cpu.txt", "pyproject.toml"])
def test_a_change_is_installed_into_the_same_venv(machine: Machine, file: str):
    machine.run()
    with (machine.root / file).open("a") as out:
        out.write("# changed\n")
    assert machine.run().returncode == 0
    assert machine.installs and "-m venv" not in machine.calls.read_text()
    machine.run()
    assert not machine.installs


def test_a_failed_step_shows_the_error_and_the_next_command_and_is_redone_from_scratch(machine: Machine):
    done = machine.run(FAIL_ON="constraints/cpu.txt")
    assert done.returncode == 1
    assert "pip says why" in done.stderr and "make quickstart" in done.stderr
    assert machine.run().returncode == 0
    assert "-m venv" in machine.calls.read_text()


def test_a_moved_project_is_set_up_anew(machine: Machine):
    machine.run()
    machine.root = machine.root.rename(machine.root.with_name("moved"))
    assert machine.run().returncode == 0
    assert "-m venv" in machine.calls.read_text()
