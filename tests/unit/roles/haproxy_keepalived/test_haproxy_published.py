"""The names that haproxy_keepalived publishes are the ones that the role itself uses."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
import yaml

ROLE = Path(__file__).resolve().parents[4] / "roles/haproxy_keepalived"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())


def render(value, **variables):
    if isinstance(value, dict):
        return {key: render(part, **variables) for key, part in value.items()}
    if isinstance(value, list):
        return [render(part, **variables) for part in value]
    return jinja2.Template(value).render(variables)


@pytest.fixture(scope="module")
def published():
    return yaml.safe_load((ROLE / "vars/published.yml").read_text())["haproxy_keepalived_published"]


@pytest.fixture(scope="module")
def task():
    tasks = yaml.safe_load((ROLE / "tasks/haproxy.yml").read_text())
    return next(task for task in tasks if "foobar.web_infrastructure.config_tree" in task)[
        "foobar.web_infrastructure.config_tree"
    ]


@pytest.fixture(scope="module")
def files():
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    return {f"/etc/haproxy/{entry['path']}" for entry in variables["__haproxy_keepalived_files"]}


def test_paths_are_those_of_the_configuration_tree(published, task, files):
    assert published["config_directory"] == task["root"]
    assert published["server_command"] in files
    assert published["reload_command"][0] in files
    assert f"{published['certificates']['directory']}/.about" in files


def test_units_are_those_that_the_role_brings_up(published, task):
    assert published["units"] == task["units"]
    keepalived = (ROLE / "tasks/vrrp.yml").read_text()
    assert f"units: [{published['vip_units'][0]}]" in keepalived


@pytest.mark.parametrize("port", [None, 9101])
def test_urls_have_the_port_of_the_statistics_and_paths_of_the_template(published, port):
    variables = {} if port is None else {"haproxy_keepalived_stats_port": port}
    urls = render(published, **variables)
    template = (ROLE / "templates/haproxy.cfg.j2").read_text()
    for name, line in {
        "metrics_url": "prometheus-exporter if { path %s }",
        "statistics_url": "stats uri %s\n",
        "health_url": "monitor-uri %s\n",
    }.items():
        base, _, path = urls[name].rpartition("/")
        assert base == f"http://127.0.0.1:{port or DEFAULTS['haproxy_keepalived_stats_port']}"
        assert line % f"/{path}" in template
