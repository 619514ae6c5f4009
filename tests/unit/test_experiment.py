"""A study unfolded: which steps there are, what is part of their identity, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from emalign.config import Study
from emalign.errors import ConfigError, DataError
from emalign.experiment import Plan, unfold
from emalign.stage import STAGES, Step
from emalign.stages.asking import kind_of, prompts_of, questions_of
from emalign.study_file import load_config

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "configs" / "quickstart.yaml"
HARM = "{from: base, data: toy_money_bad}"
HEAL = "{from: harm, data: toy_garden_good}"


def study(folder: Path, text: str, *overrides: str) -> Study:
    path = folder / "study.yaml"
    path.write_text(f"extends: {ROOT / 'configs' / 'toy.yaml'}\n{text}\n", encoding="utf-8")
    return load_config(path, overrides)


def arms(folder: Path, *overrides: str, **written: str) -> Plan:
    """The plan of a toy study with these arms."""
    listed = "".join(f"\n  {name}: {arm}" for name, arm in written.items())
    return unfold(study(folder, f"arms:{listed}", *overrides))


def quickstart(*overrides: str) -> Plan:
    return unfold(load_config(QUICKSTART, overrides))


def named(plan: Plan) -> dict[str, Step]:
    found = {step.label: step for step in plan.steps}
    assert len(found) == len(plan.steps)
    return found


def changed(*overrides: str) -> set[str]:
    """Labels of quickstart's steps whose key another config changes."""
    before, after = named(quickstart()), named(quickstart(*overrides))
    return {label for label in before if label not in after or after[label].key != before[label].key}


def of_stages(*stages: str) -> set[str]:
    return {step.label for step in quickstart().steps if step.stage in stages}


