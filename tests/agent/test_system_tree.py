"""Files below a directory that a hostile program has had for itself: nothing outside is read, written or removed."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from pathlib import Path

import pytest

from agent import system_tree
from agent.instance_tree import TreeError
from agent.system_tree import SystemTree

TREE = SystemTree()
SECRET = "not yours"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    found = tmp_path / "outside"
    found.mkdir()
    (found / "secret").write_text(SECRET)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    found = tmp_path / "work" / "instance"
    found.mkdir(parents=True, mode=0o700)
    return found


def created(place: Path, path: str, content: bytes = b"x", mode: int = 0o600) -> None:
    new = TREE.create(str(place), path, mode, "")
    new.write(content)
    new.finish()


# --- files in ----------------------------------------------------------------------------------------------------------


def test_a_file_is_there_whole_with_its_mode_and_the_directories_above_it(place: Path) -> None:
    created(place, "a/b/run.sh", b"#!/bin/sh\n", 0o750)
    file = place / "a" / "b" / "run.sh"
    assert file.read_bytes() == b"#!/bin/sh\n" and stat.S_IMODE(file.stat().st_mode) == 0o750
    assert stat.S_IMODE((place / "a").stat().st_mode) == 0o700
    created(place, "a/b/run.sh", b"again")
    assert file.read_bytes() == b"again" and os.listdir(file.parent) == ["run.sh"]


def test_nobody_sees_a_file_that_is_not_finished(place: Path) -> None:
    new = TREE.create(str(place), "a", 0o600, "")
    new.write(b"half")
    assert not (place / "a").exists()
    new.discard()
    assert list(place.iterdir()) == []
    new.discard()


def test_what_an_earlier_life_left_unfinished_is_begun_again(place: Path) -> None:
    TREE.create(str(place), "a", 0o600, "").write(b"half")
    created(place, "a", b"whole")
    assert (place / "a").read_bytes() == b"whole" and os.listdir(place) == ["a"]


@pytest.mark.parametrize("path", ["link/secret", "link/new", "file/x", "dangling/x"])
def test_no_link_leads_out(place: Path, outside: Path, path: str) -> None:
    (place / "link").symlink_to(outside)
    (place / "dangling").symlink_to(outside / "missing")
    (place / "file").write_text("")
    with pytest.raises(TreeError):
        TREE.create(str(place), path, 0o600, "")
    assert os.listdir(outside) == ["secret"] and (outside / "secret").read_text() == SECRET


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(place: Path, outside: Path) -> None:
    (place / "a").symlink_to(outside / "secret")
    (place / f"a{system_tree._UNFINISHED}").symlink_to(outside / "secret")
    created(place, "a", b"mine")
    assert (place / "a").read_bytes() == b"mine" and not (place / "a").is_symlink()
    assert (outside / "secret").read_text() == SECRET


def test_an_instance_directory_that_is_a_link_is_refused(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "instance").symlink_to(outside)
    with pytest.raises(TreeError):
        TREE.create(str(tmp_path / "instance"), "x", 0o600, "")
    with pytest.raises(TreeError):
        TREE.give(str(tmp_path / "instance"), "")


def test_an_unknown_user(place: Path) -> None:
    with pytest.raises(TreeError, match="no user 'nobody-at-all'"):
        TREE.create(str(place), "x", 0o600, "nobody-at-all")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_another_user_owns_its_directory_and_files_and_can_reach_them(place: Path) -> None:
    new = TREE.create(str(place), "a/b", 0o640, "nobody")
    new.write(b"x")
    new.finish()
    TREE.give(str(place), "nobody")
    uids = {each.stat().st_uid for each in (place, place / "a", place / "a" / "b")}
    assert uids == {(place / "a").stat().st_uid} and 0 not in uids
    assert stat.S_IMODE(place.stat().st_mode) == 0o700  # nobody else's
    assert stat.S_IMODE(place.parent.stat().st_mode) & 0o011 == 0o011  # passed through, not looked into
    assert stat.S_IMODE(place.parent.stat().st_mode) & 0o066 == 0o044 & stat.S_IMODE(place.parent.stat().st_mode)


# --- files out ---------------------------------------------------------------------------------------------------------


async def test_files_are_found_by_path_and_what_is_none_is_named(
    place: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "b").mkdir()
    (place / "b" / "two").write_bytes(b"22")
    (place / "a").write_bytes(b"1")
    (place / "link").symlink_to(outside / "secret")
    (place / "way-out").symlink_to(outside)
    os.mkfifo(place / "pipe")
    with socket.socket(socket.AF_UNIX) as listener, monkeypatch.context() as elsewhere:
        elsewhere.chdir(place)
        listener.bind("socket")
    (place / os.fsdecode(b"\xff")).write_bytes(b"")
    found = await TREE.find(str(place), 100)
    assert {each.path: each.size for each in found if each.problem is None} == {"a": 1, "b/two": 2}
    assert {each.path: each.problem for each in found if each.problem is not None} == {
        "link": "is a link, and links are not followed",
        "way-out": "is a link, and links are not followed",
        "pipe": "is a pipe",
        "socket": "is a socket",
        "?": "its name is not UTF-8",
    }


async def test_there_may_be_too_many_or_too_deep_to_look_at(place: Path) -> None:
    for number in range(11):
        (place / str(number)).touch()
    with pytest.raises(TreeError, match="more than 10 files"):
        await TREE.find(str(place), 10)
    await TREE.remove(str(place))
    deep = place
    for _ in range(70):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (found,) = await TREE.find(str(place), 10)
    assert found.problem == "lies deeper than 64 directories"


async def test_a_file_is_moved_and_read_and_may_be_asked_for_again(place: Path, tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (place / "a").mkdir()
    (place / "a" / "b").write_bytes(data)
    target = tmp_path / "0"
    for _ in range(2):
        taken = await TREE.take(str(place), "a/b", str(target), "")
        assert (taken.size, taken.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert target.read_bytes() == data and not (place / "a" / "b").exists()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


async def test_a_file_with_a_second_name_is_copied(place: Path, tmp_path: Path) -> None:
    (place / "a").write_bytes(b"mine")
    os.link(place / "a", place / "b")
    await TREE.take(str(place), "a", str(tmp_path / "0"), "")
    (place / "b").write_bytes(b"changed")
    assert (tmp_path / "0").read_bytes() == b"mine" and (place / "a").exists()


@pytest.mark.parametrize("path", ["link", "way-out/secret", "pipe", "missing", "directory"])
async def test_nothing_but_a_regular_file_is_taken(place: Path, outside: Path, tmp_path: Path, path: str) -> None:
    (place / "link").symlink_to(outside / "secret")
    (place / "way-out").symlink_to(outside)
    (place / "directory").mkdir()
    os.mkfifo(place / "pipe")
    with pytest.raises(TreeError):
        await TREE.take(str(place), path, str(tmp_path / "0"), "")
    assert not (tmp_path / "0").exists() and (outside / "secret").read_text() == SECRET


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
async def test_another_users_file_under_a_second_name_is_not_taken(place: Path, outside: Path, tmp_path: Path) -> None:
    os.link(outside / "secret", place / "mine-now")
    with pytest.raises(TreeError, match="another user's file"):
        await TREE.take(str(place), "mine-now", str(tmp_path / "0"), "nobody")


async def test_a_name_that_is_exchanged_while_it_is_taken(
    place: Path, outside: Path, tmp_path: Path, monkeypatch
) -> None:
    """Between looking and moving the program puts a link there."""
    (place / "a").write_bytes(b"mine")
    rename = os.rename

    def exchange(source: str, target: str, **how: int) -> None:
        monkeypatch.setattr(os, "rename", rename)
        (place / "a").unlink()
        (place / "a").symlink_to(outside / "secret")
        rename(source, target, **how)

    before = stat.S_IMODE((outside / "secret").stat().st_mode)
    monkeypatch.setattr(os, "rename", exchange)
    with pytest.raises(TreeError, match="exchanged"):
        await TREE.take(str(place), "a", str(tmp_path / "0"), "")
    assert stat.S_IMODE((outside / "secret").stat().st_mode) == before and not (tmp_path / "0").exists()


# --- removing ----------------------------------------------------------------------------------------------------------


async def test_a_tree_is_removed_and_what_its_links_name_stays(place: Path, outside: Path) -> None:
    (place / "a" / "b" / "c").mkdir(parents=True)
    (place / "a" / "b" / "file").write_text("x")
    (place / "a" / "link").symlink_to(outside)
    (place / "a" / "b" / "secret").symlink_to(outside / "secret")
    await TREE.remove(str(place))
    assert os.listdir(place.parent) == [] and os.listdir(outside) == ["secret"]
    await TREE.remove(str(place))


async def test_a_link_and_a_file_are_removed_themselves(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "file").write_text("x")
    for name in ("link", "file"):
        await TREE.remove(str(tmp_path / name))
    assert sorted(os.listdir(tmp_path)) == ["outside"] and os.listdir(outside) == ["secret"]


async def test_no_depth_and_no_mode_keeps_a_tree_alive(place: Path, monkeypatch) -> None:
    """Deeper than Python recurses and than there are descriptors; directories that their owner has shut; a name in the way."""
    monkeypatch.setattr(system_tree, "REMOVED_PER_STEP", 100)
    fd = os.open(place, os.O_DIRECTORY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    for name in ("shut", "shut-too"):
        (place / name / "inside").mkdir(parents=True)
        (place / name / "inside" / "file").touch()
        (place / name / "inside").chmod(0)
        (place / name).chmod(0)
    (place / f".hetuflow-{(place / 'd' / 'd').stat().st_ino:x}-0").touch()
    os.chmod(place, 0)
    await TREE.remove(str(place))
    assert os.listdir(place.parent) == []


async def test_many_entries_are_removed_in_steps(place: Path, monkeypatch) -> None:
    monkeypatch.setattr(system_tree, "REMOVED_PER_STEP", 7)
    for number in range(20):
        (place / f"d{number}").mkdir()
        for inner in range(number):
            (place / f"d{number}" / str(inner)).touch()
    await TREE.remove(str(place))
    assert os.listdir(place.parent) == []
