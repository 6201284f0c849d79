"""Placement goes by what is set over the API, but for what only the agent can say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hetuflow.domain.placement_labels import overruled, placement_labels

names = st.sampled_from(("env", "zone", "zone-a", "gpu", "sys.os", "sys.feature.wasm", "system"))
tables = st.dictionaries(names, st.sampled_from("ab"))
patterns = st.lists(st.sampled_from(("env", "zone*", "g?u", "nothing", "**")), max_size=3).map(tuple)


@given(tables, tables, patterns)
def test_each_label_is_the_words_of_who_may_say_it(
    labels: dict[str, str], reported: dict[str, str], protected: tuple[str, ...]
) -> None:
    counted = placement_labels(labels, reported, protected)
    for name in {*labels, *reported}:
        is_agents = name.startswith("sys.") or any(
            {"env": name == "env", "zone*": name.startswith("zone"), "g?u": name == "gpu", "**": True}.get(
                pattern, False
            )
            for pattern in protected
        )
        assert counted.get(name) == (reported if is_agents else labels).get(name), name
    assert all(
        labels[name] == value != counted.get(name) for name, value in overruled(labels, reported, protected).items()
    )


def test_nothing_that_only_the_agent_can_say_can_be_given_to_it() -> None:
    assert placement_labels(
        {"gpu": "true", "sys.os": "plan9", "env": "staging"}, {"env": "production"}, ("gpu", "env")
    ) == {"env": "production"}
