"""A study unfolded into steps: arms times doses times seeds, with gates. The only file that knows the order."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from emalign import registry
from emalign.config import Arm, Study
from emalign.errors import ConfigError
from emalign.models import Located, locate, locate_adapter
from emalign.rows import digest
from emalign.stage import STAGES, Step, identity
from emalign.stages.asking import harmed_domains, kind_of, prompts_of, questions_of, source_of

Place = tuple[str, str]
Inputs = Mapping[str, tuple[Place, ...]]


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One model of the study: an arm at one dose and seed. `train` is None where nothing is trained."""

    arm: str
    dose: int | None
    seed: int | None
    adapter: Located | None = None
    train: Place | None = None
    parent: Branch | None = None

    @property
    def label(self) -> str:
        """Arm, dose and seed in words."""
        dose = "" if self.dose is None else f"@{self.dose}"
        return f"{self.arm}{dose}" + ("" if self.seed is None else f" seed {self.seed}")

    def lineage(self) -> Iterator[Branch]:
        """This branch, the one it starts from, and so on to the base."""
        branch: Branch | None = self
        while branch is not None:
            yield branch
            branch = branch.parent


@dataclass(frozen=True)
class Plan:
    """Every step of a study in an order that can be run; `closed` holds the arms behind a gate that did not pass."""

    study: Study
    steps: tuple[Step, ...]
    closed: tuple[str, ...] = ()

    def of(self, stage: str) -> list[Step]:
        return [step for step in self.steps if step.stage == stage]


def unfold(study: Study, failed_gates: frozenset[str] = frozenset()) -> Plan:
    """The plan of a study. `failed_gates` names arms whose gate did not pass: what starts from them is left out."""
    builder = _Unfolding(study, failed_gates)
    for arm in _in_order(study):
        builder.add_arm(arm)
    builder.add_analysis()
    steps = sorted(builder.steps.values(), key=lambda step: STAGES.index(step.stage))
    return Plan(study, tuple(steps), tuple(builder.closed))


