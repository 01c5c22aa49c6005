# Targets for the cluster and the images; included by the Makefile. `make help` lists them.
.PHONY: cluster cluster-down cluster-status cluster-tools images bench-operator

cluster: ## Start a Kubernetes cluster (kind with Docker, else a node of this machine), or reuse the one that runs
	@python3 -m hack.cluster up

cluster-down: ## Remove the cluster and everything it left on the machine
	@python3 -m hack.cluster down

cluster-status: ## Say what of the cluster runs, and how to point kubectl at it
	@python3 -m hack.cluster status

cluster-tools: # API server, etcd, kubectl and helm for tests that need no node
	@hack/apt.sh cluster
	@hack/tools.sh build kubernetes kubectl helm

images: $(if $(VENV),$(VENV)/.installed) ## Build the container images and, if a cluster runs, put them on its node
	@python3 -m hack.images
	@! python3 -m hack.cluster status >/dev/null 2>&1 || python3 -m hack.cluster load-images

bench-operator: deps cluster-tools ## Measure the operator with 1000 bridges on a control plane of its own (needs no cluster)
	@hack/tools.sh build kwok
	@$(BIN)/python -m benchmarks.operator $(BENCH_ARGS)
