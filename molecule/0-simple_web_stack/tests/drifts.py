"""What somebody may do to a converged server, as data: the command that does it, the question that tells, the name."""

from __future__ import annotations

from dataclasses import dataclass

NGINX = "/etc/nginx"
SITE = "www.foobar.com"
STATIC = f"/srv/www/{SITE}/static"
UNITS = "/etc/gunicorn/guestbook"
LIVE = "/srv/guestbook/current"
OPTIONS = "/etc/mysql/mysql.conf.d/zz-mysql_replication.cnf"
# A unit is named in a difference, a task of a module that shows none by its title.
NGINX_UNIT = r"^--- before: nginx\.service$"
MYSQL_UNIT = r"^--- before: mysql\.service$"
USER = r"TASK .*the application's user"
USERS = r"TASK .*Create the users"
BUILD = r"TASK .*Build the release"
ROWS = "mysql --batch --skip-column-names"


@dataclass(frozen=True)
class Drift:
    """One difference between the host and its configuration.

    Args:
        name: what somebody has done.
        seed: shell command that does it.
        there: shell command that succeeds as long as it is there.
        named: what the report of a changed task says about it, in check mode with --diff: a regular expression.
    """

    name: str
    seed: str
    there: str
    named: str


def changed_file(name: str, path: str, seed: str, there: str) -> Drift:
    """A drift of a file that the difference names by its path."""
    return Drift(name, seed.replace("{}", path), there.replace("{}", path), f"^(---|\\+\\+\\+) .*{path}")


def sql(statement: str) -> str:
    return f'mysql --execute="{statement}"'


def answer(query: str, wanted: str) -> str:
    return f'[ "$({ROWS} --execute="{query}")" = "{wanted}" ]'


ACCOUNT = "'guestbook'@'localhost'"


def of_account(column: str, table: str, wanted: str) -> str:
    # Constants of this file.
    return answer(f"SELECT {column} FROM mysql.{table} WHERE user = 'guestbook' AND host = 'localhost'", wanted)  # noqa: S608


HASH = f"{ROWS} --execute=\"SELECT authentication_string FROM mysql.user WHERE user = 'guestbook'\""  # noqa: S608

