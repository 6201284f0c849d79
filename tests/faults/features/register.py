"""All features, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.faults.features import daemon, flow, limits, series, told
from tests.faults.features.feature import Feature

FAMILIES = (told, series, daemon, limits, flow)

FEATURES: Mapping[str, type[Feature]] = {feature.name: feature for family in FAMILIES for feature in family.FEATURES}
