"""Run and its command line: where a study stands, what a gate closes, and what a wrong command is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emalign import run as runs
from emalign import stage as stages
from emalign.cli import main
from emalign.errors import EmalignError, StageFailed
from emalign.rows import Event
from emalign.run import BEGUN, OWED, SEALED, WAITING, Run, describe
from emalign.stage import STAGES, Stage, Step, Work, stage_of
from emalign.store import Manifest

QUICKSTART = Path(__file__).resolve().parents[2] / "configs" / "quickstart.yaml"
STEPS, BEHIND_THE_GATE = 34, 24


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(QUICKSTART, store=tmp_path)


def seal(run: Run, step: Step, **facts: Any) -> None:
    manifest = Manifest(
        stage=step.stage, version=1, key=step.key, name=step.label, config=dict(step.config), inputs={}, facts=facts
    )
    run.store.draft(*step.place).seal(manifest)


def seal_gate(run: Run, passed: bool) -> None:
    seal(run, run.plan().of("gate")[0], passed=passed, evidence="EM rate 1.0%, below 5.0%")


def state_of(run: Run, label: str) -> str:
    return next(s.state for s in run.states() if s.step.label == label)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], list[str]]:
    """Put stages in place that seal at once; returns the labels of what they do, as they do it."""

    def put(passed: bool) -> list[str]:
        done: list[str] = []

        def act(works: Sequence[Work]) -> None:
            for work in works:
                done.append(work.step.label)
                work.seal(facts={"passed": passed, "evidence": "as played"})

        for name in STAGES:
            version = stage_of(name).version
            monkeypatch.setitem(stages._REGISTERED, name, Stage(name, act, (), version))
        return done

    return put


def test_a_new_study_owes_what_needs_nothing(run: Run) -> None:
    assert describe(run.states()) == {SEALED: 0, BEGUN: 0, OWED: 8, WAITING: STEPS - 8}
    assert {s.step.label for s in run.states() if s.state == OWED and s.step.stage == "generate"} == {"generate base"}


def test_a_drafted_step_is_begun_and_counts_its_rows(run: Run) -> None:
    step = run.plan().of("generate")[0]
    run.store.draft(*step.place).add([Event(step=n, epoch=0.0, values={}) for n in range(3)])
    state = next(s for s in run.states() if s.step == step)
    assert (state.state, state.rows) == (BEGUN, 3)


def test_a_sealed_step_frees_what_waited_for_it(run: Run) -> None:
    seal(run, run.plan().of("data")[0])
    assert state_of(run, "data harm@400 seed 0") == SEALED
    assert state_of(run, "train harm@400 seed 0") == OWED


def test_training_waits_for_the_gate(run: Run) -> None:
    for step in run.plan().steps:
        if step.stage == "data" or step.label == "train harm@400 seed 0":
            seal(run, step)
    assert state_of(run, "train heal@100 seed 0") == WAITING
    seal_gate(run, passed=True)
    assert state_of(run, "train heal@100 seed 0") == OWED


def test_a_passed_gate_leaves_the_plan_as_it_is(run: Run) -> None:
    seal_gate(run, passed=True)
    assert run.plan().closed == ()
    assert len(run.plan().steps) == STEPS


def test_a_failed_gate_closes_the_arms_behind_it(run: Run) -> None:
    seal_gate(run, passed=False)
    assert run.plan().closed == ("heal", "neutral")
    assert len(run.plan().steps) == STEPS - BEHIND_THE_GATE


def test_another_threshold_opens_the_gate_again(run: Run, tmp_path: Path) -> None:
    seal_gate(run, passed=False)
    lower = Run(QUICKSTART, "gate={arm: harm, em_rate_at_least: 0.01}", store=tmp_path)
    assert lower.plan().closed == ()


def test_a_run_does_every_step_once_and_then_nothing(run: Run, play: Callable[[bool], list[str]]) -> None:
    done = play(True)
    assert run.run(isolate=False) == STEPS
    assert sorted(done) == sorted(step.label for step in run.plan().steps)
    assert describe(run.states())[SEALED] == STEPS
    assert run.run(isolate=False) == 0


def test_a_run_does_nothing_before_what_it_needs(run: Run, play: Callable[[bool], list[str]]) -> None:
    done = play(True)
    run.run(isolate=False)
    steps = {step.place: step for step in run.plan().steps}
    for step in steps.values():
        assert all(done.index(steps[place].label) < done.index(step.label) for place in step.needs)


def test_a_run_stops_behind_a_gate_that_did_not_pass(run: Run, play: Callable[[bool], list[str]]) -> None:
    done = play(False)
    run.run(isolate=False)
    assert describe(run.states())[SEALED] == len(run.plan().steps)
    assert not [label for label in done if label.startswith("train heal")]
    assert "report" in done


def test_only_one_stage(run: Run, play: Callable[[bool], list[str]]) -> None:
    done = play(True)
    assert run.only("data") == 7
    assert run.only("data") == 0
    assert {label.split()[0] for label in done} == {"data"}


def test_only_an_unknown_stage(run: Run) -> None:
    with pytest.raises(EmalignError, match="no stage 'nonsense'") as caught:
        run.only("nonsense")
    assert "judge" in caught.value.do


@pytest.mark.parametrize(("code", "said"), [(3, "code 3"), (0, "did not make data harm@400 seed 0")])
def test_a_stage_process_that_did_not_do_its_work(
    run: Run, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    asked: list[list[str]] = []

    def answer(command: list[str], **options: Any) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(runs.subprocess, "run", answer)
    with pytest.raises(StageFailed, match=said):
        run.data()
    assert asked[0][-4:] == ["--only", "data", "--store", run.url]


def test_a_stage_process_gets_the_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(QUICKSTART, "seeds=[4]", store=tmp_path)

    def answer(command: list[str], **options: Any) -> SimpleNamespace:
        assert command[1:6] == ["-m", "emalign", "run", str(QUICKSTART), "seeds=[4]"]
        for step in run.plan().of("data"):
            seal(run, step)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(runs.subprocess, "run", answer)
    assert run.data() == 7


def test_why_of_an_owed_and_of_a_sealed_step(run: Run) -> None:
    step = run.plan().of("data")[0]
    assert run.why(step.key) == (step, None)
    seal(run, step)
    found, manifest = run.why(step.key[:10])
    assert found == step
    assert manifest is not None
    assert manifest.key == step.key


def test_why_of_a_step_that_the_study_no_longer_has(run: Run) -> None:
    step = run.plan().of("train")[1]
    seal(run, step)
    seal_gate(run, passed=False)
    found, manifest = run.why(step.key)
    assert found is None
    assert manifest is not None


@pytest.mark.parametrize(("key", "said"), [("zzzz", "no steps"), ("", f"{STEPS} steps")])
def test_why_of_no_step_or_of_many(run: Run, key: str, said: str) -> None:
    with pytest.raises(EmalignError, match=said) as caught:
        run.why(key)
    assert f"emalign plan {QUICKSTART} --keys" in caught.value.do


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def emalign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`emalign …` in this process, in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["emalign", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return call


def test_help_lists_the_commands(emalign: Command) -> None:
    code, out, _ = emalign("--help")
    assert code == 0
    assert all(name in out for name in ("run", "plan", "status", "why"))


def test_plan_shows_every_model(emalign: Command) -> None:
    code, out, err = emalign("plan", QUICKSTART)
    assert (code, err) == (0, "")
    assert "8 models" in out
    assert "8 owed, 26 waiting of 34 steps" in out


def test_plan_with_an_override(emalign: Command) -> None:
    assert "2 models" in emalign("plan", QUICKSTART, "arms={base: {}, harm: {data: toy_money_bad}}", "gate=[]")[1]


def test_plan_lists_keys_that_why_explains(emalign: Command, run: Run) -> None:
    key = run.plan().of("data")[0].key
    assert key in emalign("plan", QUICKSTART, "--keys")[1]
    code, out, _ = emalign("why", key, "--config", QUICKSTART)
    assert code == 0
    assert "not sealed yet" in out
    assert "toy_money_bad" in out


def test_plan_names_the_arms_behind_a_failed_gate(emalign: Command, run: Run, tmp_path: Path) -> None:
    seal_gate(run, passed=False)
    assert "heal: not run, the gate before it did not pass" in emalign("plan", QUICKSTART, "--store", tmp_path)[1]


def test_status_says_what_comes_next(emalign: Command) -> None:
    code, out, _ = emalign("status", QUICKSTART)
    assert code == 0
    assert f"Next: emalign run {QUICKSTART}" in out.replace("\n", "")


def test_why_finds_a_sealed_step_by_itself(emalign: Command, run: Run, tmp_path: Path) -> None:
    step = run.plan().of("data")[0]
    seal(run, step)
    code, out, _ = emalign("why", step.key[:8], "--store", tmp_path)
    assert code == 0
    assert step.key in out


def at_fault(result: tuple[int, str, str], *said: str) -> None:
    """A user's fault: exit 1, the words on stderr, no traceback."""
    code, out, err = result
    assert code == 1
    assert err.strip().startswith("emalign: ")
    assert "Traceback" not in out + err
    for words in said:
        assert words in err