class _Unfolding:
    """Collects the steps of a study while its arms are walked from the base outwards."""

    def __init__(self, study: Study, failed_gates: frozenset[str]) -> None:
        self.study, self.failed = study, failed_gates
        self.steps: dict[Place, Step] = {}
        self.branches: dict[str, list[Branch]] = {}
        self.judged: dict[Branch, tuple[Place, Place]] = {}
        self.gates: dict[str, Place] = {}
        self.closed: list[str] = []
        registry.require("engines", study.evaluate.engine)
        registry.require("judges", study.judge.name)
        base = locate(study.base.model, study.base.revision)
        self.base = {"model": base.fingerprint, "load_in_4bit": study.base.load_in_4bit, "dtype": study.base.dtype}
        questions = questions_of(study)
        self.asked = digest(sorted(q.id for q in questions))
        self.judge = self._judge_identity(
            digest(sorted([q.question_id, sorted(prompts_of(study, q).items())] for q in questions))
        )

    def _judge_identity(self, prompts: str) -> dict[str, Any]:
        judge = self.study.judge
        found: dict[str, Any] = {**judge.identity(), "prompts": prompts}
        if judge.name == "local":
            found["model"] = locate(judge.model, judge.revision).fingerprint
        return found

    def add_arm(self, name: str) -> None:
        arm = self.study.arms[name]
        parents = self._parents(name, arm)
        if any(b.arm in self.failed for parent in parents for b in parent.lineage()):
            self.closed.append(name)
            return
        self.branches[name] = list(self._branches(name, arm, parents))
        for branch in self.branches[name]:
            self._evaluate(branch)
        for gate in self.study.gate:
            if gate.arm == name:
                self._add_gate(gate.arm)

    def _parents(self, name: str, arm: Arm) -> list[Branch]:
        """The branches an arm starts from: none for the bare base, one per seed behind a trained arm."""
        if arm.from_ is None:
            return []
        source, _, dose = arm.from_.partition("@")
        if source not in self.study.arms:
            return []
        if source in self.closed:
            return [Branch(arm=next(iter(self.failed)), dose=None, seed=None)]
        found = [b for b in self.branches[source] if not dose or str(b.dose) == dose]
        if len({b.dose for b in found}) != 1:
            doses = self.study.arms[source].dose
            raise ConfigError(
                f"arm {name!r} starts from {arm.from_!r}, which is {'no' if not found else 'more than one'} model",
                where=f"arms.{name}.from",
                do=f"name one of its doses: {', '.join(f'{source}@{d}' for d in doses)}"
                if doses
                else f"write {source}",
            )
        return found

    def _branches(self, name: str, arm: Arm, parents: list[Branch]) -> Iterator[Branch]:
        adapter = None
        if arm.from_ is not None and arm.from_.partition("@")[0] not in self.study.arms:
            adapter = locate_adapter(arm.from_, self.study._folder)
        if not arm.data:
            if parents:
                raise ConfigError(
                    f"arm {name!r} trains on nothing, so it is the same model as {arm.from_!r}",
                    where=f"arms.{name}",
                    do="give it `data`, or drop it",
                )
            yield Branch(arm=name, dose=None, seed=None, adapter=adapter)
            return
        for dose in arm.dose or [None]:
            for seed in self.study.seeds:
                parent = next((p for p in parents if p.seed in (seed, None)), None)
                yield self._trained(Branch(arm=name, dose=dose, seed=seed, adapter=adapter, parent=parent))

    def _trained(self, branch: Branch) -> Branch:
        study, train = self.study, self.study.train_of(branch.arm)
        sources = [source_of(study, name) for name in study.arms[branch.arm].data]
        data = self._step("data", branch, {
            "data": sources, "dose": branch.dose, "seed": branch.seed, "holdout": train.holdout,
            "max_length": train.max_length, "tokenizer": self.base["model"],
        }, {})  # fmt: skip
        shape = {k: v for k, v in train.identity().items() if k not in ("holdout", "max_length")}
        inputs: dict[str, tuple[Place, ...]] = {"data": (data,)}
        if branch.parent is not None and branch.parent.train is not None:
            inputs["parent"] = (branch.parent.train,)
        adapter = branch.adapter or (branch.parent.adapter if branch.parent else None)
        config = {"train": shape, "seed": branch.seed, "base": self.base, "from": adapter and adapter.fingerprint}
        place = self._step("train", branch, config, inputs, after=self._gates_before(branch))
        if study.arms[branch.arm].merge:
            self._step("merge", branch, {"base": self.base}, {"train": (place,)})
        return Branch(**{**branch.__dict__, "train": place})

    def _gates_before(self, branch: Branch) -> tuple[Place, ...]:
        return tuple(self.gates[b.arm] for b in branch.lineage() if b is not branch and b.arm in self.gates)

    def _evaluate(self, branch: Branch) -> None:
        evaluate = self.study.evaluate
        config = {
            "base": self.base, "asked": self.asked, "samples": evaluate.samples, "temperature": evaluate.temperature,
            "top_p": evaluate.top_p, "max_tokens": evaluate.max_tokens, "checkpoints": evaluate.checkpoints,
            "seed": self.study.seeds[0] if branch.seed is None else branch.seed,
            "adapter": branch.adapter.fingerprint if branch.adapter and branch.train is None else None,
        }  # fmt: skip
        inputs: Inputs = {"train": (branch.train,)} if branch.train else {}
        answers = self._step("generate", branch, config, inputs)
        verdicts = self._step("judge", branch, {"judge": self.judge}, {"generate": (answers,)})
        self.judged[branch] = (answers, verdicts)

    def _add_gate(self, arm: str) -> None:
        gate = next(g for g in self.study.gate if g.arm == arm)
        harmed = [self.judged[b] for b in self.branches[arm]]
        roots = [b for bs in self.branches.values() for b in bs if b.train is None and b.adapter is None]
        if not roots:
            raise ConfigError(
                f"the gate on {arm!r} compares with the base, and no arm is the bare base",
                where="gate",
                do="add `base: {}` to the arms",
            )
        config = {"gate": gate.identity(), "thresholds": self.study.analyze.identity(), "arm": arm}
        sides = {"arm": harmed, "base": [self.judged[roots[0]]]}
        inputs = {f"{side}_{part}": tuple(p[i] for p in places) for side, places in sides.items()
                  for i, part in enumerate(("generate", "judge"))}  # fmt: skip
        self.gates[arm] = self._step("gate", Branch(arm=arm, dose=None, seed=None), config, inputs)

    def add_analysis(self) -> None:
        table = [
            {"arm": b.arm, "dose": b.dose, "seed": b.seed, "kind": kind_of(self.study, b.arm),
             "from": b.parent.arm if b.parent else None,
             "harmed": sorted(harmed_domains(self.study, *(a.arm for a in b.lineage())))}
            for b in self.judged
        ]  # fmt: skip
        inputs: dict[str, tuple[Place, ...]] = {
            "generate": tuple(answers for answers, _ in self.judged.values()),
            "judge": tuple(verdicts for _, verdicts in self.judged.values()),
            "train": tuple(b.train for b in self.judged if b.train),
            "gate": tuple(self.gates.values()),
        }
        whole = Branch(arm="", dose=None, seed=None)
        config = {"branches": table, "analyze": self.study.analyze.identity(), "closed": list(self.closed)}
        analysis = self._step("analyze", whole, config, inputs)
        words = {"aim": self.study.aim, "notes": self.study.notes, "name": self.study.name}
        self._step("report", whole, words, {"analyze": (analysis,), **inputs})

    def _step(
        self, stage: str, branch: Branch, config: dict[str, Any], inputs: Inputs, after: tuple[Place, ...] = ()
    ) -> Place:
        key = identity(stage, config, inputs)
        label = f"{stage} {branch.label}".strip() if branch.arm else stage
        step = Step(
            stage=stage, key=key, arm=branch.arm, seed=branch.seed, dose=branch.dose, label=label,
            config=config, inputs=inputs, after=after,
        )  # fmt: skip
        self.steps.setdefault(step.place, step)
        return step.place


def _in_order(study: Study) -> list[str]:
    """Arms so that each comes after the one it starts from. Raises ConfigError for a circle or a likely misspelling."""
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ConfigError(f"arms start from each other: {' -> '.join((*path, name))}", where=f"arms.{name}.from")
        if name in order:
            return
        source = (study.arms[name].from_ or "").partition("@")[0]
        if source in study.arms:
            visit(source, (*path, name))
        elif source and "/" not in source and not study.path(source).exists():
            near = difflib.get_close_matches(source, list(study.arms), n=1)
            hint = f"did you mean {near[0]}?" if near else f"arms: {', '.join(study.arms)}"
            raise ConfigError(f"there is no arm, folder or adapter {source!r}", where=f"arms.{name}.from", do=hint)
        order.append(name)

    for name in sorted(study.arms, key=lambda name: bool(study.arms[name].data)):
        visit(name, ())
    return order
