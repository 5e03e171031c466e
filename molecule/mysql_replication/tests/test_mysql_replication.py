"""What an application and an operator notice of MySQL: who gets in, what stays, and what a mistake leads to."""

from __future__ import annotations

import json
import shlex
import socket
from pathlib import Path

import pytest
import yaml

ROLE = "mysql_replication"
NAME = "foobar-mysql1"
PUBLISHED = yaml.safe_load((Path(__file__).parents[3] / "roles/mysql_replication/vars/published.yml").read_text())[
    "mysql_replication_published"
]
RIGHTS = {"guestbook.*": ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "INDEX", "REFERENCES"]}


@pytest.fixture(scope="module")
def host(hosts):
    return hosts[NAME]


@pytest.fixture(scope="module")
def address(addresses):
    return addresses[NAME]


@pytest.fixture(scope="module")
def password():
    return (Path(__file__).parents[3] / ".local/mysql_replication").read_text().strip()


@pytest.fixture(scope="module")
def root(host):
    """Return a function that runs a statement as root through the socket and returns what it prints."""

    def run(statement: str, login: str = "root") -> str:
        done = host.run(f"mysql --user={login} --skip-column-names --batch --execute {shlex.quote(statement)}")
        assert done.rc == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="module")
def login(host, address):
    """Return a function that runs a statement over TCP as a user with a password: the result of the client."""

    def run(statement: str, user: str, password: str, tls: str = "REQUIRED"):
        client = f"mysql --host={address} --user={user} --ssl-mode={tls} --skip-column-names --batch"
        return host.run(f"MYSQL_PWD={shlex.quote(password)} {client} --execute {shlex.quote(statement)}")

    return run


@pytest.fixture(scope="module")
def starts(host):
    """Return a function that counts how often MySQL has been started."""
    return lambda: int(host.check_output("journalctl --unit=mysql --output=cat | grep --count '^Started '"))


@pytest.fixture(scope="module")
def row(login, password):
    """A row that the application has written. Whatever the tests do, it stays."""
    for statement in (
        "CREATE TABLE IF NOT EXISTS guestbook.entries (id INT PRIMARY KEY, message TEXT)",
        "REPLACE INTO guestbook.entries VALUES (1, 'still here')",
    ):
        done = login(statement, "guestbook", password)
        assert done.rc == 0, done.stderr
    return "still here"


@pytest.fixture
def fails(role, starts, login, password, row):
    """Return a function that applies the role with a mistake: one clear error, nothing changed, the server goes on."""

    def run(*words: str, changed: int = 0, restarted: bool = False, **variables) -> str:
        before = starts()
        done = role(ROLE, **variables)
        assert done.code != 0, done.output
        assert done.output.count("[ERROR]: Task failed") == 1, done.output
        for word in words:
            assert word in done.output
        assert done.changed == changed
        assert restarted or starts() == before
        assert login("SELECT message FROM guestbook.entries", "guestbook", password).stdout.strip() == row
        return done.output

    return run


# A comment, an escape and quotes for whoever reads it carelessly.
NOTE = r"SET @note = 'a#b\t'"


def user(password: str, **changes) -> list[dict]:
    return [{"name": "guestbook", "host": "198.18.0.0/24", "password": password, "privileges": RIGHTS} | changes]


# --- who gets in


def test_the_server_answers_on_its_port_only(address, host):
    with socket.create_connection((address, 3306), timeout=5) as connection:
        assert b"9.7." in connection.recv(200)
    assert not host.socket("tcp://33060").is_listening
    assert not host.socket("tcp://127.0.0.1:33060").is_listening


def test_the_application_works_in_its_own_database_only(login, password, row, root):
    assert login("SELECT message FROM guestbook.entries", "guestbook", password).stdout.strip() == row
    assert "TLS" in login("SHOW SESSION STATUS LIKE 'Ssl_version'", "guestbook", password).stdout
    root("CREATE DATABASE IF NOT EXISTS other")
    for statement in ("DROP DATABASE other", "CREATE TABLE other.t (id INT)", "SELECT * FROM mysql.user"):
        refused = login(statement, "guestbook", password)
        assert refused.rc != 0
        assert "denied" in refused.stderr


