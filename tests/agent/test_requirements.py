"""What an environment of Python may be made from, and under which key it is kept."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.executors.api import OptionProblem
from agent.executors.requirements import REQUIREMENTS_MAX, checked, key, python_options, read_requirements


@pytest.mark.parametrize(
    "line",
    [
        "requests",
        "requests==2.32.3",
        "Requests >= 2, < 3",
        "ruamel.yaml~=0.18",
        "uvicorn[standard]==0.30.*",
        "a [x, y] (>=1)",
        'tomli>=2; python_version < "3.11"',
        "package===1.0+local.1",
        "epoch==1!2.0",
        "name @ https://host.example/name-1.0-py3-none-any.whl",
        "name @ file:///opt/wheels/name-1.0-py3-none-any.whl#sha256=00ff ; sys_platform == 'linux'",
        "requests==2.32.3 --hash=sha256:00ff --hash=sha512:abcd",
    ],
)
def test_allowed(line: str) -> None:
    assert checked([line], "r") == (" ".join(line.split()),)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("--index-url https://evil.example", "is an option: where packages come from is the agent's to say"),
        ("-r other.txt", "is an option"),
        ("-e .", "is an option"),
        ("requests\n--index-url https://evil.example", "is no requirement"),
        ("requests --index-url https://evil.example", "is no requirement"),
        ('requests; python_version > "3" --global-option=x', "is no requirement"),
        ("requests --hash=md5:00", "is no requirement"),
        (".", "is no requirement"),
        ("./package", "is no requirement"),
        ("/opt/package.whl", "is no requirement"),
        ("https://host.example/name-1.0.tar.gz", "is no requirement"),
        ("git+https://host.example/name", "is no requirement"),
        ("name @ git+https://host.example/name", "is no address of a wheel"),
        ("name @ https://host.example/name-1.0.tar.gz", "is no address of a wheel"),
        ("name @ https://host.example/x.tar.gz?.whl", "is no address of a wheel"),
        ("name @ https://host.example/x.tar.gz#.whl", "is no address of a wheel"),
        ("name @ /opt/name.whl", "is no address of a wheel"),
        ("x" * 2001, "is longer than 2000 characters"),
        ("a==1\0", "is no requirement"),
    ],
)
def test_refused(line: str, why: str) -> None:
    with pytest.raises(OptionProblem, match=re.escape(f"r[1]: {' '.join(line.split())[:200]!r} {why}")):
        checked(["fine", line], "r")


@pytest.mark.timeout(20)
@given(
    st.text(alphabet="a1.-_ =<>,;@[]()!~*#\t\n:/'\\\0", max_size=2000)
    | st.builds(lambda a, n: a * n, st.text(), st.integers(0, 999))
)
def test_no_line_takes_long_or_brings_an_option(line: str) -> None:
    try:
        (plain,) = checked([line], "r")
    except OptionProblem:
        return
    assert "\n" not in plain and not plain.startswith("-") and " -" not in re.sub(r" --hash[= ]sha", "", plain)


def test_a_file_is_read_as_pip_reads_it() -> None:
    text = "# ours\n\nrequests==2.32.3 \\\n    --hash=sha256:00ff  # pinned\nrich>=13 # for tables\r\nname @ file:///x-1-py3-none-any.whl#sha256=00\n"
    assert read_requirements(text, "f") == (
        "requests==2.32.3 --hash=sha256:00ff",
        "rich>=13",
        "name @ file:///x-1-py3-none-any.whl#sha256=00",
    )


def test_a_line_of_a_file_is_named_by_its_number_and_never_quoted() -> None:
    """An agent that runs as root reads what the author of the job may not."""
    with pytest.raises(OptionProblem) as caught:
        read_requirements("a\nb \\\n ==1\nroot:$6$secret:19000::\n", "python.requirements_file (/etc/shadow)")
    assert str(caught.value).startswith("python.requirements_file (/etc/shadow): line 4 is no requirement such as")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"requirments": []}, "python.requirments is not known; the nearest known one is 'requirements'"),
        ({"index_url": "x"}, "python.index_url is not known; known are requirements, requirements_file, venv, version"),
        ({"requirements": "requests"}, "python.requirements must be an array, got 'requests'"),
        ({"requirements": ["a", 1]}, "python.requirements[1] must be a string, got 1"),
        ({"requirements": ["a", "-e ."]}, "python.requirements[1]: '-e .' is an option: "),
        ({"requirements": ["a"] * (REQUIREMENTS_MAX + 1)}, f"allowed are {REQUIREMENTS_MAX}"),
        (
            {"requirements": [], "requirements_file": "r"},
            "give one of python.requirements and python.requirements_file",
        ),
        ({"venv": "/v", "version": "3"}, "python.venv is an environment as it is: leave out python.version"),
        ({"venv": "v"}, "python.venv must be an absolute path on the agent, got 'v'"),
        ({"version": 3.1}, "python.version must be a string, got 3.1"),
        ({"version": "2.7"}, "python.version must look like 3 or 3.12, got '2.7'"),
        ({"version": "3.12; rm"}, "python.version must look like 3 or 3.12"),
    ],
)
def test_options_name_what_is_wrong_with_them(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionProblem, match=re.escape(message)):
        python_options(given)


def test_null_is_not_given() -> None:
    assert python_options({"venv": None, "requirements": ["a"]}).requirements == ("a",)


def test_the_key_is_of_what_is_wanted_not_of_how_it_is_written() -> None:
    assert key("3.11", ["a", "b"]) == key("3.11", ["b", "a", "a"])
    assert len({key("3.11", ["a"]), key("3.12", ["a"]), key("3.11", ["a==1"]), key("3.11", [])}) == 4