# Together on one host, then repaired by one run.
SERVING = [
    changed_file(
        "a line of nginx.conf edited",
        f"{NGINX}/nginx.conf",
        "sed -i 's/server_tokens off/server_tokens on/' {}",
        "grep -q 'server_tokens on' {}",
    ),
    changed_file("a site deleted", f"{NGINX}/sites/{SITE}.conf", "rm {}", "[ ! -e {} ]"),
    changed_file(
        "a file that only root may read",
        f"{NGINX}/upstreams.conf",
        "chmod 600 {}",
        "[ $(stat -c %a {}) = 600 ]",
    ),
    changed_file(
        "a file that the web server owns",
        f"{NGINX}/forwarded.conf",
        "chown www-data {}",
        "[ $(stat -c %U {}) != root ]",
    ),
    changed_file(
        "a file of another group", f"{NGINX}/internal.conf", "chgrp www-data {}", "[ $(stat -c %G {}) != root ]"
    ),
    changed_file("a program that is none any more", f"{NGINX}/reload", "chmod a-x {}", "[ ! -x {} ]"),
    changed_file(
        "a directory that everybody may write to", f"{NGINX}/sites", "chmod 777 {}", "[ $(stat -c %a {}) = 777 ]"
    ),
    changed_file(
        "the distribution's site back in place",
        f"{NGINX}/sites-enabled/default",
        "cp /etc/nginx/sites-available/default {}",
        "[ -e {} ]",
    ),
    changed_file("a style sheet edited", f"{STATIC}/site.css", "echo 'p { top: 0 }' >> {}", "grep -q '^p {' {}"),
    changed_file("a picture deleted", f"{STATIC}/logo.svg", "rm {}", "[ ! -e {} ]"),
    Drift(
        "the site of an earlier run",
        # As that run leaves it: the file, and its line in the list of what is managed.
        f"echo 'server {{ listen 8088; }}' > {NGINX}/sites/old.conf; "
        f'sed -i \'s|"sites/{SITE}.conf"|"sites/old.conf",&|\' {NGINX}/.config_tree.json',
        f"[ -e {NGINX}/sites/old.conf ]",
        f"^--- .*{NGINX}/sites/old.conf",
    ),
    Drift("nginx stopped and masked", "systemctl mask --now --quiet nginx", "! systemctl is-active nginx", NGINX_UNIT),
    changed_file(
        "the application's unit edited",
        f"{UNITS}/guestbook.service",
        "sed -i 's/NoNewPrivileges=yes/NoNewPrivileges=no/' {}; systemctl daemon-reload",
        "systemctl show --property=NoNewPrivileges guestbook | grep -q no$",
    ),
    changed_file(
        "the listener's unit edited",
        f"{UNITS}/guestbook.socket",
        "sed -i 's/^Backlog=.*/Backlog=16/' {}; systemctl daemon-reload",
        "systemctl show --property=Backlog guestbook.socket | grep -q =16$",
    ),
    changed_file(
        "the environment edited",
        f"{UNITS}/environment",
        "echo 'PROXY_HOPS=\"9\"' >> {}",
        "grep -q 'PROXY_HOPS=.9' {}",
    ),
    changed_file(
        "the secrets readable by everybody", f"{UNITS}/environment", "chmod 644 {}", "[ $(stat -c %a {}) = 644 ]"
    ),
    changed_file(
        "gunicorn's settings edited",
        f"{UNITS}/gunicorn.conf.py",
        "sed -i 's/^threads = .*/threads = 1/' {}",
        "grep -q '^threads = 1$' {}",
    ),
    changed_file(
        "the program that judges releases replaced by one that agrees to everything",
        f"{UNITS}/activate.py",
        "printf '#!/bin/true\\n' > {}",
        "grep -q /bin/true {}",
    ),
    Drift(
        "current moved to a release made by hand",
        f"cp -a {LIVE}/ /srv/guestbook/releases/by-hand; ln -sfn releases/by-hand {LIVE}",
        f"[ $(readlink {LIVE}) = releases/by-hand ]",
        "-by-hand",
    ),
    Drift(
        "a login shell for the application",
        "usermod --shell /bin/bash guestbook",
        "getent passwd guestbook | grep -q bash",
        USER,
    ),
    Drift(
        "another home for the application",
        "usermod --home /root guestbook",
        "getent passwd guestbook | grep -q :/root:",
        USER,
    ),
    Drift(
        "the application may become root",
        "usermod --append --groups sudo guestbook",
        "id -nG guestbook | grep -qw sudo",
        USER,
    ),
    Drift(
        "the application's user may log in without a password",
        "passwd --delete --quiet guestbook",
        "passwd --status guestbook | grep -q ' NP '",
        USER,
    ),
    Drift(
        "python3-venv removed",
        "apt-get remove -qq python3-venv",
        "! dpkg -s python3-venv | grep -q ^Status:.*installed$",
        r"TASK .*Install venv for Python",
    ),
    changed_file(
        "MySQL's options edited",
        OPTIONS,
        "sed -i 's/^sync_binlog = 1/sync_binlog = 0/' {}",
        "grep -q 'sync_binlog = 0' {}",
    ),
    changed_file("MySQL's options of another mode", OPTIONS, "chmod 640 {}", "[ $(stat -c %a {}) = 640 ]"),
    Drift(
        "a setting of the running server changed",
        sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2"),
        answer("SELECT @@innodb_flush_log_at_trx_commit", "2"),
        "innodb_flush_log_at_trx_commit is 2 instead of 1",
    ),
    Drift(
        "a setting persisted, which wins over the file after a restart",
        sql("SET PERSIST max_connections = 99"),
        answer("SELECT COUNT(*) FROM performance_schema.persisted_variables", "1"),
        "max_connections is persisted as 99",
    ),
    Drift(
        "rights widened",
        sql(f"GRANT ALL ON *.* TO {ACCOUNT}"),
        of_account("shutdown_priv", "user", "Y"),
        USERS,
    ),
    Drift(
        "rights taken away",
        sql(f"REVOKE INSERT ON guestbook.* FROM {ACCOUNT}"),
        of_account("insert_priv", "db", "N"),
        USERS,
    ),
    Drift(
        "the password changed",
        # The hash that this gives is kept: nobody can log in while the account is locked as well.
        sql(f"ALTER USER {ACCOUNT} IDENTIFIED BY 'another'") + f"; {HASH} > /root/changed",
        f'[ "$({HASH})" = "$(< /root/changed)" ]',
        USERS,
    ),
    Drift(
        "the account locked",
        sql(f"ALTER USER {ACCOUNT} ACCOUNT LOCK"),
        of_account("account_locked", "user", "Y"),
        USERS,
    ),
    Drift(
        "TLS demanded of the account",
        sql(f"ALTER USER {ACCOUNT} REQUIRE SSL"),
        of_account("ssl_type", "user", "ANY"),
        USERS,
    ),
    Drift(
        "an account without a name",
        sql("CREATE USER ''@'localhost'"),
        answer("SELECT COUNT(*) FROM mysql.user WHERE user = ''", "1"),
        "accounts without a name",
    ),
    Drift(
        "root without a password for every local user",
        sql("ALTER USER root@localhost IDENTIFIED WITH caching_sha2_password BY ''"),
        answer("SELECT plugin FROM mysql.user WHERE user = 'root'", "caching_sha2_password"),
        "which will become auth_socket",
    ),
]
# These would hide others of the first list.
BROKEN = [
    Drift("logrotate removed", "apt-get remove -qq logrotate", "! command -v logrotate", r"TASK .*Install nginx"),
    Drift(
        "the database's account dropped",
        sql(f"DROP USER {ACCOUNT}"),
        of_account("COUNT(*)", "user", "0"),
        USERS,
    ),
    Drift(
        "the live release edited",
        f"echo '# by hand' >> {LIVE}/app/guestbook/views.py",
        f"grep -q 'by hand' {LIVE}/app/guestbook/views.py",
        BUILD,
    ),
    Drift(
        "the live release's virtual environment broken",
        f"rm -r {LIVE}/venv/lib/python3*/site-packages/flask",
        f"[ ! -e {LIVE}/venv/lib/python3*/site-packages/flask ]",
        BUILD,
    ),
    Drift(
        "a release that was never finished",
        "mkdir -p /srv/guestbook/releases/0123456789ab/app",
        "[ -e /srv/guestbook/releases/0123456789ab ]",
        BUILD,
    ),
    Drift("nginx removed", "apt-get remove -qq nginx nginx-common", "! command -v nginx", r"TASK .*Install nginx"),
    Drift("a managed directory deleted", f"rm -r {STATIC}", f"[ ! -e {STATIC} ]", f"^\\+\\+\\+ .*{STATIC}"),
    Drift("the application's user deleted", "userdel --force guestbook", "! id guestbook", USER),
]
DATABASE_DOWN = [
    changed_file("the pins of packages removed", "/etc/apt/preferences.d/debian-sid", "rm {}", "[ ! -e {} ]"),
    changed_file(
        "the repository edited",
        "/etc/apt/sources.list.d/debian-sid.sources",
        "sed -i 's/^Components: main$/Components: main contrib/' {}",
        "grep -q contrib {}",
    ),
    Drift(
        "the client library that the administration needs removed",
        "apt-get remove -qq python3-pymysql",
        "! python3 -c 'import pymysql'",
        r"TASK .*Install MySQL",
    ),
    Drift(
        "the application disabled: its unit is gone from systemd",
        "systemctl disable --quiet guestbook.service",
        "[ ! -e /etc/systemd/system/guestbook.service ]",
        BUILD,
    ),
    Drift(
        "the listener stopped and disabled",
        "systemctl disable --now --quiet guestbook.socket",
        "! systemctl is-active guestbook.socket",
        r"^--- before: guestbook\.socket$",
    ),
    Drift("MySQL stopped", "systemctl stop mysql", "! systemctl is-active mysql", MYSQL_UNIT),
    Drift("MySQL masked", "systemctl mask --quiet mysql", "systemctl is-enabled mysql | grep masked", MYSQL_UNIT),
    Drift("MySQL's options deleted", f"rm {OPTIONS}", f"[ ! -e {OPTIONS} ]", f"^\\+\\+\\+ .*{OPTIONS}"),
]
ROUNDS = {"serving": SERVING, "broken": BROKEN, "database down": DATABASE_DOWN}