def test_the_application_is_refused_without_tls_or_with_a_wrong_password(login, password):
    for refused in (login("SELECT 1", "guestbook", password, "DISABLED"), login("SELECT 1", "guestbook", "wrong")):
        assert refused.rc != 0
        assert "Access denied" in refused.stderr


def test_root_logs_in_through_the_socket_only(host, login, root):
    assert root("SELECT CURRENT_USER()") == "root@localhost"
    assert login("SELECT 1", "root", "").rc != 0
    assert host.run("runuser --user=nobody -- mysql --user=root --execute 'SELECT 1'").rc != 0
    assert root("SELECT user FROM mysql.user WHERE user = ''") == ""
    assert not host.file("/root/.my.cnf").exists


def test_the_server_runs_with_what_was_asked(root, host):
    values = dict(line.split("\t") for line in root("SHOW GLOBAL VARIABLES").splitlines() if line.count("\t") == 1)
    wanted = {
        "binlog_format": "ROW",
        "enforce_gtid_consistency": "ON",
        "gtid_mode": "ON",
        "innodb_buffer_pool_size": str(256 * 1024 * 1024),
        "innodb_flush_log_at_trx_commit": "1",
        "log_bin": "ON",
        "max_connections": "200",
        "skip_name_resolve": "ON",
        "sync_binlog": "1",
    }
    assert {name: values[name] for name in wanted} == wanted
    assert int(values["server_id"]) > 1
    assert host.service("mysql").is_enabled


def test_published_names_exist_on_the_host(host):
    assert host.file(PUBLISHED["socket"]).is_socket
    assert host.service(PUBLISHED["units"]["server"]).is_running
    assert host.run(f"{PUBLISHED['program']} --help").rc == 0
    assert host.file(PUBLISHED["configuration"]).is_directory
    assert host.file(PUBLISHED["logs"]["error"]).group == PUBLISHED["logs"]["group"]
    assert host.run(f"journalctl --identifier={PUBLISHED['journal']} | grep 'restarted for'").rc == 0
    place = PUBLISHED["certificate"]
    for name in ("certificate", "key", "authority"):
        file = host.file(f"{place['directory']}/{place[name]}")
        assert (file.user, file.group) == (place["owner"], place["group"])
    assert oct(host.file(f"{place['directory']}/{place['key']}").mode) == f"0o{int(place['key_mode'])}"
    assert host.run(place["reload"]).rc == 0


def test_an_entry_of_the_operator_is_added_to_the_wired_ones(role, root, password):
    wired = {
        "mysql_replication_service_databases": [{"name": "wired"}],
        "mysql_replication_service_users": [
            {"name": "wired", "password": password, "privileges": {"wired.*": ["SELECT"]}},
            *user("not this one"),
        ],
    }
    done = role(ROLE, **wired)
    assert done.code == 0, done.output
    assert root("SHOW DATABASES LIKE 'wired'; SHOW DATABASES LIKE 'guestbook'").split() == ["wired", "guestbook"]
    assert root("SELECT host FROM mysql.user WHERE user = 'wired'") == "localhost"
    again = role(ROLE, **wired)
    assert (again.code, again.changed) == (0, 0), again.output
    root("DROP USER wired@localhost; DROP DATABASE wired")


