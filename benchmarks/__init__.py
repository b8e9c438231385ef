"""Each file answers one question: ``python -m benchmarks.<name> --json=FILE``. Results lie in benchmarks/results/."""
