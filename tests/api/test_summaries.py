"""Sentences for people: of every event that was ever released, and of what is easily said badly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hetuflow.api.summaries import SENTENCES, duration, summary
from hetuflow.domain.events import EVENT_TYPES
from tests.support.corpus import NAMES, corpus_of


def test_every_type_has_a_sentence() -> None:
    assert set(SENTENCES) == {kind.__name__ for kind in EVENT_TYPES}


@pytest.mark.parametrize("name", NAMES)
def test_every_released_event_reads_well(name: str) -> None:
    for recorded in corpus_of(name):
        sentence = summary(name, json.loads(recorded.data))
        assert sentence.endswith(".") and not sentence.endswith("..")
        assert sentence[0].isupper()
        for wrong in ("None", "none", "(unknown)", "{", "}", "?", "  ", "()", ": .", "T12:", "+00:00"):
            assert wrong not in sentence, sentence


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0001, "1 ms"),
        (0.001314, "1 ms"),
        (0.25, "250 ms"),
        (0.99949, "999 ms"),
        (0.9996, "1 s"),
        (1.34, "1.3 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (12_000, "3 h 20 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_durations_are_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


AT, LATER = "2026-01-31T08:00:00.123456Z", "2026-01-31T10:00:00+01:00"


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("JobDisabled", {"status": 99}, "The job was set to Disabled."),
        ("ScheduleDisabled", {"status": 98}, "The schedule was set to Expired."),
        ("ScheduleCreated", {"name": None, "next_run_at": None}, "The schedule was created; no run follows."),
        (
            "ScheduleCreated",
            {"name": "nightly", "next_run_at": LATER},
            "Schedule nightly was created; next run 2026-01-31 09:00:00 UTC.",
        ),
        (
            "ScheduleSkipped",
            {"count": 1, "first_nominal_at": AT, "last_nominal_at": AT, "reason": "edited"},
            "Skipped 2026-01-31 08:00:00 UTC: the schedule was given other times.",
        ),
        (
            "ScheduleSkipped",
            {"count": 3, "first_nominal_at": AT, "last_nominal_at": LATER, "reason": "misfire"},
            "Skipped 3 nominal times from 2026-01-31 08:00:00 UTC to 2026-01-31 09:00:00 UTC:"
            " found too late, as the misfire policy says.",
        ),
        (
            "TaskCreated",
            {"name": "x", "trigger": "run", "scheduled_at": AT, "created_at": AT},
            "Task x was created by a run of the job, to start at once.",
        ),
        (
            "TaskCreated",
            {"name": "x", "trigger": "api", "scheduled_at": LATER, "created_at": AT},
            "Task x was created over the API, to start at 2026-01-31 09:00:00 UTC.",
        ),
        ("TaskCancelled", {"cause": "user", "reason": None}, "The task was cancelled by a user."),
        ("TaskCancelled", {"cause": "cascade"}, "The task was cancelled with what it belongs to."),
        ("TaskCancelled", {"cause": "user", "reason": "too slow"}, "The task was cancelled by a user (too slow)."),
        (
            "InstanceSucceeded",
            {"attempt": 1, "agent_id": "a", "duration_seconds": 0.004765},
            "Attempt 1 succeeded on agent a after 5 ms.",
        ),
        (
            "InstanceFailed",
            {
                "attempt": 2,
                "agent_id": "a",
                "duration_seconds": 61,
                "reason": "exit_code",
                "error_message": "ended with exit code 3.",
            },
            "Attempt 2 failed on agent a after 1 min 1 s (exit code): ended with exit code 3.",
        ),
        (
            "TaskRequeued",
            {"agent_id": "a", "reason": "disk: 80 MB are free at /w, executor.disk_free_min is 5%"},
            "Agent a did not start it (disk: 80 MB are free at /w, executor.disk_free_min is 5%); it waits again.",
        ),
        ("InstanceCancelled", {"attempt": 1, "agent_id": None}, "Attempt 1 was cancelled before it was dispatched."),
        ("InstanceStarted", {"attempt": 1, "agent_id": "a", "pid": None}, "Attempt 1 started on agent a."),
        ("NeverHeardOf", {}, "NeverHeardOf"),
    ],
)
def test_sentences(name: str, data: dict[str, Any], sentence: str) -> None:
    assert summary(name, data) == sentence


@pytest.mark.parametrize("name", sorted(SENTENCES))
def test_no_data_make_it_fail(name: str) -> None:
    """History is shown whatever lies in it."""
    assert summary(name, {})