def test_names_and_options_mean_what_they_say(role, root, login, password):
    root("CREATE DATABASE webxshop; CREATE TABLE webxshop.entries (id INT)")
    wish = {
        "mysql_replication_service_databases": [{"name": "web_shop"}],
        "mysql_replication_service_users": user(password, name="web", privileges={"web_shop.*": ["SELECT", "CREATE"]}),
        "mysql_replication_options": {"init_connect": NOTE},
    }
    done = role(ROLE, **wish)
    assert done.code == 0, done.output
    assert login("CREATE TABLE web_shop.entries (id INT)", "web", password).rc == 0
    refused = login("SELECT * FROM webxshop.entries", "web", password)
    assert refused.rc != 0 and "denied" in refused.stderr
    assert root("SELECT HEX(@@init_connect)") == NOTE.encode().hex().upper()
    again = role(ROLE, **wish)
    assert (again.code, again.changed) == (0, 0), again.output
    root("DROP USER web@'198.18.0.0/24'; DROP DATABASE web_shop; DROP DATABASE webxshop")
    # Without the option, for the tests that follow.
    back = role(ROLE)
    assert (back.code, back.changed) == (0, 1), back.output


# --- what mistakes lead to


def test_a_refused_option_is_named_and_changes_nothing(fails):
    fails("no_such_option", "the running one is untouched", mysql_replication_options={"no_such_option": 1})


def test_a_server_that_does_not_start_gets_its_old_options_back(fails):
    # The check cannot see this one: the address is well-formed, but not of this host.
    output = fails(
        "Can't start server", "old one is back in place", restarted=True, mysql_replication_bind_address="203.0.113.9"
    )
    assert "Cannot assign requested address" in output


def test_all_contradictions_are_reported_before_anything_is_changed(fails):
    fails(
        "guestbook@198.18.0.0/24 is listed twice",
        "the password of guestbook is empty",
        "the host 'app1.example' of reader is a name",
        "'root' is an account of the server's own",
        "'mysql' belongs to the server",
        "90000000 MB do not fit",
        mysql_replication_users=[
            *user(""),
            *user("x"),
            {"name": "reader", "host": "app1.example", "password": "x"},
            {"name": "root", "password": "x"},
        ],
        mysql_replication_databases=[{"name": "mysql"}],
        mysql_replication_buffer_pool_mb=90000000,
    )


def test_a_missing_password_is_named_before_anything_is_changed(fails):
    fails(
        "missing required arguments: password found in mysql_replication_users",
        mysql_replication_users=[{"name": "guestbook"}],
    )


def test_a_right_that_does_not_exist_is_named_without_the_password(fails):
    wrong = user("planted-canary-1", name="other", privileges={"guestbook.*": ["SELEKT"]})
    output = fails("mysql_replication_users, other:", "SELEKT", changed=0, mysql_replication_users=wrong)
    assert "planted-canary-1" not in output


def test_a_root_password_of_somebody_else_is_refused_and_an_empty_one_replaced(fails, role, root):
    def by_password(value: str) -> str:
        return f"ALTER USER root@localhost IDENTIFIED WITH caching_sha2_password BY '{value}'"

    root(by_password("theirs"))
    fails("root cannot log in to MySQL on foobar-mysql1", "IDENTIFIED WITH auth_socket")
    root(by_password(""), login="debian-sys-maint")
    healed = role(ROLE)
    assert (healed.code, healed.changed) == (0, 1), healed.output
    assert root("SELECT plugin FROM mysql.user WHERE user = 'root' AND host = 'localhost'") == "auth_socket"


# --- what changes lead to


def test_a_changed_option_and_password_are_applied_once_and_never_shown(role, root, login, password, row, starts):
    before = starts()
    new, wish = "planted-canary-2 '\"\\$%#", {"mysql_replication_max_connections": 150}
    wish["mysql_replication_users"] = user(new)
    predicted = role(ROLE, "--check", "-vvv", "--diff", **wish)
    assert (predicted.code, predicted.changed) == (0, 2), predicted.output
    assert starts() == before
    done = role(ROLE, "-vvv", "--diff", **wish)
    # Options, the new password beside the old one, the announcement of that, and the end of the old one.
    assert (done.code, done.changed) == (0, 4), done.output
    assert "+max_connections = 150" in done.output
    for run in (predicted, done):
        assert "planted-canary" not in run.output
        assert password not in run.output
    # MySQL takes this one in the running server.
    assert starts() == before
    assert "set without a restart: max_connections" in done.output
    assert root("SELECT @@max_connections") == "150"
    assert login("SELECT message FROM guestbook.entries", "guestbook", new).stdout.strip() == row
    assert login("SELECT 1", "guestbook", password).rc != 0
    again = role(ROLE, **wish)
    assert (again.code, again.changed) == (0, 0), again.output


