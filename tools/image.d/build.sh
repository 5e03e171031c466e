#!/bin/sh
# Runs once, inside the image being built.
set -eu
suite=$1
mirror=$2
export DEBIAN_FRONTEND=noninteractive

# Packages stay in the archive folder: containers install for real, from files that are there already.
rm -f /etc/apt/apt.conf.d/docker-clean
echo 'APT::Keep-Downloaded-Packages "true";' > /etc/apt/apt.conf.d/foobar-local
# Nothing here has to survive a power cut, and nobody reads manuals in it.
printf 'force-unsafe-io\npath-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\n' > /etc/dpkg/dpkg.cfg.d/foobar-local

# The mirror of the machine that builds the image, under a name that inventories can use without naming a host.
if [ -z "$mirror" ]; then
  mirror=$(sed -n 's/^\(URIs:\|deb\) *\(http[^ ]*\).*/\2/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1)
fi
mkdir -p /etc/apt/mirrors
echo "$mirror" > /etc/apt/mirrors/debian.list
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
cat > /etc/apt/sources.list.d/debian.sources <<SOURCES
Types: deb
URIs: mirror+file:/etc/apt/mirrors/debian.list
Suites: $suite $suite-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES

# Before the first download over TLS: what the controller trusts is trusted here.
cp /tmp/image/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
  systemd systemd-sysv dbus openssh-server sudo python3 python3-apt python3-debian ca-certificates \
  iproute2 iputils-ping procps curl less
# Split into single files, so that update-ca-certificates keeps them.
mkdir -p /usr/local/share/ca-certificates/controller
awk -v d=/usr/local/share/ca-certificates/controller \
  '/BEGIN CERT/ { n++ } n { print > (d "/" n ".crt") }' /tmp/image/ca-certificates.crt
update-ca-certificates > /dev/null 2>&1
# pip brings a bundle of its own and has to be told.
printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' > /etc/pip.conf
[ ! -f /tmp/image/pip.conf ] || cat /tmp/image/pip.conf >> /etc/pip.conf

apt-get install -y -qq --download-only nginx haproxy keepalived python3-venv python3-pymysql python3-cryptography git rsync > /dev/null

useradd --create-home --shell /bin/bash --password '*' ansible
echo 'ansible ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ansible
chmod 0440 /etc/sudoers.d/ansible
install -d -o ansible -g ansible -m 0700 /home/ansible/.ssh

# Every container has host keys and a machine id of its own, made at its first start.
rm -f /etc/ssh/ssh_host_*
: > /etc/machine-id
cat > /etc/systemd/system/ssh-host-keys.service <<UNIT
[Unit]
Description=Host keys of this machine
Before=ssh.service
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
[Install]
WantedBy=multi-user.target
UNIT
systemctl enable -q ssh ssh-host-keys
# The engine has configured the network: whoever waits for networkd to do it waits two minutes in vain.
systemctl mask -q systemd-networkd-wait-online.service systemd-firstboot.service getty.target console-getty.service systemd-udevd.service systemd-timesyncd.service \
  apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer
