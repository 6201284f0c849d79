"""What this agent's instances are prepared with, and what is collected of them: all steps and collectors, in their order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from agent.executors.step import EnvironmentRules, Executors
from agent.policy import Facts
from agent.preparation import Preparations
from agent.profile import Profile
from agent.settings import ExecutorSettings


def preparations_of(
    settings: ExecutorSettings, profile: Profile, base_environment: Mapping[str, str], facts: Facts
) -> Preparations:
    rules = EnvironmentRules(
        root=os.path.join(os.path.abspath(settings.environments_dir or _environments_dir()), profile.agent_id),
        kept_max=settings.environments_max,
        build_seconds_max=settings.environment_build_timeout,
    )
    executors = Executors(rules, base_environment, profile.policy, facts)
    return Preparations(steps=(executors.step,), cleaners=(executors.clean_up,))


def _environments_dir() -> Path:
    """The superuser's own cache is closed to every other user, and the tasks of its agent may be other users'."""
    cache = platformdirs.site_cache_path if os.geteuid() == 0 else platformdirs.user_cache_path
    return cache("hetuflow") / "environments"
