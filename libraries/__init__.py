"""Libraries that say `import ray`, run under Ray and under Mobula: `make libraries`."""