def test_an_old_password_counts_until_everybody_has_the_new_one(role, login, password):
    def let_in(word: str) -> bool:
        return login("SELECT 1", "guestbook", word).rc == 0

    assert role(ROLE).code == 0 and let_in(password)
    new, later = "planted-canary-3", "planted-canary-4"
    both = role(ROLE, mysql_replication_ends_rotation=False, mysql_replication_users=user(new))
    assert both.code == 0 and "guestbook@" in both.output, both.output
    assert let_in(new) and let_in(password)
    # A change more: those who have not heard of the first one are not locked out.
    assert role(ROLE, mysql_replication_ends_rotation=False, mysql_replication_users=user(later)).code == 0
    assert let_in(later) and let_in(password) and not let_in(new)
    # That a run ended here is made up for by the next.
    done = role(ROLE, mysql_replication_users=user(later))
    assert done.code == 0 and done.changed > 0, done.output
    assert let_in(later) and not let_in(password)
    again = role(ROLE, mysql_replication_users=user(later))
    assert (again.code, again.changed) == (0, 0), again.output
    assert not any(word in run.output for run in (both, done) for word in (password, new, later))


def test_a_password_in_check_mode_stays(role, login, password):
    assert role(ROLE).code == 0
    predicted = role(ROLE, "--check", mysql_replication_users=user("planted-canary-5"))
    assert predicted.code == 0 and predicted.changed == 1, predicted.output
    assert login("SELECT 1", "guestbook", password).rc == 0
    again = role(ROLE)
    assert (again.code, again.changed) == (0, 0), again.output


def test_an_option_that_cannot_be_set_takes_one_restart_and_is_named(role, root, starts):
    assert role(ROLE).code == 0
    before = starts()
    wish = {"mysql_replication_options": {"back_log": 90, "innodb_io_capacity": 300}}
    done = role(ROLE, **wish)
    assert (done.code, done.changed) == (0, 1), done.output
    assert "restarted for: back_log" in done.output
    assert starts() == before + 1
    assert root("SELECT @@back_log, @@innodb_io_capacity") == "90\t300"
    live = {"mysql_replication_options": {"back_log": 90}}
    done = role(ROLE, **live)
    assert "set without a restart: innodb_io_capacity" in done.output
    assert starts() == before + 1
    assert root("SELECT @@innodb_io_capacity = 300") == "0"


def test_an_option_with_a_value_that_is_out_of_the_question_stops_nothing(fails):
    fails("max_connections", mysql_replication_options={"max_connections": "many"})


def test_a_variable_set_by_hand_gets_its_value_back(role, root, starts):
    assert role(ROLE).code == 0
    before = starts()
    root("SET GLOBAL max_connections = 77, GLOBAL long_query_time = 9; SET PERSIST innodb_io_capacity = 555")
    root("SET PERSIST sync_binlog = 1")
    predicted = role(ROLE, "--check")
    assert (predicted.code, predicted.changed) == (0, 1), predicted.output
    said = " ".join(predicted.output.split())
    assert "max_connections is 77 instead of 200" in said
    assert "long_query_time is 9.0" in said
    assert "sync_binlog is persisted as 1, which would win over the file: 1" in said
    healed = role(ROLE)
    assert (healed.code, healed.changed) == (0, 1), healed.output
    assert root("SELECT @@max_connections, @@global.long_query_time") == "200\t2.000000"
    # What the role has no option for is somebody else's.
    assert root("SELECT variable_name FROM performance_schema.persisted_variables") == "innodb_io_capacity"
    root("RESET PERSIST innodb_io_capacity; SET GLOBAL innodb_io_capacity = DEFAULT")
    assert starts() == before
    again = role(ROLE)
    assert (again.code, again.changed) == (0, 0), again.output


