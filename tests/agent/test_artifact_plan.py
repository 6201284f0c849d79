"""What is kept of a directory, and what is said of the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import artifact_plan
from agent.artifact_plan import FILE_BYTES_MAX, FILES_BYTES_MAX, FILES_MAX, LISTING_BYTES_MAX, plan
from agent.instance_tree import Found
from hetuflow.protocol.messages import ArtifactWanted


def found(*paths: str, size: int = 1) -> list[Found]:
    return [Found(path=path, size=size) for path in sorted(paths)]


def wanted(*globs: str, bytes_max: int = 0, optional: bool = False) -> list[ArtifactWanted]:
    return [ArtifactWanted(glob=glob, bytes_max=bytes_max, optional=optional) for glob in globs]


FILES = found("a.csv", "b.csv", "out/c.csv", "out/deep/d.csv", "out/deep/e.txt", "outer")


@pytest.mark.parametrize(
    ("glob", "paths"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("**.csv", ["a.csv", "b.csv", "out/c.csv", "out/deep/d.csv"]),
        ("out/*", ["out/c.csv"]),
        ("out/**", ["out/c.csv", "out/deep/d.csv", "out/deep/e.txt"]),
        ("out", ["out/c.csv", "out/deep/d.csv", "out/deep/e.txt"]),
        ("out/deep", ["out/deep/d.csv", "out/deep/e.txt"]),
        ("a.csv", ["a.csv"]),
        ("?.csv", ["a.csv", "b.csv"]),
    ],
)
def test_what_a_glob_fits(glob: str, paths: list[str]) -> None:
    planned = plan(FILES, wanted(glob))
    assert planned.chosen == paths and planned.problems == [] and planned.failure is None


def test_a_file_is_kept_once_and_counts_for_the_first_glob_that_fits() -> None:
    planned = plan(found("a", size=10), [*wanted("a", bytes_max=5, optional=True), *wanted("*")])
    assert planned.chosen == [] and planned.failure is None
    assert [each.text for each in planned.problems] == ["has 10 bytes, at most 5 are kept"]


def test_nothing_fits() -> None:
    planned = plan([], [*wanted("out/*.csv"), *wanted("*.log", optional=True)])
    assert planned.failure == "artifacts: out/*.csv: no file fits"
    assert [(each.path, each.is_fatal) for each in planned.problems] == [("out/*.csv", True), ("*.log", False)]


def test_what_is_no_file_is_named_and_fits_nothing() -> None:
    files = [Found(path="a", size=0, problem="is a link, and links are not followed"), *found("b")]
    assert plan(files, wanted("*")).failure is None
    assert plan(files, wanted("*")).chosen == ["b"]
    planned = plan(files, wanted("a"))
    assert planned.failure == "artifacts: a: no file fits"
    assert [each.text for each in planned.problems] == ["no file fits", "is a link, and links are not followed"]


def test_sizes() -> None:
    too_large = plan(found("a", size=FILE_BYTES_MAX + 1), wanted("a"))
    assert f"at most {FILE_BYTES_MAX} are kept" in str(too_large.failure)
    assert plan(found("a", size=FILE_BYTES_MAX + 1), wanted("a", bytes_max=2 * FILE_BYTES_MAX)).failure is None
    many = plan(found(*"abcde", size=FILE_BYTES_MAX), wanted("*"))
    assert many.chosen == ["a", "b", "c", "d"] and FILES_BYTES_MAX == 4 * FILE_BYTES_MAX
    assert "0 are left of the" in str(many.failure)


def test_more_files_than_a_report_can_name_are_counted() -> None:
    files = found(*(f"{number:04}" for number in range(FILES_MAX + 5)))
    planned = plan(files, wanted("*"))
    assert planned.chosen == [file.path for file in files[: len(planned.chosen)]]
    assert f"{len(files) - len(planned.chosen)} more are not kept" in str(planned.failure)
    assert plan(files, wanted("*", optional=True)).failure is None


@given(
    st.lists(st.text("ab/*?é", min_size=1, max_size=300), unique=True, max_size=30),
    st.lists(st.sampled_from(["*", "**", "a*", "a"]), max_size=4),
    st.integers(0, 2**31),
)
def test_no_plan_is_larger_than_its_bounds(paths: list[str], globs: list[str], size: int) -> None:
    planned = plan(found(*paths, size=size), wanted(*globs))
    named = [*planned.chosen, *(each.path for each in planned.problems)]
    assert len(set(planned.chosen)) == len(planned.chosen) and set(planned.chosen) <= set(paths)
    assert sum(len(path.encode()) for path in named) <= LISTING_BYTES_MAX + 100
    assert size * len(planned.chosen) <= FILES_BYTES_MAX
    assert (planned.failure is None) == (not any(each.is_fatal for each in planned.problems))


def test_long_names_take_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact_plan, "LISTING_BYTES_MAX", 1000)
    monkeypatch.setattr(artifact_plan._Room, "__init__", _room_of(1000))
    planned = plan(found(*(letter * 300 for letter in "abcd")), wanted("*"))
    assert [path[0] for path in planned.chosen] == ["a", "b"]
    assert "2 more are not kept" in str(planned.failure)


def _room_of(listing_bytes: int):
    def init(self) -> None:
        self.entries, self.listing_bytes, self.bytes_left = FILES_MAX, listing_bytes, FILES_BYTES_MAX
        self.left_out, self.left_out_is_fatal = 0, False

    return init
