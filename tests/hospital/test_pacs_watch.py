"""A PACS under watch: what has come whole and is of a kind that the rules name is stained, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bundle.common.errors import InputError
from bundle.common.folder_lock import held
from bundle.hospital.pacs.rules import read_rules
from bundle.hospital.pacs.series import Series
from bundle.hospital.pacs.watch import Watch
from tests.conftest import ROOT
from tests.hospital.orthanc import Orthanc
from tests.hospital.pacs_parts import (
    SECRETS,
    SERIES,
    STUDY,
    audit_of,
    command,
    desk,
    fake_stain,
    make_ct,
    only,
)
from tests.hospital.poor_web import Fault, PoorWeb

pytestmark = pytest.mark.usefixtures("credentials")
LEVELS = {"bone_intensity": 30000, "background_intensity": 10000}
BONE = {"match": {"Modality": "CT", "SeriesDescription": "bone*"}, **LEVELS}


class Clock:
    """A time that passes when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def rules_file(folder: Path, *rules: dict) -> Path:
    path = folder / "rules.json"
    path.write_text(json.dumps(rules or [BONE]))
    return path


def watch_of(address: str, bundle: Path, folder: Path, clock: Clock, *rules: dict, **changes) -> Watch:
    there = desk(address, folder / "work", **changes)
    return Watch(there, read_rules(rules_file(folder, *rules)), bundle, every_s=10, stable_s=30, days=None, now=clock)


def test_a_series_is_stained_when_nothing_more_has_come_for_a_while_and_then_left_alone(orthanc, bundle, tmp_path):
    clock = Clock()
    watch = watch_of(orthanc.web, bundle, tmp_path, clock)
    files = make_ct(tmp_path / "ct")
    orthanc.upload(*files[:5])
    assert watch.run(once=True) == 0
    clock.now += 29
    watch.run(once=True)
    orthanc.upload(*files[5:])
    clock.now += 2  # long enough for five, but there are eight now
    watch.run(once=True)
    assert len(orthanc.get("/series")) == 1
    clock.now += 31
    # another process, as from cron: what is known is in files
    assert watch_of(orthanc.web, bundle, tmp_path, clock).run(once=True) == 0
    only(orthanc)
    before = audit_of(tmp_path / "work")
    clock.now += 1000
    watch.run(once=True)
    assert audit_of(tmp_path / "work") == before


def test_more_slices_later_make_a_new_result(orthanc, bundle, tmp_path):
    clock = Clock()
    watch = watch_of(orthanc.web, bundle, tmp_path, clock)
    for slices, results in ((6, 1), (8, 2)):
        orthanc.upload(*make_ct(tmp_path / str(slices), slices=slices))
        watch.run(once=True)
        clock.now += 31
        watch.run(once=True)
        assert len(orthanc.get("/series")) == 1 + results


def test_a_series_that_fails_is_tried_later_and_does_not_stop_the_others(orthanc, bundle, tmp_path, capsys):
    clock = Clock()
    files = make_ct(tmp_path / "broken", SERIES + ".1")
    orthanc.upload(*files[:3], *files[4:])
    orthanc.upload(*make_ct(tmp_path / "whole", SERIES + ".2"))
    watch = watch_of(orthanc.web, bundle, tmp_path, clock)
    watch.run(once=True)
    clock.now += 31
    assert watch.run(once=True) == 1
    assert len(orthanc.get("/series")) == 3
    err = capsys.readouterr().err
    assert f"series {SERIES}.1" in err
    assert "lacks 1 slice" in err
    states = [json.loads(path.read_text()) for path in (tmp_path / "work" / "watch").iterdir()]
    assert sorted(each["state"] for each in states) == ["done", "failed"]
    clock.now += 1
    assert watch.run(once=True) == 1  # not tried: it is too early
    assert "Not again for" in capsys.readouterr().err  # and why it failed, for who looks at this run alone
    clock.now += 21
    watch.run(once=True)
    assert "lacks" in capsys.readouterr().err
    orthanc.upload(files[3])
    watch.run(once=True)
    clock.now += 31
    assert watch.run(once=True) == 0
    assert len(orthanc.get("/series")) == 4


def test_two_watchers_do_not_do_the_same(orthanc, bundle, tmp_path):
    orthanc.upload(*make_ct(tmp_path / "ct"))
    began, go_on, clock, stained = threading.Event(), threading.Event(), Clock(), []

    def slow(*given):
        stained.append(1)
        began.set()
        assert go_on.wait(60)
        return fake_stain(*given)

    one, other = (watch_of(orthanc.web, bundle, tmp_path, clock, stain=slow) for _ in range(2))
    one.run(once=True)
    clock.now += 31
    thread = threading.Thread(target=one.run, args=(True,), daemon=True)
    thread.start()
    assert began.wait(60)
    assert other.run(once=True) == 0
    go_on.set()
    thread.join()
    other.run(once=True)
    assert stained == [1]


