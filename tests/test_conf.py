from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from orchestrator import conf
from orchestrator.conf import settings
from orchestrator.exceptions import SettingsError


@override_settings(ORCHESTRATOR={})
def test_defaults_are_those_of_the_documentation() -> None:
    assert settings.database == "default"
    assert settings.heartbeat == timedelta(seconds=5)
    assert settings.lost_after == timedelta(seconds=30)
    assert settings.max_input_bytes == 1024 * 1024
    assert settings.execution_timeout is None


@override_settings(ORCHESTRATOR={"LOST_BUDGET": 7})
def test_settings_follow_override_settings() -> None:
    assert settings.lost_budget == 7
    with override_settings(ORCHESTRATOR={"LOST_BUDGET": 8}):
        assert settings.lost_budget == 8
    assert settings.lost_budget == 7


@override_settings()
def test_a_project_without_the_setting_gets_the_defaults() -> None:
    from django.conf import settings as django_settings

    del django_settings.ORCHESTRATOR
    assert conf.load() == conf.Settings()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"HEART_BEAT": 5}, ["'HEART_BEAT'", "did you mean 'HEARTBEAT'?"]),
        ({"heartbeat": timedelta(seconds=5)}, ["did you mean 'HEARTBEAT'?"]),
        ({"XYZ": 1}, ["'XYZ'", "DATABASE"]),
        ({"HEARTBEAT": 5}, ["'HEARTBEAT'", "timedelta"]),
        ({"LISTEN": 1}, ["'LISTEN'", "True or False"]),
        ({"LOST_BUDGET": True}, ["'LOST_BUDGET'", "whole number"]),
        ({"LOST_BUDGET": -1}, ["'LOST_BUDGET'", "negative"]),
        ({"PARTITION_BY": "week"}, ["'week'", "'month'"]),
        ({"POLL_INTERVAL": timedelta(0)}, ["'POLL_INTERVAL'", "more than zero"]),
        ({"EXECUTION_TIMEOUT": timedelta(0)}, ["'EXECUTION_TIMEOUT'"]),
        ({"MAX_NESTING": 0}, ["'MAX_NESTING'"]),
        ({"GRACE": timedelta(seconds=-1)}, ["'GRACE'"]),
        ({"LOST_AFTER": timedelta(seconds=6)}, ["'LOST_AFTER'", "HEARTBEAT"]),
        (["DATABASE"], ["dictionary"]),
    ],
)
def test_a_wrong_setting_is_named_with_the_next_step(options: Any, words: Any) -> None:
    with (
        override_settings(ORCHESTRATOR=options),
        pytest.raises(SettingsError) as raised,
    ):
        _ = settings.database
    for word in words:
        assert word in str(raised.value)


def test_every_wrong_setting_is_told_at_once() -> None:
    assert len(conf.problems({"A": 1, "B": 2, "HEARTBEAT": 5})) == 3


def test_loaded_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        conf.Settings().database = "other"  # type: ignore[misc]


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        _ = settings.no_such_setting  # type: ignore[attr-defined]
