"""What brings up the machine: the cluster, the images and the tools behind the Makefile's targets."""
