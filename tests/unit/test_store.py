"""The store in a folder: what was kept stays kept, what is sealed is whole, and one process works on a step."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from emalign.errors import BusyError, DamagedError, StoreError
from emalign.rows import Event
from emalign.store import Manifest, open_store
from emalign.store.claims import STALE_SECONDS, LocalClaim
from emalign.store.files import append_line, disk, write_atomic
from emalign.store.local import LocalDraft, LocalStore

STAGE, KEY = "generate", "0123abcd"


def event(step: int) -> Event:
    return Event(step=step, epoch=0.0, values={"loss": 1.0})


def manifest(**facts: Any) -> Manifest:
    return Manifest(
        stage=STAGE, version=1, key=KEY, name="generate base", config={"a": 1}, inputs={"train": ["k"]}, facts=facts
    )


def steps(rows: Iterator[Event] | list[Event]) -> list[int]:
    return [row.step for row in rows]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "results", "study")


@pytest.fixture
def draft(store: LocalStore) -> LocalDraft:
    return store.draft(STAGE, KEY)


def segments(draft: LocalDraft) -> list[Path]:
    return sorted((draft.path / "segments").glob("*.jsonl"))


def test_drafted_rows_survive_their_process(store: LocalStore, draft: LocalDraft) -> None:
    draft.add([event(1), event(2)])
    draft.add([event(3)])
    again = store.draft(STAGE, KEY)
    again.add([event(4)])
    assert steps(store.draft(STAGE, KEY).rows(Event)) == [1, 2, 3, 4]


def test_drafted_counts_rows_and_knows_what_was_never_begun(store: LocalStore, draft: LocalDraft) -> None:
    draft.add([event(1), event(2)])
    draft.add([event(3)])
    assert store.drafted(STAGE, KEY) == 3
    assert store.drafted(STAGE, "never") is None


def test_adding_nothing_leaves_no_segment(draft: LocalDraft) -> None:
    draft.add([])
    assert segments(draft) == []


def test_a_draft_goes_on_after_ten_thousand_segments(store: LocalStore, draft: LocalDraft) -> None:
    (draft.path / "segments" / "10000-1.jsonl").write_text("")
    store.draft(STAGE, KEY).add([event(1)])
    assert (draft.path / "segments" / "10001-1.jsonl").is_file()


def test_a_torn_line_is_owed_again(store: LocalStore, draft: LocalDraft) -> None:
    draft.add([event(1), event(2)])
    path = segments(draft)[0]
    path.write_bytes(path.read_bytes()[:-10])
    assert steps(store.draft(STAGE, KEY).rows(Event)) == [1]


@pytest.mark.parametrize("line", [b'{"colour": "red"}', b"[1]", b"7", b"\xff\xfe", b"", b'{"step": 9}'])
def test_a_foreign_line_is_passed_over(store: LocalStore, draft: LocalDraft, line: bytes) -> None:
    draft.add([event(1), event(2)])
    path = segments(draft)[0]
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, line, second, b""]))
    assert steps(store.draft(STAGE, KEY).rows(Event)) == [1, 2]


def test_an_empty_segment_is_no_row(store: LocalStore, draft: LocalDraft) -> None:
    draft.add([event(1)])
    draft.add([event(2)])
    segments(draft)[0].write_bytes(b"")
    again = store.draft(STAGE, KEY)
    assert steps(again.rows(Event)) == [2]
    again.add([event(1)])
    assert steps(again.rows(Event)) == [2, 1]


def test_seal_then_read(store: LocalStore, draft: LocalDraft) -> None:
    draft.add([event(1)])
    (draft.path / "figures").mkdir()
    (draft.path / "figures" / "one.svg").write_text("<svg/>")
    draft.seal(manifest(answers=2), {"rows.jsonl": [event(1), event(2)]})
    sealed = store.sealed(STAGE, KEY)
    assert sealed is not None
    assert steps(sealed.rows(Event)) == [1, 2]
    assert sealed.file("figures/one.svg").read_text() == "<svg/>"
    assert sorted(sealed.manifest.files) == ["figures/one.svg", "rows.jsonl"]
    assert sealed.manifest.facts == {"answers": 2}


def test_nothing_of_the_draft_is_left_when_it_is_sealed(store: LocalStore, draft: LocalDraft) -> None:
    draft.add([event(1)])
    draft.note(batch="b1")
    draft.seal(manifest(), {"rows.jsonl": [event(1)]})
    assert sorted(p.name for p in draft.path.iterdir()) == ["manifest.json", "rows.jsonl"]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\r", "\r\n", "\x1c"])
def test_a_sealed_text_may_hold_any_line_mark(store: LocalStore, draft: LocalDraft, mark: str) -> None:
    row = Event(step=1, epoch=0.0, values={f"a{mark}b": 1.0})
    draft.add([row])
    assert list(draft.rows(Event)) == [row]
    assert draft.seal(manifest(), {"rows.jsonl": [row]}).rows(Event) == [row]


def test_a_file_without_rows_can_be_sealed(draft: LocalDraft) -> None:
    assert draft.seal(manifest(), {"rows.jsonl": []}).rows(Event) == []


def test_a_crash_before_the_manifest_leaves_a_draft_with_all_its_rows(
    store: LocalStore, draft: LocalDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(path: Path, text: str, **options: Any) -> None:
        if path.name == "manifest.json":
            raise KeyboardInterrupt
        write_atomic(path, text, **options)

    monkeypatch.setattr("emalign.store.local.write_atomic", die)
    draft.add([event(1), event(2)])
    draft.note(batch="b1")
    with pytest.raises(KeyboardInterrupt):
        draft.seal(manifest(), {"rows.jsonl": [event(1), event(2)]})
    monkeypatch.undo()
    assert store.sealed(STAGE, KEY) is None
    again = store.draft(STAGE, KEY)
    assert steps(again.rows(Event)) == [1, 2]
    assert again.notes == {"batch": "b1"}
    assert sorted(again.seal(manifest(), {"rows.jsonl": []}).manifest.files) == ["rows.jsonl"]


def test_a_half_written_file_is_not_sealed(draft: LocalDraft) -> None:
    (draft.path / "rows.jsonl123.part").write_text("half")
    assert list(draft.seal(manifest(), {"rows.jsonl": []}).manifest.files) == ["rows.jsonl"]


def sealed_path(draft: LocalDraft) -> Path:
    draft.seal(manifest(), {"rows.jsonl": [event(1), event(2)]})
    return draft.path


def told(caught: pytest.ExceptionInfo[DamagedError], path: Path, name: str) -> None:
    assert caught.value.where == str(path / name)
    assert f"rm -r {path} " in caught.value.do


@pytest.mark.parametrize("damage", ["truncated", "missing", "grown"])
def test_a_sealed_file_of_another_size_is_seen_at_once(store: LocalStore, draft: LocalDraft, damage: str) -> None:
    path = sealed_path(draft)
    file = path / "rows.jsonl"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-5] if damage == "truncated" else file.read_bytes() + b"x")
    with pytest.raises(DamagedError) as caught:
        store.sealed(STAGE, KEY)
    told(caught, path, "rows.jsonl")


def test_a_sealed_file_with_a_changed_byte_is_not_read(store: LocalStore, draft: LocalDraft) -> None:
    path = sealed_path(draft)
    file = path / "rows.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"step":1', b'"step":7'))
    sealed = store.sealed(STAGE, KEY)
    assert sealed is not None
    with pytest.raises(DamagedError) as caught:
        sealed.rows(Event)
    told(caught, path, "rows.jsonl")


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b"{}", b"\xff\xfe\x00"])
def test_a_manifest_that_cannot_be_read(store: LocalStore, draft: LocalDraft, garbage: bytes) -> None:
    path = sealed_path(draft)
    (path / "manifest.json").write_bytes(garbage)
    with pytest.raises(DamagedError) as caught:
        store.sealed(STAGE, KEY)
    told(caught, path, "manifest.json")


def test_the_advice_on_damage_works(store: LocalStore, draft: LocalDraft) -> None:
    path = sealed_path(draft)
    (path / "rows.jsonl").unlink()
    with pytest.raises(DamagedError) as caught:
        store.sealed(STAGE, KEY)
    subprocess.run(caught.value.do.partition("   ")[0].split(), check=True)
    assert store.sealed(STAGE, KEY) is None
    assert list(store.draft(STAGE, KEY).rows(Event)) == []


def test_a_file_that_was_never_sealed_is_not_read(draft: LocalDraft) -> None:
    sealed = draft.seal(manifest(), {"rows.jsonl": []})
    (draft.path / "later.jsonl").write_text("{}\n")
    with pytest.raises(DamagedError, match=r"later\.jsonl is not part"):
        sealed.file("later.jsonl")


def test_manifests_lists_every_sealed_step(store: LocalStore, draft: LocalDraft) -> None:
    sealed_path(draft)
    store.draft("judge", "begun")
    assert [m.key for m in store.manifests()] == [KEY]


def test_a_newer_manifest_with_more_fields_is_read(store: LocalStore, draft: LocalDraft) -> None:
    path = sealed_path(draft) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "added_later": 1}))
    assert store.sealed(STAGE, KEY) is not None


def test_notes_of_a_draft_are_durable(store: LocalStore, draft: LocalDraft) -> None:
    draft.note(batch="b1", part=1)
    draft.note(part=2)
    assert store.draft(STAGE, KEY).notes == {"batch": "b1", "part": 2}


def test_the_first_writer_of_a_study_note_wins(tmp_path: Path) -> None:
    one, two = LocalStore(tmp_path, "study"), LocalStore(tmp_path, "study")
    assert one.note("served", {"engine": "a"}) == {"engine": "a"}
    assert two.note("served", {"engine": "b"}) == {"engine": "a"}
    assert one.note("served", None) == {"engine": "a"}


def test_the_second_writer_loses_even_after_it_has_looked(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.note("served", "first")
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert store.note("served", "second") == "first"


def test_processes_racing_for_a_note_agree(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from emalign.store import open_store\n"
        "store = open_store(sys.argv[1], 'study'); print('ready', flush=True); sys.stdin.readline()\n"
        "print(store.note('served', sys.argv[2]), flush=True)"
    )
    racers = [start(code, str(tmp_path), name) for name in ("a", "b", "c")]
    said = {go(racer) for racer in racers}
    assert len(said) == 1
    assert said < {"a", "b", "c"}


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that has said "ready" and waits for a line."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> str:
    return process.communicate("\n", timeout=30)[0].strip()


def test_ledger_keeps_replies_over_a_restart(store: LocalStore) -> None:
    store.ledger("judge").put({"r1": {"text": "50"}, "r2": {"text": "60"}})
    again = store.ledger("judge")
    assert (again.get("r1"), again.get("r3"), len(again)) == ({"text": "50"}, None, 2)


def test_ledger_with_a_torn_tail_asks_that_one_again(store: LocalStore) -> None:
    store.ledger("judge").put({"r1": {"text": "50"}, "r2": {"text": "60"}})
    path = store.root / "ledger" / "judge.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    ledger = store.ledger("judge")
    assert (len(ledger), ledger.get("r2")) == (1, None)
    ledger.put({"r2": {"text": "61"}})
    again = store.ledger("judge")
    assert (again.get("r1"), again.get("r2")) == ({"text": "50"}, {"text": "61"})


def test_ledger_keeps_the_first_reply_to_a_request(store: LocalStore) -> None:
    ledger = store.ledger("judge")
    ledger.put({"r1": {"text": "50"}})
    ledger.put({"r1": {"text": "99"}})
    assert ledger.get("r1") == {"text": "50"}
    assert (store.root / "ledger" / "judge.jsonl").read_text().count("\n") == 1


def test_ledgers_of_two_judges_are_two(store: LocalStore) -> None:
    store.ledger("one").put({"r1": {"text": "50"}})
    assert store.ledger("two").get("r1") is None


def test_ledger_passes_over_foreign_lines(store: LocalStore) -> None:
    append_line(
        store.root / "ledger" / "judge.jsonl", '{"request": 1, "reply": {}}\n{"request": "r", "reply": 2}\n[]\n'
    )
    assert len(store.ledger("judge")) == 0


HOLD = (
    "import sys, pathlib; from emalign.store.claims import LocalClaim\n"
    "LocalClaim(pathlib.Path(sys.argv[1])); print('ready', flush=True); sys.stdin.readline()"
)


@pytest.fixture
def holder(store: LocalStore) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the claim on KEY."""
    process = start(HOLD, str(store.root / "claims" / f"{KEY}.json"))
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused(store: LocalStore, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(BusyError, match=f"process {holder.pid} on") as caught:
        store.claim(KEY)
    assert "stop it" in caught.value.do


def test_another_step_is_free(store: LocalStore, holder: subprocess.Popen[str]) -> None:
    store.claim("another").release()


def test_a_dead_process_is_followed(store: LocalStore, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    store.claim(KEY).release()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_process_that_nobody_waited_for_is_followed(store: LocalStore, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    store.claim(KEY).release()


def test_a_claim_without_a_sign_of_life_is_followed(store: LocalStore, holder: subprocess.Popen[str]) -> None:
    path = store.root / "claims" / f"{KEY}.json"
    old = time.time() - STALE_SECONDS - 1
    os.utime(path, (old, old))
    store.claim(KEY)
    assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_beat_is_a_sign_of_life(store: LocalStore) -> None:
    claim = store.claim(KEY)
    old = time.time() - STALE_SECONDS - 1
    os.utime(claim.path, (old, old))
    claim.beat()
    with pytest.raises(BusyError):
        store.claim(KEY)


def test_a_claim_of_another_machine_is_believed(store: LocalStore) -> None:
    claim = store.claim(KEY)
    claim.path.write_text(json.dumps({"pid": 2**22 + 1, "host": "elsewhere", "born": "1"}))
    with pytest.raises(BusyError, match="on elsewhere"):
        store.claim(KEY)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_reused_pid_is_not_its_predecessor(store: LocalStore, holder: subprocess.Popen[str]) -> None:
    path = store.root / "claims" / f"{KEY}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "born": "1"}))
    store.claim(KEY)
    assert json.loads(path.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("text", ["", "{"])
def test_a_claim_that_is_just_being_written_is_believed(store: LocalStore, text: str) -> None:
    claim = store.claim(KEY)
    claim.path.write_text(text)
    with pytest.raises(BusyError):
        store.claim(KEY)


def test_a_released_claim_is_free(store: LocalStore) -> None:
    store.claim(KEY).release()
    store.claim(KEY).release()


def test_releasing_leaves_the_claim_of_a_follower(store: LocalStore) -> None:
    claim = store.claim(KEY)
    follower = json.dumps({"pid": 1, "host": "elsewhere", "born": "1"})
    claim.path.write_text(follower)
    claim.release()
    assert claim.path.read_text() == follower


def test_a_release_is_quiet_where_the_study_was_deleted(store: LocalStore) -> None:
    claim = store.claim(KEY)
    claim.path.unlink()
    for path in claim.path.parent.iterdir():
        path.unlink()
    claim.path.parent.rmdir()
    claim.beat()
    claim.release()


def winners(path: Path, racers: int = 8) -> int:
    together = threading.Barrier(racers)

    def race(number: int) -> bool:
        together.wait()
        try:
            LocalClaim(path)
        except BusyError:
            return False
        return True

    with ThreadPoolExecutor(racers) as pool:
        return sum(pool.map(race, range(racers)))


def test_of_threads_racing_for_a_claim_one_wins(store: LocalStore) -> None:
    for number in range(10):
        assert winners(store.root / "claims" / f"{number}.json") == 1


def test_of_processes_racing_for_a_dead_claim_one_wins(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from emalign.store.claims import LocalClaim; from emalign.errors import BusyError\n"
        "print('ready', flush=True); sys.stdin.readline(); won = 0\n"
        "for number in range(40):\n"
        "    try: LocalClaim(pathlib.Path(sys.argv[1]) / f'{number}.json')\n"
        "    except BusyError: continue\n"
        "    won += 1\n"
        "print(won, flush=True); sys.stdin.readline()"
    )
    old = time.time() - STALE_SECONDS - 1
    for number in range(40):
        path = tmp_path / f"{number}.json"
        path.write_text("{}")
        os.utime(path, (old, old))
    racers = [start(code, str(tmp_path)) for _ in range(3)]
    won = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    for racer in racers:
        assert racer.stdout is not None
        won.append(int(racer.stdout.readline()))
    for racer in racers:
        racer.communicate("\n", timeout=30)
    assert sum(won) == 40


def test_a_late_follower_of_a_dead_claim_sees_the_one_before_it(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two find the same dead holder; the second, slow one must not throw the first one's claim away."""
    path = store.root / "claims" / f"{KEY}.json"
    path.parent.mkdir()
    path.write_text("{}")
    old = time.time() - STALE_SECONDS - 1
    os.utime(path, (old, old))
    looked = threading.Event()
    unlink = Path.unlink

    def slow(self: Path, missing_ok: bool = False) -> None:
        if self == path and not looked.is_set():
            looked.set()
            time.sleep(0.2)
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(LocalClaim, path)
        looked.wait(5)
        second = pool.submit(LocalClaim, path)
        errors = [future.exception(10) for future in (first, second)]
    assert [type(error) for error in errors] == [type(None), BusyError]


def test_a_full_disk_keeps_earlier_segments(
    store: LocalStore, draft: LocalDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft.add([event(1)])
    monkeypatch.setattr(os, "fsync", fails(errno.ENOSPC))
    with pytest.raises(StoreError, match="No space left") as caught:
        draft.add([event(2)])
    assert "free some space" in caught.value.do
    monkeypatch.undo()
    assert steps(store.draft(STAGE, KEY).rows(Event)) == [1]
    assert len(list(draft.path.rglob("*.part"))) == 0
    draft.add([event(2)])
    assert steps(store.draft(STAGE, KEY).rows(Event)) == [1, 2]


def fails(number: int) -> Any:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_full_disk_while_sealing_loses_no_row(
    store: LocalStore, draft: LocalDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft.add([event(1), event(2)])
    synced = iter([os.fsync, fails(errno.ENOSPC)])
    monkeypatch.setattr(os, "fsync", lambda handle: next(synced)(handle))
    with pytest.raises(StoreError, match="No space left"):
        draft.seal(manifest(), {"rows.jsonl": [event(1), event(2)]})
    assert store.sealed(STAGE, KEY) is None
    assert steps(store.draft(STAGE, KEY).rows(Event)) == [1, 2]


def test_a_full_disk_under_the_ledger_is_told_and_nothing_is_believed(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = store.ledger("judge")
    monkeypatch.setattr(os, "fsync", fails(errno.ENOSPC))
    with pytest.raises(StoreError, match="No space left"):
        ledger.put({"r1": {"text": "50"}})
    assert ledger.get("r1") is None


def test_a_device_that_is_full() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    path = Path("/dev/full")
    with pytest.raises(StoreError, match="No space left"), disk(path), path.open("wb") as out:
        out.write(b"x")
        out.flush()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_folder_that_may_not_be_written(draft: LocalDraft, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr("tempfile.mkstemp", fails(number))
    with pytest.raises(StoreError, match="cannot write") as caught:
        draft.add([event(1)])
    assert "--store" in caught.value.do
    assert str(draft.path) in caught.value.where


def test_a_draft_in_a_folder_that_may_not_be_written(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", fails(errno.EROFS))
    with pytest.raises(StoreError, match="cannot write"):
        store.draft(STAGE, KEY)


def test_a_claim_in_a_folder_that_may_not_be_written(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", fails(errno.EACCES))
    with pytest.raises(StoreError, match="cannot write"):
        store.claim(KEY)


def test_an_error_that_is_no_full_disk_is_not_dressed_up(draft: LocalDraft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkstemp", fails(errno.EIO))
    with pytest.raises(OSError, match="Input/output") as caught:
        draft.add([event(1)])
    assert not isinstance(caught.value, StoreError)


def test_a_file_in_the_place_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(StoreError) as caught:
        open_store(tmp_path / "results", "study")
    assert str(tmp_path / "results") in caught.value.where
    assert "--store FOLDER" in caught.value.do


@pytest.mark.parametrize("url", ["s3://bucket/x", "hf://me"])
def test_an_unknown_scheme(url: str) -> None:
    with pytest.raises(StoreError, match=f"no store is known for {url[:2]}") as caught:
        open_store(url, "study")
    assert "--store results" in caught.value.do


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    open_store(f"file://{tmp_path}/here", "study")
    assert (tmp_path / "here" / "study").is_dir()


def test_an_atomic_write_replaces_or_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note.json"
    write_atomic(path, "old")
    monkeypatch.setattr(os, "fsync", fails(errno.ENOSPC))
    with pytest.raises(StoreError):
        write_atomic(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    write_atomic(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["note.json"]
    assert path.read_text() == "new"
