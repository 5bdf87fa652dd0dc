"""paramiko: a server and many clients of it in one process."""

import os
import socket
import tempfile
import threading
from pathlib import Path

from goroutines.patch import patch

patch()

import paramiko
from crowd import all_of, held

CLIENTS = 10
key = paramiko.ECDSAKey.generate()
folder = tempfile.TemporaryDirectory()
home = Path(folder.name)
count, gate = threading.Lock(), threading.Event()
inside = 0


class Accounts(paramiko.ServerInterface):
    """Lets in who knows the password, and runs `held`, `upper` and `fail`."""

    def check_auth_password(self, username: str, password: str) -> int:
        """Check a password."""
        known = (username, password) == ("user", "secret")
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """Allow sessions."""
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        """Run a command in a goroutine of its own."""
        threading.Thread(target=run_command, args=(channel, command.decode())).start()
        return True


def run_command(channel: paramiko.Channel, command: str) -> None:
    """Do what the command says."""
    global inside
    if command.startswith("held"):
        with count:
            inside += 1
        gate.wait()
        channel.sendall(command.encode())
    elif command == "upper":
        while data := channel.recv(32768):
            channel.sendall(data.upper())
    elif command == "fail":
        assert channel.recv(1) == b""
    channel.send_exit_status(command == "fail")
    channel.close()


class File(paramiko.SFTPHandle):
    """An open file."""

    def stat(self) -> paramiko.SFTPAttributes:
        """Describe it."""
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))


class Files(paramiko.SFTPServerInterface):
    """Gives the files of one folder."""

    def open(self, path: str, flags: int, attr: object) -> paramiko.SFTPHandle:
        """Open a file."""
        file = os.fdopen(os.open(home / path.lstrip("/"), flags, 0o600), "r+b")
        handle = File(flags)
        handle.readfile = handle.writefile = file
        return handle

    def stat(self, path: str) -> paramiko.SFTPAttributes | int:
        """Describe a file."""
        try:
            return paramiko.SFTPAttributes.from_stat((home / path.lstrip("/")).stat())
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)

    def list_folder(self, path: str) -> list[paramiko.SFTPAttributes]:
        """List the folder."""
        return [
            paramiko.SFTPAttributes.from_stat(entry.stat(), entry.name)
            for entry in os.scandir(home)
        ]


def serve() -> None:
    """Take connections until the listener is shut."""
    while True:
        try:
            connection = listener.accept()[0]
        except OSError:
            return
        transport = paramiko.Transport(connection)
        transport.add_server_key(key)
        transport.set_subsystem_handler("sftp", paramiko.SFTPServer, Files)
        transports.append(transport)
        transport.start_server(event=threading.Event(), server=Accounts())


def connect(password: str = "secret") -> paramiko.SSHClient:
    """Log in."""
    client = paramiko.SSHClient()
    client.get_host_keys().add(f"[127.0.0.1]:{port}", key.get_name(), key)
    how = {"allow_agent": False, "look_for_keys": False}
    client.connect("127.0.0.1", port, "user", password, timeout=30, **how)
    return client


def execute(i: int) -> tuple[bytes, int]:
    """Run `held`, which ends when all do so."""
    _, output, _ = clients[i].exec_command(f"held {i}")
    return output.read(), output.channel.recv_exit_status()


def upper(i: int) -> None:
    """Send more than the window takes at once, and read what comes back meanwhile."""
    channel = clients[i].get_transport().open_session()
    channel.exec_command("upper")
    sent = b"abc %d\n" % i * 100_000
    with channel.makefile("rb") as output:
        reader = threading.Thread(target=lambda: received.update({i: output.read()}))
        reader.start()
        channel.sendall(sent)
        channel.shutdown_write()
        reader.join()
    assert received.pop(i) == sent.upper()


def copy(i: int) -> None:
    """Put a file there and get it back."""
    data = os.urandom(100_000)
    with clients[i].open_sftp() as sftp:
        with sftp.open(f"file{i}", "wb") as file:
            file.set_pipelined(True)
            file.write(data)
        with sftp.open(f"file{i}", "rb") as file:
            file.prefetch()
            assert file.read() == data
        assert f"file{i}" in sftp.listdir()
        try:
            sftp.stat("missing")
            raise AssertionError("there is no such file")
        except FileNotFoundError:
            pass


received: dict[int, bytes] = {}
transports: list[paramiko.Transport] = []
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
port = listener.getsockname()[1]
thread = threading.Thread(target=serve, daemon=True)
thread.start()

clients = all_of(lambda i: connect(), CLIENTS)
outcomes = held(execute, lambda: inside, gate.set, CLIENTS)
assert outcomes == [(b"held %d" % i, 0) for i in range(CLIENTS)], outcomes
failing = clients[0].exec_command("fail")[0].channel
failing.shutdown_write()
assert failing.recv_exit_status() == 1
all_of(upper, CLIENTS)
all_of(copy, CLIENTS)
try:
    connect("wrong")
except paramiko.AuthenticationException:
    print("ok")

for each in [*clients, *transports]:
    each.close()
listener.shutdown(socket.SHUT_RDWR)
thread.join()
