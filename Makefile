# make up / make down: a stage in local containers.  make test: everything CI runs.  The rest are parts of these.
STAGE ?= 3-scale_up
SCENARIO ?= default
PARTS ?=
ARGS ?=
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: up down setup lint unit molecule test soak bench docs build lock
up:        ## bring a stage up in local containers and print its URL
	tools/local up $(STAGE)
down:      ## remove exactly what `make up` and the tests started
	tools/local down
setup:     ## Python environment, collection link, SSH key and local secrets
	tools/setup
lint: setup
	yamllint . && ansible-lint && ruff check . && ruff format --check .
unit: setup
	pytest
molecule: setup
	tools/local scenario $(SCENARIO)
test:      ## lint, unit tests, a sample of the fuzzes, every scenario, the packaged collection
	tools/test $(PARTS)
soak: setup ## the long form of what `make test` has in short: killed runs and switchovers, deployments under load, fuzzes
	FOOBAR_SOAK=1 tools/test $(or $(PARTS),unit fuzz 0-simple_web_stack 1-distributed_web_infrastructure 3-scale_up haproxy_keepalived mysql_source_replica nginx-debian12)
bench: setup ## stage 0 against a shell script, a ping, a bare nginx and gunicorn; stage 3 as it grows: twenty minutes
	tools/engine && tools/bench $(ARGS)
docs: setup ## write what is generated: variable tables and diagrams
	tools/docs
build: setup
	tools/package
lock: setup ## pin requirements-dev.in, with hashes
	tools/lock
