"""What an operator chooses wrongly, and files of others that he chooses not to keep."""

from __future__ import annotations

WEB = "http://198.18.0.101"
FOREIGN = ["conf.d/of-somebody-else.conf", "modules-enabled/50-of-a-package.conf", "sites-enabled/old-site"]


def test_every_contradiction_of_limits_and_locations_is_reported(role, get):
    location = {"path": "/", "upstream": "application"}
    locations = [
        {**location, "cache": {"valid": "500ms", "wait": "briefly", "cookies": ["a=b"]}, "events": True},
        {"path": "/w/", "root": "/srv", "websocket": True, "proxy_read_timeout": "5m"},
        {**location, "path": "/l/", "rate_limits": [{"name": "strikt"}], "client_max_body_size": "10 MB"},
        {**location, "path": "/t/", "send_timeout": "30"},
    ]
    limits = [{"name": "none", "connections": 1}]
    run = role(
        "nginx",
        nginx_sites=[{"name": "a", "server_names": ["a"], "locations": locations, "connection_limits": limits}],
        nginx_rate_limits=[{"name": "twice", "rate": "1r/s"}, {"name": "answers", "rate": "5/s"}],
        nginx_connection_limits=[{"name": "twice"}],
        nginx_maintenance_allow=["office.example"],
        nginx_cache_path="/etc/nginx/cache",
        nginx_send_timeout="half a minute",
    )
    assert (run.code, run.changed) == (2, 0)
    told = " ".join(run.output.split())
    for mistake in (
        "nginx_maintenance_allow: 'office.example' is no address; write one such as 192.0.2.7 or a network such as",
        "nginx_cache_path: '/etc/nginx/cache' is no place for a cache; use a directory such as /var/cache/nginx",
        "nginx_send_timeout: 'half a minute' is no time; write one such as 500ms, 30s, 5m or 1h",
        "nginx_rate_limits, nginx_connection_limits: the name 'twice' is used twice; give each limit its own",
        "the name 'answers' is kept for the cache; choose another one",
        "nginx_rate_limits, 'answers': the rate '5/s' is none; write one such as 10r/s or 30r/m",
        "nginx_sites, 'a': names the connection limit 'none', which nginx_connection_limits does not define; "
        "it defines: twice",
        "nginx_sites, 'a': location '/l/' names the rate limit 'strikt', which nginx_rate_limits does not define; "
        "it defines: twice, answers",
        "nginx_sites, 'a': location '/' has cache and events; a stream cannot be kept, so give it a location of its",
        "nginx_sites, 'a': location '/' has the cookie 'a=b' under cache; write the bare name of a cookie",
        "nginx_sites, 'a': location '/' keeps answers for '500ms'; write whole seconds or more, such as 1s or 5m",
        "nginx_sites, 'a': location '/' lets requests wait 'briefly' for each other; write a time such as 200ms or 5s",
        "nginx_sites, 'a': location '/w/' has websocket but no upstream; name one, or leave websocket out",
        "nginx_sites, 'a': location '/w/' has proxy_read_timeout but no upstream",
        "nginx_sites, 'a': location '/l/' has client_max_body_size '10 MB'; write a size such as 512k, 10m or 1g",
        "nginx_sites, 'a': location '/t/' has send_timeout '30'; write a time such as 500ms, 30s, 5m or 1h",
    ):
        assert mistake in told
    assert get(f"{WEB}/page").status_code == 200


def test_missing_maintenance_page_is_reported(role):
    run = role("nginx", nginx_maintenance_page="files/missing.html")
    assert (run.code, run.changed) == (2, 0)
    assert "'files/missing.html' is not to be found" in " ".join(run.output.split())


def test_files_of_others_stay_unless_chosen_otherwise(role, host):
    def present() -> list[str]:
        return [path for path in FOREIGN if host.run(f"test -L /etc/nginx/{path} -o -e /etc/nginx/{path}").rc == 0]

    for path in FOREIGN:
        host.check_output(f"ln -sfn /dev/null /etc/nginx/{path}")
    chosen = {"nginx_exclusive_directories": ["conf.d", "modules-enabled"]}
    run = role("nginx")
    assert (run.code, run.changed) == (0, 0), run.output
    told = role("nginx", "--check", "--diff", **chosen)
    assert (told.code, told.changed) == (0, 1), told.output
    assert [path for path in FOREIGN if path in told.output] == FOREIGN[:2]
    assert present() == FOREIGN
    run = role("nginx", **chosen)
    assert (run.code, run.changed) == (0, 1), run.output
    assert present() == FOREIGN[2:]
    assert role("nginx", **chosen).changed == 0
    assert role("nginx", nginx_exclusive_directories=["sites-enabled"]).changed == 1
    assert present() == []
