# make up / make down: a stage in local containers.  make test: everything CI runs.  The rest are parts of these.
STAGE ?= 3-scale_up
SCENARIO ?= default
PARTS ?=
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: up down setup lint unit molecule test docs build lock
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
test:      ## lint, unit tests, every scenario, the packaged collection
	tools/test $(PARTS)
docs: setup ## write what is generated: variable tables and diagrams
	tools/docs
build: setup
	tools/package
lock: setup ## pin requirements-dev.in, with hashes
	tools/lock
