"""deploy/compose.yaml and its Dockerfile, as far as a test without a container engine can judge them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

import certificates
import cluster
from broker.cli.main import cli
from support.kafka import IMAGE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BROKERS = [f"kafka-{node}" for node in cluster.NODES]
OURS = sorted(name for name, service in SERVICES.items() if service["image"].startswith("ftf-broker"))
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")


def filled(text: str) -> str:
    """Fill the variables of a value in by their defaults; FTF_HOME is the folder ``home``."""
    given = {"FTF_HOME": "home", "FTF_CLUSTER_ID": "ftfBrokerTestClusterAA"}
    return _VARIABLE.sub(lambda found: given.get(found[1]) or (found[3] if found[2] == "-" else ""), text)


def test_the_roles_are_there() -> None:
    """The brokers always run; every other service belongs to the profile of a role."""
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert [name for name, roles in profiles.items() if not roles] == BROKERS
    named = {role for roles in profiles.values() for role in roles}
    assert named == {"setup", "authority", "kas", "publisher", "subscriber", "auditor"}


def test_one_version_of_kafka() -> None:
    """The containers, the JVM's jars and the tests' container are the same version of Kafka."""
    pom = ElementTree.parse(DEPLOY / "kafka" / "pom.xml")  # noqa: S314 -- our own file
    version = pom.findtext(".//{http://maven.apache.org/POM/4.0.0}kafka.version")
    images = {service["image"] for name, service in SERVICES.items() if name not in OURS}
    assert images == {f"apache/kafka:{version}"} == {IMAGE}


def test_our_image_is_called_as_our_version() -> None:
    """The tag of our image is the version in pyproject.toml."""
    [version] = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert {SERVICES[name]["image"] for name in OURS} == {f"ftf-broker:{version}"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_nobody_is_root_or_writes_where_he_need_not(name: str) -> None:
    """Each container has a user, a read-only root file system and no capability."""
    service = SERVICES[name]
    assert service["user"] == "1000:1000"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_what_is_referred_to_exists() -> None:
    """Files, secrets, configs, volumes and services that are named are defined, and all of them are used."""
    for config in COMPOSE["configs"].values():
        assert (DEPLOY / config["file"]).is_file(), config
    used: dict[str, set[str]] = {"secrets": set(), "configs": set(), "volumes": set()}
    for service in SERVICES.values():
        for kind in ("secrets", "configs"):
            used[kind] |= {use if isinstance(use, str) else use["source"] for use in service.get(kind, [])}
        sources = (volume.partition(":")[0] for volume in service.get("volumes", []))
        used["volumes"] |= {source for source in sources if not source.startswith("$")}
        assert set(service.get("depends_on", {})) <= set(SERVICES)
    for kind, names in used.items():
        assert names == set(COMPOSE[kind]), kind
    assert (ROOT / "deploy" / SERVICES["kas"]["build"]["context"]).resolve() == ROOT
    assert (ROOT / SERVICES["kas"]["build"]["dockerfile"]).is_file()


def test_secrets_are_what_the_certificates_are_called(tmp_path: Path) -> None:
    """Each secret is a file that certificates.py makes for a principal of README.md."""
    home = tmp_path / "home" / "certificates"
    certificates.authority(home)
    for node in BROKERS:
        certificates.issue(home, node, hosts=(node,))
    for name in ("operator", "authority", "kas", "auditor", "xaa-police", "xbb-border"):
        certificates.issue(home, name)
    for secret in COMPOSE["secrets"].values():
        assert (tmp_path / filled(secret["file"])).is_file(), secret


def test_no_secret_has_a_default_or_stands_in_the_environment() -> None:
    """The file holds no password, and takes none from the environment."""
    text = (DEPLOY / "compose.yaml").read_text() + (DEPLOY / "Dockerfile").read_text()
    assert not re.findall(r"(?i)passw(?!ord, mode)|passphrase(?!, mode)|secret_key|token", text)
    assert {secret.keys() == {"file"} for secret in COMPOSE["secrets"].values()} == {True}


@pytest.mark.parametrize("name", BROKERS)
def test_a_broker_is_set_as_on_the_jvm(name: str, tmp_path: Path) -> None:
    """With a container's environment the start script writes settings whose files the container has."""
    service = SERVICES[name]
    assert service["entrypoint"] == ["/bin/sh", "/deploy/start-broker.sh"]
    targets = {config["target"] for config in service["configs"]}
    own = {key: filled(value) for key, value in service["environment"].items()}
    assert {f"{own['SETTINGS']}/kafka/server.properties", f"{own['SETTINGS']}/secured.properties"} < targets
    for program in ("kafka-storage.sh", "kafka-server-start.sh"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    here = {
        "SETTINGS": str(DEPLOY),
        "RUN": str(tmp_path),
        "KAFKA_BIN": str(tmp_path),
        "PATH": os.environ["PATH"],
    }
    shell = shutil.which("sh") or "/bin/sh"
    subprocess.run([shell, DEPLOY / "start-broker.sh"], env={**own, **here}, check=True)
    lines = (tmp_path / "broker.properties").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert "{" not in "".join(settings.values())
    node = name.removeprefix("kafka-")
    assert settings["node.id"] == node
    assert f"{node}@{name}:9093" in settings["controller.quorum.voters"].split(",")
    assert settings["advertised.listeners"] == f"INSIDE://{name}:9092,OUTSIDE://127.0.0.1:1919{node}"
    assert settings["ssl.client.auth"] == "required"
    assert settings["authorizer.class.name"].endswith(".StandardAuthorizer")
    protocols = dict(pair.split(":") for pair in settings["listener.security.protocol.map"].split(","))
    listeners = {listener.partition("://")[0] for listener in settings["listeners"].split(",")}
    assert {protocols[listener] for listener in listeners} == {"SSL"}
    given = {secret if isinstance(secret, str) else secret["target"] for secret in service["secrets"]}
    assert {settings["ssl.keystore.location"], settings["ssl.truststore.location"]} == {
        f"/run/secrets/{name}" for name in given
    }
    assert service["volumes"] == [f"{name}:{settings['log.dirs']}"]
    assert service["ports"] == [f"${{FTF_BIND:-127.0.0.1}}:1919{node}:9094"]


@pytest.mark.parametrize("name", OURS)
def test_our_commands_exist(name: str) -> None:
    """Our services run commands and options that ftf-broker has."""
    service = SERVICES[name]
    words = [str(word) for word in service.get("command", [])]
    if service.get("entrypoint"):
        words = words[0].partition(">")[0].split()[1:]
    command: Any = cli
    for word in words:
        if word.startswith("--"):
            known = {option for parameter in command.params for option in parameter.opts}
            assert word.partition("=")[0] in known, word
        elif hasattr(command, "get_command"):
            command = command.get_command(None, word)
            assert command is not None, word


@pytest.mark.parametrize("name", ["authority", "kas", "publisher", "subscriber", "auditor"])
def test_a_role_has_its_own_folder_and_certificate(name: str) -> None:
    """A profile is mounted at FTF_PROFILE, and the certificates lie beside it, as on the host."""
    service = SERVICES[name]
    folder, _, file = filled(service["environment"]["FTF_PROFILE"]).partition("/")
    assert file == f"{folder}.toml"
    mounted = {tuple(filled(volume).split(":")) for volume in service["volumes"]}
    assert (f"home/{folder}", f"/srv/ftf/{folder}") in mounted
    beside = {"kas"} if name == "subscriber" else set()
    assert {where for where, _ in mounted} == {f"home/{name}" for name in {folder, *beside}}
    targets = {filled(secret["target"]) for secret in service["secrets"]}
    assert targets == {"/srv/ftf/certificates/ca.pem"} | {
        f"/srv/ftf/certificates/{name}.{end}" for name in {folder, *beside} for end in ("pem", "key")
    }


def test_the_image_is_built_from_pinned_parts() -> None:
    """Everything is installed by hash, the last stage does not run as root, and no registry is named."""
    text = (DEPLOY / "Dockerfile").read_text()
    installs = re.findall(r"install .*-r requirements/\w+\.txt", text)
    assert len(installs) == 2
    assert all("--require-hashes" in install for install in installs)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "1000:1000"
    assert re.findall(r"^ARG PYTHON=(.*)$", text, re.MULTILINE) == ["3.11-slim-bookworm"]
    assert not re.findall(r"--index-url|--extra-index|https?://", text)
    for source in re.findall(r"^COPY ((?!--from).*) \S+$", text, re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists(), path
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert "!deploy" not in ignored


def test_the_commands_of_log_acl_are_applied_or_it_fails(tmp_path: Path) -> None:
    """apply.sh runs each line with Kafka's programs, keeps quoted words whole, and fails if a line fails."""
    for program in ("kafka-acls.sh", "kafka-configs.sh"):
        (tmp_path / program).write_text(f'#!/bin/sh\necho "$#" >>"{tmp_path}/ran"\n[ "$1" != bad ]\n')
        (tmp_path / program).chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "KAFKA_BIN": str(tmp_path)}
    acls = tmp_path / "acls"
    acls.write_text("kafka-acls --add 'User:CN=a b' '*'\n\nkafka-configs --alter\n")
    script = [shutil.which("sh") or "/bin/sh", str(DEPLOY / "apply.sh"), str(acls)]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "2 commands are applied\n")
    assert sorted((tmp_path / "ran").read_text().split()) == ["1", "3"]
    acls.write_text("kafka-acls bad\nkafka-configs --alter\n")
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "applied" not in done.stdout
