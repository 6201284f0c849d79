"""All features, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.faults.features import daemon, disconnect, flow, limits, series, told
from tests.faults.features.feature import Feature

FAMILIES = (told, series, daemon, limits, flow, disconnect)

SHORT = ("event", "file", "flow", "backfill", "key", "fixed delay", "daemon")
"""What `make test` tries: those that need no time of their own when the window is over."""

FEATURES: Mapping[str, type[Feature]] = {feature.name: feature for family in FAMILIES for feature in family.FEATURES}