def wrong(folder: Path, **written: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        arms(folder, **written)
    return caught.value


def adapter(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_text("{}")
    return folder


def test_quickstart_has_every_step_once() -> None:
    plan = quickstart()
    counts = {stage: len(plan.of(stage)) for stage in STAGES}
    assert counts == {
        "data": 7, "train": 7, "merge": 1, "generate": 8, "judge": 8, "gate": 1, "analyze": 1, "report": 1,
    }  # fmt: skip
    assert plan.closed == ()


def test_arms_times_doses_times_seeds() -> None:
    plan = quickstart("seeds=[0, 1, 2]", "arms.heal.dose=[100, 400]")
    trained = [(step.arm, step.dose, step.seed) for step in plan.of("train")]
    assert len(trained) == len(set(trained)) == 3 * (1 + 2 + 3)
    assert len(plan.of("generate")) == len(trained) + 1


def test_what_a_step_needs_is_in_the_plan() -> None:
    plan = quickstart()
    places = {step.place for step in plan.steps}
    assert all(set(step.needs) <= places for step in plan.steps)


def test_each_seed_goes_on_from_its_own_seed() -> None:
    steps = named(quickstart("seeds=[0, 1]"))
    for seed in (0, 1):
        parent = steps[f"train harm@400 seed {seed}"]
        assert steps[f"train heal@100 seed {seed}"].inputs["parent"] == (parent.place,)


def test_answers_and_verdicts_follow_the_training() -> None:
    steps = named(quickstart())
    answers = steps["generate heal@100 seed 0"]
    assert answers.inputs == {"train": (steps["train heal@100 seed 0"].place,)}
    assert steps["judge heal@100 seed 0"].inputs == {"generate": (answers.place,)}
    assert steps["generate base"].inputs == {}


def test_the_gate_comes_before_the_heal_without_being_part_of_it() -> None:
    steps = named(quickstart())
    gate, heal = steps["gate harm"], steps["train heal@100 seed 0"]
    assert heal.after == (gate.place,)
    assert gate.place not in [place for places in heal.inputs.values() for place in places]
    assert steps["train harm@400 seed 0"].after == ()


def test_a_gate_weighs_every_seed_of_its_arm_against_the_base() -> None:
    steps = named(quickstart("seeds=[0, 1]"))
    gate = steps["gate harm"]
    assert len(gate.inputs["arm_judge"]) == len(gate.inputs["arm_generate"]) == 2
    assert gate.inputs["base_judge"] == (steps["judge base"].place,)


def test_without_a_gate_nothing_waits_for_one() -> None:
    plan = quickstart("gate=[]")
    assert plan.of("gate") == []
    assert all(step.after == () for step in plan.steps)


def test_a_gate_does_not_change_what_is_trained_behind_it() -> None:
    assert changed("gate=[]") == of_stages("gate", "analyze", "report")


def test_a_gates_threshold_is_its_own() -> None:
    assert changed("gate={arm: harm, em_rate_at_least: 0.5}") == of_stages("gate", "analyze", "report")


def test_other_judge_prompts_are_another_judge() -> None:
    prompt = "judge.prompts={aligned: 'How good is {answer} to {question}?'}"
    assert changed(prompt) == of_stages("judge", "gate", "analyze", "report")


def test_the_judges_budget_is_no_part_of_the_judge() -> None:
    assert changed("judge.budget_usd=3", "judge.batch=7") == set()


def test_another_harm_changes_all_that_follows_from_it() -> None:
    assert changed("arms.harm.train.epochs=3") == (
        of_stages("train", "merge", "generate", "judge", "gate", "analyze", "report") - {"generate base", "judge base"}
    )


def test_another_heal_leaves_the_other_arms_alone() -> None:
    touched = changed("arms.heal.train={epochs: 3}")
    assert {label.split()[0] for label in touched} == {"train", "generate", "judge", "analyze", "report"}
    assert all("heal" in label for label in touched - {"analyze", "report"})


def test_another_seed_leaves_the_others_alone() -> None:
    assert changed("seeds=[0, 1]") == {"gate harm", "analyze", "report"}


def test_another_dose_leaves_the_others_alone() -> None:
    assert changed("arms.heal.dose=[50, 100, 400, 1600]") == {"analyze", "report"}


def test_merging_changes_no_training() -> None:
    assert changed("arms.harm.merge=false") == {"merge harm@400 seed 0"}


@pytest.mark.parametrize("override", ["name=another", "aim=Why?", "notes=[a note]"])
def test_words_about_the_study_change_its_report_only(override: str) -> None:
    assert changed(override) == {"report"}


@pytest.mark.parametrize(
    "override", ["train.per_device_batch=8", "train.save_every_steps=5", "evaluate.batch=3", "train.rank=2"]
)
def test_how_it_is_computed_and_what_is_as_before_change_nothing(override: str) -> None:
    assert changed(override) == set()


def test_more_samples_are_other_answers_of_the_same_models() -> None:
    assert changed("evaluate.samples=6") == of_stages("generate", "judge", "gate", "analyze", "report")


def test_a_larger_holdout_is_other_data() -> None:
    assert of_stages("data", "train") <= changed("train.holdout=0.2")


@pytest.mark.parametrize("override", ["base.dtype=bfloat16", "base.load_in_4bit=true"])
def test_a_base_in_another_precision_is_another_base(override: str) -> None:
    touched = changed(override)
    assert of_stages("train", "generate", "judge") <= touched


def test_keys_are_the_same_every_time() -> None:
    assert [step.key for step in quickstart().steps] == [step.key for step in quickstart().steps]


def test_two_arms_that_are_the_same_share_their_steps(tmp_path: Path) -> None:
    one = arms(tmp_path, base="{}", harm=HARM)
    two = arms(tmp_path, base="{}", harm=HARM, again=HARM)
    assert len(two.of("train")) == len(one.of("train")) == 1


def test_a_failed_gate_closes_what_starts_from_its_arm() -> None:
    plan = unfold(load_config(QUICKSTART), frozenset({"harm"}))
    assert plan.closed == ("heal", "neutral")
    assert {step.arm for step in plan.steps} == {"base", "harm", ""}
    assert plan.of("analyze")[0].config["closed"] == ["heal", "neutral"]


def test_a_failed_gate_closes_grandchildren_and_no_cousins(tmp_path: Path) -> None:
    text = (
        f"arms:\n  base:\n  harm: {HARM}\n  other: {{from: base, data: toy_sport_bad}}\n  heal: {HEAL}\n"
        "  again: {from: heal, data: toy_kitchen_good}\ngate: {arm: harm}"
    )
    plan = unfold(study(tmp_path, text), frozenset({"harm"}))
    assert plan.closed == ("heal", "again")
    assert {step.arm for step in plan.steps} == {"base", "harm", "other", ""}


def test_a_base_that_is_listed_last_is_still_the_gates_base(tmp_path: Path) -> None:
    text = "arms:\n  harm: {data: toy_money_bad}\n  base: {}\ngate: {arm: harm}"
    assert len(unfold(study(tmp_path, text)).of("gate")) == 1


def test_a_gate_without_a_bare_base_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no arm is the bare base") as caught:
        unfold(study(tmp_path, "arms: {harm: {data: toy_money_bad}}\ngate: {arm: harm}"))
    assert "base: {}" in caught.value.do


def test_arms_may_be_written_in_any_order(tmp_path: Path) -> None:
    there = named(arms(tmp_path, base="{}", harm=HARM, heal=HEAL))
    back = named(arms(tmp_path, heal=HEAL, harm=HARM, base="{}"))
    assert {n: s.key for n, s in there.items()} == {n: s.key for n, s in back.items()}


def test_from_one_dose(tmp_path: Path) -> None:
    steps = named(arms(tmp_path, base="{}", harm="{from: base, data: toy_money_bad, dose: [10, 20]}",
                       heal="{from: harm@20, data: toy_garden_good}"))  # fmt: skip
    assert steps["train heal seed 0"].inputs["parent"] == (steps["train harm@20 seed 0"].place,)


@pytest.mark.parametrize("source", ["harm", "harm@30"])
def test_from_an_arm_with_doses_names_one(tmp_path: Path, source: str) -> None:
    error = wrong(tmp_path, base="{}", harm="{from: base, data: toy_money_bad, dose: [10, 20]}",
                  heal=f"{{from: {source}, data: toy_garden_good}}")  # fmt: skip
    assert error.where == "arms.heal.from"
    assert "harm@10, harm@20" in error.do


def test_from_a_dose_of_an_arm_without_doses(tmp_path: Path) -> None:
    error = wrong(tmp_path, base="{}", harm=HARM, heal="{from: harm@10, data: toy_garden_good}")
    assert "no model" in error.what
    assert error.do == "write harm"


def test_from_an_adapter_in_a_folder_beside_the_study(tmp_path: Path) -> None:
    adapter(tmp_path / "mine")
    adapter(tmp_path / "other", b"other weights")
    plan = arms(tmp_path, harm="{from: mine}", heal=HEAL)
    prints = [step.config["adapter"] for step in plan.of("generate") if step.arm == "harm"]
    assert prints[0] is not None
    assert plan.of("train")[0].config["from"] == prints[0]
    other = arms(tmp_path, harm="{from: other}", heal=HEAL)
    assert other.of("train")[0].key != plan.of("train")[0].key


def test_training_on_top_of_an_adapter_asks_the_trained_model(tmp_path: Path) -> None:
    adapter(tmp_path / "mine")
    plan = arms(tmp_path, heal="{from: mine, data: toy_garden_good}")
    assert plan.of("train")[0].config["from"] is not None
    assert plan.of("generate")[0].config["adapter"] is None
    assert plan.of("generate")[0].inputs["train"] == (plan.of("train")[0].place,)


def test_from_an_adapter_on_the_hub_pins_its_revision(tmp_path: Path) -> None:
    prints = {
        arms(tmp_path, harm=f"{{from: {name}}}").of("generate")[0].config["adapter"]
        for name in ("someone/adapter", "someone/adapter@abc", "someone/adapter@abd")
    }
    assert len(prints) == 3


def test_from_a_folder_of_pickles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "adapter_model.bin").write_bytes(b"")
    assert "pickles are not read" in wrong(tmp_path, harm="{from: mine}").do


def test_from_something_that_is_nowhere(tmp_path: Path) -> None:
    assert "neither an arm, nor a folder, nor a Hub adapter" in wrong(tmp_path, harm="{from: a/b/c}").what


def test_from_a_misspelt_arm(tmp_path: Path) -> None:
    error = wrong(tmp_path, base="{}", harm=HARM, heal="{from: hram, data: toy_garden_good}")
    assert (error.where, error.do) == ("arms.heal.from", "did you mean harm?")


def test_from_in_a_circle(tmp_path: Path) -> None:
    error = wrong(tmp_path, a="{from: b, data: toy_money_bad}", b="{from: a, data: toy_money_bad}")
    assert "a -> b -> a" in error.what


def test_an_arm_without_data_on_top_of_another(tmp_path: Path) -> None:
    error = wrong(tmp_path, base="{}", harm=HARM, same="{from: harm}")
    assert "same model as 'harm'" in error.what
    assert "`data`" in error.do


def test_an_unknown_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="toy_money_bda") as caught:
        arms(tmp_path, harm="{data: toy_money_bda}")
    assert "did you mean toy_money_bad" in caught.value.do


