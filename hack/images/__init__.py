"""The project's container images: tagged by content, built by Docker or by buildah, kept as archives in the cache.

Entry: `python3 -m hack.images`. Standard library only, like the rest of `hack`.
"""
