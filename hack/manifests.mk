# Plain manifests of the chart; included by the Makefile.
.PHONY: manifests
manifests: ## Render the chart into plain manifests, build/manifests (values: MANIFEST_ARGS='--set ...')
	@hack/manifests.sh $(MANIFEST_ARGS)