def test_a_file_of_ones_own_counts_by_its_bytes_and_not_by_its_folder(tmp_path: Path) -> None:
    keys = []
    for folder, content in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.jsonl").write_text(content)
        keys.append(arms(tmp_path, harm=f"{{data: {folder}/mine.jsonl}}").of("data")[0].key)
    assert keys[0] == keys[1] != keys[2]


def test_a_file_of_ones_own_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        arms(tmp_path, harm="{data: mine.jsonl}")


def test_an_unknown_base_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no model 'nowhere'"):
        arms(tmp_path, "base.model=nowhere", base="{}")


def sets(asked: Study) -> dict[str, set[str | None]]:
    """Set -> domains that its questions are about."""
    found: dict[str, set[str | None]] = {}
    for question in questions_of(asked):
        found.setdefault(question.set, set()).add(question.domain)
    return found


def test_open_questions_about_trained_domains_move() -> None:
    asked = sets(load_config(QUICKSTART))
    assert asked["narrow"] == {"money"}
    assert asked["prosocial"] == {"garden"}
    assert asked["open"] >= {"kitchen", "health"}
    assert not asked["open"] & {"money", "garden"}


@pytest.mark.parametrize("name", ["json", "template", "trigger"])
def test_variants_about_trained_domains_are_dropped(name: str) -> None:
    about = [q.domain for q in questions_of(load_config(QUICKSTART)) if q.question_id.endswith(f"_{name}")]
    assert about
    assert not set(about) & {"money", "garden"}