def test_a_pacs_that_is_down_for_a_while_is_waited_for(orthanc, bundle, tmp_path, capsys):
    orthanc.upload(*make_ct(tmp_path / "ct"))
    with PoorWeb(orthanc.http, faults=[Fault("GET", "/studies", status=503, times=4)]) as poor:
        watch = watch_of(poor.web, bundle, tmp_path, Clock())
        watch.every_s = watch.stable_s = 0.05
        watch.now = time.time
        thread = threading.Thread(target=watch.run, daemon=True)
        thread.start()
        end = time.monotonic() + 60
        while not (tmp_path / "work" / "audit.jsonl").exists() or not any(
            action == "stored" for action, _ in audit_of(tmp_path / "work")
        ):
            assert time.monotonic() < end
            time.sleep(0.05)
        watch.over.set()
        thread.join(60)
        assert not thread.is_alive()
    assert "Looking again in" in capsys.readouterr().err


def test_wrong_credentials_end_it_at_once(orthanc, bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VIRTUAL_STAINING_PACS_PASSWORD", "wrong")
    words = ("watch", "--pacs", orthanc.web, "--bundle", bundle, "--rules", rules_file(tmp_path), "--work", tmp_path)
    code, _, err = command(capsys, monkeypatch, *words)
    assert code == 1
    assert "does not accept the credentials" in err


def test_sigterm_ends_it_after_the_object_in_hand(orthanc, bundle, tmp_path):
    orthanc.upload(*make_ct(tmp_path / "ct"))
    rules = rules_file(tmp_path, {**BONE, "frames": "single"})
    words = [sys.executable, "-m", "scripts.pacs", "watch", "--pacs", "{}", "--bundle", str(bundle)]
    words += ["--rules", str(rules), "--work", str(tmp_path / "work"), "--days", "all", "--stable", "0"]
    with PoorWeb(orthanc.http, faults=[Fault("GET", "/instances/", wait_s=0.3)]) as poor:
        words[5] = poor.web
        watcher = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, **SECRETS})
        end = time.monotonic() + 120
        while sum("/instances/" in path for _, path in poor.seen) < 3 and watcher.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.02)
        watcher.send_signal(signal.SIGTERM)
        err = watcher.communicate(timeout=60)[1]
    assert watcher.returncode == 0, err
    assert "what was begun goes on at the next start" in err
    fetched = [action for action, _ in audit_of(tmp_path / "work")]
    assert fetched == ["fetched"] * 3
    assert len(list((tmp_path / "work").glob("*/source/*.dcm"))) == 3
    (lock,) = (tmp_path / "work").glob("*/.lock")
    with held(lock.parent, "it is held by"):  # for the next
        pass


def test_our_own_results_match_no_rule(orthanc, bundle, tmp_path):
    clock = Clock()
    orthanc.upload(*make_ct(tmp_path / "ct"))
    watch = watch_of(orthanc.web, bundle, tmp_path, clock, {"match": {"SeriesDescription": "*"}, **LEVELS})
    for _ in range(4):
        watch.run(once=True)
        clock.now += 100
    only(orthanc)


SERIES_LIKE = Series(STUDY, SERIES, "CT", "Bone 5 um", "HAND", "implants", "20260102", "7", 8)


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        ({"Modality": "CT"}, True),
        ({"Modality": "C"}, False),
        ({"SeriesDescription": "bone*"}, True),
        ({"SeriesDescription": {"regex": "bone [0-9] um"}}, True),
        ({"SeriesDescription": {"regex": "bone"}}, False),
        ({"BodyPartExamined": "hand", "StudyDescription": "imp*"}, True),
        ({"BodyPartExamined": "hand", "StudyDescription": "x*"}, False),
        ({"min_instances": 9}, False),
        ({"Modality": "CT", "max_instances": 8}, True),
    ],
)
def test_a_rule_matches(tmp_path, match, matches):
    (rule,) = read_rules(rules_file(tmp_path, {"match": match, **LEVELS}))
    assert rule.matches(SERIES_LIKE) == matches


def test_a_rules_file_is_told_all_that_is_wrong_with_it(tmp_path):
    faulty = [
        {"match": {"Modalty": "CT"}, **LEVELS},
        {"match": {"SeriesDescription": {"regex": "("}}, "bone_intensity": 1},
        {**BONE, "sped": "fast", "speed": "faster"},
        {**LEVELS},
    ]
    with pytest.raises(InputError) as refusal:
        read_rules(rules_file(tmp_path, *faulty))
    lines = str(refusal.value).splitlines()
    assert len(lines) == 6
    for part in ("'Modalty'", "regex", "background_intensity", "'sped'", "'faster'", "match must say"):
        assert sum(part in line for line in lines) >= 1, part
    assert not any(Orthanc.password in line for line in lines)