def test_a_slow_statement_is_logged_where_the_group_adm_reads_it(root, host):
    root("SET SESSION long_query_time = 0.1; SELECT SLEEP(0.3) AS planted_slow_statement")
    log = host.file("/var/log/mysql/slow.log")
    assert (log.user, log.group, log.mode) == ("mysql", "adm", 0o640)
    assert "planted_slow_statement" in log.content_string
    # The rule of the package takes it along.
    assert "/var/log/mysql/*log" in host.file("/etc/logrotate.d/mysql-server").content_string


# --- backup and restore


@pytest.fixture
def back_up(playbook):
    """Return a function that runs the playbook mysql_backup."""
    path = Path(__file__).parents[3] / "playbooks/mysql_backup.yml"
    return lambda *arguments, **variables: playbook(path, *arguments, mysql_backup_hosts="all", **variables)


@pytest.fixture
def restore(playbook):
    """Return a function that runs the playbook mysql_restore for the database of the tests."""
    path = Path(__file__).parents[3] / "playbooks/mysql_restore.yml"
    common = {"mysql_restore_hosts": "all", "mysql_restore_database": "vault"}
    return lambda *arguments, **variables: playbook(path, *arguments, **(common | variables))


def listed(host) -> list[str]:
    names = host.check_output("ls /var/backups/mysql_replication").split()
    return [name for name in names if name.endswith(("-logical", "-physical"))]


EVENT = "CREATE DEFINER=root@localhost EVENT vault.planted ON SCHEDULE EVERY 1 SECOND DO SET @planted = 1"
# Comments of tables: to one who reads lines, the first begins a statement about an account, the second ends it.
CRAFTED = ["x\n/*!*/;\nGRANT planted TO planted\n", f"x\n/*!*/;\n{EVENT}\n/*!*/;\n"]


@pytest.mark.parametrize("kind", ["logical", "physical"])
def test_a_database_comes_back_as_it_was_at_a_second_between_two_writes(back_up, restore, root, host, kind):
    root("DROP DATABASE IF EXISTS vault; CREATE DATABASE vault; CREATE TABLE vault.t (id INT PRIMARY KEY, m TEXT)")
    root("INSERT INTO vault.t VALUES (1, 'A')")
    done = back_up(mysql_backup_kind=kind)
    assert done.code == 0, done.output
    name = listed(host)[-1]
    folder = host.file(f"/var/backups/mysql_replication/{name}")
    assert (folder.user, folder.mode) == ("root", 0o700)
    manifest = json.loads(host.file(f"{folder.path}/manifest.json").content_string)
    assert (manifest["kind"], manifest["tables"]["vault.t"]["rows"]) == (kind, 1)
    assert host.file(f"{folder.path}/manifest.json").mode == 0o600

    # An account is not data, and its statement stands in the same binary log.
    root("CREATE USER planted@localhost; DROP USER planted@localhost")
    root("INSERT INTO vault.t VALUES (2, 'B')")
    # Nor is what an application writes SQL, though it looks like what mysqlbinlog makes of a binary log.
    for number, comment in enumerate(CRAFTED):
        root(f"CREATE TABLE vault.crafted{number} (id INT) COMMENT '{comment}'")
    moment = host.check_output("sleep 1.1; date '+%F %T'; sleep 1.1")
    root("INSERT INTO vault.t VALUES (3, 'C')")
    root("DROP TABLE vault.t, vault.crafted0, vault.crafted1; CREATE TABLE vault.other (id INT)")

    refused = restore(mysql_restore_until=moment)
    assert refused.code != 0
    assert "-e mysql_restore_overwrite=vault" in refused.output
    assert root("SHOW TABLES FROM vault") == "other"
    wish = {"mysql_restore_until": moment, "mysql_restore_overwrite": "vault"}
    predicted = restore("--check", **wish)
    assert predicted.code == 0, predicted.output
    assert root("SHOW TABLES FROM vault") == "other"
    done = restore(**wish)
    assert done.code == 0, done.output
    assert root("SELECT * FROM vault.t") == "1\tA\n2\tB"
    assert root("SHOW TABLES FROM vault").split() == ["crafted0", "crafted1", "t"]
    assert root("SHOW EVENTS FROM vault") == ""
    kept = "SELECT HEX(table_comment) FROM information_schema.tables WHERE table_name = 'crafted{}'"
    assert [bytes.fromhex(root(kept.format(number))).decode() for number in range(len(CRAFTED))] == CRAFTED
    saved = host.check_output("ls /var/backups/mysql_replication/before-restore-*-vault/dump.sql.gz | tail -1")
    assert "CREATE TABLE `other`" in host.check_output(f"zcat {saved}")


