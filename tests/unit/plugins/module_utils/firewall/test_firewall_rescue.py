"""The program that takes a change back, in another directory and with programs that only note what they are asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.foobar.web_infrastructure.plugins.module_utils.firewall import rescue

FILES = ["default/ufw", "ufw/ufw.conf", "ufw/user.rules", "ufw/user6.rules"]


class Host:
    """Files and programs as on a host."""

    def __init__(self, place: Path) -> None:
        self.etc, self.home, self.bin, self.asked = (place / name for name in ("etc", "home", "bin", "asked"))
        for folder in (self.etc / "default", self.etc / "ufw", self.home, self.bin):
            folder.mkdir(parents=True)
        for name in ("systemctl", "systemd-run", "ufw"):
            (self.bin / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {self.asked}\n')
            (self.bin / name).chmod(0o755)
        self.asked.touch()
        text = rescue.TEXT.replace(str(rescue.HOME), str(self.home)).replace("/etc/", f"{self.etc}/")
        self.program = place / "rescue"
        self.program.write_text(text.replace("PATH=", f"PATH={self.bin}:"))
        self.program.chmod(0o755)
        self.write("old", enabled=True)

    def write(self, text: str, enabled: bool) -> None:
        for name in FILES:
            (self.etc / name).write_text(f"{text}\n")
        with (self.etc / "ufw/ufw.conf").open("a") as file:
            file.write(f"ENABLED={'yes' if enabled else 'no'}\n")

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([self.program, *arguments], capture_output=True, text=True)

    def files(self) -> set[str]:
        return {(self.etc / name).read_text().splitlines()[0] for name in FILES}


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_what_nobody_confirms_comes_back_and_is_applied(host):
    (host.etc / "ufw/user.rules").chmod(0o640)
    assert host.run("arm", "token", "60").returncode == 0
    assert "systemd-run --quiet --unit=ufw_firewall-rescue.service --on-active=60" in host.asked.read_text()
    host.write("new", enabled=False)
    done = host.run("restore")
    assert done.returncode == 0, done.stderr
    assert "as it was before" in done.stdout
    assert host.files() == {"old"}
    assert (host.etc / "ufw/user.rules").stat().st_mode & 0o777 == 0o640
    assert host.asked.read_text().splitlines()[-1] == "ufw reload"
    # Nothing is left, and a second time does nothing.
    assert [path.name for path in host.home.iterdir()] == ["lock"]
    host.write("new", enabled=False)
    assert host.run("restore").returncode == 0
    assert host.files() == {"new"}


def test_a_firewall_that_was_off_is_off_again(host):
    host.write("old", enabled=False)
    host.run("arm", "token", "60")
    host.write("new", enabled=True)
    assert host.run("restore").returncode == 0
    assert host.asked.read_text().splitlines()[-1] == "ufw disable"


def test_what_is_confirmed_stays(host):
    host.run("arm", "token", "60")
    host.write("new", enabled=True)
    assert host.run("confirm", "token").returncode == 0
    assert (
        host.asked.read_text().splitlines()[-1]
        == "systemctl stop ufw_firewall-rescue.timer ufw_firewall-rescue.service"
    )
    assert host.run("restore").returncode == 0
    assert host.files() == {"new"}


def test_a_change_that_took_long_is_counted_anew(host):
    host.run("arm", "token", "60")
    assert host.run("rearm", "token", "20").returncode == 0
    assert "--on-active=20" in host.asked.read_text().splitlines()[-1]
    host.run("restore")
    assert host.run("rearm", "token", "20").returncode == 1
    assert not (host.home / "before").exists()


def test_a_rescue_that_is_killed_begins_anew(host):
    host.run("arm", "token", "60")
    host.write("new", enabled=True)
    (host.bin / "ufw").write_text("#!/bin/sh\nkill -9 $PPID\n")
    assert host.run("restore").returncode == -9
    assert host.run("confirm", "token").returncode == 1
    (host.bin / "ufw").write_text(f'#!/bin/sh\necho ufw "$@" >> {host.asked}\n')
    host.write("half", enabled=False)
    assert host.run("restore").returncode == 0
    assert host.files() == {"old"}
    assert host.asked.read_text().splitlines()[-1] == "ufw reload"


def test_a_confirmation_of_another_run_or_too_late_fails(host):
    host.run("arm", "token", "60")
    for token in ("other", ""):
        assert host.run("confirm", token).returncode == 1
    host.run("restore")
    done = host.run("confirm", "token")
    assert done.returncode == 1
    assert "taken the change back already" in done.stderr


def test_a_run_after_one_that_died_goes_back_to_what_was_confirmed_last(host):
    host.run("arm", "dead", "60")
    host.write("of the dead run", enabled=True)
    host.run("arm", "next", "60")
    assert host.run("confirm", "dead").returncode == 1
    assert host.run("restore").returncode == 0
    assert host.files() == {"old"}


def test_one_that_died_while_it_saved_is_no_state(host):
    (host.home / "saving/ufw").mkdir(parents=True)
    (host.home / "saving/ufw/user.rules").write_text("half")
    host.run("arm", "token", "60")
    host.write("new", enabled=True)
    host.run("restore")
    assert host.files() == {"old"}


def test_a_host_that_cannot_promise_it_is_not_changed(host):
    (host.bin / "systemd-run").write_text("#!/bin/sh\nexit 1\n")
    assert host.run("arm", "token", "60").returncode != 0
    assert host.run("nothing").returncode == 2


def test_the_program_is_written_once_and_for_root_alone(tmp_path):
    path = tmp_path / "rescue"
    assert rescue.write(path, "text", 0o700) is True
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("text", 0o700)
    assert rescue.write(path, "text", 0o700) is False
    # What somebody has laid in its way is replaced, not followed.
    other = tmp_path / "other"
    other.write_text("theirs")
    path.unlink()
    path.symlink_to(other)
    assert rescue.write(path, "text", 0o700) is True
    assert other.read_text() == "theirs" and not path.is_symlink()
