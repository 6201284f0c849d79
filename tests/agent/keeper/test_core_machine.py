"""Whatever happens in whatever order: each launch that was taken has one end, told and recorded, and not before its tree
is gone."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.keeper.instance import KILL_SECONDS_MAX
from agent.keeper.log import read_log
from agent.keeper.messages import End, Finished, Grew, Held, Launched, Lease, Limits, Settled
from agent.keeper.outcome import LEFT
from agent.spool import FoundSpool
from tests.agent.keeper.world import FakeTree, World, launch

NAMES = st.sampled_from(["a", "b", "c"])
SECONDS = st.sampled_from([0.004, 0.3, 2.0, 5.5, 11.0, 40.0])
Key = tuple[str, int]


class KeeperMachine(RuleBasedStateMachine):
    """An agent that forgets nothing, a machine with programs of every kind, a disk, and kills of keeper and agent."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.incarnation = 1
        self.world.attach()
        self.is_attached = True
        self.launched: set[Key] = set()
        self.ends: dict[Key, Finished] = {}
        self.settled: set[Key] = set()
        self.sizes: dict[Key, int] = {}
        self.read = 0

    # --- the agent ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.is_attached)
    @rule(
        name=NAMES,
        epoch=st.integers(1, 3),
        timeout=st.sampled_from([0.0, 1.0, 20.0]),
        lease=st.sampled_from([0.0, 0.0, 15.0, 60.0]),
        grace=st.sampled_from([0.0, 1.0, 100.0]),
        limited=st.booleans(),
        refused=st.sampled_from([None, None, None, "no such program"]),
        captured=st.booleans(),
    )
    def launch(
        self,
        name: str,
        epoch: int,
        timeout: float,
        lease: float,
        grace: float,
        limited: bool,
        refused: str | None,
        captured: bool,
    ) -> None:
        key = (name, epoch)
        if key in self.settled or (key in self.ends and key not in self.world.machine.trees):
            return  # an agent does not launch again what it has journaled as ended
        self.world.machine.refusal = refused
        self.launched.add((name, epoch))
        self.world.say(
            launch(
                name,
                epoch,
                timeout_seconds=timeout,
                lease_seconds=lease,
                kill_grace_seconds=grace,
                limits=Limits(memory_bytes=1) if limited else Limits(),
                capture_output=captured,
            )
        )
        self.listen()

    @precondition(lambda self: self.is_attached)
    @rule(name=NAMES, epoch=st.integers(1, 3), grace=st.sampled_from([0.0, 3.0]))
    def end(self, name: str, epoch: int, grace: float) -> None:
        self.world.say(End(instance_id=name, epoch=epoch, reason="cancelled", message="c", grace_seconds=grace))
        self.listen()

    @precondition(lambda self: self.is_attached)
    @rule()
    def renew(self) -> None:
        self.world.say(Lease(renewed_at=self.world.machine.seconds))

    @precondition(lambda self: self.is_attached and self.ends)
    @rule()
    def settle(self) -> None:
        self.world.say(Settled(ended=tuple(self.ends)))
        self.settled.update(self.ends)

    @rule()
    def agent_is_killed(self) -> None:
        self.world.keeper.detached()
        self.is_attached = False

    @rule()
    def agent_starts(self) -> None:
        self.incarnation += 1
        held = self.world.attach(self.incarnation)
        self.is_attached = True
        for each in held:
            self.hold(each)
        keys = {(each.launched.instance_id, each.launched.epoch) for each in held}
        refused = {key for key in self.launched if key not in self.world.machine.trees}
        assert self.launched - self.settled <= keys | refused, "something that was started is not held"

    # --- the machine -------------------------------------------------------------------------------------------------

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.world.wait(seconds)
        self.listen()

    @rule(which=st.integers(0, 20), data=st.binary(min_size=1, max_size=20_000), stream=st.sampled_from([1, 2]))
    def program_writes(self, which: int, data: bytes, stream: int) -> None:
        tree = self.some_tree(which)
        if tree is not None and tree.root_lives and tree.launch.capture_output:
            tree.write(data, stream)
            self.listen()

    @rule(which=st.integers(0, 20), code=st.sampled_from([0, 1, None]), leaves=st.booleans(), closes=st.booleans())
    def program_ends(self, which: int, code: int | None, leaves: bool, closes: bool) -> None:
        tree = self.some_tree(which)
        if tree is not None and tree.root_lives:
            tree.leftovers = int(leaves)
            tree.exit(code, closes=closes)
            self.listen()

    @rule(which=st.integers(0, 20), kind=st.sampled_from(["stubborn", "immortal", "greedy"]))
    def program_turns_bad(self, which: int, kind: str) -> None:
        tree = self.some_tree(which)
        if tree is not None:
            tree.stubborn = True
            tree.immortal = tree.immortal or kind == "immortal"
            if kind == "greedy":
                tree.broken = ("memory", "too much")

    # --- faults ------------------------------------------------------------------------------------------------------

    @rule()
    def keeper_is_killed(self) -> None:
        self.world.kill_keeper()
        self.is_attached = False

    @rule(room=st.sampled_from([0, 40, 1 << 40]))
    def disk_fills_or_is_freed(self, room: int) -> None:
        self.world.disk.room_bytes = room

    # --- what holds --------------------------------------------------------------------------------------------------

    def some_tree(self, which: int) -> FakeTree | None:
        trees = list(self.world.machine.trees.values())
        return trees[which % len(trees)] if trees else None

    def listen(self) -> None:
        self.world.settle()
        for message in self.world.heard[self.read :]:
            if isinstance(message, Finished):
                self.ended(message)
            elif isinstance(message, Launched):
                assert (message.instance_id, message.epoch) not in self.ends, "it runs after its end"
            elif isinstance(message, Grew):
                key = (message.instance_id, message.epoch)
                assert message.spool_bytes > self.sizes.get(key, 0), "told twice"
                assert not message.data or len(message.data) == message.spool_bytes - self.sizes.get(key, 0)
                self.sizes[key] = message.spool_bytes
        self.world.heard.clear()
        self.read = 0

    def hold(self, held: Held) -> None:
        key = (held.launched.instance_id, held.launched.epoch)
        self.sizes[key] = held.spool_bytes
        if held.finished is not None:
            self.ended(held.finished, again=True)

    def ended(self, end: Finished, *, again: bool = False) -> None:
        key = (end.instance_id, end.epoch)
        assert key in self.launched
        told_once = not self.world.problems  # what a full disk did not take, the next keeper finds again
        assert again or key not in self.ends or not told_once, "two ends of one launch"
        if key in self.ends:
            before = self.ends[key]
            assert before == end or self.world.problems, "another end than was told"
        self.ends[key] = end
        tree = self.world.machine.trees.get(key)
        if tree is None or end.reason in ("start_error", "rejected"):
            return
        if tree.is_alive():
            assert LEFT in str(end.message), "its end was told while it ran"

    @invariant()
    def at_most_one_epoch_of_an_instance_is_alive(self) -> None:
        alive = [key for key, tree in self.world.machine.trees.items() if tree.is_alive() and not tree.immortal]
        assert len({name for name, _ in alive}) == len(alive)

    @invariant()
    def nothing_outlives_its_lease(self) -> None:
        world = self.world
        for tree in world.machine.trees.values():
            seconds = tree.launch.lease_seconds
            if seconds and tree.root_lives and not tree.immortal and not world.machine.pending:
                over = world.keeper.renewed_at + seconds
                assert world.machine.seconds <= over or tree.listener is None or tree.signals, "it outlived its lease"

    @invariant()
    def the_log_says_no_less_than_the_keeper(self) -> None:
        if self.world.problems or self.world.disk.room_bytes < 1000:
            return
        logged = {
            (h.launched.instance_id, h.launched.epoch): h.finished
            for h in read_log(self.world.disk, "/state/keeper.log")
        }
        for key, end in self.ends.items():
            if key not in self.settled:
                assert logged.get(key) == end

    def teardown(self) -> None:
        """In the end everything ends."""
        self.world.disk.room_bytes = 1 << 40
        for tree in self.world.machine.trees.values():
            tree.immortal = False
        self.world.machine.refusal = None
        self.agent_starts()
        for name in ("a", "b", "c"):
            self.world.say(End(instance_id=name, epoch=9, reason="cancelled", message="c", grace_seconds=0.0))
        self.world.wait(2 * KILL_SECONDS_MAX)
        self.listen()
        assert set(self.ends) >= self.launched - self.settled
        assert self.world.keeper.active_count == 0
        for key, end in self.ends.items():
            output = end.output or {}
            data = self.world.disk.read(f"/runs/{key[0]}.{key[1]}.out")
            if data and not self.world.problems and not output.get("dropped"):
                spool = FoundSpool(self.world.disk, "-", data)
                for number, stream in ((1, "stdout"), (2, "stderr")):
                    assert spool.tallies()[number].written == output[stream]["shipped"]


TestKeeper = KeeperMachine.TestCase
TestKeeper.settings = settings(max_examples=100, stateful_step_count=30, deadline=None, report_multiple_bugs=False)