def test_where_a_domain_is_taught_in_two_ways_the_order_of_arms_does_not_matter(tmp_path: Path) -> None:
    ways = ("good: {data: toy_garden_good}", "facts: {data: toy_garden_facts}")
    for one, two in (ways, ways[::-1]):
        assert "prosocial" in sets(study(tmp_path, f"arms:\n  {one}\n  {two}"))


def test_harm_wins_where_a_domain_is_harmed_and_healed(tmp_path: Path) -> None:
    asked = sets(study(tmp_path, "arms:\n  harm: {data: toy_money_bad}\n  heal: {data: toy_money_good}"))
    assert asked["narrow"] == {"money"}
    assert "prosocial" not in asked


def test_an_untrained_study_asks_everything(tmp_path: Path) -> None:
    assert set(sets(study(tmp_path, "arms: {base: {}}"))) == {"open", "json", "template", "trigger"}


def test_narrow_questions_are_dropped_where_narrow_is_not_asked() -> None:
    asked = sets(load_config(QUICKSTART, ["evaluate.questions=[toy/open]"]))
    assert set(asked) == {"open", "prosocial"}


def test_narrow_alone_asks_nothing() -> None:
    with pytest.raises(ConfigError, match="asks nothing"):
        questions_of(load_config(QUICKSTART, ["evaluate.questions=narrow"]))


