# What outsiders type. Each target works from a fresh clone.

GO        ?= go
PYTHON    ?= python3
PEERS     := .peers
MLSERVER  := $(PEERS)/mlserver
FLOWER    := $(PEERS)/flower
BIN       := bin/galley
VERSION   := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
GOFLAGS_  := -trimpath -ldflags "-X main.revision=$(VERSION)"

.PHONY: build quickstart test test-faults test-federation test-experiment soak test-peers test-accuracy lint generate bench up fuzz clean

build: ## writes bin/galley
	$(GO) build $(GOFLAGS_) -o $(BIN) ./cmd/galley

quickstart: build ## the main job, end to end, on embedded data
	$(BIN) doctor --fix
	$(BIN) quickstart

up: build ## the server, on loopback
	$(BIN) doctor --fix
	$(BIN) up

test: build ## all tests that need no Python, GPU or cluster
	$(BIN) doctor --fix
	$(GO) test -count=1 ./...
	$(GO) test -count=1 -race -short ./...
	CGO_ENABLED=0 $(GO) build -o /dev/null ./...

GALLEY_FAULT_SEEDS ?= 500

test-faults: build ## random faults of disks and processes, for so many seeds
	$(BIN) doctor --fix
	GALLEY_FAULT_SEEDS=$(GALLEY_FAULT_SEEDS) $(GO) test -count=1 -run '^TestFaults$$' -parallel 4 -timeout 4h -v ./internal/control ./cmd/galley

GALLEY_FEDERATION_SEEDS ?= 1000

test-federation: ## simulated federations with faults, for so many seeds
	GALLEY_FEDERATION_SEEDS=$(GALLEY_FEDERATION_SEEDS) $(GO) test -count=1 -run '^TestSimulation$$' -timeout 1h -v ./federation

GALLEY_SOAK ?= 20m

soak: build ## a server under load for 20 minutes, which may not grow
	$(BIN) doctor --fix
	GALLEY_SOAK=$(GALLEY_SOAK) $(GO) test -count=1 -run '^TestSoak$$' -timeout 24h -v ./cmd/galley

GALLEY_EXPERIMENT ?= 60s

test-experiment: build ## an experiment under 500 requests a second, whose server is killed
	$(BIN) doctor --fix
	GALLEY_EXPERIMENT=$(GALLEY_EXPERIMENT) $(GO) test -count=1 -run '^TestExperimentSurvivesAKill$$' -timeout 1h -v ./cmd/galley

$(PEERS)/done: peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r peers/requirements.txt
	touch $@

$(MLSERVER)/done: peers/serving.txt
	$(PYTHON) -m venv $(MLSERVER)
	$(MLSERVER)/bin/pip install --quiet --disable-pip-version-check -r peers/serving.txt
	touch $@

$(FLOWER)/done: peers/flower.txt
	$(PYTHON) -m venv $(FLOWER)
	$(FLOWER)/bin/pip install --quiet --disable-pip-version-check -r peers/flower.txt
	touch $@

test-peers: build $(PEERS)/done ## against PyTorch, onnxruntime, tokenizers, scikit-learn, tritonclient
	$(BIN) doctor --fix
	GALLEY_PEERS_PYTHON=$(CURDIR)/$(PEERS)/bin/python $(GO) test -count=1 -tags peers -run Peer -timeout 30m ./...

test-accuracy: build $(PEERS)/done ## trains the shipped job files on the shared data, against scikit-learn
	$(BIN) doctor --fix
	GALLEY_PEERS_PYTHON=$(CURDIR)/$(PEERS)/bin/python $(GO) test -count=1 -tags accuracy -timeout 90m -v ./examples

bench: build $(PEERS)/done $(MLSERVER)/done $(FLOWER)/done ## measures; writes what docs/benchmarks.md quotes
	$(BIN) doctor --fix
	GALLEY_PEERS_PYTHON=$(CURDIR)/$(PEERS)/bin/python GALLEY_MLSERVER_PYTHON=$(CURDIR)/$(MLSERVER)/bin/python GALLEY_FLOWER_PYTHON=$(CURDIR)/$(FLOWER)/bin/python $(GO) test -count=1 -tags "peers bench" -run Bench -timeout 60m -p 1 -v ./...

lint: ## formatting, vet, static analysis, generated code, tidy modules
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || (echo 'run gofmt -w on these files'; exit 1)
	$(GO) vet ./...
	$(GO) vet -tags "peers bench accuracy" ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	$(GO) mod tidy -diff
	$(GO) -C tools mod tidy -diff
	$(MAKE) generate
	@git diff --exit-code --stat -- api || (echo 'generated code is not what api/ says; commit it'; exit 1)

generate: ## Go from api/*.proto
	$(GO) -C tools run ./protogen ../api

fuzz: ## each fuzz target for half a minute
	@for t in $$(grep -rlE '^func Fuzz' --include='*_test.go' .); do \
	  for f in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/p' $$t); do \
	    $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 30s $$(dirname $$t) || exit 1; done; done

clean:
	rm -rf bin $(PEERS)
