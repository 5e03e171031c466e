#!/bin/sh
# The floor of `make bench`: what stage 0 comes to as a plain shell script that looks at nothing and repeats everything.
# Called as root with the application unpacked in /tmp/floor, beside pins, sources and the database's password.
set -eu
export DEBIAN_FRONTEND=noninteractive
from=/tmp/floor
password=$(cat $from/password)

# Packages
cp $from/pins /etc/apt/preferences.d/debian-sid
cp $from/sources /etc/apt/sources.list.d/debian-sid.sources
apt-get update -qq
apt-get install -y -qq --no-install-recommends mysql-server nginx logrotate python3-venv > /dev/null

# Database
cat > /etc/mysql/mysql.conf.d/zz-floor.cnf <<OPTIONS
[mysqld]
bind_address = 127.0.0.1
mysqlx = OFF
innodb_buffer_pool_size = 256M
gtid_mode = ON
enforce_gtid_consistency = ON
log_bin = binlog
server_id = 1
OPTIONS
systemctl restart mysql
mysql <<SQL
CREATE DATABASE guestbook CHARACTER SET utf8mb4;
CREATE USER guestbook@localhost IDENTIFIED BY '$password';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES ON guestbook.* TO guestbook@localhost;
SQL

# Application
useradd --system --home-dir /var/lib/guestbook --shell /usr/sbin/nologin guestbook
mkdir -p /srv/guestbook /etc/gunicorn
cp -r $from/guestbook /srv/guestbook/app
python3 -m venv /srv/guestbook/venv
/srv/guestbook/venv/bin/python -m pip install --quiet --disable-pip-version-check \
  -r /srv/guestbook/app/requirements.txt
/srv/guestbook/venv/bin/python -m pip install --quiet --disable-pip-version-check 'gunicorn==27.*'
url="mysql+pymysql://guestbook:$password@localhost/guestbook?unix_socket=/run/mysqld/mysqld.sock"
cat > /etc/gunicorn/environment <<VARIABLES
WRITE_DATABASE_URL="$url"
READ_DATABASE_URL="$url"
PROXY_HOPS="1"
VARIABLES
chgrp guestbook /etc/gunicorn/environment
chmod 640 /etc/gunicorn/environment
cat > /etc/systemd/system/guestbook.socket <<UNIT
[Socket]
ListenStream=/run/guestbook/guestbook.sock
SocketUser=guestbook
SocketGroup=www-data
SocketMode=0660
[Install]
WantedBy=sockets.target
UNIT
cat > /etc/systemd/system/guestbook.service <<UNIT
[Unit]
Requires=guestbook.socket
[Service]
Type=notify
User=guestbook
EnvironmentFile=/etc/gunicorn/environment
WorkingDirectory=/srv/guestbook/app
StateDirectory=guestbook
ExecStart=/srv/guestbook/venv/bin/python -m gunicorn --workers 2 --threads 4 --worker-class gthread guestbook.wsgi:app
[Install]
WantedBy=multi-user.target
UNIT
(cd /srv/guestbook/app && set -a && . /etc/gunicorn/environment && /srv/guestbook/venv/bin/python -m guestbook.migrate)
systemctl daemon-reload
systemctl enable -q --now guestbook.socket guestbook.service

# Web server
rm /etc/nginx/sites-enabled/default
mkdir -p /srv/www
cp -r $from/guestbook/guestbook/static /srv/www/static
# The same log as the role writes.
cp $from/log_format.conf /etc/nginx/conf.d/
cat > /etc/nginx/sites-enabled/guestbook <<'SITE'
upstream application {
    server unix:/run/guestbook/guestbook.sock;
    keepalive 32;
}
server {
    listen 80 default_server;
    server_name www.foobar.com;
    access_log /var/log/nginx/access.log json buffer=64k flush=1s;
    location /static/ {
        root /srv/www;
    }
    location / {
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_pass http://application;
    }
}
SITE
systemctl reload nginx
curl --fail --silent --show-error --retry 10 --retry-all-errors --retry-delay 1 --output /dev/null http://localhost/health