def test_why_of_a_damaged_manifest(emalign: Command, run: Run, tmp_path: Path) -> None:
    step = run.plan().of("data")[0]
    seal(run, step)
    path = tmp_path / "quickstart" / "steps" / "data" / step.key / "manifest.json"
    path.write_text("{")
    at_fault(emalign("why", step.key, "--store", tmp_path), "manifest cannot be read", f"rm -r {path.parent}")


@pytest.mark.parametrize("command", ["plan", "status", "run"])
def test_a_study_file_that_is_not_there(emalign: Command, command: str) -> None:
    at_fault(emalign(command, "nowhere.yaml"), "no such study file", "nowhere.yaml")


def test_a_misspelt_override(emalign: Command) -> None:
    at_fault(emalign("plan", QUICKSTART, "train.epoch=2"), "did you mean 'epochs'?", str(QUICKSTART))


def test_an_unknown_stage(emalign: Command) -> None:
    at_fault(emalign("run", QUICKSTART, "--only", "nonsense"), "there is no stage 'nonsense'")


def test_an_unknown_key(emalign: Command) -> None:
    at_fault(emalign("why", "zzzz"), "no sealed steps", "--keys")
    at_fault(emalign("why", "zzzz", "--config", QUICKSTART), "no steps have a key")


def test_an_unknown_store(emalign: Command) -> None:
    at_fault(emalign("plan", QUICKSTART, "--store", "s3://bucket"), "no store is known for s3://")


def test_a_file_in_the_place_of_the_store(emalign: Command, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    at_fault(emalign("plan", QUICKSTART), "the store cannot be written", "--store FOLDER")


def test_a_damaged_artifact_stops_the_plan_with_advice(emalign: Command, run: Run, tmp_path: Path) -> None:
    step = run.plan().of("data")[0]
    run.store.draft(*step.place).note(a=1)
    (tmp_path / "quickstart" / "steps" / "data" / step.key / "figure.svg").write_text("<svg/>")
    seal(run, step)
    (tmp_path / "quickstart" / "steps" / "data" / step.key / "figure.svg").unlink()
    at_fault(emalign("plan", QUICKSTART, "--store", tmp_path), "figure.svg is missing", "rm -r ")


def test_a_users_fault_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "emalign", "plan", "nowhere.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    at_fault((done.returncode, done.stdout, done.stderr), "no such study file")
