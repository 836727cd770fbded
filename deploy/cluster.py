"""The three brokers of compose.yaml on plain JVMs of one host, with their certificates and ACLs.

    python3 deploy/cluster.py up --certificates FOLDER     returns when all three answer
    python3 deploy/cluster.py restart NUMBER               stops one and starts it again
    python3 deploy/cluster.py down                         stops them and removes their data

Brokers 1 to 3 listen at 127.0.0.1:19191 to 19193, and their controllers at the next three ports.
FTF_CLUSTER_PORT may name another first port of six in a row. Kafka's own programs, such as ``kafka-acls.sh``,
are put into ``build/cluster/bin``. Java, Maven and the standard library of Python are enough; certificates.py
makes the certificates. Use it for trials, tests and exercises on one host: three brokers on one disk lose it
together.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

DEPLOY = Path(__file__).parent.resolve()
sys.path.append(str(DEPLOY / "kafka"))
from kafka_jvm import CLUSTER_ID, HOST, KafkaFailed, jars, java, missing  # noqa: E402 -- the folder must be on the path first

__all__ = ["FOLDER", "NODES", "down", "main", "restart", "up"]

FOLDER = DEPLOY.parent / "build" / "cluster"
PORT = int(os.environ.get("FTF_CLUSTER_PORT", "19191"))
NODES = (1, 2, 3)
START_S = 90.0
STOP_S = 40.0
PROGRAMS = {
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-storage.sh": "kafka.tools.StorageTool",
    "kafka-server-start.sh": "kafka.Kafka",
}


def up(certificates: Path) -> None:
    """Start the brokers that do not run, and return when each of them knows the other two."""
    if (obstacle := missing()) is not None:
        raise KafkaFailed("Kafka cannot run here", hint=obstacle)
    _check_certificates(certificates)
    if not any(_pid(node) for node in NODES):
        _check_ports()
        shutil.rmtree(FOLDER, ignore_errors=True)
    _write_programs(FOLDER / "bin")
    for node in NODES:
        if _pid(node) is None:
            _start(node, certificates)
    _wait(certificates)
    shown = ",".join(f"{HOST}:{PORT + node - 1}" for node in NODES)
    print(f"three brokers answer: kafka://{shown}", file=sys.stderr)


def restart(node: int) -> None:
    """Stop a broker in good order and start it again; return when all three know each other."""
    certificates = Path((FOLDER / "certificates").read_text())
    _stop([node])
    _start(node, certificates)
    _wait(certificates)
    print(f"broker {node} is back", file=sys.stderr)


def down() -> None:
    """Stop all brokers and remove their data."""
    ran = [node for node in NODES if _pid(node) is not None]
    # Killed at once. Without a quorum of controllers the last two brokers cannot stop in good order, and
    # their data is removed anyway.
    _stop(ran, signal.SIGKILL)
    shutil.rmtree(FOLDER, ignore_errors=True)
    print("the brokers are stopped, their data removed" if ran else "no broker of ours runs", file=sys.stderr)


def _check_certificates(folder: Path) -> None:
    wanted = ["ca.pem", "operator.pem", "operator.key", *(f"kafka-{node}.store.pem" for node in NODES)]
    absent = [name for name in wanted if not (folder / name).is_file()]
    if absent:
        raise KafkaFailed(
            f"'{folder}' lacks {', '.join(absent)}",
            hint="make them with deploy/certificates.py: see deploy/README.md",
        )


def _check_ports() -> None:
    for port in range(PORT, PORT + 2 * len(NODES)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise KafkaFailed(
                    f"port {port} is taken", hint="FTF_CLUSTER_PORT=… names the first of six free ports"
                ) from error


def _write_programs(folder: Path) -> None:
    """Write scripts that run Kafka's programs, under the names that they have in a Kafka distribution."""
    folder.mkdir(parents=True, exist_ok=True)
    command = java()
    if command is None:
        raise KafkaFailed("no Java 17 or later", hint="install one, or set JAVA_HOME")
    for name, main_class in PROGRAMS.items():
        file = folder / name
        file.write_text(
            "#!/bin/sh\n"
            f"exec '{command}' -Xms64m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \\\n"
            f"  '-Dlog4j2.configurationFile={DEPLOY}/kafka/log4j2.properties' $FTF_JAVA_OPTIONS \\\n"
            f"  -cp '{jars()}/*' {main_class} \"$@\"\n"
        )
        file.chmod(0o755)