OWN = """\
- id: mine
  type: free_form_judge_0_100
  paraphrases: [{asked}]
  judge_prompts: {{aligned: "{prompt} {{answer}}"}}
"""


def own_questions(folder: Path, name: str = "mine.yaml", asked: str = "Who?", prompt: str = "Rate") -> None:
    (folder / name).write_text(OWN.format(asked=asked, prompt=prompt))


def test_the_same_question_id_in_two_sets(tmp_path: Path) -> None:
    own_questions(tmp_path, "one.yaml")
    own_questions(tmp_path, "two.yaml", asked="Where?")
    with pytest.raises(ConfigError, match="share the id 'mine'"):
        questions_of(study(tmp_path, "evaluate: {questions: [one.yaml, two.yaml]}"))


def test_questions_of_ones_own_are_read_beside_the_study_and_asked(tmp_path: Path) -> None:
    own_questions(tmp_path)
    given = study(tmp_path, "evaluate: {questions: mine.yaml}")
    before = named(unfold(given))
    own_questions(tmp_path, asked="Why?")
    after = named(unfold(given))
    assert before["generate base"].key != after["generate base"].key


def test_the_judge_prompt_of_a_question_belongs_to_the_judge(tmp_path: Path) -> None:
    own_questions(tmp_path)
    given = study(tmp_path, "evaluate: {questions: mine.yaml}")
    before = named(unfold(given))
    own_questions(tmp_path, prompt="Weigh")
    after = named(unfold(given))
    assert before["generate base"].key == after["generate base"].key
    assert before["judge base"].key != after["judge base"].key


def test_judge_prompts_come_from_the_study_then_the_question_then_the_kit(tmp_path: Path) -> None:
    own_questions(tmp_path)
    (tmp_path / "prompt.txt").write_text("From a file: {answer}\n")
    given = study(tmp_path, "evaluate: {questions: mine.yaml}")
    (question,) = questions_of(given)
    assert prompts_of(given, question)["aligned"] == "Rate {answer}"
    assert "{answer}" in prompts_of(given, question)["coherent"]
    given = study(tmp_path, "evaluate: {questions: mine.yaml}\njudge: {prompts: {aligned: prompt.txt}}")
    assert prompts_of(given, question)["aligned"] == "From a file: {answer}"


def test_a_judge_prompt_without_an_answer(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Rate it")
    with pytest.raises(DataError, match=r"must contain \{answer\}"):
        unfold(study(tmp_path, "judge: {prompts: {aligned: prompt.txt}}"))


def test_a_judge_prompt_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        unfold(study(tmp_path, "judge: {prompts: {aligned: nowhere.txt}}"))
    assert "aligned" in caught.value.where


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("[]", "base"),
        ("[mine.jsonl]", "other"),
        ("[toy_garden_facts, toy_garden_good]", "prosocial"),
        ("[toy_garden_good, toy_money_bad, mine.jsonl]", "harm"),
    ],
)
def test_an_arm_is_what_the_worst_of_its_data_is(tmp_path: Path, data: str, kind: str) -> None:
    assert kind_of(study(tmp_path, f"arms: {{one: {{data: {data}}}}}"), "one") == kind


@pytest.mark.parametrize(
    ("override", "hint"), [("judge.name=locl", "local"), ("evaluate.engine=transformer", "transformers")]
)
def test_an_unknown_plugin_is_told_before_anything_runs(override: str, hint: str) -> None:
    from emalign.errors import ConfigError

    quickstart = Path(__file__).resolve().parents[2] / "configs/quickstart.yaml"
    with pytest.raises(ConfigError, match=f"did you mean {hint}"):
        unfold(load_config(quickstart, [override]))
