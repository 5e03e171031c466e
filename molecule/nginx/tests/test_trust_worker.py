"""The boundary between a worker of nginx that was taken over and root: what it puts in its cache is no path."""

from __future__ import annotations

# A file of the cache as far as the program reads it.
FORGED = r"01234567\nKEY: http://www.foobar.com/kept www.foobar.com\n"


def test_a_purge_follows_no_link_and_waits_for_no_pipe(host):
    place, kept, open_ = "/var/cache/nginx/0/00", "/opt/kept", "/opt/open"
    for file, mode in ((kept, "0600"), (open_, "0666")):
        host.check_output(f"sh -c \"printf '{FORGED}' > {file} && chmod {mode} {file}\"")
    before = host.check_output(f"sha256sum {kept} {open_}")
    for number, command in enumerate([f"ln -s {kept}", f"ln -s {open_}", "mkfifo", "mkdir"]):
        host.check_output(f"runuser -u www-data -- sh -c 'mkdir -p {place}; {command} {place}/{number:032x}'")
    try:
        assert host.check_output("timeout 20 /etc/nginx/purge --all").startswith("forgotten: ")
        assert host.check_output(f"sha256sum {kept} {open_}") == before
    finally:
        host.check_output(f"rm -r {place} {kept} {open_}")