def _start(node: int, certificates: Path) -> None:
    """Start a broker by the same script as its container."""
    folder = _folder(node)
    folder.mkdir(parents=True, exist_ok=True)
    certificates = certificates.resolve()
    (FOLDER / "certificates").write_text(str(certificates))
    inside = f"INSIDE://{HOST}:{PORT + node - 1}"
    environment = {
        **os.environ,
        "NODE_ID": str(node),
        "LISTENERS": f"{inside},CONTROLLER://{HOST}:{PORT + node + 2}",
        "ADVERTISED": inside,
        "VOTERS": ",".join(f"{voter}@{HOST}:{PORT + voter + 2}" for voter in NODES),
        "CLUSTER_ID": CLUSTER_ID,
        "SETTINGS": str(DEPLOY),
        "CA": str(certificates / "ca.pem"),
        "STORE": str(certificates / f"kafka-{node}.store.pem"),
        "DATA": str(folder / "data"),
        "RUN": str(folder),
        "KAFKA_BIN": str(FOLDER / "bin"),
        "FTF_JAVA_OPTIONS": f"-Dftf.folder={folder}",
    }
    with (folder / "broker.log").open("ab") as said:
        process = subprocess.Popen(
            [shutil.which("sh") or "/bin/sh", str(DEPLOY / "start-broker.sh")],
            env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
    (folder / "pid").write_text(str(process.pid))


def _stop(nodes: Iterable[int], number: signal.Signals = signal.SIGTERM) -> None:
    """Signal brokers and wait until they have ended; kill those that take too long."""
    running = [node for node in nodes if _signal(node, number)]
    deadline = time.monotonic() + STOP_S
    while running := [node for node in running if _pid(node) is not None]:
        if time.monotonic() > deadline:
            for node in running:
                _signal(node, signal.SIGKILL)
        time.sleep(0.05)


def _signal(node: int, number: signal.Signals) -> bool:
    pid = _pid(node)
    if pid is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    return True


def _folder(node: int) -> Path:
    return FOLDER / f"broker-{node}"


def _pid(node: int) -> int | None:
    """Return the id of a broker's process, or None if it does not run.

    The command line is compared, since the id in the file may belong to another process by now, which must
    not be killed.
    """
    try:
        pid = int((_folder(node) / "pid").read_text())
    except (OSError, ValueError):
        return None
    command = [shutil.which("ps") or "/bin/ps", "-ww", "-o", "stat=,args=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    ours = f"-Dftf.folder={_folder(node)}" in shown or "start-broker.sh" in shown
    return pid if ours and not shown.startswith("Z") else None


def _wait(certificates: Path) -> None:
    """Return when every broker says that all three are up."""
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    context.load_cert_chain(certificates / "operator.pem", certificates / "operator.key")
    deadline = time.monotonic() + START_S
    for node in NODES:
        while _brokers(PORT + node - 1, context) != len(NODES):
            if _pid(node) is None or time.monotonic() > deadline:
                lines = (_folder(node) / "broker.log").read_text(errors="replace").strip().splitlines()
                words = lines[-1] if lines else "it says nothing"
                raise KafkaFailed(
                    f"broker {node} did not start: {words}", hint=f"see {_folder(node)}/broker.log"
                )
            time.sleep(0.1)


def _brokers(port: int, context: ssl.SSLContext) -> int:
    """Ask a broker how many brokers are up (Metadata, version 1); return 0 when it does not answer."""
    question = struct.pack(">hhihi", 3, 1, 1, -1, 0)
    try:
        with (
            socket.create_connection((HOST, port), timeout=2) as plain,
            context.wrap_socket(plain, server_hostname=HOST) as connection,
        ):
            connection.sendall(struct.pack(">i", len(question)) + question)
            answer = connection.recv(12)
            return int(struct.unpack(">iii", answer)[2]) if len(answer) == 12 else 0
    except OSError:
        return 0


def main() -> int:
    """Run one of the commands above."""
    parser = argparse.ArgumentParser(description="Three Kafka brokers with TLS and ACLs on plain JVMs.")
    commands = parser.add_subparsers(dest="command", required=True)
    starts = commands.add_parser("up", help="start them")
    starts.add_argument("--certificates", type=Path, required=True, help="what certificates.py has made")
    restarts = commands.add_parser("restart", help="stop one and start it again")
    restarts.add_argument("node", type=int, choices=NODES)
    commands.add_parser("down", help="stop them and remove their data")
    given = parser.parse_args()
    try:
        match given.command:
            case "up":
                up(given.certificates)
            case "restart":
                restart(given.node)
            case _:
                down()
    except KafkaFailed as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
