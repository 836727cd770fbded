"""Kafka on a plain JVM: one broker for `make kafka-up`, whole clusters for the tests.

    python3 deploy/kafka/kafka_jvm.py up      a broker at 127.0.0.1:19092; returns when it answers
    python3 deploy/kafka/kafka_jvm.py down    stops it and removes its data

Java 17 or later runs it. Maven fetches the jars that pom.xml names, once, into the user's cache. The standard
library of Python is enough. Each node has a folder of its own, with its settings, its process id, its output
(``broker.log``) and its data.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["KafkaFailed", "Node", "Settings", "jars", "java", "main", "missing"]

HERE = Path(__file__).parent
HOST = "127.0.0.1"
PORT = 19092
CONTROLLER_PORT = 19093
FOLDER = HERE.parents[1] / "build" / "kafka"
CLUSTER_ID = "ftfBrokerTestClusterAA"
START_S = 60.0


class KafkaFailed(Exception):
    """Kafka cannot run here, or did not start; ``hint`` says what to do."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


# The jars


def missing() -> str | None:
    """Return what keeps Kafka from running on this machine, or None if nothing does."""
    if java() is None:
        return "no Java 17 or later: install one (on Debian and Ubuntu: apt install openjdk-17-jre-headless)"
    if not _jar_folder().is_dir() and shutil.which("mvn") is None:
        return "no Maven to fetch Kafka's jars with: install it (on Debian and Ubuntu: apt install maven)"
    return None


def jars() -> Path:
    """Return the folder with Kafka's jars, which Maven fetches the first time."""
    folder = _jar_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        # Tests of several processes start at the same time, and one of them fetches. The folder gets its name
        # when it is complete, so that an interrupted download is never used.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            new = folder.with_name(f"{folder.name}.new")
            shutil.rmtree(new, ignore_errors=True)
            _fetch(new)
            new.rename(folder)
    return folder


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaFailed("Maven is needed to fetch Kafka's jars", hint="install Maven, then try again")
    print(f"fetching Kafka's jars into {folder.parent}", file=sys.stderr)
    options = [f"-DoutputDirectory={folder}", "-DincludeScope=runtime"]
    goal = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies", *options]
    done = subprocess.run(goal, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stdout + done.stderr).strip().splitlines()
        raise KafkaFailed(
            f"Maven could not fetch Kafka's jars: {words[0] if words else 'it says nothing'}",
            hint="check Maven's settings (~/.m2/settings.xml) and that it reaches a repository",
        )


def _jar_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ftf-broker" / f"kafka-{hashlib.sha256((HERE / 'pom.xml').read_bytes()).hexdigest()[:16]}"


def java() -> str | None:
    """Return a Java that can run Kafka, from JAVA_HOME or the path; None unless it is 17 or later."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if found is None:
        return None
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    return found if version is not None and int(version[1]) >= 17 else None


# A node


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a node, which is a broker, a controller, or both.

    ``more`` adds server properties, or overrides them.
    """

    node_id: int
    roles: str = "broker,controller"
    port: int = PORT
    controller: str = f"1@{HOST}:{CONTROLLER_PORT}"
    replication: int = 1
    min_insync: int = 1
    more: Mapping[str, str] = field(default_factory=dict)

    def properties(self, data: Path) -> str:
        """Return the text of server.properties, from the template beside this file."""
        controller_at = self.controller.partition("@")[2]
        listeners = {
            "broker": f"PLAINTEXT://{HOST}:{self.port}",
            "controller": f"CONTROLLER://{controller_at}",
        }
        text = (HERE / "server.properties").read_text()
        values = {
            "node_id": self.node_id,
            "roles": self.roles,
            "voters": self.controller,
            "listeners": ",".join(listeners[role] for role in self.roles.split(",")),
            "data": data,
            "replication": self.replication,
            "min_insync": self.min_insync,
        }
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text + "".join(f"{name}={value}\n" for name, value in self.more.items())


