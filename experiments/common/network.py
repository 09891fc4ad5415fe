"""A run among processes on a network: started by Flower's commands, on this machine if no network is named.

On this machine a SuperLink and a SuperNode for each node are started on the loopback, with a certificate and keys that
are made for this run alone. They, and what nodes keep, are in a folder beside that of the run, NAME.network.
"""

import contextlib
import datetime
import importlib.util
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from beamkd.base import InputError

CHECKOUT = Path(__file__).resolve().parents[2]
"""Whose pyproject.toml says what centre and nodes run."""

HOME, FLAGS, OUT = "FLWR_HOME", "flags", "out"
"""Of Flower's own files; and of the configuration of a run."""

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
}
"""Flower neither reports to its makers nor installs anything, and starts what has come at once."""

CONNECTION = "beamkd"
"""Of Flower's configuration, to the network that is started here."""

START = 60.0
"""Seconds in which the SuperLink must be there, and start a run."""

WAITING = ("pending", "starting")
"""How a run is before it starts."""

DAYS = 30
"""For which a certificate is valid."""


def run_on_network(folder: Path, nodes: int, superlink: str | None, arguments: list[str], resume: bool) -> None:
    """Have the experiment run by a network's centre, which leaves its results in `folder`.

    Args:
      folder: of the run.
      nodes: how many.
      superlink: a connection of Flower's configuration; None: a network is started here.
      arguments: of the experiment's command line.
      resume: whether nodes go on with what they have kept.

    Raises:
      InputError: Flower is not installed, or cannot be started; or what stopped the run.
    """
    if importlib.util.find_spec("flwr") is None:
        raise InputError('--engine flower: expected flwr, found none; pip install "beamkd[federation]"')
    said = f"{FLAGS} = {_quoted(json.dumps(arguments))}\n{OUT} = {_quoted(str(folder.absolute()))}\n"
    if superlink is not None:
        _submit(said, superlink, os.environ | QUIET)
        return
    beside = folder.absolute().with_name(f"{folder.name}.network")
    beside.mkdir(parents=True, exist_ok=True)
    if not resume:
        for node in range(nodes):
            shutil.rmtree(beside / f"node{node}", ignore_errors=True)
    with network(beside, nodes) as started:
        _submit(said, CONNECTION, started.environment)


class Network(NamedTuple):
    """A network that was started here: the environment for Flower's commands, HOST:PORT, and its certificate."""

    environment: dict[str, str]
    address: str
    certificate: Path


@contextlib.contextmanager
def network(folder: Path, nodes: int) -> Iterator[Network]:
    """A SuperLink and SuperNodes on the loopback, with TLS and keys."""
    environment = os.environ | QUIET | {HOME: str(folder / "home")}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    certificate, key = make_certificate(folder)
    port, *runtime_ports = free_ports(1 + nodes)
    address = f"127.0.0.1:{port}"
    (folder / "home").mkdir(exist_ok=True)
    (folder / "home" / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\naddress = "{address}"\n'
        f"root-certificates = {_quoted(str(certificate))}\n"
    )
    secure = ["--ssl-ca-certfile", certificate, "--ssl-certfile", certificate, "--ssl-keyfile", key]
    link = ["flower-superlink", "--host", "127.0.0.1", "--port", port, "--enable-supernode-auth", *secure]
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(process(folder / "superlink.log", link, environment))
        _wait_for(port, running, folder / "superlink.log")
        for node, runtime_port in enumerate(runtime_ports):
            own = folder / f"node{node}"
            own.mkdir(exist_ok=True)
            private, public = make_keys(own)
            _flower(["supernode", "register", public, CONNECTION], environment)
            start = ["flower-supernode", "--superlink", address, "--root-certificates", certificate]
            start += ["--auth-supernode-private-key", private, "--port", runtime_port]
            start += ["--node-config", f"node={node} folder={_quoted(str(own))}"]
            stack.enter_context(process(own / "supernode.log", start, environment | {HOME: str(own / "home")}))
        yield Network(environment, address, certificate)


def _submit(configuration: str, superlink: str, environment: dict[str, str]) -> None:
    """Start a run of some configuration, in TOML, and show what the centre says until it ends."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "run.toml"
        file.write_text(configuration)
        number = _told(["run", CHECKOUT, superlink, "--run-config", file], environment)["run-id"]
    with subprocess.Popen(_words(["flwr", "log", number, superlink]), env=environment) as shown:
        try:
            shown.wait(START)
        except subprocess.TimeoutExpired:
            if _status(number, superlink, environment)[0] in WAITING:  # or it would for ever
                shown.terminate()
    status, details = _status(number, superlink, environment)
    if status in WAITING:
        _flower(["stop", number, superlink], environment)
        raise InputError(f"--engine flower: expected a run in {START:g} s, found it {status} (see the SuperLink's log)")
    if status != "finished:completed":
        raise InputError(f"--engine flower: expected a run to its end, found it {status.replace(':', ', ')}: {details}")


def _status(number: str, superlink: str, environment: dict[str, str]) -> tuple[str, str]:
    """How a run is, and why."""
    found = _told(["ls", superlink, "--run-id", number], environment)["runs"][0]
    return found["status"], found["status-details"]


def _told(words: list, environment: dict[str, str]) -> dict[str, Any]:
    """What a command of Flower tells.

    Raises:
      InputError: with what it says, if it fails.
    """
    said = json.loads(_flower([*words, "--format", "json"], environment))
    if not said["success"]:
        raise InputError(f"flwr {words[0]}: {' '.join(str(said.get('error-message')).split())}")
    return said


def _flower(words: list, environment: dict[str, str]) -> str:
    """What a command of Flower prints.

    Raises:
      InputError: with what it says, if it fails.
    """
    done = subprocess.run(_words(["flwr", *words]), env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).translate(dict.fromkeys(map(ord, "╭╮╰╯│─"), " ")).split())
        raise InputError(f"flwr {words[0]}: {said}")
    return done.stdout


@contextlib.contextmanager
def process(log: Path, words: list, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    """A command that ends with the block, if it has not before; what it prints goes to `log`."""
    with log.open("w") as file:
        running = subprocess.Popen(_words(words), env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def _words(words: list) -> list[str]:
    """A command; Flower's are beside the interpreter."""
    return [str(Path(sys.executable).parent / words[0]), *map(str, words[1:])]


def _wait_for(port: int, running: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + START
    while running.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise InputError(f"--engine flower: expected a SuperLink in {START:g} s, found none (see {log})")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _quoted(text: str) -> str:
    """A string as TOML has it."""
    return json.dumps(text)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of the loopback that vouches for itself, and its key; written to `folder`."""
    from cryptography import x509  # here, for only some users have it; Flower needs it
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    _write(folder / "certificate.pem", certificate.public_bytes(pem))
    _write(folder / "certificate.key", key.private_bytes(pem, form, serialization.NoEncryption()))
    return folder / "certificate.pem", folder / "certificate.key"


def make_keys(folder: Path) -> tuple[Path, Path]:
    """Keys of a node, private and public, of the form and curve that Flower takes; written to `folder`."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    private = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    public = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    _write(folder / "key", key.private_bytes(*private))
    _write(folder / "key.pub", key.public_key().public_bytes(*public))
    return folder / "key", folder / "key.pub"


def _write(file: Path, data: bytes) -> None:
    """Write what nobody else may read."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(data)
