"""Benchmarks of tapegrad, run by asv (`make bench`)."""