class Node:
    """One Kafka process in a folder of its own."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def format(self, *arguments: str) -> None:
        """Write the settings and prepare the data folder. This is done once for a node."""
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = self.folder / "server.properties"
        properties.write_text(self.settings.properties(self.folder / "data"))
        done = subprocess.run(
            [*self._java("kafka.tools.StorageTool"), "format", "--ignore-formatted", "-t", CLUSTER_ID,
             "-c", str(properties), *arguments],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise KafkaFailed(
                f"Kafka's storage cannot be prepared: {done.stdout}{done.stderr}".strip(),
                hint=f"see {properties}",
            )

    def start(self) -> None:
        """Start the process; ``wait`` returns when it answers."""
        with (self.folder / "broker.log").open("ab") as said:
            self._process = subprocess.Popen(
                [*self._java("kafka.Kafka"), str(self.folder / "server.properties")],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip
        (self.folder / "pid").write_text(str(self._process.pid))

    def wait(self, answers: Callable[[], bool] | None = None, *, timeout_s: float = START_S) -> None:
        """Return when the node answers; ``answers`` is another check, such as for a controller."""
        check = answers or (lambda: answering(HOST, self.settings.port))
        deadline = time.monotonic() + timeout_s
        while not check():
            if self._process is not None and self._process.poll() is not None:
                raise KafkaFailed(f"Kafka ended at once: {self._last_words()}", hint=f"see {self.folder}")
            if time.monotonic() > deadline:
                raise KafkaFailed(f"Kafka does not answer: {self._last_words()}", hint=f"see {self.folder}")
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; after SIGKILL, wait until the process has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            if number == signal.SIGKILL:
                self._process.wait()

    @property
    def running(self) -> bool:
        """Whether the process lives, which it also does while it is frozen by SIGSTOP."""
        return self._process is not None and self._process.poll() is None

    def _java(self, main_class: str) -> list[str]:
        command = java()
        if command is None:
            raise KafkaFailed("no Java 17 or later", hint="install one, or set JAVA_HOME")
        # Modest: half a gigabyte, one thread for garbage collection, and no compiler that pays off in long
        # runs only.
        return [
            command, "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}", f"-Dftf.folder={self.folder}",
            "-cp", f"{jars()}/*", main_class,
        ]  # fmt: skip

    def _last_words(self) -> str:
        with suppress(OSError):
            lines = (self.folder / "broker.log").read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else "it says nothing"
        return "it says nothing"


def answering(host: str, port: int) -> bool:
    """Tell whether a broker answers at an address, by asking for its versions (ApiVersions, version 0)."""
    question = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(struct.pack(">i", len(question)) + question)
            return connection.recv(8)[4:] == struct.pack(">i", 1)
    except OSError:
        return False


# The command


def up() -> None:
    """Start the broker unless it runs."""
    if answering(HOST, PORT):
        print(f"Kafka answers at {HOST}:{PORT} already", file=sys.stderr)
        return
    if (obstacle := missing()) is not None:
        raise KafkaFailed("Kafka cannot run here", hint=obstacle)
    down(quiet=True)
    node = Node(FOLDER, Settings(node_id=1))
    node.format()
    node.start()
    node.wait()
    print(f"Kafka answers at {HOST}:{PORT}: kafka://{HOST}:{PORT}", file=sys.stderr)


def down(*, quiet: bool = False) -> None:
    """Stop the broker that ``up`` started, and remove its data."""
    pid = _running_pid()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while _running_pid() is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
    shutil.rmtree(FOLDER, ignore_errors=True)
    if not quiet:
        print("Kafka is stopped, its data removed" if pid else "no Kafka of ours runs", file=sys.stderr)


def _running_pid() -> int | None:
    """Return the id of the process that ``up`` started, or None if it does not run.

    The command line is compared, since the id in the file may belong to another process by now, which must
    not be killed.
    """
    try:
        pid = int((FOLDER / "pid").read_text())
    except (OSError, ValueError):
        return None
    command = [shutil.which("ps") or "/bin/ps", "-ww", "-o", "args=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    return pid if f"-Dftf.folder={FOLDER}" in shown.stdout else None


def main() -> int:
    """Run the command ``up`` or ``down``."""
    parser = argparse.ArgumentParser(description="One Kafka broker on a plain JVM.")
    parser.add_argument("command", choices=["up", "down"])
    try:
        up() if parser.parse_args().command == "up" else down()
    except KafkaFailed as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
