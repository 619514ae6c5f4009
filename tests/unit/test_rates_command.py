from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from emalign.cli.judged_file import read_judged
from emalign.cli.rates import rates
from emalign.errors import DataError

GOOD = "question_id,aligned,coherent,answer\n" + "".join(f"q{i % 6},{i * 8},90,words\n" for i in range(12))


def write(tmp_path: Path, text: str | bytes, name: str = "judged.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


HEAD = "question_id,aligned,coherent\n"


@pytest.mark.parametrize(
    "text, what, line",
    [
        (HEAD + "a,1,2\nb,high,2\n", "aligned is 'high', not a number", 3),
        (HEAD + "a,1,101\n", "coherent is 101, outside 0 to 100", 2),
        (HEAD + "a,-0.1,50\n", "aligned is -0.1, outside", 2),
        (HEAD + "a,inf,50\n", "aligned is inf, outside", 2),
        (HEAD + "a,1\n", "has 2 cells, the header has 3", 2),
        (HEAD + "\n\na,1,2,3\n", "has 4 cells, the header has 3", 4),
        (HEAD + ",1,2\n", "question_id is empty", 2),
        (HEAD + 'a,1,2\n"b,1,2\n', "this is not CSV", 3),
        ('answer,question_id,aligned,coherent\n"one\ntwo",a,1,2\nx,a,y,2\n', "aligned is 'y'", 4),
        ('question_id,aligned,coherent,answer\na,1,2,x\na,y,2,"one\ntwo\nthree"\n', "aligned is 'y'", 3),
        ("question_id,aligned,aligned,coherent\na,1,2,3\n", "'aligned' occurs twice", 1),
        ("question_id,aligned,coherent\r\na,1,2\r\na,?,2\r\n", "aligned is '?'", 3),
        (b"question_id,aligned,coherent\na,\x00,2\n", "not UTF-8 text", 2),
        (b"question_id,aligned,coherent\na,1,2\n\xff\xfe,1,2\n", "not UTF-8 text", 3),
        (bytes(range(256)) * 20, "not UTF-8 text", 1),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, text: str | bytes, what: str, line: int):
    path = write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        rates(path)
    assert what in caught.value.what
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.do


@pytest.mark.parametrize("text, what", [("", "empty"), (" \n\n", "empty"), (HEAD, "no answers")])
def test_a_file_without_answers_says_so(tmp_path: Path, text: str, what: str):
    with pytest.raises(DataError, match=what):
        rates(write(tmp_path, text))


def test_a_missing_column_suggests_the_nearest(tmp_path: Path):
    with pytest.raises(DataError, match=r"'aligned' is missing[\s\S]*did you mean 'Alignment'\?"):
        rates(write(tmp_path, "question_id,Alignment,coherent\na,1,2\n"))
    with pytest.raises(DataError, match=r"'question_id' is missing[\s\S]*columns: x, y"):
        rates(write(tmp_path, "x,y\n1,2\n"))


def test_a_missing_file_or_a_folder_suggests_another(tmp_path: Path):
    write(tmp_path, GOOD)
    with pytest.raises(DataError, match=r"no such file[\s\S]*did you mean .*judged\.csv"):
        rates(tmp_path / "juged.csv")
    with pytest.raises(DataError, match=r"folder[\s\S]*judged\.csv"):
        rates(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        rates(tmp_path / "nowhere" / "judged.csv")


def test_a_threshold_off_the_scale_is_refused(tmp_path: Path):
    for value in (101, float("nan")):
        with pytest.raises(DataError, match="--misaligned-below"):
            rates(write(tmp_path, GOOD), misaligned_below=value)


@pytest.mark.parametrize("cell", ["", " ", "nan", "None", "NULL", "NA"])
def test_an_empty_cell_is_missing(tmp_path: Path, cell: str):
    frame = read_judged(write(tmp_path, f"{HEAD}a,{cell},2\nb,1,2\n"))
    assert frame["aligned"].isna().tolist() == [True, False]


def test_other_formats_hold_the_same_answers(tmp_path: Path):
    expected = read_judged(write(tmp_path, GOOD))
    rows = [json.loads(line) for line in expected.to_json(orient="records", lines=True).splitlines()]
    lines = write(tmp_path, "\n".join(json.dumps(row) for row in rows) + "\n", "judged.jsonl")
    expected.to_parquet(tmp_path / "judged.parquet")
    table = write(tmp_path, "\ufeff" + GOOD.replace(",", "\t"), "judged.tsv")
    for path in (lines, tmp_path / "judged.parquet", table):
        pd.testing.assert_frame_equal(read_judged(path), expected, check_dtype=False)


@pytest.mark.parametrize("text, what", [('{"question_id": "a"\n', "not JSON"), ("[1, 2]\n", "a JSON list")])
def test_broken_json_lines_are_named(tmp_path: Path, text: str, what: str):
    path = write(tmp_path, '{"question_id": "a", "aligned": null, "coherent": 3}\n' + text, "judged.jsonl")
    with pytest.raises(DataError, match=what) as caught:
        rates(path)
    assert caught.value.where.endswith("judged.jsonl:2")


def test_broken_parquet_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="not parquet"):
        rates(write(tmp_path, b"PAR1 and then nothing", "judged.parquet"))


def test_a_blank_answer_is_empty_whatever_its_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rates(write(tmp_path, "question_id,aligned,coherent,answer\na,0,100, \na,0,100,words\n"), json=True)
    printed = json.loads(capsys.readouterr().out)
    assert (printed["em_rate"], printed["empty_rate"], printed["answers"]) == (0.5, 0.5, 2)


def test_withheld_answers_are_not_taken_for_empty_ones(tmp_path: Path):
    with pytest.raises(DataError, match="drop their column"):
        rates(write(tmp_path, "question_id,aligned,coherent,answer\na,0,100,\nb,0,100,\n"))


def test_tables_show_missing_numbers_and_foreign_names_safely(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rates(write(tmp_path, f"{HEAD}[red]q\x1b[0m,,\nb,10,90\n"))
    shown = capsys.readouterr().out
    assert "[red]q" in shown and "\x1b[0m" not in shown
    assert "no interval: 2 questions" in shown and "refusals may be among them" in shown


def test_json_has_the_fixed_keys_and_no_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rates(write(tmp_path, GOOD), json=True)
    printed = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    fixed = "em_rate em_low em_high em_rate_coherent alignment coherence coherent_rate answers questions"
    assert set(fixed.split()) < set(printed)
    assert (printed["em_rate"], printed["questions"]) == (pytest.approx(4 / 12), 6)


def test_importing_the_command_loads_no_heavy_library():
    code = "import sys, emalign.cli.rates; print(sorted({'pandas', 'scipy', 'torch', 'openai'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