def test_only_the_wanted_number_of_backups_stays_and_what_was_interrupted_is_gone(back_up, host):
    host.check_output("mkdir --parents /var/backups/mysql_replication/.unfinished-20200101T000000Z-logical")
    before = listed(host)
    predicted = back_up("--check", mysql_backup_keep=1)
    assert predicted.code == 0, predicted.output
    assert listed(host) == before
    done = back_up(mysql_backup_keep=1)
    assert done.code == 0, done.output
    assert len(listed(host)) == 1
    assert listed(host)[0] not in before
    assert not host.file("/var/backups/mysql_replication/.unfinished-20200101T000000Z-logical").exists


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ({"mysql_restore_until": "yesterday"}, "'yesterday' is no moment"),
        ({"mysql_restore_until": "2001-01-01 00:00:00"}, "no backup is older than"),
        ({"mysql_restore_backup": "20010101T000000Z-logical"}, "there is no backup '20010101T000000Z-logical'"),
        ({"mysql_restore_database": "nowhere"}, "'nowhere' is not in"),
        ({"mysql_restore_database": ""}, "name the database to restore"),
        ({"mysql_restore_overwrite": "guestbook"}, "holds data"),
    ],
)
def test_a_restore_that_cannot_be_meant_changes_nothing(restore, root, mistake, words):
    before = root("CHECKSUM TABLE vault.t")
    refused = restore(**mistake)
    assert refused.code != 0
    # Ansible folds long lines and doubles quotes.
    assert words in " ".join(refused.output.split()).replace("''", "'")
    assert root("CHECKSUM TABLE vault.t") == before


def test_a_damaged_backup_is_refused(restore, root, host):
    name = listed(host)[-1]
    file = f"/var/backups/mysql_replication/{name}/dump.sql.gz"
    host.check_output(f"cp {file} /root/good && printf x >> {file}")
    refused = restore(mysql_restore_overwrite="vault")
    host.check_output(f"cat /root/good > {file}")
    assert refused.code != 0
    assert "is damaged" in refused.output
    assert root("SELECT COUNT(*) FROM vault.t") == "2"


def test_a_good_run_heals_a_stopped_server_and_lost_rights(role, root, host, login, password, row):
    root("REVOKE INSERT ON guestbook.* FROM guestbook@'198.18.0.0/24'; CREATE USER ''@localhost")
    host.check_output("systemctl disable --now mysql")
    predicted = role(ROLE, "--check")
    assert predicted.code == 0, predicted.output
    assert not host.service("mysql").is_running
    done = role(ROLE)
    assert done.code == 0, done.output
    assert host.service("mysql").is_enabled
    assert root("SELECT @@max_connections") == "200"
    assert root("SELECT COUNT(*) FROM mysql.user WHERE user = ''") == "0"
    assert root("SHOW DATABASES LIKE 'other'") == "other"
    written = login("REPLACE INTO guestbook.entries VALUES (2, 'again')", "guestbook", password)
    assert written.rc == 0, written.stderr
    assert row in root("SELECT message FROM guestbook.entries")
    again = role(ROLE, "--check")
    assert (again.code, again.changed) == (0, 0), again.output
