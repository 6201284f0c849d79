"""A network namespace with one cable to ours, which can be cut, made lossy and made slow.

Loss and the cut are classic BPF programs at the host's end of the cable (`tc … bpf da`), so that packets really vanish
in the kernel, in both directions, and neither side is told; `netem` would do the same where the kernel has it. Slowness
is a token bucket.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attrs import frozen

DROP, PASS = 2, 4294967295
RANDOM = 4294963256
"""The ancillary load "a random number" of classic BPF (SKF_AD_OFF + SKF_AD_RANDOM)."""


def unavailable() -> str | None:
    """Why there can be no namespaces here; None = there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"{tool} (iproute2) is not installed"
    probe = f"hfprobe{os.getpid() % 100000}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode != 0:
        return "this kernel or container does not let us make network namespaces"
    subprocess.run(["ip", "netns", "del", probe], check=False)
    return None


@frozen(kw_only=True)
class Net:
    namespace: str
    cable: str
    outside: str
    inside: str

    @property
    def prefix(self) -> Sequence[str]:
        """Put before a command, it runs inside."""
        return ("ip", "netns", "exec", self.namespace)

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Net]:
        number = _number(os.getpid())
        net = cls(
            namespace=_namespace(number),
            cable=_cable(number),
            outside=f"10.213.{number // 200}.{number % 60 * 4 + 1}",
            inside=f"10.213.{number // 200}.{number % 60 * 4 + 2}",
        )
        far = f"{net.cable}i"
        try:
            _ip("netns", "add", net.namespace)
            _ip("link", "add", net.cable, "type", "veth", "peer", "name", far, "netns", net.namespace)
            _ip("addr", "add", f"{net.outside}/30", "dev", net.cable)
            _ip("link", "set", net.cable, "up")
            _ip("-n", net.namespace, "addr", "add", f"{net.inside}/30", "dev", far)
            _ip("-n", net.namespace, "link", "set", far, "up")
            _ip("-n", net.namespace, "link", "set", "lo", "up")
            _run("tc", "qdisc", "add", "dev", net.cable, "clsact")
            yield net
        finally:
            remove(os.getpid())

    def cut(self) -> None:
        """Every packet vanishes."""
        self._filter(f"1,6 0 0 {DROP}")

    def lose(self, share: float) -> None:
        """That share of the packets vanishes, in each direction."""
        self._filter(f"4,32 0 0 {RANDOM},37 0 1 {int(share * 2**32)},6 0 0 {PASS},6 0 0 {DROP}")

    def slow(self, kilobits: int) -> None:
        """Bytes queue in front of a narrow cable, up to seconds."""
        rate = ["rate", f"{kilobits}kbit", "burst", "2kb", "latency", "4s"]
        _run("tc", "qdisc", "add", "dev", self.cable, "root", "tbf", *rate)
        _run("tc", "-n", self.namespace, "qdisc", "add", "dev", f"{self.cable}i", "root", "tbf", *rate)

    def heal(self) -> None:
        for direction in ("ingress", "egress"):
            subprocess.run(["tc", "filter", "del", "dev", self.cable, direction], capture_output=True, check=False)
        subprocess.run(["tc", "qdisc", "del", "dev", self.cable, "root"], capture_output=True, check=False)
        far = ["dev", f"{self.cable}i", "root"]
        subprocess.run(["tc", "-n", self.namespace, "qdisc", "del", *far], capture_output=True, check=False)

    def _filter(self, program: str) -> None:
        for direction in ("ingress", "egress"):
            _run("tc", "filter", "add", "dev", self.cable, direction, "pref", "1", "bpf", "da", "bytecode", program)


def remove(pid: int) -> None:
    """Take away the namespace and the cable of the harness that had this process id, if there are any."""
    if shutil.which("ip") is not None:
        number = _number(pid)
        subprocess.run(["ip", "link", "del", _cable(number)], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", _namespace(number)], capture_output=True, check=False)


def _number(pid: int) -> int:
    return pid % 50_000


def _namespace(number: int) -> str:
    return f"hetuflow-faults-{number}"


def _cable(number: int) -> str:
    return f"hf{number}"


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {answer.stderr.strip()}")
