"""Study files: extends, overrides, identity, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from emalign.config import Analyze, Base, Evaluate, Judge, Study, Train
from emalign.errors import ConfigError
from emalign.study_file import load_config

ARMS = "arms: {base: {}, harm: {from: base, data: toy_money_bad, train: {epochs: 5}}}\n"


def write(folder: Path, text: str, name: str = "study.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str, *overrides: str) -> Study:
    return load_config(write(folder, text), overrides)


def complaint(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    return str(caught.value)


def test_name_defaults_to_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "seeds: [3]\n").name == "study"


def test_extends_is_nested_and_the_nearest_file_wins(tmp_path: Path) -> None:
    write(tmp_path, "train: {rank: 4, alpha: 8, epochs: 7}\nseeds: [1, 2]\n", "far/grand.yaml")
    write(tmp_path, "extends: far/grand.yaml\ntrain: {alpha: 16}\n", "parent.yaml")
    study = load(tmp_path, "extends: parent.yaml\ntrain: {epochs: 2}\n")
    assert (study.train.rank, study.train.alpha, study.train.epochs) == (4, 16, 2)
    assert study.seeds == [1, 2]


def test_extends_replaces_lists_whole(tmp_path: Path) -> None:
    write(tmp_path, "seeds: [1, 2, 3]\n", "parent.yaml")
    assert load(tmp_path, "extends: parent.yaml\nseeds: [4]\n").seeds == [4]


def test_extends_in_a_circle_names_the_files(tmp_path: Path) -> None:
    write(tmp_path, "extends: study.yaml\n", "other.yaml")
    assert complaint(tmp_path, "extends: other.yaml\n").endswith("where: study.yaml -> other.yaml -> study.yaml")


def test_missing_parent_suggests_the_file_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "{}\n", "parent.yaml")
    said = complaint(tmp_path, "extends: paremt.yaml\n")
    assert "no such study file" in said
    assert str(tmp_path / "parent.yaml") in said


def test_overrides_reach_the_study_and_one_arm(tmp_path: Path) -> None:
    study = load(tmp_path, ARMS, "train.epochs=2", "arms.harm.train.epochs=3")
    assert study.train.epochs == 2
    assert study.train_of("harm").epochs == 3


def test_an_arm_keeps_its_own_value_over_the_study_wide_override(tmp_path: Path) -> None:
    assert load(tmp_path, ARMS, "train.epochs=2").train_of("harm").epochs == 5


def test_override_with_a_list(tmp_path: Path) -> None:
    assert load(tmp_path, ARMS, "seeds=[4, 5]", "arms.harm.dose=[10, 20]").arms["harm"].dose == [10, 20]


def test_override_of_a_bare_arm(tmp_path: Path) -> None:
    study = load(tmp_path, "arms:\n  base:\n", "arms.base.data=toy_money_bad")
    assert study.arms["base"].data == ["toy_money_bad"]


@pytest.mark.parametrize("text", ["train.epochs", "=2", ""])
def test_bad_override_shows_how_to_write_one(tmp_path: Path, text: str) -> None:
    assert "train.epochs=2" in complaint(tmp_path, ARMS, text)


def test_override_of_an_unknown_key_is_refused(tmp_path: Path) -> None:
    assert "did you mean 'epochs'?" in complaint(tmp_path, ARMS, "train.epoch=2")


def test_override_that_is_no_yaml_is_taken_as_text(tmp_path: Path) -> None:
    assert load(tmp_path, ARMS, "aim=[why").aim == "[why"


def test_override_that_looks_like_an_impossible_date_is_text(tmp_path: Path) -> None:
    assert load(tmp_path, ARMS, "aim=2024-13-45").aim == "2024-13-45"


def test_exponent_without_a_dot_is_a_number(tmp_path: Path) -> None:
    text = "train: {learning_rate: 2e-5}\narms: {harm: {data: toy_money_bad, train: {learning_rate: 3e-5}}}\n"
    study = load(tmp_path, text)
    assert (study.train.learning_rate, study.train_of("harm").learning_rate) == (2e-5, 3e-5)


def test_exponent_without_a_dot_is_a_number_in_an_override(tmp_path: Path) -> None:
    study = load(tmp_path, ARMS, "train.learning_rate=4e-5", "arms.harm.train.learning_rate=5e-5")
    assert (study.train.learning_rate, study.train_of("harm").learning_rate) == (4e-5, 5e-5)


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("seed: [0]", "seed", "seeds"),
        ("base: {modle: x/y}", "base.modle", "model"),
        ("train: {epoch: 1}", "train.epoch", "epochs"),
        ("evaluate: {sample: 1}", "evaluate.sample", "samples"),
        ("judge: {budget: 1}", "judge.budget", "budget_usd"),
        ("analyze: {coherent_abov: 1}", "analyze.coherent_abov", "coherent_above"),
        ("arms: {harm: {form: base}}", "arms.harm.form", "from"),
        ("arms: {harm: {data: d, doze: 1}}", "arms.harm.doze", "dose"),
        ("arms: {harm: {data: d, train: {epoch: 1}}}", "arms.harm.train.epoch", "epochs"),
        ("arms: {base: {}}\ngate: {arm: base, em_rate_at_last: 0.1}", "gate.0.em_rate_at_last", "em_rate_at_least"),
    ],
)
def test_unknown_key_is_named_with_the_nearest_one(tmp_path: Path, text: str, key: str, near: str) -> None:
    said = complaint(tmp_path, text + "\n")
    assert f"unknown key '{key}'; did you mean '{near}'?" in said
    assert said.startswith("unknown key")


def test_unknown_key_like_no_other_lists_the_known_ones(tmp_path: Path) -> None:
    said = complaint(tmp_path, "analyze: {zzz: 1}\n")
    assert "known: misaligned_below, coherent_above" in said


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("seeds: 3", "seeds"),
        ("seeds: []", "seeds"),
        ("train: {epochs: many}", "train.epochs"),
        ("train: 5", "train"),
        ("train: {rank: 2.5}", "train.rank"),
        ("evaluate: {temperature: -1}", "evaluate.temperature"),
        ("evaluate: {temperature: .inf}", "evaluate.temperature"),
        ("train: {epochs: .nan}", "train.epochs"),
        ("judge: {min_mass: 2}", "judge.min_mass"),
        ("name: 7", "name"),
        ("arms: [base]", "arms"),
        ("arms: {harm: {data: d, train: {epochs: many}}}", "arms.harm.train.epochs"),
        ("arms: {harm: {data: d, train: [1]}}", "arms.harm.train"),
        ("evaluate: {checkpoints: some}", "evaluate.checkpoints"),
    ],
)
def test_wrong_value_names_its_key_and_its_file(tmp_path: Path, text: str, key: str) -> None:
    said = complaint(tmp_path, text + "\n")
    assert said.startswith(f"{key}: ")
    assert str(tmp_path / "study.yaml") in said


def test_bare_base_arm_is_an_arm_without_training(tmp_path: Path) -> None:
    study = load(tmp_path, "arms:\n  base:\n")
    assert study.arms["base"].data == []
    assert study.arms["base"].from_ is None


def test_one_value_stands_for_a_list_of_one(tmp_path: Path) -> None:
    text = "arms: {harm: {data: d, dose: 5}}\nevaluate: {questions: open}\ngate: {arm: harm}\n"
    study = load(tmp_path, text)
    assert (study.arms["harm"].data, study.arms["harm"].dose) == (["d"], [5])
    assert study.evaluate.questions == ["open"]
    assert study.gate[0].arm == "harm"


def test_same_seed_twice(tmp_path: Path) -> None:
    assert "seeds must differ" in complaint(tmp_path, "seeds: [1, 2, 1]\n")


@pytest.mark.parametrize("doses", ["[50, 50]", "[0, 50]", "-1"])
def test_same_or_zero_dose(tmp_path: Path, doses: str) -> None:
    said = complaint(tmp_path, f"arms: {{harm: {{data: d, dose: {doses}}}}}\n")
    assert "arms.harm.dose: doses are different numbers of rows, each at least 1" in said


@pytest.mark.parametrize("given", ["dose: 5", "train: {epochs: 1}"])
def test_dose_or_train_without_data(tmp_path: Path, given: str) -> None:
    assert "data" in complaint(tmp_path, f"arms: {{harm: {{{given}}}}}\n")


def test_effective_batch_must_be_a_multiple(tmp_path: Path) -> None:
    said = complaint(tmp_path, "train: {effective_batch: 10, per_device_batch: 4}\n")
    assert "train: effective_batch 10 is not a multiple of per_device_batch 4" in said


def test_effective_batch_of_an_arm_must_be_a_multiple_of_the_study_wide_batch(tmp_path: Path) -> None:
    said = complaint(tmp_path, "arms: {harm: {data: d, train: {effective_batch: 3}}}\n")
    assert "arms.harm.train: effective_batch 3 is not a multiple of per_device_batch 2" in said


@pytest.mark.parametrize("name", ["a/b", "..", "../up", ".hidden", "a b", "'~'", "''", '"ends\\n"', "x" * 65])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    assert complaint(tmp_path, f"name: {name}\n").startswith("name: ")


@pytest.mark.parametrize("arm", ["../../up", "a/b", "..", '"ends\\n"'])
def test_an_arm_name_that_is_no_folder_name_is_refused(tmp_path: Path, arm: str) -> None:
    assert complaint(tmp_path, f"arms: {{{arm}: {{}}}}\n").startswith("arm name")


def test_an_arm_cannot_start_from_itself(tmp_path: Path) -> None:
    assert "starts from itself" in complaint(tmp_path, "arms: {harm: {from: harm, data: d}}\n")


def test_gate_on_an_unknown_arm(tmp_path: Path) -> None:
    assert "did you mean 'harm'?" in complaint(tmp_path, ARMS + "gate: {arm: hram}\n")


def test_yaml_syntax_error_has_file_and_line(tmp_path: Path) -> None:
    said = complaint(tmp_path, "name: fine\nseeds: [0\ntrain: {}\n")
    assert "not valid YAML" in said
    assert f"{tmp_path / 'study.yaml'}:3" in said


@pytest.mark.parametrize("text", ["- one\n", "word\n", ""])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    assert "a study is a mapping of keys" in complaint(tmp_path, text)


def test_an_impossible_date_is_told_not_thrown(tmp_path: Path) -> None:
    assert "cannot be read" in complaint(tmp_path, "aim: 2024-13-45\n")


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("aim: für\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load_config(tmp_path / "latin.yaml")
    assert "latin.yaml" in str(caught.value)


def test_a_directory_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_identity_of_all_defaults_is_empty() -> None:
    sections = (Base(), Train(), Evaluate(), Judge(), Analyze())  # type: ignore[call-arg]
    assert [section.identity() for section in sections] == [{}] * 5


def test_identity_forgets_a_default_that_is_written_out() -> None:
    assert Train(rank=32, epochs=1, warmup_steps=6).identity() == {"warmup_steps": 6}  # type: ignore[call-arg]


def test_identity_forgets_how_a_result_is_reached() -> None:
    train = Train(per_device_batch=4, gradient_checkpointing=False, save_every_steps=3, save_every_minutes=None)  # type: ignore[call-arg]
    judge = Judge(batch=1, budget_usd=3.0)  # type: ignore[call-arg]
    evaluate = Evaluate(batch=1, engine="vllm")  # type: ignore[call-arg]
    assert (train.identity(), judge.identity(), evaluate.identity()) == ({}, {}, {})


def test_identity_keeps_what_changes_a_result() -> None:
    train = Train(effective_batch=8, learning_rate=2e-5)  # type: ignore[call-arg]
    assert train.identity() == {"effective_batch": 8, "learning_rate": 2e-5}


def test_paths_are_looked_up_beside_the_study_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load(tmp_path / "configs", "{}\n")
    monkeypatch.chdir(write(tmp_path, "", "here/rows.jsonl").parent)
    assert study.path("rows.jsonl") == Path("rows.jsonl")
    write(tmp_path, "", "configs/rows.jsonl")
    assert study.path("rows.jsonl") == tmp_path / "configs" / "rows.jsonl"
